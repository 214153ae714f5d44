"""``idlebloom pause`` and ``give``: what is a time, before anybody is asked."""

from __future__ import annotations

import pytest

from idlebloom.launch import main


@pytest.mark.parametrize("line", [["pause", "banana"], ["give", "5x"], ["pause", "until", "never"]])
def test_what_is_no_time_is_a_bad_argument(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Said with what would be one; where it is a time, a node is looked for."""
    with pytest.raises(SystemExit) as ended:
        main(line)
    assert ended.value.code == 2
    assert "is not a time like 15m, 1h or tomorrow" in capsys.readouterr().err


@pytest.mark.parametrize("line", [["pause"], ["pause", "1h"], ["pause", "until", "tomorrow"], ["give", "2d"]])
def test_a_time_needs_a_node(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """None runs here."""
    assert main(line) == 1
    assert "not running" in capsys.readouterr().err
