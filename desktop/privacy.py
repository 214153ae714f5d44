"""What others see: docs/privacy.md as a page of the window and of the first run."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from core.words import N_, _
from desktop import parts

TITLE = N_("What others see, and what they do not")
POINTS = (
    (
        N_("While this PC gives"),
        (
            N_(
                "Others in the swarm see its internet address, which part of the model it holds, and how "
                "fast it is."
            ),
            N_("They see when it gives. That tells when nobody uses this PC."),
            N_(
                "Text of strangers passes through this PC's memory as numbers. It is never shown and "
                "never stored."
            ),
        ),
    ),
    (
        N_("While you chat"),
        (
            N_("Donors on the route compute your chat. The first and the last of them can read it."),
            N_("So write only what you would say in public. In a swarm of this PC alone nothing leaves it."),
            N_("Conversations are kept on this PC alone, until you delete them."),
        ),
    ),
    (
        N_("Never"),
        (
            N_("Your files, your screen and your conversations are never touched for others."),
            N_("Nothing is counted or reported to anyone: there is no telemetry."),
            N_("No prompt, no answer and no address of a peer is written into a log or a support bundle."),
        ),
    ),
)


def as_markdown(translate: bool = True) -> str:
    """The text; without translation it is docs/privacy.md."""

    def said(text: str) -> str:
        return _(text) if translate else text

    parts_ = [f"# {said(TITLE)}\n"]
    for heading, points in POINTS:
        parts_.append(f"## {said(heading)}\n\n" + "".join(f"- {said(point)}\n" for point in points))
    return "\n".join(parts_)


class PrivacyPage(QWidget):
    def __init__(self) -> None:
        super().__init__()
        area, page = parts.page()
        area.setAccessibleName(_(TITLE))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)
        page.addWidget(parts.label(_(TITLE), "title"))
        for card in cards():
            page.addWidget(card)
        page.addStretch(1)


def cards() -> Iterator[QWidget]:
    """A card a heading."""
    for heading, points in POINTS:
        frame, layout = parts.card(spacing=6)
        layout.addWidget(parts.label(_(heading), "heading"))
        for point in points:
            layout.addLayout(_point(_(point)))
        yield frame


def _point(words: str) -> QHBoxLayout:
    """Its further lines begin below its first word, not below the dot."""
    dot = parts.label("•", wrap=False)
    dot.setAlignment(Qt.AlignmentFlag.AlignTop)
    line = parts.row(dot, stretch=False, spacing=8)
    line.addWidget(parts.label(words), 1)
    return line
