from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.swarm.addresses import BadAddress, split_peer, to_bytes, to_text
from core.swarm.identity import Identity

ALICE, RELAY = Identity.from_seed(b"a" * 32).peer_id, Identity.from_seed(b"r" * 32).peer_id


@pytest.mark.parametrize(
    "address",
    [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip6/2001:db8::1/udp/4001/quic-v1",
        f"/dns4/meet.example.org/tcp/443/p2p/{ALICE}",
        f"/ip4/203.0.113.7/tcp/4001/p2p/{RELAY}/p2p-circuit/p2p/{ALICE}",
    ],
)
def test_addresses_survive_libp2ps_bytes(address: str) -> None:
    """Text to bytes to text gives the same address, through relays too."""
    assert to_text(to_bytes(address)) == address


def test_the_bytes_are_libp2ps() -> None:
    """A peer id in an address is its raw multihash, not a CID."""
    assert to_bytes("/ip4/127.0.0.1/tcp/4001").hex() == "047f000001060fa1"
    assert to_bytes(f"/p2p/{ALICE}").hex().startswith("a50326002408011220")


def test_the_peer_is_the_last_part() -> None:
    """The id behind a relay is split off, the relay's stays in the place."""
    assert split_peer(f"/ip4/1.2.3.4/tcp/5/p2p/{RELAY}/p2p-circuit/p2p/{ALICE}") == (
        f"/ip4/1.2.3.4/tcp/5/p2p/{RELAY}/p2p-circuit",
        ALICE,
    )
    with pytest.raises(BadAddress, match="does not end in"):
        split_peer("/ip4/1.2.3.4/tcp/5")


@given(st.text(max_size=60) | st.from_regex(r"(/(ip4|ip6|tcp|p2p|dns|quic)(/[0-9a-z.:]{0,9})?){1,4}"))
def test_any_text_is_an_address_or_one_error(text: str) -> None:
    """Mistyped addresses raise BadAddress and nothing else."""
    try:
        to_text(to_bytes(text))
    except BadAddress:
        pass


@given(st.binary(max_size=60))
def test_any_bytes_are_an_address_or_one_error(data: bytes) -> None:
    """A peer's bytes raise BadAddress and nothing else."""
    try:
        to_text(data)
    except BadAddress:
        pass
