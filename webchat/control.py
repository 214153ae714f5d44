"""For the owner's page, tray and commands: status and settings, orders to the donor, facts that they have
read, and what was given."""

from __future__ import annotations

import json
from collections.abc import Iterator

from flask import Blueprint, Response, jsonify, request

from webchat.bulletin import Bulletin
from webchat.door import for_owner
from webchat.reader import Reader
from webchat.snapshots import event_shape, status_shape
from webchat.values import BadValue, mapping

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

    @control.post("/api/donate")
    @for_owner
    def donate() -> Response:
        asked = mapping(request.get_json(), "donate")
        duration = asked.get("for")
        if duration is not None and not isinstance(duration, str):
            raise BadValue("for", "must be a time like 15m, 1h or tomorrow")
        return jsonify(status_shape(reader.donate(str(asked.get("action", "")), duration)))

    @control.post("/api/facts")
    @for_owner
    def facts() -> Response:
        reader.tell(mapping(request.get_json(), "facts"))
        return jsonify({})

    @control.get("/api/given")
    @for_owner
    def given() -> Response:
        return jsonify(reader.given())

    @control.get("/api/events")
    @for_owner
    def events() -> Response:
        return jsonify([event_shape(event) for event in reader.events()])

    return control


def snapshots(bulletin: Bulletin, heartbeat: float = HEARTBEAT) -> Iterator[str]:
    """Server-sent events. A comment now and then is how we notice that nobody listens any more."""
    for status in bulletin.follow(heartbeat):
        if status is None:
            yield ": still here\n\n"
        else:
            yield f"data: {json.dumps(status_shape(status))}\n\n"
