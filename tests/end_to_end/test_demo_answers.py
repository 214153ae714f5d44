"""``idlebloom demo --ask``: three processes answer what the model itself would, and leave nothing behind."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from core.paths import bundled_model
from tests.end_to_end.programs import Folder

QUESTION = "What is Idlebloom?"
KEYS = [
    "text",
    "token_ids",
    "prompt_tokens",
    "seconds",
    "first_token_seconds",
    "tokens_per_second",
    "finish",
    "model",
    "route",
    "predicted",
    "measured",
]


@cache
def reference(question: str) -> tuple[int, list[int], str]:
    """Prompt tokens, answer and text of transformers on the same weights, greedy, in float32."""
    import torch
    from transformers import AutoTokenizer, BloomForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(bundled_model())
    model = BloomForCausalLM.from_pretrained(bundled_model(), dtype=torch.float32)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    with torch.no_grad():
        ids = model.generate(**prompt, do_sample=False, max_new_tokens=400)[0].tolist()
    new = ids[prompt["input_ids"].shape[1] :]
    return len(ids) - len(new), new, tokenizer.decode(new, skip_special_tokens=True)


def spans(answer: dict[str, Any]) -> list[tuple[int, int]]:
    return [(stage["start"], stage["end"]) for stage in answer["route"]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [(0, 3), (3, 7), (7, 10)]),
        (("--donors", "1"), [(0, 10)]),
        (("--spans", "0:1,1:6,6:10"), [(0, 1), (1, 6), (6, 10)]),
    ],
)
def test_the_text_is_transformers_own(
    place: Folder, options: tuple[str, ...], expected: list[tuple[int, int]]
) -> None:
    """With one donor or three, even or not, the greedy answer is that of the model in one piece."""
    program = place.run("demo", *options, "--ask", QUESTION, "--greedy", "--json")
    assert (program.process.returncode, program.err) == (0, "")
    answer = json.loads(program.out)
    assert list(answer) == KEYS
    assert (answer["prompt_tokens"], answer["token_ids"], answer["text"]) == reference(QUESTION)
    assert spans(answer) == expected
    assert len({stage["peer"] for stage in answer["route"]}) == len(expected)
    assert answer["finish"] == "stop" and answer["tokens_per_second"] > 0
    assert 0 < answer["first_token_seconds"] < answer["seconds"]
    assert answer["predicted"]["seconds_per_token"] > 0
    assert answer["measured"]["seconds_per_token"] == pytest.approx(1 / answer["tokens_per_second"], rel=0.05)
    assert program.is_gone()


def test_text_is_streamed_and_a_seed_repeats_it(place: Folder) -> None:
    """For a person the answer comes in pieces, and the same seed gives it again."""
    question = "Tell me about the sea and the weather on it."
    options = ("--seed", "7", "--max-tokens", "40", "--donors", "2")
    first = place.start("demo", "--ask", question, *options)
    first.close_input()
    pieces: list[str] = []
    while (piece := first.piece()) != "":
        pieces.append(piece)
    assert first.wait() == 0
    assert len(pieces) >= 5
    closing = first.err.rstrip("\n").split("\n")
    assert len(closing) == 1 and "over 2 donors, first after" in closing[0]
    again = place.answer("demo", "--ask", question, *options)
    assert again["text"] + "\n" == first.out == "".join(pieces)
    assert len(again["token_ids"]) <= 40
