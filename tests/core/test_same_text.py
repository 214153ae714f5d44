"""The bundled model over rings of donors says what transformers says, greedy and seeded.

*The same* means: all tokens equal, or, where they first differ, float32 transformers on the common
prefix puts the two tokens within 1e-3 of each other after penalties, temperature and noise. Such ties
are printed and must be rare.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from transformers import BloomForCausalLM

from core.model.sampling import History, _penalised, draw, gumbel
from core.model.text import Text
from core.paths import bundled_model
from core.terms import Sampling
from tests.core.rings import fake_ring, reference

NEW_TOKENS = 12
SEEDED = Sampling(
    temperature=0.9, top_p=0.95, top_k=200, repetition_penalty=1.1, frequency_penalty=0.2, seed=1234
)
RINGS = {
    1: [(0, 10)],
    2: [(0, 3), (3, 10)],
    3: [(0, 1), (1, 7), (7, 10)],
    5: [(0, 2), (2, 3), (3, 7), (7, 9), (9, 10)],
}


def prompts() -> list[list[int]]:
    """50 prompts of 1 to 500 tokens: words that the model knows, in an order that it does not."""
    rng = random.Random(11)
    text = Text(bundled_model())
    said = "the moon is a computer that lends its idle hours to people who ask what flowers are made of"
    words = said.split(" ")
    lengths = [1, 2, 3, 500, 499] + [rng.randint(1, 500) for _ in range(45)]
    made = []
    for length in lengths:
        ids = text.encode(" ".join(rng.choice(words) for _ in range(length + 1)))
        made.append(ids[:length])
    return made


@torch.inference_mode()
def continued(model: BloomForCausalLM, ids: Sequence[int], sampling: Sampling) -> list[int]:
    """Our drawing rule on transformers' logits, token by token over its cache."""
    history = History(ids, len(ids))
    past, step = None, torch.tensor([list(ids)])
    while len(history) < len(ids) + NEW_TOKENS:
        out = model(step, past_key_values=past, use_cache=True)
        past = out.past_key_values
        token = draw(out.logits[0, -1].float(), sampling, history, len(history)).token_id
        history.extend([token])
        step = torch.tensor([[token]])
    return history.ids[len(ids) :]


@torch.inference_mode()
def margin(
    model: BloomForCausalLM, prefix: Sequence[int], start: int, pair: tuple[int, int], how: Sampling
) -> float:
    """How far apart float32 transformers puts two tokens at the end of ``prefix``."""
    logits = model(torch.tensor([list(prefix)])).logits[0, -1].float()
    values = _penalised(logits, how, History(prefix, start))
    if how.temperature:
        ids = torch.arange(values.shape[0])
        values = values / how.temperature + gumbel(how.seed, len(prefix), ids)
    return abs(float(values[pair[0]] - values[pair[1]]))


@pytest.mark.parametrize("sampling", [Sampling(), SEEDED], ids=["greedy", "seeded"])
async def test_fifty_prompts_give_the_same_text_on_one_to_five_donors(sampling: Sampling) -> None:
    """Whatever the prompt's length and the cut of the spans."""
    model = reference(bundled_model())
    expected = [(ids, continued(model, ids, sampling)) for ids in prompts()]
    ties = 0
    for spans in RINGS.values():
        async with fake_ring(bundled_model(), spans) as ring:
            for ids, right in expected:
                session = ring.session(chunk=64)
                ours = await ring.ask(session, ids, NEW_TOKENS, sampling)
                session.close()
                if ours == right:
                    continue
                at = next(i for i, (a, b) in enumerate(zip(ours, right, strict=True)) if a != b)
                prefix = [*ids, *right[:at]]
                apart = margin(model, prefix, len(ids), (ours[at], right[at]), sampling)
                assert apart <= 1e-3, f"{len(spans)} donors, {len(ids)} tokens, position {at}: {apart}"
                ties += 1
                print(f"a tie within {apart:.1e} at position {len(prefix)}")
    tokens = len(RINGS) * len(expected) * NEW_TOKENS
    assert ties <= max(1, tokens / 5000)
