"""The first run with Idlebloom's own commands and nodes: one makes a swarm, another joins by its link."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from core.paths import Paths
from core.preferences import Preferences
from core.settings import BUNDLED, Donate
from desktop.app import App
from desktop.pc import Pc
from desktop.steps.with_whom import With
from desktop.welcome import DONE, Welcome
from idlebloom.following import follow

SMALL = Pc(None, "", "no NVIDIA driver", 10**8, 10**11)
"""Holds none of the hub's models: the bundled one is left."""
START_SECONDS = 120.0
Until = Callable[..., None]


def opened(folder: Path) -> App:
    paths = Paths.of(folder).make()
    program = [sys.executable, "-m", "idlebloom", "--data", str(folder)]
    app = App(
        paths,
        program,
        lambda: follow(Preferences(paths.settings_file)),
        lambda: False,
        frozenset({"invite", "join"}),
    )
    app.start()
    return app


def welcome(app: App) -> Welcome:
    assert app.welcome is not None
    return app.welcome


@pytest.mark.xvfb
def test_make_a_swarm_and_join_it(
    qt: QApplication, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link, made on the last page, leads another PC into the swarm, whose first one then sees the
    second one's donor; both nodes have started by *Start* alone."""
    monkeypatch.setattr(Pc, "read", classmethod(lambda cls, folder: SMALL))
    apps = [opened(tmp_path / "a")]
    try:
        w = welcome(apps[0])
        w.first.choices[With.SWARM].click()
        w.next.click()
        assert w.model == BUNDLED
        w.next.click()
        w.terms.when[Donate.OFF].click()
        w.next.click()
        until(lambda: w.stack.currentIndex() == DONE and w.last.make_link.isEnabled(), START_SECONDS)
        w.last.make_link.click()
        until(lambda: w.last.invite_link.text(), START_SECONDS)
        assert w.last.make_link.isEnabled() and w.last.invite_words.text()
        link = w.last.invite_link.text()
        apps.append(opened(tmp_path / "b"))
        w = welcome(apps[1])
        w.first.choices[With.LINK].click()
        w.first.link.setText(link)
        w.next.click()
        w.terms.licence.accept.click()
        w.terms.when[Donate.ALWAYS].click()
        w.next.click()
        until(lambda: w.stack.currentIndex() == DONE, START_SECONDS)
        until(
            lambda: apps[0].snapshot is not None and apps[0].snapshot.status.swarm.whole,
            START_SECONDS,
        )
    finally:
        for app in apps:
            app.stop()
            app.deleteLater()
