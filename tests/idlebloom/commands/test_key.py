from __future__ import annotations

import json

import pytest

from idlebloom import launch


def test_the_key_stays_the_same_until_a_new_one_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is kept without a keyring is said."""

    def key(*more: str) -> str:
        assert launch.main(["key", "--json", *more]) == 0
        return str(json.loads(capsys.readouterr().out)["key"])

    first = key()
    assert first.startswith("ib-") and key() == first
    assert key("--new") != first
    launch.main(["key"])
    said = capsys.readouterr()
    assert said.out.strip() == key()
    assert "readable by you alone" in said.err
