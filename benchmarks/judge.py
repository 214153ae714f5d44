"""Whether two texts are *the same*: float32 transformers judges where they first differ.

All tokens are equal, or at the first difference transformers on the common prefix puts the two tokens
within ``TIE`` of each other after penalties, temperature and noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from transformers import BloomForCausalLM

from core.model.sampling import History, _penalised, gumbel
from core.terms import Sampling

TIE = 1e-3

Verdict = Literal["same", "tie", "wrong"]


class Judge:
    """Loads the checkpoint in ``folder`` at the first difference, which rarely comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._model: BloomForCausalLM | None = None

    def verdict(
        self, ids: Sequence[int], right: Sequence[int], ours: Sequence[int], how: Sampling
    ) -> Verdict:
        """``right`` and ``ours`` are what followed the prompt ``ids``."""
        if list(right) == list(ours):
            return "same"
        if len(right) != len(ours):
            return "wrong"
        at = next(n for n, (one, other) in enumerate(zip(right, ours, strict=True)) if one != other)
        apart = self.margin([*ids, *right[:at]], len(ids), (right[at], ours[at]), how)
        return "tie" if apart <= TIE else "wrong"

    def margin(self, prefix: Sequence[int], start: int, pair: tuple[int, int], how: Sampling) -> float:
        """How far apart float32 transformers puts two tokens that may follow ``prefix``, of which the
        answer began at ``start``."""
        if self._model is None:
            self._model = BloomForCausalLM.from_pretrained(self._folder, dtype=torch.float32)
            self._model.train(False)
        with torch.inference_mode():
            logits = self._model(torch.tensor([list(prefix)])).logits[0, -1].float()
        values = _penalised(logits, how, History(prefix, start))
        if how.temperature:
            values = values / how.temperature + gumbel(how.seed, len(prefix), torch.arange(values.shape[0]))
        return abs(float(values[pair[0]] - values[pair[1]]))
