"""The domain on one screen: the frozen values that travel between the parts of Idlebloom.

Nothing here does anything; every part imports these words and none of the others' internals.
Layers are numbered 0 .. N + 1 for a model of N blocks: 0 is the word embeddings with their norm,
1 .. N are the blocks, N + 1 is the head. Sizes are bytes, times are seconds, rates are per second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

PeerId = NewType("PeerId", str)
"""A libp2p peer id in base58; for Ed25519 identities it contains the public key."""


@dataclass(frozen=True, order=True)
class Span:
    """Consecutive layers ``[start, end)`` held by one donor."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"a span needs 0 <= start < end, not {self.start}:{self.end}")

    def __len__(self) -> int:
        return self.end - self.start

    def __contains__(self, other: object) -> bool:
        if isinstance(other, Span):
            return self.start <= other.start and other.end <= self.end
        return isinstance(other, int) and self.start <= other < self.end

    def __str__(self) -> str:
        return f"{self.start}:{self.end}"


@dataclass(frozen=True)
class ModelRef:
    """Which weights: all stages of a route must agree on both, ``layers`` is N + 2."""

    model_id: str
    revision: str
    layers: int


class DonorState(StrEnum):
    JOINING = "joining"
    ONLINE = "online"
    LEAVING = "leaving"


class WireDtype(StrEnum):
    """How activations travel between stages of a session."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"
    """By blocks, and for prompts alone, beside one of the others."""


NEAR_NAME = 6
"""Characters of a peer id that are enough to know a neighbour by."""


@dataclass(frozen=True)
class Record:
    """What a donor announces about itself in the DHT, at most 1 KiB once encoded and signed."""

    peer_id: PeerId
    model: ModelRef
    span: Span
    state: DonorState
    started_at: float
    expires_at: float
    step_seconds: float = 0.0
    """Measured time of one decode step of one session through the whole span."""
    decode_rate: float = 0.0
    """Measured tokens a second of a full decode batch."""
    prefill_rate: float = 0.0
    free_tokens: int = 0
    """Cache positions that a new session could still reserve."""
    log_bytes: int = 0
    """Memory left for logs of outputs."""
    quantization: str = "none"
    wire: tuple[WireDtype, ...] = (WireDtype.FLOAT32,)
    device: str = "cpu"
    reach: str = "public"
    """How others reach it: ``public``, ``dial-out`` or ``relay``."""
    addresses: tuple[str, ...] = ()
    coordinate: tuple[float, ...] = ()
    """Network coordinate (Vivaldi), for delays not measured yet; empty when unknown."""
    coordinate_error: float = 1.0
    near: tuple[tuple[str, float], ...] = ()
    """Round trips that it has measured to donors of neighbouring layers: the last ``NEAR_NAME`` characters
    of their peer ids, and seconds."""
    upload_rate: float = 0.0
    """Bytes a second that it was measured to send; 0 until measured."""
    readers: int = 0
    """Sessions that it has lately run steps of."""
    expected_online: float = 0.0
    """While joining: seconds until it expects to serve."""
    going: Span | None = None
    """The layers that it fetches while it serves ``span``, to serve them instead."""
    room: int = 0
    """Bytes of its device that layers, their caches and a step's workspace may take; 0: not said."""
    version: str = ""


@dataclass(frozen=True)
class Stage:
    """One donor's part of a route: the layers ``span`` (a sub-span of what it holds) at ``peer_id``."""

    peer_id: PeerId
    span: Span


@dataclass(frozen=True)
class Route:
    """Stages in order that together cover layers 0 .. N + 1. The first is the entry, the last the tail."""

    stages: tuple[Stage, ...]
    predicted_seconds: float = 0.0
    """Predicted time a token."""

    @property
    def entry(self) -> Stage:
        return self.stages[0]

    @property
    def tail(self) -> Stage:
        return self.stages[-1]


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. ``temperature`` 0 is greedy. The rule: argmax of
    logit / T + Gumbel(seed, position, token) over the candidates that top-k and top-p keep."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    logprobs: int = 0
    """How many best alternatives to report with each token, 0 for none beyond the token's own."""


