"""macOS's readings, as far as they can be held against made-up answers."""

from __future__ import annotations

import pytest

from core.pc import macos
from core.pc.source import Unreadable


def test_macos_tells_time_without_input() -> None:
    """The least of all devices; nothing told is unknown."""
    said = '  | "HIDIdleTime" = 7500000000\n  | "HIDIdleTime" = 9000000000\n'
    assert macos.idle_of(said) == 7.5
    with pytest.raises(Unreadable):
        macos.idle_of("nothing")


def test_it_is_not_here() -> None:
    """On another system it has the null answer."""
    assert macos.Input.open() is None
