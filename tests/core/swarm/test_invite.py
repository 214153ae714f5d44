from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.swarm.identity import Identity
from core.swarm.invite import BadLink, Invite
from core.swarm.secret import Secret

PEER = Identity.make().peer_id
MEET = (f"/ip4/203.0.113.7/tcp/31337/p2p/{PEER}", f"/dns4/bloom.example/tcp/4001/p2p/{PEER}")
INVITE = Invite(MEET, "bigscience/bloomz-560m@main", Secret.make())


@pytest.mark.parametrize("secret", [None, Secret.make()])
def test_a_link_leads_back_to_what_it_was_made_of(secret: Secret | None) -> None:
    """Meeting points, model and secret; blanks and quotes around it do no harm."""
    invite = Invite(MEET, "bundled", secret)
    assert Invite.from_link(invite.link) == invite
    assert Invite.from_link(f"  <{invite.link}>\n") == invite


def test_a_link_that_was_cut_short_is_refused() -> None:
    """At whatever letter: half a secret or half the meeting points are never taken for the whole."""
    link = INVITE.link
    for end in range(len(link)):
        with pytest.raises(BadLink):
            Invite.from_link(link[:end])


@given(st.integers(0, len(INVITE.link) - 1), st.characters(min_codepoint=33, max_codepoint=126))
def test_a_changed_letter_is_noticed(at: int, letter: str) -> None:
    """A checksum over all of it says so."""
    link = INVITE.link[:at] + letter + INVITE.link[at + 1 :]
    if link != INVITE.link:
        with pytest.raises(BadLink):
            Invite.from_link(link)


@given(st.text())
def test_any_other_text_is_no_link(text: str) -> None:
    """It is refused in words, and with nothing else."""
    with pytest.raises(BadLink):
        Invite.from_link(text)


@pytest.mark.parametrize(
    "broken",
    [
        Invite((), "bundled", None),
        Invite(MEET, "", None),
        Invite(MEET, "/home/alice/bloom", None),
        Invite(("/ip4/203.0.113.7/tcp/1",), "bundled", None),
        Invite(
            ("/ip4/203.0.113.7/tcp/1/p2p/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",), "bundled", None
        ),
        Invite(("/ip4/999.0.113.7/tcp/1/p2p/" + PEER,), "bundled", None),
    ],
)
def test_a_whole_link_with_nonsense_in_it_is_refused(broken: Invite) -> None:
    """Its checksum is right; what it says is not."""
    with pytest.raises(BadLink):
        Invite.from_link(broken.link)
