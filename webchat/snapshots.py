"""The JSON shapes of what the node knows: status, records, routes, the model's card."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict

from core import words
from core.routing.ask import ModelCard
from core.terms import Because, Happened, PeerId, Record, Route, Span, Status
from webchat.history import Conversation, Entry
from webchat.legs import legs
from webchat.markup import render

Shape = dict[str, object]


def short_name(peer: PeerId) -> str:
    """The end of a peer id, as errors name it too: its beginning is the same for all Ed25519 keys."""
    return peer[-8:]


def span_shape(span: Span | None) -> Shape | None:
    return None if span is None else {"start": span.start, "end": span.end}


def reason_shape(because: Because | None) -> Shape | None:
    if because is None:
        return None
    return {
        "kind": because.kind.value,
        "args": dict(because.args),
        "until": because.until,
        "text": words.text(because),
    }


def event_shape(event: Happened) -> Shape:
    return {
        "at": event.at,
        "state": event.state.value,
        "reason": reason_shape(event.because),
        "span": span_shape(event.span),
    }


def status_shape(status: Status) -> Shape:
    return {
        "version": status.version,
        "state": status.state.value,
        "reason": reason_shape(status.reason),
        "span": span_shape(status.span),
        "progress": None if status.progress is None else asdict(status.progress),
        "sessions": status.sessions,
        "today": asdict(status.today),
        "vram": asdict(status.vram),
        "rates": asdict(status.rates),
        "swarm": {
            "model": status.swarm.model,
            "whole": status.swarm.whole,
            "missing": [span_shape(span) for span in status.swarm.missing],
            "donors": status.swarm.donors,
        },
        "blocks": status.blocks,
        "giving_until": status.giving_until,
        "finishing": status.finishing,
    }


def route_shape(route: Route, records: Collection[Record] = ()) -> list[Shape]:
    """``seconds`` and ``hop`` are what a token takes at a donor and on its way to the next, as the donors
    have measured them; ``None`` where nothing is known."""
    return [
        {
            "peer": stage.peer_id,
            "name": short_name(stage.peer_id),
            "start": stage.span.start,
            "end": stage.span.end,
            "seconds": None if leg is None else leg.seconds,
            "hop": None if leg is None else leg.hop,
            "reach": None if leg is None else leg.reach,
        }
        for stage, leg in zip(route.stages, legs(route, records), strict=True)
    ]


def card_shape(card: ModelCard) -> Shape:
    return {**asdict(card), "questions": list(card.questions)}


def record_shape(record: Record, mine: Collection[PeerId] = ()) -> Shape:
    """What the swarm page may show of a donor: no addresses, for pages get copied and shared."""
    return {
        "peer": record.peer_id,
        "name": short_name(record.peer_id),
        "start": record.span.start,
        "end": record.span.end,
        "mine": record.peer_id in mine,
        "state": record.state.value,
        "started_at": record.started_at,
        "step_seconds": record.step_seconds,
        "decode_rate": record.decode_rate,
        "prefill_rate": record.prefill_rate,
        "free_tokens": record.free_tokens,
        "quantization": record.quantization,
        "device": record.device,
        "reach": record.reach,
        "expected_online": record.expected_online,
        "version": record.version,
    }


def conversation_shape(conversation: Conversation) -> Shape:
    return {
        "id": conversation.id,
        "title": conversation.title,
        "system": conversation.system,
        "created": conversation.created,
        "changed": conversation.changed,
    }


def entry_shape(entry: Entry) -> Shape:
    """A message; an answer with its text as harmless HTML too. ``upto``: what of the text that covers."""
    html = render(entry.text) if entry.role == "assistant" else ""
    return {
        **entry.facts,
        "id": entry.id,
        "parent": entry.parent,
        "role": entry.role,
        "text": entry.text,
        "html": html,
        "upto": page_length(entry.text) if html else 0,
        "state": entry.state,
        "created": entry.created,
    }


def page_length(text: str) -> int:
    """As JavaScript counts: in halves of UTF-16 pairs."""
    return len(text.encode("utf-16-le")) // 2
