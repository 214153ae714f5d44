"""D-Bus, as far as facts need it: properties and answers of services, on the system's bus or the
session's."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from jeepney import DBusAddress, DBusErrorResponse, Properties, new_method_call
from jeepney.io.blocking import DBusConnection, open_dbus_connection
from jeepney.wrappers import unwrap_msg

from core.pc.source import Unreadable

SECONDS = 2.0
"""A service that does not answer in time is unknown, not waited for."""


class Bus:
    """One connection, opened at the first question and anew after a failure."""

    def __init__(self, which: Literal["SYSTEM", "SESSION"]) -> None:
        self._which = which
        self._connection: DBusConnection | None = None

    def property(self, name: str, path: str, interface: str, field: str) -> Any:
        """The value of one property. Raises ``Unreadable``."""
        return self._send(Properties(DBusAddress(path, name, interface)).get(field))[0][1]

    def properties(self, name: str, path: str, interface: str) -> dict[str, Any]:
        """All properties of an interface."""
        found = self._send(Properties(DBusAddress(path, name, interface)).get_all())[0]
        return {field: value for field, (_, value) in found.items()}

    def call(
        self, name: str, path: str, interface: str, method: str, *arguments: Any, types: str = ""
    ) -> Any:
        """The first value that a method answers."""
        message = new_method_call(DBusAddress(path, name, interface), method, types or None, arguments or ())
        answer = self._send(message)
        return answer[0] if answer else None

    def has(self, name: str) -> bool:
        """Whether somebody offers the service now; nothing is started for the question."""
        bus = "org.freedesktop.DBus"
        return bool(self.call(bus, "/org/freedesktop/DBus", bus, "NameHasOwner", name, types="s"))

    def close(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None

    def _send(self, message: Any) -> Any:
        message.header.flags |= 2  # do not start a service for the question
        try:
            if self._connection is None:
                self._connection = open_dbus_connection(self._which)
            return unwrap_msg(self._connection.send_and_get_reply(message, timeout=SECONDS))
        except DBusErrorResponse as error:
            raise Unreadable(f"D-Bus: {error.name}") from error
        except (OSError, TimeoutError, EOFError, KeyError, ValueError, RuntimeError) as error:
            self.close()
            raise Unreadable(f"D-Bus does not answer: {error!r}") from error
