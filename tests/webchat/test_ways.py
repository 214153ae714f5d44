from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.webchat.conftest import HOME, Client
from tests.webchat.offers import FakeWays
from webchat.app import create_app
from webchat.door import Door
from webchat.fake import FakeReader


@pytest.fixture
def ways() -> FakeWays:
    return FakeWays()


@pytest.fixture
def owner(reader: FakeReader, door: Door, ways: FakeWays) -> FlaskClient:
    app = create_app(reader, door, ways=ways)
    app.test_client_class = Client
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {door.token}"
    return client


def test_each_way_leads_somewhere(owner: FlaskClient, ways: FakeWays) -> None:
    """What it leads to is told."""
    assert owner.post("/api/ways/try", json={}).get_json() == {"url": "/swarm"}
    assert owner.post("/api/ways/just", json={}).get_json() == {"restart": False}
    assert owner.post("/api/ways/join", json={"link": " a:link "}).get_json() == {"restart": True}
    assert owner.post("/api/ways/invite", json={}).get_json()["link"] == "idlebloom:link"
    assert ways.went == ["try", "just", "a:link", "invite"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"link": 7}, 400),
        ({"link": " "}, 400),
        ({"link": "--data=/x"}, 400),
        ({"link": "bad"}, 503),
    ],
)
def test_what_is_no_link_is_refused(
    owner: FlaskClient, ways: FakeWays, body: dict[str, object], status: int
) -> None:
    """In words; nothing that reads as an option reaches a command."""
    answer = owner.post("/api/ways/join", json=body)
    assert answer.status_code == status and answer.get_json()["error"]["message"]
    assert not ways.went


def test_only_what_is_offered_is_there(owner: FlaskClient, ways: FakeWays) -> None:
    """Neither unknown ways, nor those that this program does not have."""
    ways.names = ("try",)
    assert owner.post("/api/ways/invite", json={}).status_code == 404
    assert owner.post("/api/ways/fly", json={}).status_code == 404


def test_strangers_go_no_way(reader: FakeReader, door: Door, ways: FakeWays) -> None:
    """It takes the owner's cookie or token, and our own page."""
    client = create_app(reader, door, ways=ways).test_client()
    assert client.post("/api/ways/try", base_url=HOME, json={}).status_code == 401
    client.get("/", base_url=HOME)
    assert client.post("/api/ways/try", base_url=HOME, json={}).status_code == 403
    foreign = {"Origin": "http://evil.example"}
    assert client.post("/api/ways/try", base_url=HOME, json={}, headers=foreign).status_code == 403
    assert not ways.went
