from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from transformers import BloomForCausalLM

from core.errors import FrameError
from core.model.cache import CachePool, Slot
from core.model.span import Rows, SpanModel
from core.terms import Span

Make = Callable[..., Path]
Reference = Callable[..., BloomForCausalLM]

TOLERANCE = 2e-5
"""Of the largest absolute logit, in float32."""


@dataclass(frozen=True)
class Stage:
    """A span with its own cache, as a donor would hold it."""

    model: SpanModel
    pool: CachePool

    @classmethod
    def of(cls, folder: Path, span: Span, dtype: torch.dtype = torch.float32, tokens: int = 8192) -> Stage:
        model = SpanModel.load(folder, span, dtype=dtype)
        return cls(model, CachePool(model.config, span, dtype, "cpu", tokens))

    def open(self, upto: int) -> Slot:
        slot = self.pool.open()
        assert self.pool.reserve(slot, upto)
        return slot


def whole(folder: Path, dtype: torch.dtype = torch.float32) -> Stage:
    layers = SpanModel.load(folder, Span(0, 1), dtype=dtype).config.layers
    return Stage.of(folder, Span(0, layers), dtype)


def logits_of(stage: Stage, ids: Tensor, chunks: Sequence[int]) -> Tensor:
    """The logits of all positions of ``ids``, run in ``chunks``."""
    slot = stage.open(len(ids))
    out, start = [], 0
    for count in chunks:
        part = ids[start : start + count]
        out += stage.model.run([Rows(slot, stage.model.span, start, part, count)], stage.pool)
        start += count
    assert start == len(ids)
    stage.pool.release(slot)
    return torch.cat(out)


def some_ids(count: int, vocab: int = 300, seed: int = 0) -> Tensor:
    return torch.randint(0, vocab, (count,), generator=torch.Generator().manual_seed(seed))