class Finish(StrEnum):
    """Why an answer ended, in the words of OpenAI's API where it has one."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Token:
    """One drawn token as the tail reports it."""

    position: int
    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """Best alternatives as (token id, log-probability), as many as ``Sampling.logprobs``."""


class Reason(StrEnum):
    """Why this PC does not give now; its text is made in ``core.words``."""

    NO_CONSENT = "no_consent"
    PAUSED = "paused"
    NO_MODEL = "no_model"
    INPUT = "input"
    INHIBITED = "inhibited"
    SWITCHED_OUT = "switched_out"
    OWN_CHAT = "own_chat"
    NO_IDLE_SOURCE = "no_idle_source"
    GPU_BUSY = "gpu_busy"
    FULLSCREEN = "fullscreen"
    PROGRAM = "program"
    ON_BATTERY = "on_battery"
    METERED = "metered"
    HOT = "hot"
    HOURS = "hours"
    QUOTA = "quota"
    NO_DEVICE = "no_device"
    GPU_LOST = "gpu_lost"
    NO_SPACE = "no_space"
    NO_ROOM = "no_room"
    NO_LAYERS = "no_layers"
    NO_LICENCE = "no_licence"
    WORKER_FAILED = "worker_failed"
    CHANGING = "changing"
    NO_NETWORK = "no_network"
    NO_MEETING_POINT = "no_meeting_point"
    NOT_ADMITTED = "not_admitted"
    NETWORK_RESTARTS = "network_restarts"
    CLOCK_BEHIND = "clock_behind"
    CLOCK_AHEAD = "clock_ahead"


@dataclass(frozen=True)
class Because:
    """A reason with its arguments and, where known, when it ends (Unix time)."""

    kind: Reason
    args: dict[str, str | int | float] = field(default_factory=dict)
    until: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "args": self.args, "until": self.until}

    @classmethod
    def read(cls, found: Any) -> Because:
        """Raises ``ValueError``, ``KeyError``, ``TypeError`` or ``AttributeError`` for what is none."""
        args = {str(k): v for k, v in found["args"].items() if isinstance(v, str | int | float)}
        until = found["until"]
        return cls(Reason(found["kind"]), args, None if until is None else float(until))


@dataclass(frozen=True)
class GpuUse:
    """A GPU as others use it. ``None`` is unknown."""

    percent: float | None = None
    """How busy others keep it, 0 to 100."""
    program: str = ""
    """Who of them the most."""
    celsius: float | None = None
    total_bytes: int = 0
    free_bytes: int = 0
    ours_bytes: int = 0
    """What our worker holds of it."""
    trouble: str = ""
    """Why it cannot be used, such as that it is lost."""


@dataclass(frozen=True)
class Facts:
    """What this PC is doing now. ``None`` is unknown, and unknown is never idle."""

    now: float
    """Unix time, which may jump."""
    clock: float = 0.0
    """Seconds that never jump, from any beginning."""
    minute: int = 0
    """Of the week in local time; 0 is Monday 00:00."""
    idle_seconds: float | None = None
    """Without input."""
    locked: bool | None = None
    switched_out: bool | None = None
    """Somebody else's session is in front."""
    inhibitor: str | None = None
    """Who keeps the screen awake, such as a film; empty: nobody."""
    fullscreen: str | None = None
    """The program that fills the screen; empty: none."""
    on_battery: bool | None = None
    metered: bool | None = None
    programs: tuple[str, ...] | None = None
    """Those of the setting ``yield_programs`` that run."""
    gpu: GpuUse | None = None
    """The GPU that layers would be served from; ``None``: they are served from the CPU."""
    gpu_percent: float | None = None
    """How busy others keep it, told by Windows, where the driver inside WSL2 does not tell them apart;"""
    gpu_program: str | None = None
    """and who of them the most."""
    own_chat_seconds: float | None = None
    """Since the owner's own chat last read an answer; 0 while it does."""


@dataclass(frozen=True)
class Orders:
    """What the owner told this PC to do, until a Unix time: infinity is until told otherwise, ``None`` is
    that nothing was told."""

    paused_until: float | None = None
    finishing: bool = False
    """Paused, but readers have ten minutes to go."""
    give_until: float | None = None
    """Give now, whatever the input."""


class Leave(StrEnum):
    """How a donor goes."""

    AT_ONCE = "at_once"
    PLANNED = "planned"
    FINISH = "finish"


@dataclass(frozen=True)
class Budget:
    """What may be given now: all that the settings allow, or nothing and why."""

    because: Because | None = None
    """Why nothing; ``None``: give."""
    leave: Leave = Leave.AT_ONCE
    own_only: bool = False
    """Nothing to others; a worker that serves may stay for this PC's own sessions."""
    rest: float = 0.0
    """Part of the time that the device rests between steps."""
    celsius: float = 0.0
    """What it rests for."""


class State(StrEnum):
    """The states of this PC's donor as every face shows them."""

    OFF = "off"
    WAITING = "waiting"
    FETCHING = "fetching"
    LOADING = "loading"
    GIVING = "giving"
    LEAVING = "leaving"
    PAUSED = "paused"
    TROUBLE = "trouble"


@dataclass(frozen=True)
class Progress:
    phase: str
    done_bytes: int
    total_bytes: int
    seconds_left: float | None = None


@dataclass(frozen=True)
class Today:
    tokens: int = 0
    conversations: int = 0
    up_bytes: int = 0
    down_bytes: int = 0


@dataclass(frozen=True)
class Happened:
    """From ``at``, Unix time, the node was in this state."""

    at: float
    state: State
    because: Because | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Memory:
    used: int = 0
    cap: int = 0


@dataclass(frozen=True)
class Rates:
    """Bytes a second now, and tokens a second over the last minute."""

    up: float = 0.0
    down: float = 0.0
    tokens: float = 0.0


@dataclass(frozen=True)
class SwarmView:
    """The swarm as this node sees it: is the model whole, and which layers have no donor."""

    model: str = ""
    whole: bool = False
    missing: tuple[Span, ...] = ()
    donors: int = 0


@dataclass(frozen=True)
class Status:
    """One whole snapshot of this node for the tray, the page and the command line."""

    version: str
    state: State
    reason: Because | None = None
    span: Span | None = None
    progress: Progress | None = None
    sessions: int = 0
    today: Today = Today()
    vram: Memory = Memory()
    rates: Rates = Rates()
    swarm: SwarmView = SwarmView()
    giving_until: float | None = None
    """Of *give now*: Unix time, 0 until stopped, ``None`` where nobody said so."""
    blocks: int = 0
    """Of the swarm's model; 0 where that is not known."""
    finishing: bool = False
    """It leaves when its readers have gone, within ten minutes."""
