from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor, TopKLogitsWarper, TopPLogitsWarper

from core.errors import ModelError
from core.model import sampling as subject
from core.model.sampling import History, draw, draw_rows, gumbel, mix
from core.terms import Sampling


def some_logits(vocab: int = 500, seed: int = 0, spread: float = 3.0) -> Tensor:
    return torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * spread


def kept_by(logits: Tensor, sampling: Sampling) -> set[int]:
    """The candidates that the rule keeps."""
    values = logits / sampling.temperature
    return set((values >= subject._least_kept(values, sampling)).nonzero()[:, 0].tolist())


def ids_above_minus_inf(scores: Tensor) -> set[int]:
    return set((scores[0] > -math.inf).nonzero()[:, 0].tolist())


ids_lists = st.lists(st.integers(0, 9), max_size=20)


@given(ids_lists, st.integers(0, 25), st.lists(st.tuples(st.booleans(), ids_lists, st.integers(0, 40))))
def test_history_counts_as_if_counted_anew(
    first: list[int], answer_from: int, steps: list[tuple[bool, list[int], int]]
) -> None:
    """However it grows and shrinks, a history's counts are those of its tokens."""
    history, ids = History(first, answer_from), list(first)
    for extend, more, length in steps:
        if extend:
            history.extend(more)
            ids += more
        else:
            history.truncate(length)
            ids = ids[:length]
        assert history.ids == ids
        assert history.seen == Counter(ids)
        assert history.answered == Counter(ids[answer_from:])
        assert len(history) == len(ids)


def test_greedy_takes_the_lowest_of_the_best() -> None:
    """Temperature 0 takes the best token, of several equal ones the first, whatever the seed."""
    logits = some_logits()
    logits[[7, 3, 400]] = 99.0
    for seed in range(3):
        assert draw(logits, Sampling(seed=seed), History(), 5).token_id == 3


def test_log_probabilities_are_of_the_raw_logits() -> None:
    """Neither temperature nor penalties change the reported log-probabilities."""
    logits = some_logits()
    sampling = Sampling(temperature=0.3, repetition_penalty=1.5, presence_penalty=1.0, logprobs=3, seed=4)
    token = draw(logits, sampling, History(range(100), 50), 9)
    expected = logits.log_softmax(0)
    assert token.position == 9
    assert token.logprob == pytest.approx(float(expected[token.token_id]), abs=1e-5)
    best = expected.topk(3)
    assert [one for one, _ in token.top] == best.indices.tolist()
    assert [value for _, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert draw(logits, Sampling(), History(), 0).top == ()


@pytest.mark.parametrize("penalty", [0.7, 1.3, 2.0])
def test_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    """The penalty over the whole history gives transformers' scores."""
    logits, ids = some_logits(), [1, 5, 5, 80, 499]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), logits[None].clone())[0]
    actual = subject._penalised(logits, Sampling(repetition_penalty=penalty), History(ids))
    torch.testing.assert_close(actual, expected)


def test_presence_and_frequency_count_the_answer_alone() -> None:
    """OpenAI's formula: logit - presence · (count > 0) - frequency · count, over the answer."""
    logits, history = some_logits(), History([1, 2, 3, 3, 4, 3], 3)
    actual = subject._penalised(logits, Sampling(presence_penalty=0.5, frequency_penalty=0.25), history)
    expected = logits.clone()
    expected[3] -= 0.5 + 0.25 * 2
    expected[4] -= 0.5 + 0.25
    torch.testing.assert_close(actual, expected)


def test_penalties_leave_the_logits_as_they_were() -> None:
    """Drawing changes neither the logits nor the history."""
    logits, history = some_logits(), History([1, 2], 1)
    before = logits.clone()
    draw(logits, Sampling(repetition_penalty=2.0, presence_penalty=1.0), history, 2)
    assert torch.equal(logits, before)
    assert history.ids == [1, 2]


@pytest.mark.parametrize("top_k", [1, 5, 499, 500, 900])
def test_top_k_keeps_what_transformers_keeps(top_k: int) -> None:
    """Top-k keeps the k best, and everything where k is larger than the vocabulary."""
    logits = some_logits()
    expected = TopKLogitsWarper(top_k)(torch.zeros(1, 0), logits[None])
    assert kept_by(logits, Sampling(temperature=1.0, top_k=top_k)) == ids_above_minus_inf(expected)


