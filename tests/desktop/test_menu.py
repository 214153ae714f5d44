from __future__ import annotations

from collections.abc import Iterator, Sequence

from desktop.menu import Do, Entry, Order, build
from desktop.snapshot import read
from tests.desktop.door_server import reason, status

NOW = 1_000_000.0


def orders(entries: Sequence[Entry]) -> Iterator[Order]:
    for entry in entries:
        if entry.order is not None:
            yield entry.order
        yield from orders(entry.under)


def test_giving() -> None:
    """Everything that the owner may want while the PC gives."""
    menu = build(read(status()), consented=True, now=NOW)
    found = list(orders(menu))
    assert menu[0].text == "Giving: To 2 readers now"
    assert {order.do for order in found} == set(Do) - {Do.RESUME, Do.SWARM, Do.WELCOME}
    assert [o.length for o in found if o.do is Do.PAUSE] == ["15m", "1h", "3h", "tomorrow", ""]
    assert [o.length for o in found if o.do is Do.GIVE] == ["15m", "1h", ""]


def test_paused() -> None:
    """A pause can be ended, with the time left at its entry, or made longer."""
    menu = build(read(status("paused", reason=reason("paused", until=NOW + 2520))), consented=True, now=NOW)
    assert "Resume (42 min)" in [entry.text for entry in menu]
    assert "Pause for longer" in [entry.text for entry in menu]
    assert Do.FINISH not in [order.do for order in orders(menu)]


def test_giving_now_can_be_stopped() -> None:
    """While *give now* runs its end stands there instead."""
    menu = build(read(status(giving_until=NOW + 600)), consented=True, now=NOW)
    texts = [entry.text for entry in menu]
    assert "Stop giving now (10 min)" in texts and "Give now" not in texts


def test_before_consent() -> None:
    """Nothing can be started before the first run, and that is one click away."""
    assert {order.do for order in orders(build(None, consented=False))} == {Do.WELCOME, Do.QUIT}


def test_without_a_node() -> None:
    """The menu says what is wrong, and nothing that needs a node is offered."""
    menu = build(None, consented=True, trouble="It ended.")
    assert menu[0].text == "It ended."
    assert {order.do for order in orders(menu)} == {Do.SETTINGS, Do.STATUS, Do.QUIT}


def test_what_the_node_gets() -> None:
    """An order is the body of POST /api/donate."""
    assert Order(Do.PAUSE, "1h").body() == {"action": "pause", "for": "1h"}
    assert Order(Do.GIVE).body() == {"action": "give", "for": None}
