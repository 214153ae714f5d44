"""``transformers.generate`` in one process: what the swarm is measured against.

A streamer notes when each token is drawn, so that the prompt's work can be told from decoding.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import BloomForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.children import Answer, serve
from benchmarks.measure import Timing


class Clock(BaseStreamer):
    """Notes the time of each token; the prompt comes first and is not one."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self.prompt_seen:
            self.times.append(time.perf_counter())
        self.prompt_seen = True

    def end(self) -> None:
        pass


def load(folder: Path, dtype: str) -> Answer:
    return answering(BloomForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)))


def answering(model: BloomForCausalLM) -> Answer:
    """Answers by ``model.generate``."""
    model.train(False)

    def answer(ids: Sequence[int], count: int) -> Timing:
        clock = Clock()
        prompt = torch.tensor([list(ids)])
        asked = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(  # type: ignore[misc]  # its annotations give it self twice
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                do_sample=False,
                use_cache=True,
                eos_token_id=None,
                pad_token_id=0,
                streamer=clock,
            )
        return Timing(asked, tuple(clock.times), tuple(int(token) for token in out[0, len(ids) :]))

    return answer


if __name__ == "__main__":
    serve(load)
