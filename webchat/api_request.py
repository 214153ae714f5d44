"""OpenAI's request bodies, read into an ``Ask``. Unknown fields are ignored, known ones that this program
cannot honour are refused by name: an option silently dropped would be a wrong answer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from core.routing.ask import Ask, Message
from core.terms import Sampling
from webchat.values import BadValue, Body, checked_text, flag, mapping, number, text, whole

MAX_NEW_TOKENS = 1_000_000
MAX_STOPS = 4
COMPLETION_TOKENS = 16
"""What OpenAI gives a completion that states no length."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
HARMLESS: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "logprobs": (False,),
    "top_logprobs": (),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none",),
    "parallel_tool_calls": (False, True),
    "functions": ([],),
    "function_call": ("none",),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "reasoning_effort": (),
}
"""Fields that are not supported, each with the values that ask for nothing; null always does."""


@dataclass(frozen=True)
class Request:
    model: str
    ask: Ask
    stream: bool
    with_usage: bool


def read_chat(body: Body) -> Request:
    longest = whole(body, "max_completion_tokens", 1, MAX_NEW_TOKENS)
    if longest is None:
        longest = whole(body, "max_tokens", 1, MAX_NEW_TOKENS)
    return _read(body, _messages(body), longest)


def read_completion(body: Body) -> Request:
    longest = whole(body, "max_tokens", 1, MAX_NEW_TOKENS)
    return _read(body, _prompt(body), COMPLETION_TOKENS if longest is None else longest)


def _read(body: Body, prompt: str | tuple[Message, ...], longest: int | None) -> Request:
    _refuse_unsupported(body)
    stream = flag(body, "stream")
    ask = Ask(prompt=prompt, max_tokens=longest, sampling=_sampling(body), stop=_stops(body))
    return Request(text(body, "model"), ask, stream, _with_usage(body, stream))


def _refuse_unsupported(body: Body) -> None:
    for name, harmless in HARMLESS.items():
        value = body.get(name)
        # 1 == True in Python, but n=1 and logprobs=1 differ.
        if value is None or any(value == one and type(value) is type(one) for one in harmless):
            continue
        raise BadValue(name, "is not supported here", code="unsupported_parameter")


def _sampling(body: Body) -> Sampling:
    seed = whole(body, "seed", -(2**63), 2**63 - 1)
    return Sampling(
        temperature=number(body, "temperature", 0, 2, 1.0),
        top_p=number(body, "top_p", 0, 1, 1.0),
        presence_penalty=number(body, "presence_penalty", -2, 2, 0.0),
        frequency_penalty=number(body, "frequency_penalty", -2, 2, 0.0),
        seed=secrets.randbelow(2**31) if seed is None else seed,
    )


def _stops(body: Body) -> tuple[str, ...]:
    given = body.get("stop")
    if given is None:
        return ()
    stops = [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or not all(isinstance(one, str) and one for one in stops):
        raise BadValue("stop", "must be text, or a list of texts, none of them empty")
    if len(stops) > MAX_STOPS:
        raise BadValue("stop", f"must be at most {MAX_STOPS} texts, not {len(stops)}")
    return tuple(checked_text(one, "stop") for one in stops)


def _with_usage(body: Body, stream: bool) -> bool:
    if body.get("stream_options") is None:
        return False
    if not stream:
        raise BadValue("stream_options", "is only for stream: true")
    return flag(mapping(body["stream_options"], "stream_options"), "include_usage")


def _prompt(body: Body) -> str:
    given = body.get("prompt")
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str):
        raise BadValue("prompt", "must be one text; lists of texts or token ids are not supported")
    if not given:
        raise BadValue("prompt", "must not be empty")
    return checked_text(given, "prompt")


def _messages(body: Body) -> tuple[Message, ...]:
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise BadValue("messages", "must be a list of at least one message")
    return tuple(_message(one, f"messages[{index}]") for index, one in enumerate(given))


def _message(value: object, name: str) -> Message:
    one = mapping(value, name)
    role = one.get("role")
    if role in ("tool", "function") or one.get("tool_calls"):
        raise BadValue(name, "tools are not supported here", code="unsupported_parameter")
    if not isinstance(role, str) or role not in ROLES:
        raise BadValue(f"{name}.role", "must be system, user or assistant")
    known = cast(Literal["system", "user", "assistant"], ROLES[role])
    return Message(known, _content(one.get("content"), f"{name}.content"))


def _content(content: object, name: str) -> str:
    """Text, or a list of parts that are all text."""
    if isinstance(content, str):
        return checked_text(content, name)
    if not isinstance(content, list):
        raise BadValue(name, "must be text")
    return "".join(_part(one, f"{name}[{index}]") for index, one in enumerate(content))


def _part(value: object, name: str) -> str:
    part = mapping(value, name)
    if part.get("type") != "text":
        kind = str(part.get("type"))[:40]
        raise BadValue(name, f"{kind} is not supported here, only text", code="unsupported_parameter")
    return checked_text(text(part, "text"), name)
