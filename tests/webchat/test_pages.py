from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import webchat
from core.errors import NodeError
from core.terms import ModelRef, Span
from webchat.app import create_app
from webchat.door import Door
from webchat.fake import FakeReader

SOURCES = Path(webchat.__file__).parent


@pytest.mark.parametrize("path", ["/", "/swarm"])
def test_pages_have_no_inline_script_or_style(client: FlaskClient, path: str) -> None:
    """The strict policy would not run them."""
    html = client.get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", html)


def test_scripts_never_parse_markup() -> None:
    """What a model or a peer sends reaches the page as text; sanitised answers enter at one place alone."""
    parsing = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|createHTML"
    scripts = (SOURCES / "static" / "js").glob("*.js")
    assert [script.name for script in scripts if re.search(parsing, script.read_text())] == ["markup.js"]


def test_pages_load_nothing_from_elsewhere(client: FlaskClient) -> None:
    """No font, script or picture of another host."""
    for path in ("/", "/swarm"):
        assert not re.search(r"""(src|href)=["'](https?:)?//""", client.get(path).text)


def test_state_shows_the_map(client: FlaskClient) -> None:
    """Model, holes and donors in order of their layers, without their addresses."""
    state = client.get("/api/v1/state").get_json()
    assert (state["model"], state["blocks"], state["whole"], state["missing"]) == (
        "idlebloom-demo",
        8,
        True,
        [],
    )
    assert [(donor["start"], donor["end"]) for donor in state["donors"]] == [(0, 4), (4, 7), (7, 10)]
    assert "addresses" not in state["donors"][0]


def test_state_shows_the_swarms_other_models(client: FlaskClient, reader: FakeReader) -> None:
    """In the same shape; a model that cannot be read hides nothing."""
    other = ModelRef("other/model", "main", 6)
    reader.elsewhere = {other: (replace(reader.swarm()[0], model=other, span=Span(1, 6)),)}
    (shown,) = client.get("/api/v1/state").get_json()["others"]
    assert (shown["model"], shown["blocks"], shown["whole"]) == ("other/model", 4, False)
    assert shown["missing"] == [{"start": 0, "end": 1}] and shown["expected_rate"] is None
    assert [(donor["start"], donor["end"]) for donor in shown["donors"]] == [(1, 6)]


def test_a_licence_is_accepted_by_the_owner_alone(
    client: FlaskClient, reader: FakeReader, door: Door
) -> None:
    """By its name; until then programs are refused, afterwards they are answered."""
    reader.restricts = "rail-1"
    body = {"model": "idlebloom-demo", "prompt": "a", "max_tokens": 2}
    refused = client.post("/v1/completions", json=body)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "licence_not_accepted")
    assert client.post("/api/licence", json={"accept": "rail-1"}).status_code == 401
    owner = {"Authorization": f"Bearer {door.token}"}
    wrong = client.post("/api/licence", json={"accept": "another"}, headers=owner)
    assert wrong.status_code == 409 and reader.accepted == []
    assert client.post("/api/licence", json={}, headers=owner).status_code == 400
    assert client.post("/api/licence", json={"accept": "rail-1"}, headers=owner).get_json() == {"wanted": ""}
    assert reader.accepted == ["rail-1"]
    assert client.post("/v1/completions", json=body).status_code == 200


def test_state_without_a_model_is_an_error_in_words(
    client: FlaskClient, reader: FakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 with what to do."""

    def no_card() -> None:
        raise NodeError("no model is chosen", "Choose one.")

    monkeypatch.setattr(reader, "card", no_card)
    answer = client.get("/api/v1/state")
    assert answer.status_code == 503
    assert answer.get_json()["error"]["message"] == "No model is chosen. Choose one."


def test_an_unknown_page_is_not_found(client: FlaskClient) -> None:
    """In words, and with the policy."""
    answer = client.get("/nothing")
    assert answer.status_code == 404
    assert answer.get_json()["error"]["message"] == "There is nothing at this address."


def test_the_demos_page_says_that_nothing_leaves_this_pc(reader: FakeReader, door: Door) -> None:
    """Where all donors run here nobody else can read the chat, and elsewhere they can."""
    for only_here, words in (
        (True, "Nothing leaves this computer"),
        (False, "write only what you would say"),
    ):
        client = create_app(reader, door, only_here=only_here).test_client()
        page = client.get("/", base_url="http://127.0.0.1:7714").text
        assert words in page and "not encrypted" in page


def test_a_person_reads_a_refusal_as_a_page(client: FlaskClient) -> None:
    """With the same status and policy; programs and scripts get JSON at the same address."""
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    lost = client.get("/<b>nowhere", headers=browser)
    assert lost.status_code == 404 and "There is nothing at this address." in lost.text
    assert "To the chat page" in lost.text and "<b>nowhere" not in lost.text
    assert "default-src 'none'" in lost.headers["Content-Security-Policy"]
    wrong_name = client.get("/", headers=browser, base_url="http://other.example:7714")
    assert wrong_name.status_code == 421 and "Open http://127.0.0.1 instead." in wrong_name.text
    assert "To the chat page" not in wrong_name.text
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        assert client.get("/nowhere", headers=headers).get_json()["error"]["message"]