@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_top_p_keeps_what_transformers_keeps(top_p: float, spread: float) -> None:
    """Top-p keeps the same candidates, also where the 1,024 best fall short of it."""
    logits = some_logits(5000, spread=spread)
    if spread < 1:
        assert float(logits.softmax(0).topk(1024).values.sum()) < 0.9
    expected = TopPLogitsWarper(top_p)(torch.zeros(1, 0), logits[None].double())
    actual = kept_by(logits, Sampling(temperature=1.0, top_p=top_p))
    assert len(actual ^ ids_above_minus_inf(expected)) <= 1  # theirs sums from the small end


def test_top_p_counts_within_top_k() -> None:
    """With both, top-p's mass is that of the k kept."""
    logits = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]).log_softmax(0)
    both = Sampling(temperature=1.0, top_k=2, top_p=0.7)
    assert kept_by(logits, both) == {0}
    assert kept_by(logits, Sampling(temperature=1.0, top_p=0.7)) == {0, 1}


def test_equals_of_the_worst_kept_are_kept() -> None:
    """Ties at the edge are all candidates, so no order among them matters."""
    logits = torch.tensor([1.0, 0.5, 0.5, 0.5, 0.0])
    assert kept_by(logits, Sampling(temperature=1.0, top_k=2)) == {0, 1, 2, 3}


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 5000),
    st.lists(st.integers(0, 250_880), min_size=1, max_size=20),
)
def test_noise_is_its_documented_formula(seed: int, position: int, ids: list[int]) -> None:
    """The tensor arithmetic gives what plain integers give."""
    noise = gumbel(seed, position, torch.tensor(ids))
    key = mix(mix(seed) + position & (2**64 - 1))
    for token_id, value in zip(ids, noise.tolist(), strict=True):
        uniform = ((mix(key + token_id & (2**64 - 1)) >> 12) + 0.5) / 2**52
        assert value == pytest.approx(-math.log(-math.log(uniform)), rel=1e-12)


def test_noise_never_changes() -> None:
    """These numbers are part of the protocol: another version must draw the same text."""
    assert mix(0) == 0xE220A8397B1DCDAF  # splitmix64's first output for seed 0
    first = gumbel(1, 2, torch.tensor([3, 4]))
    assert first.tolist() == pytest.approx([0.1354398643946612, 1.3027403512836764], rel=1e-12)


def test_draws_follow_the_distribution() -> None:
    """Over many positions, tokens come as often as their softmax says."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -30.0])
    sampling = Sampling(temperature=1.0, seed=11)
    drawn = Counter(draw(logits, sampling, History(), position).token_id for position in range(4000))
    for token_id, share in enumerate(logits.softmax(0).tolist()):
        assert drawn[token_id] / 4000 == pytest.approx(
            share, abs=4 * math.sqrt(share * (1 - share) / 4000) + 1e-9
        )


def test_a_token_depends_on_its_own_row_alone() -> None:
    """The same seed, position and logits give the same token in any batch."""
    logits = torch.stack([some_logits(seed=i) for i in range(6)])
    samplings = [Sampling(temperature=0.9, seed=i, top_p=0.95) for i in range(6)]
    histories = [History() for _ in range(6)]
    together = draw_rows(logits, samplings, histories, list(range(6)))
    for i in (5, 0, 3):
        assert draw(logits[i].clone(), samplings[i], History(), i) == together[i]


def test_only_candidates_out_of_reach_are_left_out() -> None:
    """Skipping tokens that no noise could lift to the top changes no draw."""
    logits = some_logits(300, spread=12.0)
    for position in range(200):
        values = logits / 1.3
        everything = values.double() + gumbel(5, position, torch.arange(300))
        sampling = Sampling(temperature=1.3, seed=5)
        assert draw(logits, sampling, History(), position).token_id == int(everything.argmax())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_numbers_are_said(bad: float) -> None:
    """A spoiled row of logits is an error, never a token."""
    logits = some_logits()
    logits[17] = bad
    with pytest.raises(ModelError, match="not numbers"):
        draw(logits, Sampling(), History(), 0)
    with pytest.raises(ModelError, match="not numbers"):
        draw(torch.full((5,), -math.inf), Sampling(), History(), 0)


def test_a_forbidden_token_is_never_drawn() -> None:
    """A logit of minus infinity has no chance, and does not spoil the others."""
    logits = torch.tensor([-math.inf, 0.0, 0.0])
    drawn = {draw(logits, Sampling(temperature=5.0, seed=s), History(), 0).token_id for s in range(50)}
    assert drawn == {1, 2}
