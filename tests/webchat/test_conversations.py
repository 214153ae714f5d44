from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from webchat.app import create_app
from webchat.door import Door
from webchat.fake import FakeReader
from webchat.history import History

AT = "/api/conversations"


@pytest.fixture
def kept() -> History:
    return History(None)


@pytest.fixture
def app(reader: FakeReader, door: Door, kept: History) -> Flask:
    return create_app(reader, door, kept)


@pytest.fixture
def talk(kept: History) -> str:
    made = kept.begin("What is a flower?", "Be kind.")
    asked = kept.add(made.id, None, "user", "What is a flower?")
    kept.add(made.id, asked.id, "assistant", "First.", facts={"seed": 1})
    kept.add(made.id, asked.id, "assistant", "A **plant**.")
    return made.id


def test_conversations_are_listed_and_searched(owner: FlaskClient, talk: str) -> None:
    """By title and by what was said."""
    assert [one["title"] for one in owner.get(AT).get_json()["conversations"]] == ["What is a flower?"]
    assert owner.get(f"{AT}?q=PLANT").get_json()["conversations"][0]["id"] == talk
    assert owner.get(f"{AT}?q=stone").get_json()["conversations"] == []


def test_one_comes_with_all_its_branches(owner: FlaskClient, talk: str) -> None:
    """Text as it was said, and as harmless HTML."""
    whole = owner.get(f"{AT}/{talk}").get_json()
    assert whole["system"] == "Be kind." and whole["leaf"] == whole["messages"][2]["id"]
    assert [one["text"] for one in whole["messages"]] == ["What is a flower?", "First.", "A **plant**."]
    assert whole["messages"][2]["html"] == "<p>A <strong>plant</strong>.</p>"


def test_renaming(owner: FlaskClient, talk: str) -> None:
    """A new title; an empty or overlong one is refused by name."""
    assert owner.patch(f"{AT}/{talk}", json={"title": "Flowers"}).get_json()["title"] == "Flowers"
    for title in ("", " ", "x" * 201, 5, None, "\ud800"):
        answer = owner.patch(f"{AT}/{talk}", json={"title": title})
        assert answer.status_code == 400 and answer.get_json()["error"]["param"] == "title"


def test_deleting_one_and_all(owner: FlaskClient, talk: str, reader: FakeReader, kept: History) -> None:
    """Donors are told to forget them."""
    other = kept.begin("other", "").id
    assert owner.delete(f"{AT}/{talk}").status_code == 200
    assert [one.id for one in kept.conversations()] == [other]
    assert owner.delete(AT).status_code == 200
    assert kept.conversations() == []
    assert reader.forgotten == [f"page:{talk}", f"page:{other}"]


def test_saving_as_markdown_has_the_branch_shown(owner: FlaskClient, talk: str) -> None:
    """To be read; as a file whose name says nothing of what is in it."""
    answer = owner.get(f"{AT}/{talk}/export?as=markdown")
    assert answer.headers["Content-Disposition"] == f'attachment; filename="chat-{talk}.md"'
    assert answer.text.startswith("# What is a flower?\n")
    assert "## You\n\nWhat is a flower?\n\n## Idlebloom\n\nA **plant**.\n" in answer.text
    assert "Be kind." in answer.text and "First." not in answer.text


def test_saving_as_json_has_all_branches(owner: FlaskClient, talk: str) -> None:
    """With what is known of each answer."""
    answer = owner.get(f"{AT}/{talk}/export?as=json")
    assert answer.mimetype == "application/json"
    saved = answer.get_json()
    assert [one["text"] for one in saved["messages"]] == ["What is a flower?", "First.", "A **plant**."]
    assert saved["messages"][1]["facts"] == {"seed": 1}


@pytest.mark.parametrize("name", ["gone", "..", "%2e%2e%2fetc", "' OR 1=1 --"])
def test_what_is_not_there_is_not_found(owner: FlaskClient, talk: str, name: str) -> None:
    """Whatever the name looks like."""
    for answer in (owner.get(f"{AT}/{name}"), owner.delete(f"{AT}/{name}"), owner.get(f"{AT}/{name}/export")):
        assert answer.status_code in (404, 405)
    assert owner.get(f"{AT}/{talk}").status_code == 200


def test_only_the_owner_sees_them(client: FlaskClient, talk: str, door: Door, kept: History) -> None:
    """Not without the cookie or the token, not with the API key, not from another page."""
    requests = [("get", AT), ("get", f"{AT}/{talk}"), ("get", f"{AT}/{talk}/export"), ("delete", AT)]
    for method, path in requests:
        assert getattr(client, method)(path).status_code == 401
        key = {"Authorization": f"Bearer {door.api_key}"}
        assert getattr(client, method)(path, headers=key).status_code == 401
        foreign = {"Authorization": f"Bearer {door.token}", "Origin": "http://evil.example"}
        assert getattr(client, method)(path, headers=foreign).status_code == 403
    client.get("/")  # brings the cookie
    assert client.get(AT).status_code == 200
    assert client.delete(AT).status_code == 403  # a form of another page could send this
    assert len(kept.conversations()) == 1
