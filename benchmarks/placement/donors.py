"""Donors as homes have them: a card, a connection, a stay; some lie."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from core.model.config import ModelConfig
from core.model.cost import Form, Numbers, costs
from core.serving.choose import Hand
from core.serving.fit import Fitting, Room
from core.terms import Span

GB = 10**9
BLOOM = ModelConfig(14336, 112, 70, 250_880, 1e-5, False, 2048, 1, (2,), "bigscience/bloom", "main")
LAYERS = BLOOM.layers
FORM = Form(blocks=Numbers.NF4, head=Numbers.INT8)
STAY = 8 * 3600.0


@dataclass(frozen=True)
class Card:
    """``memory`` is what the owner leaves to us, ``speed`` bytes of weights a second in a step: about half
    of what the memory of such cards reads."""

    name: str
    memory: int
    speed: float
    part: float
    """Of all donors."""


CARDS = (
    Card("8 GB", 6 * GB, 2.2e11, 0.25),
    Card("12 GB", 9 * GB, 1.8e11, 0.30),
    Card("16 GB", 12 * GB, 2.8e11, 0.20),
    Card("24 GB", 18 * GB, 4.6e11, 0.25),
)


@cache
def table_and_ends(card: Card) -> Hand:
    table = costs(BLOOM, FORM, bytes_a_second=card.speed)
    room = Room(card.memory, card.memory, 10**15, context=600_000_000, workspace=300_000_000)
    return Hand(table, Fitting(table, room).ends(), load_rate=1e9)


WEIGHTS = [
    cost.seconds / table_and_ends(CARDS[0]).table[LAYERS // 2].seconds
    for cost in table_and_ends(CARDS[0]).table
]
"""What each layer costs, a block one."""


@dataclass
class Peer:
    """One donor over time. ``rate`` is what its record claims for its span, ``true`` what it does."""

    number: int
    card: Card
    fetch_rate: float
    joined: float
    ends_at: float
    crashes: bool
    lies: float = 1.0
    """How many times its real speed it claims; infinity: it claims a span and serves nothing."""
    span: Span | None = None
    """What it serves;"""
    going: Span | None = None
    """what it fetches, to serve that from ``online_at`` on."""
    disk: Span | None = None
    online_at: float = 0.0

    @property
    def goal(self) -> Span | None:
        return self.going or self.span

    def hand(self, stay: float) -> Hand:
        base = table_and_ends(self.card)
        return Hand(base.table, base.ends, self.goal, self.disk, self.fetch_rate, base.load_rate, stay)


def draw(number: int, now: float, chance: random.Random, liars: float, stay: float = STAY) -> Peer:
    card = chance.choices(CARDS, [card.part for card in CARDS])[0]
    lies = 1.0
    if chance.random() < liars:
        lies = chance.choice((10.0, 1000.0, float("inf")))
    return Peer(
        number,
        card,
        fetch_rate=20e6 / 8 * 50 ** chance.random(),  # 20 to 1000 Mbit/s
        joined=now,
        ends_at=now + chance.expovariate(1 / stay),
        crashes=chance.random() < 0.5,
        lies=lies,
    )
