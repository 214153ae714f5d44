"""Secrets at the door, where the node was given them to hold: for its owner's programs, never for a page."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from core.handed import PATH
from core.secrets import Secret, Vault, checked
from webchat.door import for_programs
from webchat.values import BadValue


def blueprint(held: Vault) -> Blueprint:
    keeping = Blueprint("keeping", __name__)

    @keeping.get(PATH)
    @for_programs
    def read() -> Response:
        return jsonify({secret: value for secret in Secret if (value := held.get(secret)) is not None})

    @keeping.put(PATH)
    @for_programs
    def change() -> Response:
        try:
            held.follow(checked(request.get_json()))
        except ValueError as error:
            raise BadValue("secrets", str(error)) from None
        return jsonify({})

    return keeping
