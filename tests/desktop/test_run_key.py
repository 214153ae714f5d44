"""The start at login on Windows, in a registry of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from desktop.run_key import KEY, follow


class Registry:
    """One user's, as far as one key."""

    HKEY_CURRENT_USER, KEY_SET_VALUE, REG_SZ = "user", 2, 1

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def CreateKeyEx(self, root: str, key: str, reserved: int, access: int) -> Any:  # noqa: N802
        assert (root, key, reserved, access) == ("user", KEY, 0, 2)
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""

    def SetValueEx(self, key: Any, name: str, reserved: int, kind: int, value: str) -> None:  # noqa: N802
        assert kind == self.REG_SZ
        self.values[name] = value

    def DeleteValue(self, key: Any, name: str) -> None:  # noqa: N802
        if name not in self.values:
            raise FileNotFoundError(name)
        del self.values[name]


def test_it_follows_the_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    """One value, quoted since a user's name may have spaces, and gone again; twice is as good as once."""
    monkeypatch.setenv("IDLEBLOOM_WINDOWS", "C:\\Users\\An Na\\Programs\\Idlebloom")
    registry = Registry()
    for _ in range(2):
        follow(True, registry)
        assert registry.values == {"Idlebloom": '"C:\\Users\\An Na\\Programs\\Idlebloom\\Idlebloom.exe"'}
    for _ in range(2):
        follow(False, registry)
        assert registry.values == {}
