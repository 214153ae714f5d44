"""Where the settings panel reads and changes settings: the node's door, or the file while no node runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.errors import IdlebloomError
from core.preferences import Preferences
from core.settings import to_json
from desktop.client import Client

Done = Callable[[Any], None]
Failed = Callable[[str], None]


class SettingsKeeper:
    """``preferences`` opens the file, with all that follows a change of it."""

    def __init__(self, client: Client, preferences: Callable[[], Preferences]) -> None:
        self._client, self._preferences = client, preferences

    def load(self, done: Done, failed: Failed) -> None:
        if self._client.door is not None:
            self._client.get("/api/settings", done, failed)
            return
        try:
            done(to_json(self._preferences().settings))
        except IdlebloomError as error:
            failed(str(error))

    def save(self, changes: Mapping[str, object], done: Done, failed: Failed) -> None:
        if self._client.door is not None:
            self._client.put_settings(changes, done, failed)
            return
        try:
            done(to_json(self._preferences().change(changes).change.after))
        except IdlebloomError as error:
            failed(str(error))
