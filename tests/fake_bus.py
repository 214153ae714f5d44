"""A bus of its own with the services that a Linux desktop has, as far as facts are read from them: whoever is
given its environment sees what the test sets."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from jeepney import HeaderFields, MessageType, new_error, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection

LOGIN, NETWORK, POWER = "org.freedesktop.login1", "org.freedesktop.NetworkManager", "org.freedesktop.UPower"
MUTTER, SESSION = "org.gnome.Mutter.IdleMonitor", "org.gnome.SessionManager"
SESSION_PATH = "/org/freedesktop/login1/session/_32"


@dataclass
class FakeBus:
    """``address`` of both buses. ``silent``: it takes questions and answers none."""

    address: str
    names: tuple[str, ...] = (LOGIN, NETWORK, POWER)
    locked: bool = False
    active: bool = True
    idle_hint: bool = False
    idle_since: int = 0
    inhibitors: list[tuple[str, str]] = field(default_factory=list)
    """Who, and what they keep from happening."""
    metered: int = 4
    on_battery: bool = False
    idle_ms: int = 0
    gnome_inhibitor: str = ""
    silent: bool = False

    @property
    def environment(self) -> dict[str, str]:
        return {"DBUS_SYSTEM_BUS_ADDRESS": self.address, "DBUS_SESSION_BUS_ADDRESS": self.address}

    def _property(self, interface: str, name: str) -> tuple[str, Any]:
        found: dict[str, dict[str, tuple[str, Any]]] = {
            f"{LOGIN}.User": {"Display": ("(so)", ("2", SESSION_PATH))},
            f"{LOGIN}.Session": {
                "LockedHint": ("b", self.locked),
                "Active": ("b", self.active),
                "IdleHint": ("b", self.idle_hint),
                "IdleSinceHintMonotonic": ("t", self.idle_since),
            },
            NETWORK: {"Metered": ("u", self.metered)},
            POWER: {"OnBattery": ("b", self.on_battery)},
        }
        return found[interface][name]

    def _answer(self, interface: str, member: str, body: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
        match interface, member:
            case "org.freedesktop.DBus.Properties", "Get":
                return "v", (self._property(*body),)
            case "org.freedesktop.DBus.Properties", "GetAll":
                names = ("LockedHint", "Active", "IdleHint", "IdleSinceHintMonotonic")
                return "a{sv}", ({name: self._property(body[0], name) for name in names},)
            case _, "GetSession":
                return "o", (SESSION_PATH,)
            case _, "ListInhibitors":
                held = [(what, who, "why", "block", 1000, 1) for who, what in self.inhibitors]
                return "a(ssssuu)", (held,)
            case _, "GetIdletime":
                return "t", (self.idle_ms,)
            case _, "IsInhibited":
                return "b", (bool(self.gnome_inhibitor) and bool(body[0] & 8),)
            case _, "GetInhibitors":
                return "ao", (["/org/gnome/SessionManager/Inhibitor1"],)
            case _, "GetFlags":
                return "u", (8,)
            case _, "GetAppId":
                return "s", (self.gnome_inhibitor,)
        raise KeyError(member)

    def serve(self, connection: DBusConnection, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                message = connection.receive(timeout=0.1)
            except (TimeoutError, OSError):
                continue
            if message.header.message_type is not MessageType.method_call or self.silent:
                continue
            fields = message.header.fields
            try:
                types, body = self._answer(
                    fields.get(HeaderFields.interface, ""), fields[HeaderFields.member], message.body
                )
                connection.send(new_method_return(message, types, body))
            except KeyError:
                connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))


@contextmanager
def fake_bus(*names: str) -> Iterator[FakeBus]:
    """With these services, those of the system's bus where none is named."""
    daemon = subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address"], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    stop = threading.Event()
    connection: DBusConnection | None = None
    thread: threading.Thread | None = None
    try:
        bus = FakeBus(daemon.stdout.readline().strip())
        if names:
            bus.names = names
        connection = open_dbus_connection(bus.address)
        for name in bus.names:
            connection.send_and_get_reply(message_bus.RequestName(name))
        thread = threading.Thread(target=bus.serve, args=(connection, stop), daemon=True)
        thread.start()
        yield bus
    finally:
        stop.set()
        if thread is not None:
            thread.join()
        if connection is not None:
            with suppress(OSError):
                connection.close()
        daemon.terminate()
        daemon.wait()
        daemon.stdout.close()
