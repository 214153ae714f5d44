"""What is said of a setting where it is declared. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from core.kinds import Kind

T = TypeVar("T")


class Section(StrEnum):
    """Where a dialog shows a setting, in the order of its pages."""

    GIVING = "giving"
    LIMITS = "limits"
    MODEL = "model"
    NETWORK = "network"
    PROGRAM = "program"


@dataclass(frozen=True)
class Setting:
    """One declaration, for whoever shows or changes settings."""

    name: str
    kind: Kind[Any]
    default: Any
    label: str
    help: str
    unit: str
    section: Section
    live: bool
    """Whether a change reaches a running node; if not, it takes effect when the node starts again."""


def declare(
    kind: Kind[T],
    default: T,
    *,
    label: str,
    help: str,  # noqa: A002 – the word of DESIGN and argparse
    unit: str = "",
    section: Section = Section.LIMITS,
    live: bool = True,
) -> T:
    words = {"label": label, "help": help, "unit": unit, "section": section, "live": live}
    declared: T = field(default=default, metadata={"kind": kind, **words})
    return declared
