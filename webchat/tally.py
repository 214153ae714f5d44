"""The numbers of an answer: as its end tells them, or counted so far where it was stopped before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.routing.ask import Ended, Piece
from core.terms import Finish
from webchat.snapshots import Shape


@dataclass
class Tally:
    """What is known of an answer so far, for one that is stopped before its end."""

    begun: float = field(default_factory=time.monotonic)
    first: float = 0.0
    last: float = 0.0
    prompt_tokens: int = 0
    token_ids: list[int] = field(default_factory=list)

    def count(self, piece: Piece) -> None:
        self.last = time.monotonic() - self.begun
        self.first = self.first or self.last
        self.token_ids += [token.token_id for token in piece.tokens]

    def shape(self) -> Shape:
        spread, tokens = self.last - self.first, len(self.token_ids)
        rate = (tokens - 1) / spread if tokens > 1 and spread > 0 else 0.0
        return _shape(
            Finish.CANCELLED,
            self.token_ids,
            prompt_tokens=self.prompt_tokens,
            seconds=self.last,
            first=self.first,
            rate=rate,
        )


def ended_shape(event: Ended) -> Shape:
    counted = _shape(
        event.finish,
        event.token_ids,
        prompt_tokens=event.prompt_tokens,
        seconds=event.seconds,
        first=event.first_token_seconds,
        rate=event.tokens_per_second,
        predicted=event.predicted_seconds,
    )
    return {**counted, "predicted_seconds": event.predicted_seconds}


def _shape(
    finish: Finish,
    token_ids: Sequence[int],
    *,
    prompt_tokens: int,
    seconds: float,
    first: float,
    rate: float,
    predicted: float = 0.0,
) -> Shape:
    return {
        "finish": finish.value,
        "tokens": len(token_ids),
        "token_ids": list(token_ids),
        "prompt_tokens": prompt_tokens,
        "seconds": seconds,
        "first_token_seconds": first,
        "tokens_per_second": rate,
        "predicted_seconds": predicted,
    }
