"""The kept conversations for the owner's page: ``/api/conversations``, and a conversation as a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from flask import Blueprint, Response, jsonify, request

from webchat.answers import Answers
from webchat.door import check_owner
from webchat.history import Conversation, Entry, branch
from webchat.refusals import Refusal
from webchat.snapshots import Shape, conversation_shape
from webchat.values import BadValue, Body, mapping, text

MAX_TITLE = 200
MAX_SYSTEM = 20_000


def blueprint(answers: Answers) -> Blueprint:
    kept = Blueprint("conversations", __name__, url_prefix="/api/conversations")
    kept.before_request(check_owner)
    history = answers.history

    @kept.get("")
    def every() -> Response:
        found = history.conversations(request.args.get("q", "")[:1000])
        return jsonify(conversations=[conversation_shape(one) for one in found])

    @kept.delete("")
    def delete_all() -> Response:
        answers.forget(None)
        return jsonify(conversations=[])

    @kept.get("/<name>")
    def one(name: str) -> Response:
        return jsonify(answers.shape(_found(answers, name)))

    @kept.patch("/<name>")
    def change(name: str) -> Response:
        found = _found(answers, name)
        body = mapping(request.get_json(), "body")
        title = short_text(body, "title", MAX_TITLE)
        if title is None or not title.strip():
            raise BadValue("title", "must not be empty")
        history.change(found.id, title=title)
        answers.tell_of_list()
        return jsonify(conversation_shape(_found(answers, name)))

    @kept.delete("/<name>")
    def delete(name: str) -> Response:
        answers.forget(_found(answers, name).id)
        return jsonify(deleted=name)

    @kept.get("/<name>/export")
    def export(name: str) -> Response:
        found = _found(answers, name)
        if request.args.get("as") == "markdown":
            path = branch(history.entries(found.id), found.leaf)
            return _file(as_markdown(found, path), "text/markdown; charset=utf-8", f"chat-{found.id}.md")
        whole = json.dumps(as_json(found, history.entries(found.id)), ensure_ascii=False, indent=1)
        return _file(whole, "application/json", f"chat-{found.id}.json")

    return kept


def short_text(body: Body, field: str, most: int) -> str | None:
    if body.get(field) is None:
        return None
    value = text(body, field)
    if len(value) > most:
        raise BadValue(field, f"must be at most {most} characters")
    return value


def as_markdown(conversation: Conversation, path: Sequence[Entry]) -> str:
    """The branch that is shown, to be read."""
    parts = [f"# {conversation.title}", f"*{_when(conversation.created)}*"]
    if conversation.system.strip():
        parts += ["## System", conversation.system.strip()]
    for one in path:
        parts += ["## You" if one.role == "user" else "## Idlebloom", one.text.strip() or "*(nothing)*"]
    return "\n\n".join(parts) + "\n"


def as_json(conversation: Conversation, entries: Sequence[Entry]) -> Shape:
    """All branches, with what is known of each answer."""
    messages = [
        {
            "id": one.id,
            "parent": one.parent,
            "role": one.role,
            "text": one.text,
            "state": one.state,
            "created": one.created,
            "facts": dict(one.facts),
        }
        for one in entries
    ]
    return {**conversation_shape(conversation), "leaf": conversation.leaf, "messages": messages}


def _found(answers: Answers, name: str) -> Conversation:
    found = answers.history.conversation(name)
    if found is None:
        raise Refusal(404, "this conversation is no longer there", "Open another one.")
    return found


def _file(content: str, kind: str, name: str) -> Response:
    return Response(
        content, content_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _when(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M")
