"""The pictures of README and docs, made of the real windows.

With ``IDLEBLOOM_PICTURES=1`` they are written into docs/images; always, they are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QWidget

from desktop import style
from desktop.app import App
from desktop.settings_panel import SettingsPanel
from desktop.window import Page

pytestmark = pytest.mark.xvfb
IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SHOWN = ("window", "window-dark")
Until = Callable[[Callable[[], object]], None]


def take(widget: QWidget, name: str) -> QImage:
    image = widget.grab().toImage()
    if name in SHOWN and os.environ.get("IDLEBLOOM_PICTURES") == "1":
        assert image.save(str(IMAGES / f"{name}.png"))
    return image


def colours(image: QImage) -> int:
    """How many there are: an empty or broken window has few."""
    return len({image.pixel(x, y) for x in range(0, image.width(), 3) for y in range(0, image.height(), 3)})


@pytest.mark.parametrize("scheme", [style.LIGHT, style.DARK])
def test_windows_in_light_and_dark(
    make_app: Callable[..., App],
    qt: QApplication,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    scheme: style.Colours,
) -> None:
    """Overview, settings and models are drawn, on the paper of their scheme."""
    monkeypatch.setattr(style, "colours", lambda: scheme)
    qt.setPalette(style._palette(scheme))
    qt.setStyleSheet(style.sheet(scheme))
    app = make_app()
    app.show_window()
    assert app.window is not None
    panel = app.window.pages[Page.SETTINGS]
    assert isinstance(panel, SettingsPanel)
    until(lambda: panel.values and app.window is not None and app.window.overview.events.count() == 3)
    suffix = "" if scheme is style.LIGHT else "-dark"
    for page, name in ((Page.OVERVIEW, "window"), (Page.SETTINGS, "settings"), (Page.MODELS, "models")):
        app.show_window(page)
        qt.processEvents()
        image = take(app.window, f"{name}{suffix}")
        assert colours(image) > 60
        assert image.pixelColor(216, 3).name() == scheme.paper
    qt.setPalette(style._palette(style.LIGHT))
    qt.setStyleSheet(style.sheet(style.LIGHT))


def test_the_pictures_are_there() -> None:
    """What README shows exists."""
    readme = (IMAGES.parents[1] / "README.md").read_text(encoding="utf-8")
    for name in SHOWN:
        assert f"docs/images/{name}.png" in readme and (IMAGES / f"{name}.png").exists()
