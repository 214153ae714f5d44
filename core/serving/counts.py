"""What a donor has served since it began: sums that its worker tells the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Counts:
    """``worker`` tells one worker's sums from the next one's. A token counts where its step was run, once,
    however often it had to be run again; ``sessions`` are open now."""

    worker: int = 0
    tokens: int = 0
    conversations: int = 0
    sessions: int = 0
    up_bytes: int = 0
    down_bytes: int = 0
    up_rate: float = 0.0
    down_rate: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Counts:
        """Raises ``ValueError`` for what is none."""
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = said.get(field.name, 0)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ValueError(f"{field.name} cannot be {value!r}")
            values[field.name] = value
        return cls(**values)
