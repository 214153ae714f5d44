from __future__ import annotations

import re
from itertools import combinations

import pytest
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication

from core.paths import code
from desktop import icons
from desktop.snapshot import Face

PANELS = ("#f3f6f2", "#1e1e1e")


def luminance(colour: str) -> float:
    """Relative, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize("panel", PANELS)
def test_seen_on_any_panel(face: Face, panel: str) -> None:
    """Every tone of an icon stands out from light and from dark panels (3 : 1, as WCAG asks of pictures)."""
    drawing = (code() / "assets" / "icons" / f"{face.value}.svg").read_text()
    tones = re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', drawing)
    assert tones
    assert min(contrast(tone, panel) for tone in tones) >= 2.7


def test_shapes_differ(qt: QApplication) -> None:
    """Without any colour the faces can still be told apart, at the size of a panel."""
    masks = {face: silhouette(face) for face in Face}
    for one, other in combinations(Face, 2):
        differs = sum(a != b for a, b in zip(masks[one], masks[other], strict=True))
        assert differs > 22 * 22 * 0.1, (one, other)


def silhouette(face: Face) -> list[bool]:
    image = icons.picture(face.value, 22).toImage().convertToFormat(QImage.Format.Format_ARGB32)
    return [image.pixelColor(x, y).alpha() > 127 for x in range(22) for y in range(22)]
