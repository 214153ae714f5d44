"""The pages themselves, and the swarm as JSON for the map."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template

from core.routing.ask import ModelCard
from core.terms import ModelRef, PeerId, Record, SwarmView
from webchat.door import Door
from webchat.legs import expected_rate
from webchat.reader import Reader
from webchat.snapshots import Shape, record_shape, span_shape

ONLY_HERE = "Nothing leaves this computer: all donors of this demo run on it."
ON_ROUTE = (
    "The donors on the route compute your chat, and the first and the last can read it: "
    "write only what you would say in public."
)


def blueprint(reader: Reader, only_here: bool) -> Blueprint:
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    def chat() -> Response:
        return _page("chat.html", privacy=ONLY_HERE if only_here else ON_ROUTE)

    @pages.get("/swarm")
    def swarm() -> Response:
        return _page("swarm.html")

    @pages.get("/api/v1/state")
    def state() -> Response:
        return jsonify(
            state_shape(reader.card(), reader.status().swarm, reader.swarm(), mine=reader.own_donors())
        )

    return pages


def state_shape(
    card: ModelCard, view: SwarmView, records: Iterable[Record], mine: Collection[PeerId] = ()
) -> Shape:
    """The swarm as the map and ``idlebloom swarm`` show it: donors in the order of their layers."""
    donors = sorted(records, key=lambda record: (record.span, record.peer_id))
    return {
        "model": card.model_id,
        "revision": card.revision,
        "blocks": card.blocks,
        "licence": card.licence,
        "whole": view.whole,
        "missing": [span_shape(span) for span in view.missing],
        "expected_rate": expected_rate(ModelRef(card.model_id, card.revision, card.blocks + 2), donors),
        "donors": [record_shape(record, mine) for record in donors],
    }


def _page(template: str, **values: str) -> Response:
    door: Door = current_app.extensions["door"]
    return door.let_in(make_response(render_template(template, **values)))
