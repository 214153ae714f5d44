"""Where the settings panel reads and changes settings: the node's door, or the file while no node runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from core.errors import IdlebloomError
from core.preferences import Preferences
from core.settings import to_json
from desktop.client import Client

Done = Callable[[Any], None]
Failed = Callable[[str], None]


class SettingsKeeper:
    """``preferences`` opens the file, with all that follows a change of it. ``saved`` is called with the
    names of what was changed while a node runs."""

    def __init__(
        self,
        client: Client,
        preferences: Callable[[], Preferences],
        saved: Callable[[Collection[str]], None] = lambda names: None,
    ) -> None:
        self._client, self._preferences, self._saved = client, preferences, saved

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

            def took(settings: Any) -> None:
                done(settings)
                self._saved(tuple(changes))

            self._client.put_settings(changes, took, failed)
            return
        try:
            done(to_json(self._preferences().change(changes).change.after))
        except IdlebloomError as error:
            failed(str(error))
