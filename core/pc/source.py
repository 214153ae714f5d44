"""What every reading of this PC's facts looks like.

A source reads some fields of ``Facts``; one file a system or a service. ``open`` answers ``None`` where there
is nothing to read from: the null answer. A reading that fails raises ``Unreadable``; its fields are
unknown then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

Reading = Mapping[str, Any]
"""Fields of ``Facts`` with their values."""


class Unreadable(Exception):
    """The source does not answer now; it may again."""


class Source(Protocol):
    every: ClassVar[float]
    """Seconds between two readings."""

    def read(self) -> Reading:
        """One reading; called from one thread. Raises ``Unreadable``."""

    def close(self) -> None:
        """Let go of connections."""
