"""Secrets at the door: for the owner's programs, and only where the node was given them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from core.door import RunningNode
from core.handed import Held, OfNode
from core.paths import Paths
from core.secrets import Secret
from tests.webchat.conftest import HOME, Client
from webchat.app import create_app
from webchat.door import Door
from webchat.fake import FakeReader
from webchat.serve import Server

KNOWN = {Secret.API_KEY: "ib-one", Secret.SWARM: "of-friends"}


@pytest.fixture
def told() -> list[Mapping[Secret, str | None]]:
    return []


@pytest.fixture
def held(told: list[Mapping[Secret, str | None]]) -> Held:
    return Held(KNOWN, told.append)


@pytest.fixture
def programs(reader: FakeReader, door: Door, held: Held) -> FlaskClient:
    app = create_app(reader, door, held=held)
    app.test_client_class = Client
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {door.token}"
    return client


def test_programs_read_and_change_them(
    programs: FlaskClient, held: Held, told: list[Mapping[Secret, str | None]]
) -> None:
    """With the token all are told, and a change is passed on."""
    assert programs.get("/api/secrets").get_json() == {"api_key": "ib-one", "swarm_secret": "of-friends"}
    assert programs.put("/api/secrets", json={"api_key": "ib-two", "swarm_secret": None}).status_code == 200
    assert programs.get("/api/secrets").get_json() == {"api_key": "ib-two"}
    assert told == [{Secret.API_KEY: "ib-two", Secret.SWARM: None}]


@pytest.mark.parametrize(
    "wrong", [{"root": "x"}, {"api_key": 1}, {"api_key": ""}, [], {"api_key": "x" * 9999}]
)
def test_anything_else_is_refused(
    programs: FlaskClient, wrong: object, told: list[Mapping[Secret, str | None]]
) -> None:
    """In words that name no secret, and nothing changes."""
    answer = programs.put("/api/secrets", json=wrong)
    assert answer.status_code == 400 and "xxx" not in answer.get_data(as_text=True)
    assert told == []


def test_no_page_and_no_client_gets_one(programs: FlaskClient, door: Door) -> None:
    """Neither the page's cookie nor the API key opens it."""
    for key in ("", f"Bearer {door.api_key}", "Bearer wrong"):
        programs.environ_base["HTTP_AUTHORIZATION"] = key
        programs.set_cookie("idlebloom_7714", door.cookie, domain="127.0.0.1")
        own = {"Origin": HOME}
        assert programs.get("/api/settings", headers=own).status_code == 200
        assert programs.get("/api/secrets", headers=own).status_code == 401
        assert programs.put("/api/secrets", json={"api_key": "x"}, headers=own).status_code == 401


def test_a_node_that_was_given_none_has_no_such_door(owner: FlaskClient) -> None:
    """On Linux they are in the keyring, and stay there."""
    assert owner.get("/api/secrets").status_code == 404


def test_commands_there_use_it(reader: FakeReader, door: Door, held: Held, tmp_path: Path) -> None:
    """A command finds the running node, and has and sets secrets through it."""
    paths = Paths.of(tmp_path)
    server = Server(create_app(reader, door, held=held), port=0)
    server.start()
    try:
        RunningNode(server.url, 1, door.token).write(paths.door_file)
        node = OfNode(paths)
        assert node.api_key() == "ib-one"
        made = node.new_api_key()
        node.remove(Secret.SWARM)
        assert (held.get(Secret.API_KEY), held.get(Secret.SWARM)) == (made, None)
    finally:
        server.stop()
