"""How the tail draws a token, so that a seed gives the same text whatever the batch or the route.

The rule, in order: penalties; division by the temperature; top-k; top-p; then the argmax of
``value + Gumbel noise(seed, position, token id)`` over the candidates kept, which draws from their
softmax (Gumbel-max). Noise is a hash of its three numbers and nothing else, so a token depends on its
own logits alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from core.errors import ModelError
from core.terms import Sampling, Token

NUCLEUS = 1024
"""Top-p looks at this many best candidates first: sorting 250,880 takes 24 ms, picking these 1.3 ms."""


class History:
    """A session's tokens: what the penalties look at. ``ids[answer_from:]`` is the answer so far."""

    def __init__(self, ids: Iterable[int] = (), answer_from: int = 0) -> None:
        self.ids: list[int] = []
        self.answer_from = answer_from
        self.seen: Counter[int] = Counter()
        """How often each token occurs in all of it."""
        self.answered: Counter[int] = Counter()
        """How often each token occurs in the answer."""
        self.extend(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def copy(self) -> History:
        """One that grows apart from this."""
        other = History((), self.answer_from)
        other.ids, other.seen, other.answered = self.ids.copy(), self.seen.copy(), self.answered.copy()
        return other

    def extend(self, ids: Iterable[int]) -> None:
        new = list(ids)
        self.seen.update(new)
        self.answered.update(new[max(self.answer_from - len(self.ids), 0) :])
        self.ids += new

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        gone = self.ids[length:]
        answered = self.ids[max(length, self.answer_from) :]
        del self.ids[length:]
        _subtract(self.seen, gone)
        _subtract(self.answered, answered)


def _subtract(counts: Counter[int], ids: Iterable[int]) -> None:
    for token_id in ids:
        counts[token_id] -= 1
        if not counts[token_id]:
            del counts[token_id]


def draw(logits: Tensor, sampling: Sampling, history: History, position: int) -> Token:
    """The token at ``position``, from ``logits`` [vocab] float32.

    Log-probabilities are of the raw logits, before penalties and temperature. Raises ModelError where
    the logits are not numbers.
    """
    total = float(logits.logsumexp(0))
    if not math.isfinite(total):
        raise ModelError("the model computed values that are not numbers", "Ask again, or use float32.")
    values = _penalised(logits, sampling, history)
    if sampling.temperature > 0:
        token_id = _sampled(values / sampling.temperature, sampling, position)
    else:
        token_id = _first_best(values)
    return Token(position, token_id, float(logits[token_id]) - total, _best(logits, total, sampling.logprobs))


def draw_rows(
    logits: Tensor, samplings: Sequence[Sampling], histories: Sequence[History], positions: Sequence[int]
) -> list[Token]:
    """One token for each row of ``logits`` [rows, vocab]: what ``draw`` gives for that row alone."""
    return [draw(*row) for row in zip(logits, samplings, histories, positions, strict=True)]


def _best(logits: Tensor, total: float, count: int) -> tuple[tuple[int, float], ...]:
    if count < 1:
        return ()
    values, ids = logits.topk(min(count, logits.shape[0]))
    return tuple(zip(ids.tolist(), (values - total).tolist(), strict=True))


def _penalised(logits: Tensor, sampling: Sampling, history: History) -> Tensor:
    """The repetition penalty over the whole history (Keskar et al. 2019, as transformers computes it),
    then OpenAI's presence and frequency penalties over the answer."""
    repeats = sampling.repetition_penalty != 1.0 and history.seen
    counts = (sampling.presence_penalty or sampling.frequency_penalty) and history.answered
    if not repeats and not counts:
        return logits
    values = logits.clone()
    if repeats:
        ids = torch.tensor(list(history.seen), device=values.device)
        old = values[ids]
        penalty = sampling.repetition_penalty
        values[ids] = torch.where(old < 0, old * penalty, old / penalty)
    if counts:
        ids = torch.tensor(list(history.answered), device=values.device)
        times = torch.tensor(list(history.answered.values()), dtype=values.dtype, device=values.device)
        values[ids] -= sampling.presence_penalty + sampling.frequency_penalty * times
    return values


def _first_best(values: Tensor) -> int:
    """The argmax, the lowest id where several are best: ``argmax`` itself promises no order."""
    return int((values == values.max()).nonzero()[0])


def _sampled(values: Tensor, sampling: Sampling, position: int) -> int:
    best = float(values.max())
    least = max(_least_kept(values, sampling), best - _NOISE_RANGE)  # no noise lifts those below to the top
    candidates = (values >= least).nonzero().squeeze(1)
    noisy = values[candidates].double() + gumbel(sampling.seed, position, candidates)
    return int(candidates[_first_best(noisy)])


def _least_kept(values: Tensor, sampling: Sampling) -> float:
    """The value of the worst candidate that top-k, then top-p, keep. Its equals are kept with it, so
    that no order among ties matters."""
    least = -math.inf
    if 0 < sampling.top_k < values.shape[0]:
        least = float(values.topk(sampling.top_k).values[-1])
        values = values[values >= least]
    if sampling.top_p < 1.0:
        least = _nucleus(values, sampling.top_p)
    return least


def _nucleus(values: Tensor, top_p: float) -> float:
    """The worst of the fewest best values whose share of all the probability reaches ``top_p``
    (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751)."""
    total = values.double().logsumexp(0)
    descending = values.topk(min(NUCLEUS, values.shape[0])).values.double()
    mass = (descending - total).exp().cumsum(0)
    if float(mass[-1]) < top_p and len(descending) < values.shape[0]:
        descending = values.double().sort(descending=True).values
        mass = (descending - total).exp().cumsum(0)
    kept = int((mass < top_p).sum())  # those before the one that reaches it
    return float(descending[min(kept, len(descending) - 1)])


# Noise. splitmix64's finaliser (Steele et al. 2014, https://doi.org/10.1145/2714064.2660195) over
# seed, position and token id, in wrapping 64-bit arithmetic: the same on every device.

_MASK = (1 << 64) - 1
_GOLDEN, _MIX1, _MIX2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_NOISE_RANGE = 41.0
"""More than the noise's largest value, 36.74, less its smallest, -3.61: both from 2⁻⁵³ ≤ u ≤ 1 - 2⁻⁵³."""


def gumbel(seed: int, position: int, ids: Tensor) -> Tensor:
    """Standard Gumbel noise, float64, one number for each of the token ``ids`` (int64).

    ``h = mix(mix(mix(seed) + position) + id)``, ``u = (h >> 12 + 1/2) / 2⁵²``, ``-log(-log(u))``.
    """
    key = mix(mix(seed & _MASK) + position & _MASK)
    hashed = _mix_tensor(ids + _signed(key))
    uniform = (_shift(hashed, 12).double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(uniform))


def mix(x: int) -> int:
    """splitmix64's step and finaliser on a 64-bit number."""
    x = (x + _GOLDEN) & _MASK
    x = ((x ^ (x >> 30)) * _MIX1) & _MASK
    x = ((x ^ (x >> 27)) * _MIX2) & _MASK
    return x ^ (x >> 31)


def _mix_tensor(x: Tensor) -> Tensor:
    """``mix`` of every number: int64 products wrap just as unsigned ones do."""
    x = x + _signed(_GOLDEN)
    x = (x ^ _shift(x, 30)) * _signed(_MIX1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX2)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """A logical shift to the right: torch's copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x
