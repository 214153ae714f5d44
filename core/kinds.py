"""The kinds of values that settings have: how each is typed, checked and written. Pure.

A kind's methods raise ``ValueError`` with words that follow "NAME must be": ``on or off``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from core import hours

T = TypeVar("T")


class Kind(Protocol[T]):
    """How a value of a setting is written and what it must keep to."""

    def parse(self, text: str) -> T:
        """From what a person typed."""

    def check(self, value: object) -> T:
        """From JSON."""

    def text(self, value: T) -> str:
        """As a person would type it."""

    @property
    def words(self) -> str:
        """What it must be."""


@dataclass(frozen=True)
class Choice(Generic[T]):
    """One of an enumeration of words."""

    options: type[T]

    def parse(self, text: str) -> T:
        return self.check(text.strip().lower().replace("-", "_"))

    def check(self, value: object) -> T:
        try:
            return self.options(value)  # type: ignore[call-arg]  # every StrEnum is called so
        except ValueError:
            raise ValueError(self.words) from None

    def text(self, value: T) -> str:
        return str(value)

    @property
    def words(self) -> str:
        *first, last = [str(option) for option in self.options]  # type: ignore[attr-defined]
        return f"{', '.join(first)} or {last}"


@dataclass(frozen=True)
class Whole:
    """A whole number within limits, both included."""

    low: int
    high: int

    def parse(self, text: str) -> int:
        try:
            return self.check(int(text))
        except ValueError:
            raise ValueError(self.words) from None

    def check(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValueError(self.words)
        return value

    def text(self, value: int) -> str:
        return str(value)

    @property
    def words(self) -> str:
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Text:
    """One line of text that is not empty; ``words`` says what it means."""

    words: str

    def parse(self, text: str) -> str:
        return self.check(text.strip())

    def check(self, value: object) -> str:
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise ValueError(self.words)
        return value

    def text(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Addresses:
    """libp2p addresses of peers, typed with commas or blanks between them; may be empty."""

    words: str = "addresses like /ip4/203.0.113.7/tcp/31337/p2p/12D3Koo…, with commas between them"

    def parse(self, text: str) -> tuple[str, ...]:
        return self.check(text.replace(",", " ").split())

    def check(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(self.words)
        for address in value:
            parts = address.split("/") if isinstance(address, str) else []
            if len(parts) < 5 or parts[0] or "p2p" not in parts[:-1] or not address.isprintable():
                raise ValueError(self.words)
        return tuple(dict.fromkeys(value))

    def text(self, value: tuple[str, ...]) -> str:
        return ",".join(value)


@dataclass(frozen=True)
class Switch:
    """Yes or no."""

    def parse(self, text: str) -> bool:
        word = text.strip().lower()
        if word in ("on", "yes", "true", "1"):
            return True
        if word in ("off", "no", "false", "0"):
            return False
        raise ValueError(self.words)

    def check(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError(self.words)
        return value

    def text(self, value: bool) -> str:
        return "on" if value else "off"

    @property
    def words(self) -> str:
        return "on or off"


@dataclass(frozen=True)
class Decimal:
    """A number within limits, both included. ``unset`` is a word for "none chosen", kept as ``None``:
    no limit, or found out by the program, as the setting's help says."""

    low: float
    high: float
    unset: str = ""

    def parse(self, text: str) -> float | None:
        word = text.strip().lower()
        if self.unset and word == self.unset:
            return None
        try:
            return self.check(float(word.replace(",", ".")))
        except ValueError:
            raise ValueError(self.words) from None

    def check(self, value: object) -> float | None:
        if value is None and self.unset:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not self.low <= value <= self.high
        ):
            raise ValueError(self.words)
        return float(value)

    def text(self, value: float | None) -> str:
        return self.unset if value is None else f"{value:g}"

    @property
    def words(self) -> str:
        number = f"a number from {self.low:g} to {self.high:g}"
        return f"{number}, or “{self.unset}”" if self.unset else number


@dataclass(frozen=True)
class Device:
    """What a donor computes on: chosen by the program, the CPU, or one GPU by its number."""

    words: str = "auto, cpu or cuda:N, with N the number of a GPU"

    def parse(self, text: str) -> str:
        return self.check(text.strip().lower())

    def check(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|cuda:\d{1,2}", value):
            raise ValueError(self.words)
        return value

    def text(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Folder:
    """The whole path of a folder, or ``unset`` for the place that the program has for it, kept as an
    empty text."""

    unset: str = "auto"

    def parse(self, text: str) -> str:
        word = text.strip()
        return "" if word.lower() == self.unset else self.check(str(Path(word).expanduser()))

    def check(self, value: object) -> str:
        if value == "":
            return ""
        if not isinstance(value, str) or not value.isprintable() or not Path(value).is_absolute():
            raise ValueError(self.words)
        return value

    def text(self, value: str) -> str:
        return value or self.unset

    @property
    def words(self) -> str:
        return f"a folder's whole path, or “{self.unset}”"


@dataclass(frozen=True)
class Hours:
    """Hours of the week, see ``core.hours``; an empty text is always."""

    words: str = hours.WORDS

    def parse(self, text: str) -> str:
        return self.check(text)

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(self.words)
        return hours.normal(value)

    def text(self, value: str) -> str:
        return value or hours.ALWAYS


@dataclass(frozen=True)
class Names:
    """Names of programs, typed with commas between them; may be empty."""

    words: str = "names of programs such as blender or game.exe, with commas between them"

    def parse(self, text: str) -> tuple[str, ...]:
        return self.check([part.strip() for part in text.split(",") if part.strip()])

    def check(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or len(value) > 100:
            raise ValueError(self.words)
        for name in value:
            if (
                not isinstance(name, str)
                or not name.strip()
                or not name.isprintable()
                or set(name) & set(",/\\")
            ):
                raise ValueError(self.words)
        return tuple(dict.fromkeys(name.strip() for name in value))

    def text(self, value: tuple[str, ...]) -> str:
        return ", ".join(value)
