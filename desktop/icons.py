"""Pictures from assets/icons: each state of the tray has a shape of its own, in tones that keep their
contrast on light and on dark panels alike."""

from __future__ import annotations

from functools import cache

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from core.paths import code
from desktop.snapshot import Face

SIZES = (16, 22, 24, 32, 48, 64, 128)
APP = "idlebloom"


@cache
def face(of: Face) -> QIcon:
    return _icon(of.value)


@cache
def app() -> QIcon:
    return _icon(APP)


def picture(name: str, size: int, ratio: float = 1.0) -> QPixmap:
    """One of assets/icons, ``size`` points wide."""
    pixmap = QPixmap(round(size * ratio), round(size * ratio))
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    QSvgRenderer(str(code() / "assets" / "icons" / f"{name}.svg")).render(painter, QRectF(pixmap.rect()))
    painter.end()
    pixmap.setDevicePixelRatio(ratio)
    return pixmap


def _icon(name: str) -> QIcon:
    icon = QIcon()
    for size in SIZES:
        icon.addPixmap(picture(name, size))
    return icon
