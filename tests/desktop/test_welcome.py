"""The first run, from *with whom* to *Start*."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QLabel

from core.model.catalogue import LICENCE
from core.node.licences import Licences
from core.pc.gpu import Gpu
from core.settings import Donate
from desktop import pc
from desktop.app import App
from desktop.pc import Pc
from desktop.steps.with_whom import With
from desktop.welcome import Welcome

Until = Callable[[Callable[[], object]], None]
GPU = Gpu("NVIDIA GeForce RTX 4090", 24 * 10**9, 23 * 10**9)
BIG = Pc(GPU, "580.10", "", 64 * 10**9, 900 * 10**9)


@pytest.fixture
def app(make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setattr(Pc, "read", classmethod(lambda cls, folder: BIG))
    made = make_app(consented=False)
    monkeypatch.setattr(made.node, "start", lambda: None)
    return made


def welcome(app: App) -> Welcome:
    assert app.welcome is not None
    return app.welcome


def settings(app: App) -> dict[str, object]:
    file = app.paths.settings_file
    return json.loads(file.read_text()) if file.exists() else {}


def test_the_first_page_is_seen_whole(app: App, until: Until) -> None:
    """Without a bar to scroll by."""
    bar = welcome(app).first.area.verticalScrollBar()
    until(lambda: welcome(app).first.area.viewport().height() > 500)
    assert bar.maximum() == 0


def test_just_this_pc(app: App, until: Until) -> None:
    """The largest BLOOMZ that fits is marked; the licence comes before Start; then settings are saved."""
    w = welcome(app)
    assert not w.next.isEnabled()
    w.first.choices[With.ALONE].click()
    w.next.click()
    assert w.model == "bigscience/bloomz-7b1" and w.chooser.buttons[w.model].isChecked()
    w.next.click()
    assert w.terms.summary.text().startswith(
        "bigscience/bloomz-7b1: all of it, 14.1 GB to fetch, about 19 min"
    )
    w.next.click()
    assert "Accept the licence" in w.error.text() and settings(app) == {}
    w.terms.licence.accept.click()
    w.next.click()
    until(lambda: w.started)
    assert Licences(app.paths.licences_file).accepted(LICENCE)
    assert settings(app) == {"donate": "always", "model": "bigscience/bloomz-7b1"}
    assert app.consented and w.last.give_now.isVisible()
    w.node_ended("https://huggingface.co cannot be reached: no connection")
    assert "moment. https://huggingface.co cannot" in w.last.starting.text() and w.last.starting.isVisible()
    assert not w.last.give_now.isEnabled()
    w.node_runs()
    assert not w.last.starting.isVisible() and w.last.give_now.isEnabled()


def test_a_swarm_of_the_largest_model(app: App, until: Until) -> None:
    """Sizes are honest: a part of BLOOM-176B, what to fetch for it, and how many such PCs make it whole."""
    w = welcome(app)
    w.first.choices[With.SWARM].click()
    w.next.click()
    w.chooser.buttons["bigscience/bloom"].click()
    w.next.click()
    assert w.terms.summary.text() == (
        "bigscience/bloom: about 10 of 70 blocks, 49.3 GB to fetch, about 66 min at 100 Mbit/s; "
        "about 8 such PCs make it whole."
    )
    w.terms.licence.accept.click()
    w.terms.when[Donate.OFF].click()
    w.next.click()
    until(lambda: w.started)
    assert settings(app) == {"model": "bigscience/bloom"}
    assert w.last.invitation.isVisible() and not w.last.give_now.isVisible()


def test_a_link_is_needed(app: App) -> None:
    """Joining without a link is refused where it is missing, with words."""
    w = welcome(app)
    w.first.choices[With.LINK].click()
    assert w.first.link.isVisible()
    w.next.click()
    assert w.error.isVisible() and w.stack.currentIndex() == 0


def test_closing_it_leaves_all_as_it_was(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes the first run agreed to nothing."""
    quits: list[bool] = []
    monkeypatch.setattr(App, "quit", lambda self: quits.append(True))
    w = welcome(app)
    w.first.choices[With.ALONE].click()
    w.next.click()
    w.reject()
    assert settings(app) == {} and not app.consented and quits == [True]


def test_it_does_not_keep_the_program_from_ending(app: App) -> None:
    """Its cross closes it, and so does the session's end: Qt asks every window whether it will close."""
    w = welcome(app)
    assert w.isVisible() and w.close() and not w.isVisible()


def test_what_others_see_is_there(app: App) -> None:
    """The privacy text is on the page before Start."""
    w = welcome(app)
    texts = [label.text() for label in w.steps[2].findChildren(QLabel)]
    assert any("internet address" in text for text in texts)
    assert any("never stored" in text for text in texts)


