"""What each field of a control message may be: a check returns the value, or raises ``FrameError``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from itertools import pairwise
from typing import Any

from core.errors import FrameError
from core.ring.frames import Lane, Standing
from core.swarm.frames import unpack_ids
from core.terms import Sampling, Span, Token

CONTROL_LIMIT = 1 << 20
POSITIONS = 1 << 24
STAGES = 128
ALTERNATIVES = 20
"""Most alternatives that a token is reported with."""

Check = Callable[[Any], Any]


def wrong(what: str, value: object) -> FrameError:
    return FrameError(f"a message from a peer has a bad {what}: {str(value)[:40]!r}")


def integer(least: int, most: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise wrong("number", value)
        return value

    return check


def text(most: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise wrong("text", value)
        return value

    return check


def data(least: int, most: int) -> Check:
    def check(value: Any) -> bytes:
        if not isinstance(value, bytes) or not least <= len(value) <= most:
            raise wrong("field of bytes", value)
        return value

    return check


def one_of(kind: Callable[[Any], Any]) -> Check:
    def check(value: Any) -> Any:
        try:
            return kind(value)
        except (ValueError, TypeError, KeyError) as error:
            raise wrong("word", value) from error

    return check


def span(value: Any) -> Span:
    if not isinstance(value, list) or len(value) != 2:
        raise wrong("span", value)
    start, end = (position(item) for item in value)
    if start >= end:
        raise wrong("span", value)
    return Span(start, end)


def ids(value: Any) -> tuple[int, ...]:
    packed = data(4, CONTROL_LIMIT)(value)
    if len(packed) % 4:
        raise wrong("list of token ids", value)
    return unpack_ids(packed)


def number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong("number", value)
    return float(value)


def truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong("yes or no", value)
    return value


def sampling(value: Any) -> Sampling:
    if not isinstance(value, list) or len(value) != len(fields(Sampling)):
        raise wrong("way of drawing", value)
    temperature, top_k, top_p, repetition, presence, frequency, seed, logprobs = value
    drawing = Sampling(
        number(temperature),
        integer(0, 1 << 31)(top_k),
        number(top_p),
        number(repetition),
        number(presence),
        number(frequency),
        integer(-(1 << 63), (1 << 63) - 1)(seed),
        integer(0, ALTERNATIVES)(logprobs),
    )
    if drawing.temperature < 0 or not 0 < drawing.top_p <= 1 or drawing.repetition_penalty <= 0:
        raise wrong("way of drawing", value)
    return drawing


def standing(value: Any) -> Standing:
    if not isinstance(value, list) or len(value) != 3:
        raise wrong("standing", value)
    held = Standing(rollback(value[0]), position(value[1]), position(value[2]))
    if held.log_from > held.length:
        raise wrong("standing", value)
    return held


def stops(value: Any) -> frozenset[int]:
    if not isinstance(value, list) or len(value) > 64:
        raise wrong("list of stop ids", value)
    return frozenset(token_id(item) for item in value)


def token(value: Any) -> Token:
    if not isinstance(value, list) or len(value) != 4 or not isinstance(value[3], list):
        raise wrong("token", value)
    if len(value[3]) > ALTERNATIVES or any(not isinstance(pair, list) or len(pair) != 2 for pair in value[3]):
        raise wrong("token", value)
    top = tuple((token_id(other), logprob(its)) for other, its in value[3])
    return Token(position(value[0]), token_id(value[1]), logprob(value[2]), top)


def tokens(value: Any) -> tuple[Token, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 1024:
        raise wrong("list of tokens", value)
    drawn = tuple(token(item) for item in value)
    if any(after.position != before.position + 1 for before, after in pairwise(drawn)):
        raise wrong("list of tokens", value)
    return drawn


def logprob(value: Any) -> float:
    if not isinstance(value, int | float) or math.isnan(value):
        raise wrong("log-probability", value)
    return float(value)


session = data(16, 16)
epoch = integer(0, (1 << 32) - 1)
rollback = integer(0, (1 << 64) - 1)
position = integer(0, POSITIONS)
stage = integer(0, STAGES - 1)
hop = integer(-1, (1 << 31) - 1)
token_id = integer(0, (1 << 31) - 1)
lane = one_of(Lane)
why = text(300)
