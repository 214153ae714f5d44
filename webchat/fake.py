"""A node of make-believe, for tests and for work on the pages: canned answers at a chosen pace.

A prompt that contains one of the words in ``ERRORS`` ends in that error instead.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from core.errors import IdlebloomError, NoDonor, PromptError, SettingError, StageLost, Stopped, TooLong
from core.routing.ask import Ask, Ended, Event, ModelCard, Piece, Started
from core.terms import (
    DonorState,
    Finish,
    ModelRef,
    PeerId,
    Record,
    Route,
    Span,
    Stage,
    State,
    Status,
    SwarmView,
    Token,
    WireDtype,
)

PEERS = tuple(PeerId(f"12D3KooWFake{'ABCDEFGH'[i]}{('RoseQ7', 'FernK2', 'IrisW9')[i]}") for i in range(3))
QUESTIONS = (
    "What is a flower?",
    "Why does the moon shine?",
    "Tell me about gardens at night.",
    "How do many computers share one model?",
)
ANSWER = (
    "A flower is the part of a plant that makes seeds. Many flowers open by day. Some wait for the evening: "
    "the moonflower unfolds after sunset, when moths are about, and closes again in the morning."
)
WHOLE = Status("0.1.0", State.OFF, swarm=SwarmView(model="idlebloom-demo", whole=True, donors=3))
DEMO = ModelCard(
    model_id="idlebloom-demo",
    revision="bundled",
    blocks=8,
    max_length=2048,
    licence="Apache-2.0",
    kind="chat",
    note="This is a small demo model. It knows a few simple things and invents the rest.",
    questions=QUESTIONS,
)
ERRORS: dict[str, Callable[[], IdlebloomError]] = {
    "/nodonor": lambda: NoDonor([Span(4, 7)]),
    "/lost": lambda: StageLost(PEERS[1], "it did not answer for 2 s"),
    "/toolong": lambda: TooLong(3100, 2048),
    "/stopped": lambda: Stopped("the answer was stopped by the owner"),
}


@dataclass
class FakeReader:
    """``pause`` seconds pass before each piece; ``late`` seconds before the first."""

    answer: str = ANSWER
    pause: float = 0.0
    late: float = 0.0
    fails_after: int | None = None
    """After so many pieces the donor in the middle is lost."""
    status_now: Status = WHOLE
    asks: list[Ask] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Conversations whose sessions were freed."""
    forgotten_messages: int = 0
    """So many oldest messages do not fit the model."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    model: ModelCard = DEMO
    _settings: dict[str, object] = field(default_factory=lambda: {"port": 7714, "donate": "off"})
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def generate(self, ask: Ask) -> FakeAnswer:
        self.asks.append(ask)
        return FakeAnswer(self, ask)

    def forget(self, conversation: str) -> None:
        self.forgotten.append(conversation)

    def card(self) -> ModelCard:
        return self.model

    def status(self) -> Status:
        return self.status_now

    def set_status(self, status: Status) -> None:
        with self._changed:
            self.status_now = status
            self._changed.notify_all()

    def watch(self) -> Iterator[Status]:
        shown: Status | None = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.status_now is not shown)  # noqa: B023 read at once
                shown = self.status_now
            yield shown

    def swarm(self) -> tuple[Record, ...]:
        ref = ModelRef(self.model.model_id, self.model.revision, self.model.blocks + 2)
        now = time.time()
        blank = Record(PEERS[0], ref, Span(0, 4), DonorState.ONLINE, now - 900, now + 90)
        common = {"wire": (WireDtype.FLOAT32,), "step_seconds": 0.004, "decode_rate": 310.0}
        return tuple(
            replace(blank, peer_id=stage.peer_id, span=stage.span, **common)  # type: ignore[arg-type]
            for stage in self.route().stages
            if stage.span not in self.status_now.swarm.missing
        )

    def settings(self) -> dict[str, object]:
        return dict(self._settings)

    def change_settings(self, changes: Mapping[str, object]) -> dict[str, object]:
        for name in changes:
            if name not in self._settings:
                raise SettingError(f"there is no setting {name}", "See the list of settings.")
        self._settings.update(changes)
        return self.settings()

    def route(self) -> Route:
        last = self.model.blocks + 2
        cuts = (0, last * 4 // 10, last * 7 // 10, last)
        return Route(tuple(Stage(PEERS[i], Span(cuts[i], cuts[i + 1])) for i in range(3)), 0.02)


class FakeAnswer:
    """A ``webchat.reader.Stream`` of one canned answer."""

    def __init__(self, reader: FakeReader, ask: Ask) -> None:
        self._reader, self._ask = reader, ask
        self._closed = threading.Event()
        self._events = self._script()

    def __iter__(self) -> FakeAnswer:
        return self

    def __next__(self) -> Event:
        return next(self._events)

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._reader.cancelled.set()

    def _script(self) -> Iterator[Event]:
        reader, text = self._reader, _last_words(self._ask)
        if not text.strip():
            raise PromptError("the prompt is empty", "Type a question first.")
        for word, error in ERRORS.items():
            if word in text:
                raise error()
        prompt = len(text.split())
        begun = time.monotonic()
        yield Started(reader.model.model_id, reader.route(), prompt, 0, reader.forgotten_messages)
        yield from self._pieces(prompt, begun)
        # An answer that came to its end cannot be cancelled any more.
        self._closed.set()

    def _pieces(self, prompt: int, begun: float) -> Iterator[Event]:
        reader, first, said = self._reader, 0.0, ""
        words = _cut(re.findall(r"\s*\S+", reader.answer), self._ask)
        for count, word in enumerate(words):
            if self._closed.wait(reader.late if count == 0 and reader.late else reader.pause):
                return
            if count == reader.fails_after:
                raise StageLost(PEERS[1], "it did not answer for 2 s")
            first = first or time.monotonic() - begun
            said += word
            yield Piece(word, (Token(prompt + count, count, -0.1),))
        seconds = time.monotonic() - begun
        rate = (len(words) - 1) / (seconds - first) if len(words) > 1 and seconds > first else 0.0
        finish = Finish.LENGTH if len(words) == self._ask.max_tokens else Finish.STOP
        predicted = reader.route().predicted_seconds
        yield Ended(finish, said, tuple(range(len(words))), prompt, seconds, first, rate, predicted)


def _last_words(ask: Ask) -> str:
    return ask.prompt if isinstance(ask.prompt, str) else ask.prompt[-1].text if ask.prompt else ""


def _cut(words: list[str], ask: Ask) -> list[str]:
    """Keep what comes before the first stop string and within ``max_tokens``."""
    text = "".join(words)
    for stop in ask.stop:
        text = text.partition(stop)[0]
    kept = re.findall(r"\s*\S+|\s+$", text)
    return kept[: ask.max_tokens]
