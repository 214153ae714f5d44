"""The StatusNotifier way of KDE and of GNOME's extension, over a session bus of our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.paths import Paths, code
from desktop.memory import Memory
from tests.desktop.door_server import FakeDoor

WATCHER = '''
"""A StatusNotifier watcher and host: tells what it sees, and clicks."""
import asyncio, json, sys
from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.service import ServiceInterface, dbus_property, dbus_method as method, PropertyAccess
NAME = "org.kde.StatusNotifierWatcher"

class Watcher(ServiceInterface):
    def __init__(self):
        super().__init__(NAME)
        self.items = asyncio.Queue()
    @method()
    def RegisterStatusNotifierItem(self, service: "s"):
        self.items.put_nowait(service)
    @dbus_property(access=PropertyAccess.READ)
    def IsStatusNotifierHostRegistered(self) -> "b":
        return True
    @dbus_property(access=PropertyAccess.READ)
    def RegisteredStatusNotifierItems(self) -> "as":
        return []
    @dbus_property(access=PropertyAccess.READ)
    def ProtocolVersion(self) -> "i":
        return 0

async def call(bus, service, path, interface, member, signature="", body=()):
    reply = await bus.call(Message(destination=service, path=path, interface=interface, member=member, signature=signature, body=list(body)))
    if reply.message_type is MessageType.ERROR:
        raise RuntimeError(reply.body)
    return reply.body

def texts(node):
    number, properties, children = node
    label = properties["label"].value if "label" in properties else ""
    yield number, label
    for child in children:
        yield from texts(child.value)

async def main():
    await asyncio.sleep(float(sys.argv[1]))
    bus = await MessageBus(bus_type=BusType.SESSION).connect()
    watcher = Watcher()
    bus.export("/StatusNotifierWatcher", watcher)
    await bus.request_name(NAME)
    service = await asyncio.wait_for(watcher.items.get(), 20)
    props = "org.freedesktop.DBus.Properties"
    item, path = "org.kde.StatusNotifierItem", "/StatusNotifierItem"
    found = (await call(bus, service, path, props, "GetAll", "s", (item,)))[0]
    menu = found["Menu"].value
    seen = {}
    for _ in range(60):
        layout = await call(bus, service, menu, "com.canonical.dbusmenu", "GetLayout", "iias", (0, -1, []))
        seen = {label.replace("_", ""): number for number, label in texts(layout[1]) if label}
        if "Give now" in seen:
            break
        await asyncio.sleep(0.25)
    tooltip = (await call(bus, service, path, props, "Get", "ss", (item, "ToolTip")))[0].value
    await call(bus, service, path, item, "Activate", "ii", (0, 0))
    pause = seen["For 3 hours"]
    await call(bus, service, menu, "com.canonical.dbusmenu", "Event", "isvu", (pause, "clicked", Variant("i", 0), 0))
    await asyncio.sleep(0.5)
    print(json.dumps({"entries": list(seen), "tooltip": [p for p in tooltip if isinstance(p, str)], "icon": bool(found["IconPixmap"].value or found["IconName"].value)}), flush=True)
    await call(bus, service, menu, "com.canonical.dbusmenu", "Event", "isvu", (seen["Quit"], "clicked", Variant("i", 0), 0))
    await asyncio.sleep(0.2)

asyncio.run(main())
'''


@pytest.mark.xvfb
def test_a_host_on_the_bus_that_comes_late(door: FakeDoor, paths: Paths, tmp_path: Path) -> None:
    """The icon registers with a watcher that starts after it, shows its line and its menu, and obeys clicks."""
    if shutil.which("dbus-run-session") is None:
        pytest.skip("no dbus-run-session")
    Memory(paths.state).keep("consented")
    door.running(os.getpid()).write(paths.door_file)
    script, said = tmp_path / "watcher.py", tmp_path / "said"
    script.write_text(WATCHER)
    line = (
        f"'{sys.executable}' -m idlebloom --data '{paths.state}' & tray=$!; "
        f"'{sys.executable}' '{script}' 1.5 > '{said}'; code=$?; wait $tray; exit $code"
    )
    environment = {k: v for k, v in os.environ.items() if k != "DBUS_SESSION_BUS_ADDRESS"}
    environment["PYTHONPATH"] = str(code())
    environment["LANGUAGE"] = "en"
    done = subprocess.run(
        ["dbus-run-session", "--", "bash", "-c", line],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(said.read_text())
    assert {"Open chat", "Give now", "Pause", "Until tomorrow", "Settings…", "Quit"} <= set(seen["entries"])
    assert any("Giving" in part for part in seen["tooltip"]) and seen["icon"]
    assert door.donated == [{"action": "pause", "for": "3h"}]
