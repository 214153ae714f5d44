"""Draws assets/icons/idlebloom.svg in all sizes that desktops and Windows want: python installers/icons.py"""

from __future__ import annotations

import os
import struct
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QBuffer, QByteArray, QIODevice
from PySide6.QtGui import QGuiApplication, QImage, QPainter
from PySide6.QtSvg import QSvgRenderer

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "icons"
SIZES = (16, 22, 24, 32, 48, 64, 128, 256, 512)
ICO_SIZES = (16, 24, 32, 48, 64, 256)


def main() -> None:
    app = QGuiApplication([])
    drawing = QSvgRenderer(str(FOLDER / "idlebloom.svg"))
    for size in SIZES:
        (FOLDER / f"idlebloom-{size}.png").write_bytes(png(drawing, size))
    (FOLDER / "idlebloom.ico").write_bytes(ico([(size, png(drawing, size)) for size in ICO_SIZES]))
    app.quit()


def png(drawing: QSvgRenderer, size: int) -> bytes:
    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(0)
    painter = QPainter(image)
    drawing.render(painter)
    painter.end()
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    return bytes(data.data())


def ico(images: list[tuple[int, bytes]]) -> bytes:
    """An ICO file of PNGs: a head of 6 bytes, 16 a picture, the pictures."""
    at = 6 + 16 * len(images)
    entries, body = b"", b""
    for size, data in images:
        entries += struct.pack("<BBBBHHII", size % 256, size % 256, 0, 0, 1, 32, len(data), at + len(body))
        body += data
    return struct.pack("<HHH", 0, 1, len(images)) + entries + body


if __name__ == "__main__":
    main()