def expected_of(model: BloomForCausalLM, ids: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(ids[None]).logits[0].float()


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    assert actual.dtype == torch.float32
    assert actual.shape == expected.shape
    error = float((actual - expected).abs().max() / expected.abs().max())
    assert error < tolerance, f"off by {error:.1e} of the largest logit"


@pytest.fixture(scope="module")
def folder(make_model: Make) -> Path:
    return make_model()


@pytest.fixture(scope="module")
def loaded(folder: Path) -> SpanModel:
    return whole(folder).model


def with_empty_cache(model: SpanModel) -> Stage:
    return Stage(model, CachePool(model.config, model.span, model.dtype, "cpu", 8192))


@pytest.fixture
def stage(loaded: SpanModel) -> Stage:
    return with_empty_cache(loaded)


@pytest.mark.parametrize(("heads", "hidden"), [(6, 48), (12, 96), (16, 128), (112, 448), (16, 1024)])
@pytest.mark.parametrize("post", [False, True])
def test_logits_are_those_of_transformers(
    make_model: Make, reference: Reference, heads: int, hidden: int, post: bool
) -> None:
    """Prompt, chunk and single steps give transformers' logits for every count of heads."""
    folder = make_model(heads=heads, hidden=hidden, post=post, blocks=2)
    ids = some_ids(60)
    actual = logits_of(whole(folder), ids, [40, 1, 1, 1, 16, 1])
    assert_same(actual, expected_of(reference(folder), ids))


@pytest.mark.parametrize(
    "options",
    [
        {"prefix": False},
        {"lm_head": True},
        {"lm_head": True, "prefix": False},
        {"shard": "60KB"},
        {"shard": "60KB", "lm_head": True},
        {"dtype": torch.float16},
        {"dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_every_form_of_checkpoint_reads_the_same(
    make_model: Make, reference: Reference, options: dict[str, object]
) -> None:
    """Keys with and without prefix, tied and own output matrices, indexes and half-precision files."""
    folder = make_model(**options)
    if not options.get("shard"):
        keys = set(load_file(folder / "model.safetensors"))
        assert ("lm_head.weight" in keys) == bool(options.get("lm_head"))
        assert ("h.0.input_layernorm.bias" in keys) == (options.get("prefix") is False)
    ids = some_ids(30)
    assert_same(logits_of(whole(folder), ids, [30]), expected_of(reference(folder), ids))


def test_greedy_text_is_that_of_transformers(folder: Path, stage: Stage, reference: Reference) -> None:
    """Forty greedy tokens after a prompt are those of ``generate``."""
    prompt = some_ids(12)
    expected = reference(folder).generate(
        prompt[None], max_new_tokens=40, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0]
    slot, ids = stage.open(60), prompt.tolist()
    given_ids, start = prompt, 0
    for _ in range(40):
        [logits] = stage.model.run([Rows(slot, stage.model.span, start, given_ids, 1)], stage.pool)
        start = len(ids)
        given_ids = logits.argmax(-1)
        ids.append(int(given_ids))
    stage.pool.release(slot)
    assert ids == expected.tolist()


@pytest.mark.parametrize("cuts", [[1, 4], [2], [1, 2, 3, 4], [3]])
def test_split_spans_give_the_logits_of_the_whole(folder: Path, stage: Stage, cuts: list[int]) -> None:
    """A chain of spans, cut anywhere, computes what one process does."""
    edges = [0, *cuts, 5]
    stages = [Stage.of(folder, Span(a, b)) for a, b in pairwise(edges)]
    slots = [one.open(40) for one in stages]
    ids, out, start = some_ids(40), [], 0
    for count in (25, 1, 1, 13):
        state = ids[start : start + count]
        for one, slot in zip(stages, slots, strict=True):
            wanted = count if one is stages[-1] else 0
            [state] = one.model.run([Rows(slot, one.model.span, start, state, wanted)], one.pool)
        out.append(state)
        start += count
    assert_same(torch.cat(out), logits_of(stage, ids, [40]))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_ragged_batches_give_what_sessions_alone_get(loaded: SpanModel, data: st.DataObject) -> None:
    """Whatever sessions share a batch, chunks and single rows mixed, each gets its own logits."""
    stage = with_empty_cache(loaded)
    count = data.draw(st.integers(1, 6))
    lengths = [data.draw(st.integers(1, 70)) for _ in range(count)]
    texts = [some_ids(length, seed=i) for i, length in enumerate(lengths)]
    slots = [stage.open(length) for length in lengths]
    at, out = [0] * count, [[] for _ in range(count)]  # type: list[int], list[list[Tensor]]
    while any(at[i] < lengths[i] for i in range(count)):
        waiting = [i for i in range(count) if at[i] < lengths[i]]
        chosen = data.draw(st.lists(st.sampled_from(waiting), min_size=1, unique=True))
        batch = []
        for i in chosen:
            n = min(data.draw(st.sampled_from([1, 1, 2, 40])), lengths[i] - at[i])
            batch.append(Rows(slots[i], stage.model.span, at[i], texts[i][at[i] : at[i] + n], n))
        for i, rows, logits in zip(chosen, batch, stage.model.run(batch, stage.pool), strict=True):
            out[i].append(logits)
            at[i] += rows.count
    for slot in slots:
        stage.pool.release(slot)
    for i in range(count):
        assert_same(torch.cat(out[i]), logits_of(stage, texts[i], [lengths[i]]))


def test_sessions_of_very_different_lengths_share_a_batch(stage: Stage) -> None:
    """Long and short sessions side by side, which are attended apart, get their own logits."""
    lengths = [5, 900, 3, 20, 800]
    texts = [some_ids(length + 1, seed=i) for i, length in enumerate(lengths)]
    slots = [stage.open(length + 1) for length in lengths]
    span = stage.model.span
    for slot, text, length in zip(slots, texts, lengths, strict=True):
        stage.model.run([Rows(slot, span, 0, text[:length])], stage.pool)
    order = [3, 0, 4, 1, 2]
    batch = [Rows(slots[i], span, lengths[i], texts[i][lengths[i] :], 1) for i in order]
    results = stage.model.run(batch, stage.pool)
    for slot in slots:
        stage.pool.release(slot)
    for i, logits in zip(order, results, strict=True):
        assert_same(logits, logits_of(stage, texts[i], [lengths[i], 1])[-1:])


def test_rows_join_and_leave_at_their_own_layers(folder: Path, stage: Stage) -> None:
    """Sessions that use different sub-spans of one donor run in one batch."""
    ids, span = some_ids(9), stage.model.span
    alone = [stage.open(9) for _ in range(2)]
    [hidden] = stage.model.run([Rows(alone[0], Span(0, 2), 0, ids)], stage.pool)
    [middle] = stage.model.run([Rows(alone[1], Span(2, 3), 0, hidden)], stage.pool)
    expected = logits_of(stage, ids, [9])
    slots = [stage.open(9) for _ in range(4)]
    spans = [Span(2, 3), Span(0, 2), span, Span(3, 5)]
    inputs = [hidden, ids, ids, middle]
    wanted = [0, 0, 9, 2]
    batch = [Rows(s, part, 0, x, n) for s, part, x, n in zip(slots, spans, inputs, wanted, strict=True)]
    results = stage.model.run(batch, stage.pool)
    for slot in (*alone, *slots):
        stage.pool.release(slot)
    torch.testing.assert_close(results[0], middle, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[1], hidden, rtol=1e-4, atol=1e-4)
    assert_same(results[2], expected)
    assert_same(results[3], expected[-2:])


def test_a_new_start_overwrites(stage: Stage) -> None:
    """Starting again below the end replaces what was cached from there on."""
    first, second = some_ids(50, seed=1), some_ids(50, seed=2)
    mixed = torch.cat([first[:20], second[20:]])
    slot, span = stage.open(50), stage.model.span
    stage.model.run([Rows(slot, span, 0, first)], stage.pool)
    [chunk] = stage.model.run([Rows(slot, span, 20, mixed[20:30], 10)], stage.pool)
    stage.pool.truncate(slot, 30)
    assert stage.pool.reserve(slot, 50)
    [rest] = stage.model.run([Rows(slot, span, 30, mixed[30:], 20)], stage.pool)
    stage.pool.release(slot)
    assert_same(torch.cat([chunk, rest]), logits_of(stage, mixed, [50])[20:])


def test_a_poisoned_session_does_not_touch_its_neighbours(folder: Path, stage: Stage) -> None:
    """Hidden states that are not numbers spoil their own session and no other in the batch."""
    slots = [stage.open(9) for _ in range(3)]
    ids = some_ids(9)
    tail = Span(1, 5)
    states = [stage.model.run([Rows(slot, Span(0, 1), 0, ids)], stage.pool)[0] for slot in slots]
    states[1] = torch.full_like(states[1], float("nan"))
    for at in (slice(0, 8), slice(8, 9)):
        batch = [Rows(s, tail, at.start, x[at], 1) for s, x in zip(slots, states, strict=True)]
        results = stage.model.run(batch, stage.pool)
    for slot in slots:
        stage.pool.release(slot)
    assert bool(results[1].isnan().all())
    for i in (0, 2):
        assert_same(results[i], logits_of(stage, ids, [9])[-1:])


def test_layers_without_rows_for_the_head_give_empty_logits(stage: Stage) -> None:
    """A chunk that wants no logits still fills the cache and returns none."""
    slot = stage.open(4)
    [logits] = stage.model.run([Rows(slot, stage.model.span, 0, some_ids(4))], stage.pool)
    stage.pool.release(slot)
    assert logits.shape == (0, 300)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ((Span(0, 6), 0, torch.zeros(2, dtype=torch.int64), 0), "not within"),
        ((Span(0, 5), 0, torch.tensor([3, 300]), 0), "not all below 300"),
        ((Span(0, 5), 0, torch.tensor([-1]), 0), "not all below 300"),
        ((Span(0, 5), 0, torch.zeros(2), 0), "dtype"),
        ((Span(0, 5), 0, torch.zeros(0, dtype=torch.int64), 0), "shape"),
        ((Span(1, 5), 0, torch.zeros(2, 47), 0), "shape"),
        ((Span(1, 5), 0, torch.zeros(2, 48, dtype=torch.int64), 0), "dtype"),
        ((Span(1, 5), 0, torch.zeros(33, 48), 0), "not reserved"),
        ((Span(1, 5), -1, torch.zeros(2, 48), 0), "not reserved"),
        ((Span(1, 4), 0, torch.zeros(2, 48), 1), "logits"),
        ((Span(1, 5), 0, torch.zeros(2, 48), 3), "logits"),
    ],
)
def test_what_does_not_fit_is_refused(stage: Stage, what: tuple[Span, int, Tensor, int], words: str) -> None:
    """Wrong layers, ids, shapes, dtypes and positions are refused before anything runs."""
    slot = stage.open(32)
    with pytest.raises(FrameError, match=words):
        stage.model.run([Rows(slot, *what)], stage.pool)
    stage.pool.release(slot)


def test_two_steps_of_a_session_never_share_a_batch(stage: Stage) -> None:
    """The same slot twice in one batch is refused."""
    slot = stage.open(32)
    rows = [Rows(slot, stage.model.span, at, some_ids(1)) for at in (0, 1)]
    with pytest.raises(FrameError, match="two steps"):
        stage.model.run(rows, stage.pool)
    stage.pool.release(slot)


@pytest.mark.parametrize("post", [False, True])
def test_bfloat16_errs_less_than_transformers(make_model: Make, reference: Reference, post: bool) -> None:
    """Against float32, our bfloat16 is nearer than transformers' own at positions 128, 500 and 2,000."""
    folder = make_model(heads=8, hidden=256, blocks=4, post=post)
    ids = some_ids(2001)
    exact = expected_of(reference(folder), ids)
    theirs = expected_of(reference(folder, torch.bfloat16), ids)
    ours = logits_of(whole(folder, torch.bfloat16), ids, [512, 512, 512, 464, 1])
    for position in (128, 500, 2000):
        around = slice(position - 20, position + 1)
        error, bar = (float((x[around] - exact[around]).norm()) for x in (ours, theirs))
        assert error < bar, f"at {position}: {error:.3f} against {bar:.3f}"


def test_hidden_states_leave_in_the_compute_dtype(folder: Path) -> None:
    """A bfloat16 span gives bfloat16 hidden states, and takes float32 ones."""
    stage = Stage.of(folder, Span(1, 4), torch.bfloat16)
    slot = stage.open(4)
    [out] = stage.model.run([Rows(slot, Span(1, 4), 0, torch.randn(4, 48))], stage.pool)
    assert (out.dtype, out.shape) == (torch.bfloat16, (4, 48))
