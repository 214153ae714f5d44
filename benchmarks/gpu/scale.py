"""How large all is: BLOOM-176B's blocks on a GPU, or next to nothing on the CPU, so that a run is tried out
before a GPU is there. Chosen by the variable ``IDLEBLOOM_GPU_SCALE``, which child processes inherit."""

from __future__ import annotations

import os
from dataclasses import dataclass

VARIABLE = "IDLEBLOOM_GPU_SCALE"


@dataclass(frozen=True)
class Scale:
    device: str
    hidden: int
    heads: int
    vocab: int
    blocks: int
    """Of the whole model; the others are how many are held at once."""
    decode_blocks: int
    parity_blocks: int
    parity_vocab: int
    length: int
    """The longest cache; ``lengths`` are measured, and errors at ``positions``."""
    lengths: tuple[int, int]
    positions: tuple[int, int, int]
    chunk: int
    prefill: tuple[tuple[int, int], ...]
    """Rows, and the position that they begin at."""
    samples: int
    copied: int
    """Bytes of the copy that measures memory, and the side of the matrices that measure arithmetic."""
    side: int
    ring: int
    one: int
    """Blocks of the checkpoints that workers serve."""
    tokens: int
    prompt: int
    far_tokens: int
    far_answers: tuple[int, int, int]
    """Over shaped links: of one reader at the short position, at the long one, rounds of eight readers."""
    kills: int
    at_once: int
    cap: int
    cache_tokens: int
    growing: int
    grown: int
    """Sessions that grow, and by how many tokens."""
    flood: int


BLOOM = Scale(
    device="cuda:0",
    hidden=14_336,
    heads=112,
    vocab=250_880,
    blocks=70,
    decode_blocks=6,
    parity_blocks=4,
    parity_vocab=32_768,
    length=2048,
    lengths=(128, 2048),
    positions=(128, 500, 2000),
    chunk=512,
    prefill=((128, 0), (512, 0), (512, 1536), (2048, 0)),
    samples=31,
    copied=1 << 31,
    side=8192,
    ring=24,
    one=4,
    tokens=48,
    prompt=128,
    far_tokens=24,
    far_answers=(5, 2, 2),
    kills=50,
    at_once=10,
    cap=20_000_000_000,
    cache_tokens=32_768,
    growing=32,
    grown=1500,
    flood=120,
)
TINY = Scale(
    device="cpu",
    hidden=128,
    heads=4,
    vocab=512,
    blocks=6,
    decode_blocks=2,
    parity_blocks=2,
    parity_vocab=256,
    length=96,
    lengths=(16, 96),
    positions=(5, 20, 60),
    chunk=16,
    prefill=((32, 32),),
    samples=1,
    copied=1 << 20,
    side=64,
    ring=4,
    one=2,
    tokens=8,
    prompt=16,
    far_tokens=8,
    far_answers=(1, 1, 1),
    kills=2,
    at_once=2,
    cap=2_000_000_000,
    cache_tokens=512,
    growing=3,
    grown=40,
    flood=6,
)
SCALE = {"bloom": BLOOM, "tiny": TINY}[os.environ.get(VARIABLE, "bloom")]
