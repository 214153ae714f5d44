"""A node of make-believe, for tests and for work on the pages: canned answers at a chosen pace.

A prompt that contains one of the words in ``ERRORS`` ends in that error instead.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from core.errors import (
    IdlebloomError,
    NoDonor,
    NotAccepted,
    PromptError,
    SettingError,
    StageLost,
    Stopped,
    TooLong,
)
from core.routing.ask import Ask, Ended, Event, Ids, ModelCard, Moved, Piece, Started, Waiting
from core.terms import (
    NEAR_NAME,
    Because,
    DonorState,
    Finish,
    Happened,
    ModelRef,
    PeerId,
    Reason,
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
END = "</s>"
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
    moves_after: int | None = None
    """After so many pieces the answer moves to another donor."""
    waits_after: int | None = None
    """After so many pieces it stands still for ``waits_seconds``."""
    waits_seconds: float = 1.0
    status_now: Status = WHOLE
    asks: list[Ask] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    """Conversations whose sessions were freed."""
    forgotten_messages: int = 0
    """So many oldest messages do not fit the model."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    orders: list[tuple[str, str | None]] = field(default_factory=list)
    """What the donor was told."""
    told: list[dict[str, object]] = field(default_factory=list)
    """Facts that were told."""
    model: ModelCard = DEMO
    ends: bool = False
    """A token of its own, ``</s>``, ends an answer that came to its end."""
    tokens: list[str] = field(default_factory=lambda: [END])
    """Each word that was met is a token."""
    measures: bool = True
    """Whether donors have measured the ways to each other."""
    mine: tuple[PeerId, ...] = ()
    """Donors that are this PC's own."""
    elsewhere: dict[ModelRef, tuple[Record, ...]] = field(default_factory=dict)
    """The swarm's other models."""
    restricts: str = ""
    """The licence that is still to be accepted."""
    accepted: list[str] = field(default_factory=list)
    _settings: dict[str, object] = field(default_factory=lambda: {"port": 7714, "donate": "off"})
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def generate(self, ask: Ask) -> FakeAnswer:
        self.asks.append(ask)
        return FakeAnswer(self, ask)

    def forget(self, conversation: str) -> None:
        self.forgotten.append(conversation)

    def card(self) -> ModelCard:
        return self.model

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(self.token, re.findall(rf"{END}|\s*[^\s<]+|\s*<|\s+$", text)))

    def token(self, word: str) -> int:
        if word not in self.tokens:
            self.tokens.append(word)
        return self.tokens.index(word)

    def spelled(self, token_id: int) -> bytes:
        return self.tokens[token_id].encode()

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
        near = tuple((peer[-NEAR_NAME:], 0.012) for peer in PEERS if self.measures)
        reach = {PEERS[1]: "relay"}
        return tuple(
            replace(
                blank,
                peer_id=stage.peer_id,
                span=stage.span,
                near=near,
                reach=reach.get(stage.peer_id, "public"),
                **common,  # type: ignore[arg-type]
            )
            for stage in self.route().stages
            if stage.span not in self.status_now.swarm.missing
        )

    def others(self) -> Mapping[ModelRef, tuple[Record, ...]]:
        return self.elsewhere

    def licence(self) -> str:
        return self.restricts

    def accept(self, licence: str) -> None:
        self.accepted.append(licence)
        self.restricts = ""

    def donate(self, action: str, duration: str | None) -> Status:
        if action not in ("pause", "resume", "give", "finish"):
            raise SettingError(f"“{action}” is none of pause, resume, give, finish")
        self.orders.append((action, duration))
        paused = action in ("pause", "finish")
        because = Because(Reason.PAUSED) if paused else Because(Reason.NO_CONSENT)
        self.set_status(replace(self.status_now, state=State.PAUSED if paused else State.OFF, reason=because))
        return self.status_now

    def tell(self, facts: Mapping[str, object]) -> None:
        self.told.append(dict(facts))

    def given(self) -> dict[str, object]:
        nothing: dict[str, object] = {
            "tokens": 0,
            "conversations": 0,
            "up_bytes": 0,
            "down_bytes": 0,
            "hours": 0.0,
        }
        return {"today": nothing, "week": nothing, "all": nothing, "days": []}

    def events(self) -> tuple[Happened, ...]:
        return (Happened(time.time(), self.status_now.state, self.status_now.reason, self.status_now.span),)

    def own_donors(self) -> frozenset[PeerId]:
        return frozenset(self.mine)

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
        self._late = reader.late  # as it is now: a test may change it for the next answer
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
        reader, text = self._reader, self._last_words()
        if reader.restricts:
            raise NotAccepted(reader.model.model_id, reader.restricts)
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
        words = _cut(re.findall(r"\s*\S+", self._answer()), self._ask)
        ids: list[int] = []
        for count, word in enumerate(words):
            if self._closed.wait(self._late if count == 0 and self._late else reader.pause):
                return
            if count == reader.fails_after:
                raise StageLost(PEERS[1], "it did not answer for 2 s")
            if count == reader.moves_after:
                yield Moved(reader.route(), 0.4)
            if count == reader.waits_after:
                yield Waiting((Span(4, 7),))
                if self._closed.wait(reader.waits_seconds):
                    return
            first = first or time.monotonic() - begun
            said += word
            ids.append(reader.token(word))
            yield Piece(word, (self._token(prompt + count, word),))
        seconds = time.monotonic() - begun
        rate = (len(words) - 1) / (seconds - first) if len(words) > 1 and seconds > first else 0.0
        finish = Finish.LENGTH if len(words) == self._ask.max_tokens else Finish.STOP
        if reader.ends and finish is Finish.STOP:
            ids.append(reader.token(END))
        predicted = reader.route().predicted_seconds
        yield Ended(finish, said, tuple(ids), prompt, seconds, first, rate, predicted)

    def _token(self, position: int, word: str) -> Token:
        others = [self._reader.token(other) for other in (" likely", " perhaps", " hardly", " not", " no")]
        top = [(self._reader.token(word), -0.1), *((one, -2.0 - at) for at, one in enumerate(others))]
        return Token(position, top[0][0], -0.1, tuple(top[: self._ask.sampling.logprobs]))

    def _last_words(self) -> str:
        prompt = self._ask.prompt
        if isinstance(prompt, Ids):
            return b"".join(map(self._reader.spelled, prompt.ids)).decode()
        return prompt if isinstance(prompt, str) else prompt[-1].text if prompt else ""

    def _answer(self) -> str:
        """Of tokens that end with the beginning of the answer, the rest of it follows."""
        answer = self._reader.answer
        if isinstance(self._ask.prompt, Ids):
            told = self._last_words()
            for length in range(len(answer), 0, -1):
                if told.endswith(answer[:length]):
                    return answer[length:]
        return answer


def _cut(words: list[str], ask: Ask) -> list[str]:
    """Keep what comes before the first stop string and within ``max_tokens``."""
    text = "".join(words)
    for stop in ask.stop:
        text = text.partition(stop)[0]
    kept = re.findall(r"\s*\S+|\s+$", text)
    return kept[: ask.max_tokens]
