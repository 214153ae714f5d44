from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from core.model.attention import Alibi, alibi_slopes
from core.model.batch import Rows
from core.model.cache import PAGE, CachePool
from core.model.paged import FEW, distance_parts, slope_parts, table_of
from core.model.span import SpanModel
from core.terms import Span

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def model(make_model: Make) -> SpanModel:
    return SpanModel.load(make_model(), Span(0, 5), dtype=torch.float32)


def logits_in(model: SpanModel, *, paged: bool) -> list[torch.Tensor]:
    """Three sessions that grow past pages at different times, with chunks, proposals and single rows."""
    pool = CachePool(model.config, model.span, torch.float32, "cpu", 16 * PAGE, paged=paged)
    slots = [pool.open() for _ in range(3)]
    starts, found = [0, 0, 0], []
    draw = torch.Generator().manual_seed(3)
    for counts in ((40, 3, FEW + 1), (1, 60, 1), (FEW, 1, 90), (1, 1, 1)):
        batch = []
        for at, (slot, count) in enumerate(zip(slots, counts, strict=True)):
            assert pool.reserve(slot, starts[at] + count)
            ids = torch.randint(0, model.config.vocab, (count,), generator=draw)
            batch.append(Rows(slot, model.span, starts[at], ids, count))
            starts[at] += count
        found += model.run(batch, pool)
    return found


def test_pages_give_what_slots_give(model: SpanModel) -> None:
    """A cache in pages gives the logits of one whose sessions lie in one piece."""
    for ours, theirs in zip(logits_in(model, paged=True), logits_in(model, paged=False), strict=True):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 2e-5


def test_what_a_page_held_before_is_never_read(model: SpanModel) -> None:
    """A session on pages full of numbers that are none gives what it gives on fresh ones."""
    ids = torch.arange(50) % model.config.vocab
    answers = []
    for filling in (0.0, float("nan")):
        pool = CachePool(model.config, model.span, torch.float32, "cpu", 8 * PAGE, paged=True)
        for layer in pool.layers:
            layer.fill_(filling)
        slot = pool.open()
        pool.reserve(slot, 51)
        answers += model.run([Rows(slot, model.span, 0, ids, 50)], pool)
        answers += model.run([Rows(slot, model.span, 50, ids[:1], 1)], pool)
    assert torch.equal(answers[0], answers[2])
    assert torch.equal(answers[1], answers[3])


def test_pages_go_round(model: SpanModel) -> None:
    """No page belongs to two sessions, and those of a released or cut one are lent again."""
    pool = CachePool(model.config, model.span, torch.float32, "cpu", 6 * PAGE, paged=True)
    first, second = pool.open(), pool.open()
    assert pool.reserve(first, 3 * PAGE)
    assert pool.reserve(second, 2 * PAGE)
    assert not pool.reserve(second, 4 * PAGE)
    assert len({*first.pages, *second.pages}) == 5
    pool.truncate(first, PAGE + 1)
    assert pool.reserve(second, 4 * PAGE)
    assert len({*first.pages, *second.pages}) == 6
    pool.release(first)
    assert (pool.free_tokens, first.pages) == (2 * PAGE, [])


def test_a_table_names_positions_and_pages(model: SpanModel) -> None:
    """Each row carries its own position and its session's pages, and -1 where there is no page."""
    pool = CachePool(model.config, model.span, torch.float32, "cpu", 6 * PAGE, paged=True)
    slot = pool.open()
    pool.reserve(slot, PAGE + 2)
    table = table_of([Rows(slot, model.span, PAGE, torch.zeros(2, dtype=torch.int64))], 4 * PAGE)
    assert table[:, 0].tolist() == [PAGE, PAGE + 1]
    assert table[1, 1:].tolist() == [*slot.pages, -1, -1]


@pytest.mark.parametrize("heads", [6, 112])
def test_added_dimensions_carry_the_bias(heads: int) -> None:
    """Products of a slope's and a distance's parts, in bfloat16, are the bias in float32, up to a number a
    row that softmax does not see."""
    end, dim = 2048, 128
    slopes = torch.tensor(alibi_slopes(heads))
    carried = slope_parts(slopes, dim).double() @ distance_parts(end, slopes.device).double().t() * dim**-0.5
    bias = Alibi(heads, end, slopes.device).one_row([end])[0, :, 0].double()
    assert float((carried - bias).abs().max()) < 1e-3
    near = slice(end - 64, end)
    assert float((carried - bias)[:, near].abs().max()) < 2e-5


def test_a_copied_session_goes_on_by_itself(model: SpanModel) -> None:
    """It continues as the one that it was copied from would have, whose pages stay as they are, and no other
    session's page is touched."""
    ids = torch.arange(90) % model.config.vocab
    pool = CachePool(model.config, model.span, torch.float32, "cpu", 12 * PAGE, paged=True)
    for layer in pool.layers:
        layer.fill_(torch.nan)  # as what was never written may be
    other, source, target = (pool.open() for _ in range(3))
    for slot in (other, source):
        assert pool.reserve(slot, 80)
        model.run([Rows(slot, model.span, 0, ids[:80], 1)], pool)
    before = [layer[other.pages + source.pages].clone() for layer in pool.layers]
    assert pool.copy(source, target, 70)
    assert len(target.pages) == 3
    assert pool.reserve(target, 90)
    (copied,) = model.run([Rows(target, model.span, 70, ids[70:], 20)], pool)
    after = [layer[other.pages + source.pages] for layer in pool.layers]
    # By their bits: NaN is no other NaN's equal.
    pairs = zip(before, after, strict=True)
    assert all(torch.equal(one.view(torch.int32), two.view(torch.int32)) for one, two in pairs)
    assert pool.reserve(source, 90)
    (straight,) = model.run([Rows(source, model.span, 70, ids[70:], 20)], pool)
    assert torch.equal(copied, straight)
    assert not pool.copy(source, other, 12 * PAGE)