@pytest.mark.parametrize(
    ("this", "words"),
    [
        (Pc(None, "", "no NVIDIA driver", 8 * 10**9, 10**12), "No NVIDIA driver was found"),
        (Pc(None, "580", "gpu is lost", 8 * 10**9, 10**12), "answers: gpu is lost"),
        (Pc(GPU, "470.1", "", 8 * 10**9, 10**12), "too old: install 550 or newer"),
        (Pc(Gpu("GT 1030", 2 * 10**9, 10**9), "580", "", 8 * 10**9, 10**12), "too little memory"),
        (Pc(GPU, "580", "", 8 * 10**9, 10**9), "too little space"),
        (BIG, ""),
    ],
)
def test_what_is_missing_is_said(this: Pc, words: str) -> None:
    """A missing GPU or driver, an old driver, too little memory or disk: in words, with what to do."""
    said = pc.lacks(this)
    assert words in said and bool(said) is bool(words)
    if words and "space" not in words:
        assert "Chatting works all the same" in said


SETUP = """
import json, pathlib, sys, time
home = pathlib.Path(sys.argv[1])
print(json.dumps({"phase": "fetching", "what": "x", "done_bytes": 5, "total_bytes": 9000}), flush=True)
while not (home / "go").exists():
    time.sleep(0.01)
if (home / "broken").exists():
    print(json.dumps({"error": "the disk is full"}), flush=True)
"""
PROGRAM = """
import json, pathlib, sys
home = pathlib.Path(sys.argv[1])
(home / "asked").write_text(json.dumps(sys.argv[2:]))
if sys.argv[2] == "demo":
    print('{"url": "http://127.0.0.1:1"}', flush=True)
    sys.stdin.read()
    (home / "demo ended").touch()
else:
    print('{"restart": true}')
"""


@pytest.fixture
def unpacked(app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Welcome]]:
    """The first run of a package that still has to fetch what its commands need."""
    words = [sys.executable, "-S", "-c", SETUP, str(tmp_path)]
    monkeypatch.setenv("IDLEBLOOM_SETUP", json.dumps(words))
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: True)
    program = [sys.executable, "-S", "-c", PROGRAM, str(tmp_path)]
    made: list[Welcome] = []

    def make(*, joins_by_node: bool = False) -> Welcome:
        offered = frozenset({"join"})
        made.append(Welcome(app.paths, program, app.keeper, offered, joins_by_node=joins_by_node))
        made[-1].show()
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_the_demo_gets_what_it_needs_first(
    unpacked: Callable[..., Welcome], until: Until, tmp_path: Path
) -> None:
    """What a package lacks is fetched, with words about it, before the demo starts; that ends with its input,
    as it does where no signal reaches it."""
    w = unpacked()
    w.first.choices[With.DEMO].click()
    w.next.click()
    until(lambda: "9" in w.words.text() and w.words.isVisible())
    assert not w.demo.runs and not w.next.isEnabled()
    (tmp_path / "go").touch()
    until(lambda: w.demo.runs and "http://127.0.0.1:1" in w.first.demo_words.text())
    assert "--owned" in json.loads((tmp_path / "asked").read_text())
    assert w.first.demo_link.isVisible() and "http://127.0.0.1:1" in w.first.demo_link.text()
    w.next.click()
    until(lambda: not w.demo.runs)
    assert not w.first.demo_link.isVisible()
    assert (tmp_path / "demo ended").exists()


def test_what_cannot_be_fetched_is_said(
    unpacked: Callable[..., Welcome], until: Until, tmp_path: Path
) -> None:
    """And another choice, made meanwhile, is not overtaken by the one before."""
    w = unpacked()
    w.first.choices[With.DEMO].click()
    (tmp_path / "broken").touch()
    (tmp_path / "go").touch()
    w.next.click()
    until(w.error.isVisible)
    assert w.error.text() == "The disk is full." and w.next.isEnabled()
    (tmp_path / "go").unlink()
    (tmp_path / "broken").unlink()
    w.next.click()
    w.first.choices[With.ALONE].click()
    (tmp_path / "go").touch()
    until(lambda: not w._setup.running)
    assert not w.demo.runs and not w.words.isVisible() and w.next.isEnabled()


def test_joining_waits_for_the_node(
    unpacked: Callable[..., Welcome], app: App, until: Until, tmp_path: Path
) -> None:
    """On Windows only a node can keep a swarm's secret: after Start one is asked for, and joins once it runs.
    Where it does not start, that is said."""
    (tmp_path / "go").touch()
    w = unpacked(joins_by_node=True)
    wanted: list[bool] = []
    again: list[bool] = []
    w.node.connect(lambda: wanted.append(True))
    w.restart.connect(lambda: again.append(True))
    w.first.choices[With.LINK].click()
    w.first.link.setText("idlebloom:the-link")
    w.next.click()
    w.terms.licence.accept.click()
    w.next.click()
    until(lambda: wanted)
    w.node_ended("virtualisation is switched off")
    assert "Virtualisation is switched off" in w.error.text() and w.next.isEnabled()
    assert not (tmp_path / "asked").exists() and settings(app) == {}
    w.next.click()
    until(lambda: len(wanted) == 2)
    w.node_runs()
    until(lambda: w.started)
    assert json.loads((tmp_path / "asked").read_text()) == ["join", "idlebloom:the-link", "--json"]
    assert again == [True] and settings(app) == {"donate": "when_idle"}
