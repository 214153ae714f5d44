"""Licences that restrict the use of a model, and whether this user has accepted them.

BLOOM's checkpoints come under Responsible AI Licences (RAIL): whoever passes the model on, or lets others
use it, has to pass the restrictions on too. So a person accepts them once before this PC serves such a
checkpoint or chats with it. What was accepted is remembered in a file of the program's state; it is read at
each question, so accepting reaches a running node at once.

For a face: ``of_model`` says which licence, ``SUMMARY`` and ``LINK`` are what to show, ``accept`` records it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core import json_file
from core.errors import NotAccepted
from core.paths import bundled_model
from core.words import N_

LINK = "https://huggingface.co/spaces/bigscience/license"
SUMMARY = N_(
    "In short, and only the licence's own text counts: the model may not be used to break laws, to exploit "
    "or harm minors, to spread falsehoods or personal data in order to harm others, to defame or harass, to "
    "impersonate, to discriminate, to decide by itself on people's rights, to give medical advice, or to "
    "predict crimes or judge in law enforcement, immigration and asylum; and text that it made must be "
    "said to be made by a machine when it is passed on."
)
RAIL = "bigscience-bloom-rail-1.0"
_MAKER = "bigscience/"


def stated(folder: Path) -> str:
    """The licence in the model card's front matter, empty where there is none."""
    with suppress(OSError, UnicodeDecodeError):
        for line in (folder / "README.md").read_text(encoding="utf-8").splitlines()[:60]:
            if line.startswith("license:"):
                return line.partition(":")[2].strip().strip("\"'")
    return ""


def of_model(folder: Path, model_id: str) -> str:
    """The licence that has to be accepted before this model is used; empty where none has."""
    if folder == bundled_model():
        return ""
    licence = stated(folder)
    if "rail" in licence.lower():
        return licence
    return RAIL if not licence and model_id.startswith(_MAKER) else ""


@dataclass(frozen=True)
class Licences:
    """What was accepted, in ``file``."""

    file: Path

    def accepted(self, licence: str) -> bool:
        return licence in json_file.read(self.file)

    def accept(self, licence: str) -> None:
        """Remember it, with the time."""
        json_file.write(self.file, json_file.read(self.file) | {licence: round(time.time())})

    def check(self, folder: Path, model_id: str) -> None:
        """Raises ``NotAccepted`` where a licence is still to be accepted."""
        licence = of_model(folder, model_id)
        if licence and not self.accepted(licence):
            raise NotAccepted(model_id, licence)
