"""A StatusNotifier watcher and host, to be run on a session bus: says what it sees of the icon, and clicks.

The first argument: seconds after which it begins. In between it goes, and returns. Prints one line of JSON.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.constants import PropertyAccess
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

NAME = "org.kde.StatusNotifierWatcher"
ITEM, PATH = "org.kde.StatusNotifierItem", "/StatusNotifierItem"
MENU = "com.canonical.dbusmenu"
GONE_SECONDS = 3.0
"""Long enough for the tray to have seen that nobody watches any more."""
PROPERTIES = "org.freedesktop.DBus.Properties"


class Watcher(ServiceInterface):
    def __init__(self) -> None:
        super().__init__(NAME)
        self.items: asyncio.Queue[str] = asyncio.Queue()

    @dbus_method()
    def RegisterStatusNotifierItem(self, service: "s"):  # type: ignore[name-defined, no-untyped-def]  # noqa: F821, N802
        self.items.put_nowait(service)

    @dbus_property(access=PropertyAccess.READ)
    def IsStatusNotifierHostRegistered(self) -> "b":  # type: ignore[name-defined]  # noqa: F821, N802
        return True

    @dbus_property(access=PropertyAccess.READ)
    def RegisteredStatusNotifierItems(self) -> "as":  # type: ignore[valid-type]  # noqa: F722, N802
        return []

    @dbus_property(access=PropertyAccess.READ)
    def ProtocolVersion(self) -> "i":  # type: ignore[name-defined]  # noqa: F821, N802
        return 0


class Item:
    """The icon, as its host speaks to it."""

    def __init__(self, bus: MessageBus, service: str) -> None:
        self._bus, self._service = bus, service

    async def call(self, path: str, interface: str, member: str, signature: str, *body: Any) -> list[Any]:
        message = Message(
            destination=self._service,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
        )
        reply = await self._bus.call(message)
        if reply is None or reply.message_type is MessageType.ERROR:
            raise RuntimeError(reply and reply.body)
        return reply.body

    async def entries(self, menu: str, needed: str) -> dict[str, int]:
        """The menu's texts with their numbers, once there is the one that is waited for."""
        for _ in range(60):
            layout = await self.call(menu, MENU, "GetLayout", "iias", 0, -1, [])
            seen = {label.replace("_", ""): number for number, label in texts(layout[1]) if label}
            if needed in seen:
                return seen
            await asyncio.sleep(0.25)
        raise TimeoutError(needed)

    async def click(self, menu: str, number: int) -> None:
        await self.call(menu, MENU, "Event", "isvu", number, "clicked", Variant("i", 0), 0)


def texts(node: list[Any]) -> Iterator[tuple[int, str]]:
    number, properties, children = node
    yield number, properties["label"].value if "label" in properties else ""
    for child in children:
        yield from texts(child.value)


async def main() -> None:
    await asyncio.sleep(float(sys.argv[1]))
    bus = await MessageBus(bus_type=BusType.SESSION).connect()
    watcher = Watcher()
    bus.export("/StatusNotifierWatcher", watcher)
    await bus.request_name(NAME)
    item = Item(bus, await asyncio.wait_for(watcher.items.get(), 20))
    found = (await item.call(PATH, PROPERTIES, "GetAll", "s", ITEM))[0]
    menu = found["Menu"].value
    seen = await item.entries(menu, "Give now")
    tooltip = (await item.call(PATH, PROPERTIES, "Get", "ss", ITEM, "ToolTip"))[0].value
    await item.call(PATH, ITEM, "Activate", "ii", 0, 0)
    await item.click(menu, seen["For 3 hours"])
    await bus.release_name(NAME)
    await asyncio.sleep(GONE_SECONDS)
    await bus.request_name(NAME)
    item = Item(bus, await asyncio.wait_for(watcher.items.get(), 20))
    found = (await item.call(PATH, PROPERTIES, "GetAll", "s", ITEM))[0]
    menu = found["Menu"].value
    seen = await item.entries(menu, "Quit")
    said = {
        "entries": list(seen),
        "tooltip": [part for part in tooltip if isinstance(part, str)],
        "icon": bool(found["IconPixmap"].value or found["IconName"].value),
    }
    print(json.dumps(said), flush=True)
    await item.click(menu, seen["Quit"])
    await asyncio.sleep(0.2)


if __name__ == "__main__":
    asyncio.run(main())
