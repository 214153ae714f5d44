"""What is going on while something takes longer than a second, as one line on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable


class Progress:
    """One line, rewritten in place. ``quiet`` writes nothing: for programs and log files."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._shown = 0
        self._parts: dict[int, tuple[int, int]] = {}

    def say(self, text: str) -> None:
        if not self._quiet:
            sys.stderr.write(f"\r{text} …".ljust(self._shown))
            sys.stderr.flush()
            self._shown = len(text) + 4

    def loading(self, part: int) -> Callable[[int, int], None]:
        """A callback with bytes done and in all of one of several parts that load at once."""

        def show(done: int, total: int) -> None:
            self._parts[part] = (done, total)
            done_all = sum(done for done, _ in self._parts.values())
            total_all = sum(total for _, total in self._parts.values())
            self.say(f"loading the model: {done_all / 1e6:.0f} of {total_all / 1e6:.0f} MB")

        return show

    def done(self) -> None:
        """Takes the line away."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0
