"""How many strangers a client may have a donor dial."""

from __future__ import annotations

from core.serving.dials import A_CLIENT, IN_ALL, WINDOW_SECONDS, Dials
from core.terms import PeerId


def peers(who: str, count: int) -> list[PeerId]:
    return [PeerId(f"{who}{number}") for number in range(count)]


def test_one_client_may_name_so_many_new_peers_a_minute() -> None:
    """Those that were dialled of late always; others find room meanwhile."""
    dials, client, other = Dials(), PeerId("client"), PeerId("other")
    named = peers("a", A_CLIENT)
    assert all(dials.allow(client, peer, 0.0) for peer in named)
    assert not dials.allow(client, PeerId("one more"), 1.0)
    assert dials.allow(client, named[3], 1.0)
    assert dials.allow(other, PeerId("one more"), 1.0)
    assert dials.allow(client, PeerId("another"), WINDOW_SECONDS + 0.1)


def test_many_clients_together_have_a_limit_too() -> None:
    """Peer ids cost nothing."""
    dials = Dials()
    allowed = [dials.allow(PeerId(f"c{n}"), peer, 0.0) for n, peer in enumerate(peers("p", IN_ALL + 5))]
    assert allowed.count(False) == 5
