from __future__ import annotations

import json
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from core.terms import Because, Progress, Reason, Span, State, SwarmView
from webchat.bulletin import Bulletin
from webchat.control import snapshots
from webchat.fake import WHOLE, FakeReader


def test_status_is_one_whole_snapshot(owner: FlaskClient, reader: FakeReader) -> None:
    """``?once=1`` answers with every part of the status in its documented shape."""
    reader.set_status(
        replace(
            WHOLE,
            state=State.WAITING,
            reason=Because(Reason.PAUSED, {}, until=1e12),
            span=Span(1, 4),
            progress=Progress("fetching", 1, 2, 3.0),
            swarm=SwarmView("idlebloom-demo", False, (Span(4, 7),), 2),
        )
    )
    shape = owner.get("/api/status?once=1").get_json()
    assert shape.pop("reason").keys() == {"kind", "args", "until", "text"}
    assert shape == {
        "version": "0.1.0",
        "state": "waiting",
        "span": {"start": 1, "end": 4},
        "progress": {"phase": "fetching", "done_bytes": 1, "total_bytes": 2, "seconds_left": 3.0},
        "sessions": 0,
        "today": {"tokens": 0, "conversations": 0, "up_bytes": 0, "down_bytes": 0},
        "vram": {"used": 0, "cap": 0},
        "rates": {"up": 0.0, "down": 0.0, "tokens": 0.0},
        "swarm": {
            "model": "idlebloom-demo",
            "whole": False,
            "missing": [{"start": 4, "end": 7}],
            "donors": 2,
        },
        "blocks": 0,
        "giving_until": None,
        "finishing": False,
    }


def test_status_streams_a_snapshot_a_change(reader: FakeReader) -> None:
    """The first comes at once, the next when something changed, and a comment in between."""
    stream = snapshots(Bulletin(reader), heartbeat=0.2)
    assert _data(next(stream))["sessions"] == 0
    assert next(stream).startswith(":")
    reader.set_status(replace(WHOLE, sessions=2))
    assert _data(next(stream))["sessions"] == 2


def test_the_stream_is_named_as_events(owner: FlaskClient) -> None:
    """A browser's EventSource takes it."""
    with owner.get("/api/status") as answer:
        assert answer.mimetype == "text/event-stream"
        assert _data(next(answer.iter_encoded()).decode())["state"] == "off"  # type: ignore[arg-type]


def test_settings_are_read_and_changed(owner: FlaskClient) -> None:
    """A change answers with all settings as they are then."""
    assert owner.get("/api/settings").get_json()["port"] == 7714
    assert owner.put("/api/settings", json={"port": 7000}).get_json()["port"] == 7000


def test_a_wrong_setting_is_refused_in_words(owner: FlaskClient) -> None:
    """The node's own words reach the client."""
    answer = owner.put("/api/settings", json={"colour": 1})
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"].startswith("There is no setting colour.")
    assert owner.put("/api/settings", json=[1]).status_code == 400
    assert owner.put("/api/settings", data="{", content_type="application/json").status_code == 400


def test_the_donor_is_told_what_to_do(owner: FlaskClient, reader: FakeReader) -> None:
    """An order with its time reaches the donor; the answer is the status after."""
    answer = owner.post("/api/donate", json={"action": "pause", "for": "1h"})
    assert answer.get_json()["state"] == "paused"
    owner.post("/api/donate", json={"action": "give", "for": None})
    assert reader.orders == [("pause", "1h"), ("give", None)]


@pytest.mark.parametrize("body", [{"action": "dance"}, {}, {"action": "pause", "for": 3}, []])
def test_a_wrong_order_is_refused(owner: FlaskClient, reader: FakeReader, body: object) -> None:
    """Nothing is done then."""
    assert owner.post("/api/donate", json=body).status_code == 400
    assert reader.orders == []


def test_facts_are_told(owner: FlaskClient, reader: FakeReader) -> None:
    """What another process of the owner has read reaches the node."""
    assert owner.post("/api/facts", json={"idle_seconds": 3}).status_code == 200
    assert reader.told == [{"idle_seconds": 3}]


def test_what_was_given_and_what_happened(owner: FlaskClient, reader: FakeReader) -> None:
    """Sums with days, and the last events with their words."""
    assert owner.get("/api/given").get_json()["today"]["tokens"] == 0
    reader.donate("pause", None)
    (event,) = owner.get("/api/events").get_json()
    assert (event["state"], event["reason"]["text"]) == ("paused", "paused until you resume")


@pytest.mark.parametrize("path", ["/api/donate", "/api/facts", "/api/given", "/api/events"])
def test_only_the_owner_may(client: FlaskClient, path: str) -> None:
    """Without the cookie or the token nobody orders or looks."""
    method = client.post if path in ("/api/donate", "/api/facts") else client.get
    assert method(path, json={}).status_code == 401


def _data(event: str) -> dict[str, object]:
    assert event.startswith("data: ") and event.endswith("\n\n")
    shape: dict[str, object] = json.loads(event[6:])
    return shape
