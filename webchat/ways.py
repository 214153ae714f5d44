"""The ways to a model that is whole, for a page that finds it is not: ``POST /api/ways/NAME``."""

from __future__ import annotations

from typing import Protocol

from flask import Blueprint, Response, jsonify, request

from webchat.door import check_owner
from webchat.refusals import Refusal
from webchat.snapshots import Shape
from webchat.values import mapping, text

NAMES = ("try", "just", "join", "invite")
MAX_LINK = 8000


class Ways(Protocol):
    """Each raises an error of ``core.errors`` where it leads nowhere."""

    def offered(self) -> tuple[str, ...]:
        """Which of ``NAMES`` there are."""
        ...

    def try_here(self) -> str:
        """Starts the demo, which ends with the node; its address."""
        ...

    def just_here(self) -> Shape:
        """This PC alone serves the model from now on. ``restart``: after the next start."""
        ...

    def join(self, link: str) -> Shape: ...

    def invite(self) -> Shape:
        """``link``, with ``reach`` and ``fix`` in words."""
        ...


def blueprint(ways: Ways) -> Blueprint:
    pages = Blueprint("ways", __name__, url_prefix="/api/ways")
    pages.before_request(check_owner)

    @pages.post("/<name>")
    def go(name: str) -> Response:
        if name not in ways.offered():
            raise Refusal(404, "there is no such way")
        match name:
            case "try":
                return jsonify(url=ways.try_here())
            case "just":
                return jsonify(ways.just_here())
            case "invite":
                return jsonify(ways.invite())
        link = text(mapping(request.get_json(), "body"), "link").strip()
        if not link or len(link) > MAX_LINK or link.startswith("-"):
            raise Refusal(400, "that is no invite link", "Paste the whole link that you were given.")
        return jsonify(ways.join(link))

    return pages
