"""OpenAI's request bodies, read into an ``Ask``. Unknown fields are ignored, known ones that this program
cannot honour are refused by name: an option silently dropped would be a wrong answer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from core.routing.ask import Ask, Ids, Message
from core.terms import Sampling
from webchat.values import BadValue, Body, checked_text, flag, mapping, number, text, whole

MAX_NEW_TOKENS = 1_000_000
MAX_STOPS = 4
MAX_N = 4
MAX_CHOICES = 16
MAX_LOGPROBS = 5
MAX_TOP_LOGPROBS = 20
"""As OpenAI's: of a completion, and of a chat."""
COMPLETION_TOKENS = 16
"""What OpenAI gives a completion that states no length."""
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
HARMLESS: Mapping[str, tuple[object, ...]] = {
    "suffix": ("",),
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
    """``asks`` has ``each`` answers to the first prompt, then as many to the next, and so on."""

    model: str
    asks: tuple[Ask, ...]
    each: int
    stream: bool
    with_usage: bool
    with_logprobs: bool
    echo: bool = False


Prompt = str | Ids | tuple[Message, ...]


def read_chat(body: Body) -> Request:
    longest = whole(body, "max_completion_tokens", 1, MAX_NEW_TOKENS)
    if longest is None:
        longest = whole(body, "max_tokens", 1, MAX_NEW_TOKENS)
    with_logprobs = flag(body, "logprobs")
    top = whole(body, "top_logprobs", 0, MAX_TOP_LOGPROBS)
    if top is not None and not with_logprobs:
        raise BadValue("top_logprobs", "is only for logprobs: true")
    return _read(body, [_messages(body)], longest, top if with_logprobs else None, with_logprobs)


def read_completion(body: Body) -> Request:
    longest = whole(body, "max_tokens", 1, MAX_NEW_TOKENS)
    top = None if body.get("logprobs") is False else whole(body, "logprobs", 0, MAX_LOGPROBS)
    echo = flag(body, "echo")
    if echo and top is not None:
        raise BadValue("echo", "with logprobs is not supported here", code="unsupported_parameter")
    best = whole(body, "best_of", 1, 20)
    if best is not None and best != (body.get("n") or 1):
        raise BadValue("best_of", "is not supported here, only n", code="unsupported_parameter")
    prompts = _prompts(body)
    if echo and any(isinstance(one, Ids) for one in prompts):
        raise BadValue("echo", "is only for a prompt that is text")
    longest = COMPLETION_TOKENS if longest is None else longest
    return replace(_read(body, prompts, longest, top, top is not None), echo=echo)


def _read(
    body: Body, prompts: Sequence[Prompt], longest: int | None, top: int | None, with_logprobs: bool
) -> Request:
    _refuse_unsupported(body)
    each = whole(body, "n", 1, MAX_N) or 1
    if len(prompts) * each > MAX_CHOICES:
        raise BadValue("prompt", f"with n answers to each must be at most {MAX_CHOICES} in all")
    stream = flag(body, "stream")
    sampling, stops = replace(_sampling(body), logprobs=top or 0), _stops(body)
    asks = [
        Ask(prompt=prompt, max_tokens=longest, sampling=_other_seed(sampling, number), stop=stops)
        for prompt in prompts
        for number in range(each)
    ]
    with_usage = _with_usage(body, stream)
    return Request(text(body, "model"), tuple(asks), each, stream, with_usage, with_logprobs)


def _other_seed(sampling: Sampling, number: int) -> Sampling:
    """The first answer is the one that the seed gives alone."""
    seed = sampling.seed + number
    return replace(sampling, seed=seed if seed < 2**63 else seed - 2**64)


def _refuse_unsupported(body: Body) -> None:
    for name, harmless in HARMLESS.items():
        value = body.get(name)
        # 1 == True in Python.
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


def _prompts(body: Body) -> list[Prompt]:
    """A text or token ids, or a list of several."""
    given = body.get("prompt")
    several = isinstance(given, list) and not all(_is_id(one) for one in given)
    prompts = given if several and isinstance(given, list) else [given]
    return [_prompt(one, f"prompt[{index}]" if several else "prompt") for index, one in enumerate(prompts)]


def _prompt(given: object, name: str) -> Prompt:
    if not given or not isinstance(given, str | list):
        raise BadValue(name, "must be text or token ids, and not empty")
    if isinstance(given, str):
        return checked_text(given, name)
    if not all(_is_id(one) for one in given):
        raise BadValue(name, "must be text or token ids, and not empty")
    return Ids(tuple(given))


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
