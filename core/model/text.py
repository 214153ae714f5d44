"""Text to token ids and back, and conversations to text. Needs ``tokenizers`` and jinja2 only.

A client of the swarm needs nothing of the model but this.
"""

from __future__ import annotations

import codecs
import ctypes
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol, TypeVar

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel

from core.errors import ModelError, PromptError
from core.model.config import read_config, read_object

Kind = Literal["chat", "plain turns", "continues text"]


class Turn(Protocol):
    """A message of a conversation: role ``system``, ``user`` or ``assistant``, and its text."""

    @property
    def role(self) -> str: ...

    @property
    def text(self) -> str: ...


T = TypeVar("T", bound=Turn)


@dataclass(frozen=True)
class Format:
    """How a kind of checkpoint takes a conversation, and what ends its answer besides the stop ids."""

    kind: Kind
    template: str
    stops: tuple[str, ...] = ()


PLAIN_TURNS = Format(
    "plain turns",
    "{% for m in messages %}"
    "{{ m.content | trim }}{{ eos_token if m.role == 'assistant' else '\n' }}"
    "{% endfor %}",
)
"""BLOOMZ was tuned on tasks followed by their answer and the end token: no names, no roles."""

CONTINUES_TEXT = Format(
    "continues text",
    "{% for m in messages %}"
    "{% if m.role == 'system' %}{{ m.content | trim }}\n\n"
    "{% else %}{{ 'Human' if m.role == 'user' else 'Assistant' }}: {{ m.content | trim }}\n{% endif %}"
    "{% endfor %}Assistant:",
    ("\nHuman:",),
)
"""Base BLOOM has never seen a conversation format: it continues a transcript until the next question."""


class Text:
    """The tokenizer and chat format of the checkpoint in ``folder``.

    Raises ModelError where the tokenizer's files are missing, damaged or not BLOOM's kind.
    """

    def __init__(self, folder: Path) -> None:
        config = read_config(folder)
        self._tokenizer = _read_tokenizer(folder / "tokenizer.json")
        self.stops: frozenset[int] = frozenset(config.eos_ids)
        """Token ids that end an answer."""
        settings_path = folder / "tokenizer_config.json"
        settings = read_object(settings_path) if settings_path.is_file() else {}
        fallback = PLAIN_TURNS if "bloomz" in config.model_id.lower() else CONTINUES_TEXT
        own = _own_template(folder, settings)
        chosen = Format("chat", own) if own else fallback
        self.kind: Kind = chosen.kind
        self.chat_stops = chosen.stops
        """Texts that end an answer in a conversation."""
        self._template = _compile(chosen.template)
        self._names = _special_names(settings)
        if "eos_token" not in self._names and config.eos_ids:
            self._names["eos_token"] = self._tokenizer.id_to_token(config.eos_ids[0]) or ""
        added = self._tokenizer.get_added_tokens_decoder().items()
        self._special = frozenset(token_id for token_id, token in added if token.special)

    def encode(self, text: str) -> list[int]:
        """Raises PromptError for what is not Unicode text, such as half of a surrogate pair."""
        try:
            ids: list[int] = self._tokenizer.encode(text).ids
        except (UnicodeError, TypeError):
            raise PromptError("the prompt is not valid text", "Remove its broken characters.") from None
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ``ids`` without special tokens; broken characters become U+FFFD."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes that one token stands for; none for special and unknown tokens."""
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self._special:
            return b""
        try:
            return bytes(map(_BYTES.__getitem__, token))
        except KeyError:  # an added token is spelled as it is
            return str(token).encode()

    def spelled(self, token_id: int) -> bytes:
        """The same, with special tokens as they are written: ``</s>``."""
        if token_id in self._special:
            return str(self._tokenizer.id_to_token(token_id)).encode()
        return self.bytes_of(token_id)

    def chat(self, messages: Sequence[Turn]) -> str:
        """The prompt that asks for the assistant's next message.

        Raises PromptError where the checkpoint's template refuses the conversation.
        """
        plain = [{"role": message.role, "content": message.text} for message in messages]
        try:
            return self._template.render(messages=plain, add_generation_prompt=True, **self._names)
        except TemplateError as error:
            why = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise PromptError(f"this model's chat format refuses the conversation: {why}") from None

    def fit(self, messages: Sequence[T], limit: int) -> tuple[list[T], int]:
        """The conversation without as many whole oldest turns as make its prompt ``limit`` tokens at most,
        and how many messages that dropped. A system message at the start and the last turn stay."""
        head = list(messages[:1]) if messages and messages[0].role == "system" else []
        body = list(messages[len(head) :])
        starts = [0, *(i for i, message in enumerate(body) if i and message.role == "user")]

        def fits(start: int) -> bool:
            return len(self.encode(self.chat([*head, *body[start:]]))) <= limit

        # The fewer turns, the shorter: halving asks the tokenizer a few times where a long talk has hundreds.
        start = starts[min(bisect_left(starts, True, key=fits), len(starts) - 1)]
        return [*head, *body[start:]], start


