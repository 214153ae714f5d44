"""Status and settings for the page, the tray and the commands: ``/api/status``, ``/api/settings``."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flask import Blueprint, Response, jsonify, request

from webchat.bulletin import Bulletin
from webchat.door import for_owner
from webchat.reader import Reader
from webchat.snapshots import status_shape
from webchat.values import mapping

HEARTBEAT = 15.0


def blueprint(reader: Reader, bulletin: Bulletin) -> Blueprint:
    control = Blueprint("control", __name__)

    @control.get("/api/status")
    @for_owner
    def status() -> Response:
        if request.args.get("once") == "1":
            return jsonify(status_shape(reader.status()))
        return Response(snapshots(bulletin), mimetype="text/event-stream")

    @control.get("/api/settings")
    @for_owner
    def settings() -> Response:
        return jsonify(reader.settings())

    @control.put("/api/settings")
    @for_owner
    def change() -> Response:
        return jsonify(reader.change_settings(mapping(request.get_json(), "settings")))

    return control


def snapshots(bulletin: Bulletin, heartbeat: float = HEARTBEAT) -> Iterator[str]:
    """Server-sent events. A comment now and then is how we notice that nobody listens any more."""
    for status in bulletin.follow(heartbeat):
        if status is None:
            yield ": still here\n\n"
        else:
            yield f"data: {json.dumps(status_shape(status))}\n\n"
