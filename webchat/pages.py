"""The pages themselves, and the swarm as JSON for the map."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template, request

from core.errors import SwarmError
from core.node.licences import LINK, SUMMARY
from core.routing.ask import ModelCard
from core.routing.route import missing
from core.terms import ModelRef, PeerId, Record, SwarmView
from core.words import N_, _
from webchat.door import Door, for_owner
from webchat.legs import expected_rate
from webchat.reader import Reader
from webchat.refusals import Refusal
from webchat.snapshots import Shape, record_shape, span_shape
from webchat.values import mapping, text

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
        wanted = reader.licence()
        restricted = bool(wanted) or "rail" in reader.card().licence.lower()
        return _page(
            "chat.html",
            only_here=only_here,
            privacy=_(ONLY_HERE if only_here else ON_ROUTE),
            privacy_name="here" if only_here else "route",
            privacy_lines=[_(line) for line in lines],
            licence_words=_(SUMMARY) if restricted else "",
            licence_link=LINK,
            licence_wanted=wanted,
        )

    @pages.get("/swarm")
    def swarm() -> Response:
        return _page("swarm.html")

    @pages.get("/api/v1/state")
    def state() -> Response:
        card, records = reader.card(), reader.swarm()
        mine, others = reader.own_donors(), dict[ModelRef, tuple[Record, ...]]()
        with suppress(SwarmError):  # the own model is shown all the same
            others.update(reader.others())
        return jsonify(state_shape(card, reader.status().swarm, records, mine, others))

    @pages.post("/api/licence")
    @for_owner
    def accept() -> Response:
        """For the whole node: page, commands and ``/v1`` ask for the same acceptance."""
        given, wanted = text(mapping(request.get_json(), "body"), "accept"), reader.licence()
        if wanted and given != wanted:
            raise Refusal(409, f"the licence to accept is {wanted}", "Open the page anew.")
        if wanted:
            reader.accept(wanted)
        return jsonify(wanted=reader.licence())

    return pages


def state_shape(
    card: ModelCard,
    view: SwarmView,
    records: Iterable[Record],
    mine: Collection[PeerId] = (),
    others: Mapping[ModelRef, Collection[Record]] = {},
) -> Shape:
    """The swarm as the map and ``idlebloom swarm`` show it: this node's model, then ``others``."""
    model = ModelRef(card.model_id, card.revision, card.blocks + 2)
    own = model_shape(model, tuple(records), mine)
    held = {"whole": view.whole, "missing": [span_shape(span) for span in view.missing]}
    return {
        **own,
        **held,
        "licence": card.licence,
        "others": [model_shape(other, found, mine) for other, found in others.items()],
    }


def model_shape(model: ModelRef, records: Collection[Record], mine: Collection[PeerId]) -> Shape:
    """One model and its donors, in the order of their layers."""
    donors = sorted(records, key=lambda record: (record.span, record.peer_id))
    holes = missing(donors, model.layers)
    return {
        "model": model.model_id,
        "revision": model.revision,
        "blocks": model.layers - 2,
        "whole": not holes,
        "missing": [span_shape(span) for span in holes],
        "expected_rate": expected_rate(model, donors),
        "donors": [record_shape(record, mine) for record in donors],
    }


def _page(template: str, **values: object) -> Response:
    door: Door = current_app.extensions["door"]
    return door.let_in(make_response(render_template(template, **values)))
