"""Rings of real donors over a swarm in memory, and checkpoints to serve: shared by several tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import torch
from transformers import BloomConfig, BloomForCausalLM

from core.model.config import ModelConfig, read_config, ref
from core.model.span import SpanModel
from core.routing.connections import Connections
from core.routing.opening import Trouble, Way
from core.routing.route import mend, plan
from core.routing.session import Session
from core.serving.donor import Donor, DonorOptions
from core.swarm.fake import FakePeer, FakeSwarm
from core.terms import DonorState, PeerId, Route, Sampling, Span, Token

torch.set_num_threads(1)  # several engines share the cores; with more threads each they only wait


def make_checkpoint(folder: Path, *, seed: int = 0, blocks: int = 6, vocab: int = 97) -> Path:
    """A small BLOOM with lively random weights."""
    torch.manual_seed(seed)
    config = BloomConfig(
        vocab_size=vocab, hidden_size=48, n_layer=blocks, n_head=6, bos_token_id=1, eos_token_id=2
    )
    config.architectures = ["BloomForCausalLM"]
    model = BloomForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.4)
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def reference(folder: Path) -> BloomForCausalLM:
    return BloomForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def greedy(model: BloomForCausalLM, ids: Sequence[int], count: int) -> list[int]:
    """What transformers continues with, always the likeliest token."""
    out = model.generate(
        torch.tensor([list(ids)]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return [int(token) for token in out[0, len(ids) :]]


class FakeRing:
    """Donors in this process over a swarm in memory."""

    def __init__(self, folder: Path, swarm: FakeSwarm) -> None:
        self.folder, self.swarm = folder, swarm
        self.config: ModelConfig = read_config(folder)
        self.donors: list[Donor] = []
        self.client: FakePeer = swarm.peer()
        self.connections = Connections(self.client)
        self.troubles: list[Trouble] = []
        """What sessions have reported."""

    async def add(self, span: Span, options: DonorOptions | None = None) -> Donor:
        model = SpanModel.load(self.folder, span, dtype=torch.float32)
        donor = Donor(self.swarm.peer(), model, options or DonorOptions(cache_tokens=4096, places=16))
        await donor.start()
        self.donors.append(donor)
        return donor

    async def way(self, avoid: frozenset[PeerId], before: Route | None) -> Way:
        records = await self.client.directory.read(ref(self.config))
        layers = self.config.layers
        route = mend(before, records, layers, avoid=avoid) if before else plan(records, layers, avoid=avoid)
        used = {stage.peer_id for stage in route.stages}
        chosen = {r.peer_id: r for r in records if r.peer_id in used and r.state is DonorState.ONLINE}
        return Way(route, chosen, {peer: self.client.directory.sealed(r) for peer, r in chosen.items()})

    def session(self, *, chunk: int = 16, max_length: int = 600, patience: float = 30.0) -> Session:
        report = self.troubles.append
        return Session(self.connections, self.way, max_length, chunk=chunk, patience=patience, report=report)

    async def ask(
        self, session: Session, ids: Sequence[int], count: int, sampling: Sampling | None = None
    ) -> list[int]:
        tokens = session.answer(ids, sampling or Sampling(), count, frozenset())
        return [token.token_id async for token in tokens if isinstance(token, Token)]


@asynccontextmanager
async def fake_ring(folder: Path, spans: Sequence[tuple[int, int]]) -> AsyncIterator[FakeRing]:
    """A ring with a donor for each span."""
    ring = FakeRing(folder, FakeSwarm())
    try:
        for start, end in spans:
            await ring.add(Span(start, end))
        yield ring
    finally:
        ring.connections.close()
        for donor in ring.donors:
            await donor.stop()
