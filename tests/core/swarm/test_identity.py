from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import SwarmError
from core.swarm.identity import (
    BadPeerId,
    Identity,
    base58_decode,
    base58_encode,
    load_identity,
    peer_id_of,
    public_key_of,
    verify,
)
from core.terms import PeerId


def test_peer_ids_are_those_of_libp2p() -> None:
    """A known key of libp2p's specification style gives a 12D3Koo… id and is found in it again."""
    identity = Identity.from_seed(bytes(32))
    assert identity.peer_id == "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"
    assert peer_id_of(public_key_of(identity.peer_id)) == identity.peer_id


@given(st.binary(max_size=40))
def test_base58_is_reversible(data: bytes) -> None:
    """Bytes survive base58, leading zeros included."""
    assert base58_decode(base58_encode(data)) == data


@given(st.text(max_size=80))
def test_text_that_is_no_peer_id_is_one_error(text: str) -> None:
    """Any text is either a peer id or BadPeerId."""
    try:
        assert len(public_key_of(PeerId(text))) == 32
    except BadPeerId:
        pass


def test_signatures_hold_for_their_signer_and_data_only() -> None:
    """A signature verifies for its own peer id and bytes, and for nothing else."""
    alice, bob = Identity.make(), Identity.make()
    signature = alice.sign(b"data")
    assert verify(alice.peer_id, signature, b"data")
    assert not verify(alice.peer_id, signature, b"date")
    assert not verify(bob.peer_id, signature, b"data")
    assert not verify(PeerId("nobody"), signature, b"data")
    assert not verify(alice.peer_id, b"short", b"data")


def test_a_missing_file_is_made_private_and_kept(tmp_path: Path) -> None:
    """The first load makes the file with mode 0600, the second finds the same identity."""
    path = tmp_path / "deep" / "identity"
    made = load_identity(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().startswith(bytes.fromhex("08011240"))
    assert load_identity(path) == made
    assert list(path.parent.iterdir()) == [path]


def test_a_broken_file_is_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damage is said, the damaged file kept, and a new identity made."""
    path = tmp_path / "identity"
    for damage in (b"", b"junk", Identity.make().to_file_bytes()[:-1] + b"?"):
        path.write_bytes(damage)
        with caplog.at_level(logging.WARNING):
            made = load_identity(path)
        assert load_identity(path) == made
        aside = next(tmp_path.glob("identity.broken-*"))
        assert aside.read_bytes() == damage
        assert aside.name in caplog.text
        aside.unlink()


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    """A path below a file is an error in words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SwarmError, match="cannot be used"):
        load_identity(tmp_path / "file" / "identity")


def test_the_seed_is_not_shown() -> None:
    """Printing an identity shows its peer id alone."""
    identity = Identity.from_seed(b"s" * 32)
    assert "sss" not in repr(identity)
    assert identity.peer_id in repr(identity)