class Pieces:
    """Turns one answer's tokens into text as they come.

    What ``feed`` and ``finish`` return, joined, is ``Text.decode`` of all tokens up to the ``stop``
    string that is complete first. It never returns part of a character, nor what may turn out to
    begin a stop string.
    """

    def __init__(self, text: Text, stop: Sequence[str] = ()) -> None:
        self._text = text
        self._stop = tuple(one for one in stop if one)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.stopped = False
        """A stop string has come: nothing more will."""

    def feed(self, token_id: int) -> str:
        """The text that is ready to show after one more token, often none."""
        return self._take(self._decoder.decode(self._text.bytes_of(token_id)))

    def finish(self) -> str:
        """The rest, after the last token."""
        ready = self._take(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return ready

    def _take(self, new: str) -> str:
        if self.stopped or not new:
            return ""
        text = self._held + new
        found = [(at + len(stop), at) for stop in self._stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            _, at = min(found)  # the first to be complete, however tokens cut the text
            return text[:at]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _overlap(text: str, stop: str) -> int:
    """How long an end of ``text`` is the beginning of ``stop``."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def _byte_of_character() -> dict[str, int]:
    """GPT-2's spelling of bytes in byte-level BPE: printable Latin-1 stands for itself, the other
    bytes for the characters from U+0100 on (https://github.com/openai/gpt-2/blob/master/src/encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_of_character()


def _read_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ModelError(f"{path} is missing", "Download it from where the checkpoint came from.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - tokenizers raises bare Exception for whatever it cannot read
        why = (str(error).splitlines() or ["unreadable"])[0]
        raise ModelError(f"{path} is damaged: {why}", "Download it again.") from None
    if not isinstance(tokenizer.decoder, ByteLevel):
        raise ModelError(
            f"{path} is not a byte-level tokenizer like BLOOM's", "Use a BLOOM checkpoint's file."
        )
    _give_back()
    return tokenizer


def _give_back() -> None:
    """Returns freed memory to the system: building 250,680 words leaves 100 MB that nobody uses."""
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _own_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """The checkpoint's chat template: a file of its own, or in tokenizer_config.json, one or by name."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    stated = settings.get("chat_template")
    if isinstance(stated, list):
        named = {one.get("name"): one.get("template") for one in stated if isinstance(one, dict)}
        stated = named.get("default")
    return stated if isinstance(stated, str) and stated else None


def _special_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """``bos_token`` and its like, as templates use them: text, or an object whose content is the text."""
    names: dict[str, str] = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            names[name] = value
    return names


def _compile(template: str) -> Template:
    """Rendered as transformers does: sandboxed, blocks trimmed, with its three helpers."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    try:
        return environment.from_string(template)
    except TemplateError as error:
        raise ModelError(f"the model's chat template is damaged: {error}", "Download it again.") from None


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _to_json(value: object, indent: int | None = None) -> str:
    """Unlike jinja's own, leaves HTML characters as they are."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
