"""What a worker is told: once what to serve, then what to change, a line of JSON each."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from core.meter import Caps
from core.terms import Span

MOVE_SECONDS = 30.0
"""How long readers of layers that are dropped have to move."""


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker is told. ``span`` is in layers; ``threads`` 0 leaves it to torch."""

    model: str
    span: tuple[int, int]
    identity: str
    runtime: str
    peers: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    cache_tokens: int = 16_384
    places: int = 64
    threads: int = 0
    rest: float = 0.0
    speculate: bool = True
    device: str = "cpu"
    """``cpu`` or ``cuda:N``."""
    quantization: Literal["none", "int8", "nf4"] = "none"
    store: str = ""
    """The folder below which quantized layers are kept; empty: nowhere."""
    cache: str = ""
    """The folder for what was found out about the device: kernels, measured times; empty: nowhere."""
    log_bytes: int = 0
    """Host memory for logs of outputs; 0: 4 GB or a quarter of what is free, whichever is less."""
    memory_cap: int = 0
    """Bytes of the device's memory that all this may take, as the driver counts them, or of system memory
    on the CPU; 0: no cap."""
    secret: str = ""
    """Of a private swarm."""
    open_router_ports: bool = False
    owner: str = ""
    """The peer id of this PC's node."""
    upload_mbit: float | None = None
    """The cap on what is sent; ``None``: half of what was measured."""
    download_mbit: float | None = None
    """``None``: no cap."""
    room: int = 0
    """Bytes of the device that layers, caches and a step may take, for the record."""
    version: str = ""

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> WorkerConfig:
        values = json.loads(line)
        return cls(**{**values, "span": tuple(values["span"]), "peers": tuple(values.get("peers", ()))})


@dataclass(frozen=True)
class Order:
    """To serve ``span``, or to leave where there is none; readers have ``seconds`` to move. Or, if it
    ``goes``, to say that it will serve ``span``, or goes nowhere. Or to serve one client ``only``, an empty
    one being all; or to ``rest`` for a part of the time, or to keep to ``caps``."""

    seconds: float = 0.0
    span: Span | None = None
    memory_cap: int = 0
    """What is served may take so much from then on; 0: as before."""
    only: str | None = None
    rest: float | None = None
    caps: Caps | None = None
    goes: bool = False

    @classmethod
    def from_line(cls, line: str) -> Order:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for a line that is no order."""
        values = json.loads(line)
        if "only" in values:
            return cls(only=str(values["only"]))
        if "caps" in values:
            up, down = values["caps"]
            return cls(caps=Caps(_rate(up), _rate(down)))
        if "rest" in values:
            return cls(rest=float(values["rest"]))
        if "going" in values:
            return cls(span=Span(*map(int, values["going"])) if values["going"] else None, goes=True)
        if "drain" in values:
            return cls(float(values["drain"]))
        start, end = values["resize"]
        span, cap = Span(int(start), int(end)), int(values.get("memory_cap", 0))
        return cls(float(values.get("seconds", MOVE_SECONDS)), span, cap)


def _rate(value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not value > 0:
        raise ValueError("not a rate")
    return float(value)
