"""The pages themselves, and the swarm as JSON for the map."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template

from core.node.licences import LINK, SUMMARY
from core.routing.ask import ModelCard
from core.terms import ModelRef, PeerId, Record, SwarmView
from core.words import N_, _
from webchat.door import Door
from webchat.legs import expected_rate
from webchat.reader import Reader
from webchat.snapshots import Shape, record_shape, span_shape

ONLY_HERE = N_("Nothing leaves this computer: all donors of this demo run on it.")
ON_ROUTE = N_(
    "The first and the last donor on the route can read your chat: write only what you would say in public."
)
KEPT = N_("Chats are stored on this computer, not encrypted: who can read its disk can read them.")
LINES_HERE = (
    ONLY_HERE,
    N_("No other computer takes part, and nothing is sent anywhere."),
    KEPT,
)
LINES_ON_ROUTE = (
    N_("The donors on your route compute your chat. They are other people's computers."),
    N_("The first and the last of them can read it; the others might guess parts of it."),
    N_("Each of them sees your internet address."),
    N_("Write only what you would say in public."),
    N_("With “Try it here” and “Just this PC” nothing leaves this computer."),
    KEPT,
)


def blueprint(reader: Reader, only_here: bool) -> Blueprint:
    pages = Blueprint("pages", __name__)

    @pages.get("/")
    def chat() -> Response:
        lines = LINES_HERE if only_here else LINES_ON_ROUTE
        restricted = "rail" in reader.card().licence.lower()
        return _page(
            "chat.html",
            only_here=only_here,
            privacy=_(ONLY_HERE if only_here else ON_ROUTE),
            privacy_name=f"{'here' if only_here else 'route'}{' rail' if restricted else ''}",
            privacy_lines=[_(line) for line in lines],
            licence_words=_(SUMMARY) if restricted else "",
            licence_link=LINK,
        )

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


def _page(template: str, **values: object) -> Response:
    door: Door = current_app.extensions["door"]
    return door.let_in(make_response(render_template(template, **values)))
