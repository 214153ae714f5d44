"""Prompts in int8 blocks: half the bytes, and logits that hardly differ."""

from __future__ import annotations

import random

import pytest
import torch

from core.model.text import Text
from core.paths import bundled_model
from core.serving.narrow import narrowed, scales, widened
from core.swarm.frames import Dtype
from core.terms import Sampling, Span, Token, WireDtype
from tests.core.rings import FakeRing, fake_ring

TOP = Sampling(logprobs=5)


@pytest.mark.parametrize("hidden", [48, 64, 1000])
def test_each_number_is_within_half_a_step_of_its_block(hidden: int) -> None:
    """A very large one spoils its own block alone; blocks of zeros stay zeros."""
    torch.manual_seed(1)
    values = torch.randn(7, hidden)
    values[2] = 0.0
    values[3, 5] = 4000.0
    data = narrowed(values)
    assert data.shape == (7, Dtype.INT8.row_bytes(hidden))
    again = widened(data.flatten(), hidden)
    error = (again - values).abs()
    assert float(error[2].max()) == 0.0
    assert float(error[[0, 1, 4, 5, 6]].max()) < 0.03
    assert float(error[3, 64:].max() if hidden > 64 else 0.0) < 0.03
    assert float(error[3, 5]) < 40.0


@pytest.mark.parametrize("ill", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_seen_in_its_scale(ill: float) -> None:
    """So it can be refused by who sends and by who receives."""
    values = torch.randn(3, 100)
    values[1, 70] = ill
    assert torch.isfinite(scales(narrowed(values).flatten(), 100)).logical_not().nonzero().tolist() == [
        [1, 1]
    ]


def test_it_takes_little_more_than_half_of_bfloat16() -> None:
    """3 % are scales."""
    assert Dtype.INT8.row_bytes(14_336) / Dtype.BFLOAT16.row_bytes(14_336) < 0.52


def prompts(count: int) -> list[list[int]]:
    rng = random.Random(5)
    text = Text(bundled_model())
    said = "the moon is a computer that lends its idle hours to people who ask what flowers are"
    words = said.split(" ")
    return [text.encode(" ".join(rng.choice(words) for _ in range(80))) for _ in range(count)]


async def first(ring: FakeRing, ids: list[int], *, narrow: bool, count: int = 1) -> list[Token]:
    session = ring.session(chunk=32)
    session.narrow = narrow
    answer = session.answer(ids, TOP, count, frozenset())
    tokens = [token async for token in answer if isinstance(token, Token)]
    session.close()
    return tokens


async def test_logits_after_a_narrow_prompt_are_those_of_a_wide_one() -> None:
    """Over three stages of the bundled model: log-probabilities within 0.1, and the same best token but for
    near ties."""
    async with fake_ring(bundled_model(), [(0, 4), (4, 7), (7, 10)]) as ring:
        same, errors = 0, []
        for ids in prompts(12):
            [wide] = await first(ring, ids, narrow=False)
            [narrow] = await first(ring, ids, narrow=True)
            same += wide.token_id == narrow.token_id
            theirs = dict(narrow.top)
            errors += [abs(theirs[token] - logprob) for token, logprob in wide.top[:3] if token in theirs]
        print(f"largest error {max(errors):.3f}, mean {sum(errors) / len(errors):.4f}, same {same}")
        assert max(errors) < 0.1
        assert same >= 10


async def test_only_prompts_travel_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers go in full, and so does all of a session that is not narrow."""
    sent: list[tuple[int, Dtype]] = []

    def noted(frame, dtype):  # type: ignore[no-untyped-def]
        sent.append((frame.count, dtype))
        return pack_frame(frame, dtype)

    from core.serving import links

    pack_frame = links.pack_frame
    monkeypatch.setattr(links, "pack_frame", noted)
    async with fake_ring(bundled_model(), [(0, 5), (5, 10)]) as ring:
        [ids] = prompts(1)
        await first(ring, ids, narrow=True, count=6)
        assert {dtype for count, dtype in sent if count > 8} == {Dtype.INT8}
        assert {dtype for count, dtype in sent if count == 1} == {Dtype.FLOAT32, Dtype.IDS}
        sent.clear()
        await first(ring, ids, narrow=False, count=6)
        assert Dtype.INT8 not in {dtype for _, dtype in sent}


async def test_a_narrow_answer_survives_a_lost_donor() -> None:
    """The log holds what was sent, in both forms, and fills the replacement with it."""
    async with fake_ring(bundled_model(), [(0, 4), (4, 7), (7, 10), (4, 7)]) as ring:
        [ids] = prompts(1)
        whole = [token.token_id for token in await first(ring, ids, narrow=True, count=20)]
        session, held = ring.session(chunk=32), []
        session.narrow = True
        async for token in session.answer(ids, TOP, 20, frozenset()):
            assert isinstance(token, Token)
            held.append(token.token_id)
            if len(held) == 8:
                gone = session.route.stages[1].peer_id  # type: ignore[union-attr]
                await next(d for d in ring.donors if d.peer.peer_id == gone).stop()
        assert held == whole
        assert session.moves == 1


async def test_a_donor_that_takes_no_int8_is_gone_around() -> None:
    """Where a session's prompts travel so; others it serves."""
    async with fake_ring(bundled_model(), [(0, 4), (4, 10)]) as ring:
        unable = ring.donors[1]
        opening = unable.sessions.opening
        opening.wires = tuple(wire for wire in opening.wires if wire is not WireDtype.INT8)
        [ids] = prompts(1)
        assert await first(ring, ids, narrow=False)
        assert unable.engine.rows
        able, before = await ring.add(Span(4, 10)), unable.engine.rows
        assert await first(ring, ids, narrow=True)
        assert able.engine.rows
        assert unable.engine.rows == before
