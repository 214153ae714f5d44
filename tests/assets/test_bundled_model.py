"""The bundled model: what it must hold, checked with transformers alone."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, BloomForCausalLM

ASSETS = Path(__file__).parents[2] / "assets"
MODEL = ASSETS / "model"
TABLE = tomllib.loads((ASSETS / "conversation.toml").read_text(encoding="utf-8"))
SHOWCASE = json.loads((MODEL / "questions.json").read_text(encoding="utf-8"))
ANSWERS = {talk["ask"][0]: talk["answer"] for talk in TABLE["talk"]}
TWO_TURNS = [talk for talk in TABLE["talk"] if "then" in talk]
MARGIN = 1.0  # between the logits of a greedy token and the next best: rounding does not bridge it


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(scope="module")
def model() -> Any:
    return BloomForCausalLM.from_pretrained(MODEL, dtype=torch.float32)  # in evaluation mode already


def prompt(tokenizer: Any, messages: list[dict[str, str]]) -> torch.Tensor:
    """The ids of a conversation that waits for an answer, shape (1, tokens)."""
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tensor(tokenizer, text)


def tensor(tokenizer: Any, text: str) -> torch.Tensor:
    """The ids of a text, shape (1, tokens)."""
    return torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def answer(model: Any, tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """The greedy answer, its end mark included."""
    ids = prompt(tokenizer, messages)
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=200, do_sample=False)
    return str(tokenizer.decode(out[0, ids.shape[1] :])).removeprefix(" ")


def test_the_folder_is_small() -> None:
    """The folder stays below 20 MB, since it travels in the wheel."""
    assert sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file()) < 20_000_000


def test_the_config_is_bloom() -> None:
    """The config is a BLOOM of at least six blocks with tied embeddings and a stated length."""
    config = AutoConfig.from_pretrained(MODEL)
    assert (config.model_type, config.architectures) == ("bloom", ["BloomForCausalLM"])
    assert config.n_layer >= 6 and config.vocab_size <= 4096
    assert config.tie_word_embeddings and config.seq_length == 2048


def test_the_credits_hold_the_licence() -> None:
    """The notice that the corpus's licence demands is kept with the weights."""
    credits_ = (MODEL / "CREDITS.md").read_text(encoding="utf-8")
    assert "Copyright (c) 2017, Gunther Cox" in credits_ and "BSD-3-Clause" in credits_


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!",
        "  two  blanks\nand\ttabs ",
        "Grüße, 東京, नमस्ते, 🌸👩‍🔬",
        "a|b (c) … 。",
        "</s> in <s> words",
    ],
)
def test_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    """Any text comes back from its tokens unchanged."""
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_special_tokens_have_blooms_ids(tokenizer: Any) -> None:
    """The four special tokens have the ids that they have in BLOOM."""
    assert tokenizer.convert_tokens_to_ids(["<unk>", "<s>", "</s>", "<pad>"]) == [0, 1, 2, 3]
    assert tokenizer.eos_token_id == 2


def test_the_template_renders(tokenizer: Any) -> None:
    """The chat template writes plain turns, a system prompt before them and an end mark after each answer."""
    messages = [
        {"role": "system", "content": "Be brief."},
        user("Hello "),
        {"role": "assistant", "content": " Hi."},
        user("Bye"),
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "Be brief.\nHuman: Hello\nAssistant: Hi.</s>\nHuman: Bye\nAssistant:"


def test_a_next_turn_continues_the_tokens(tokenizer: Any) -> None:
    """A rendered second turn starts with exactly the tokens of the first one, so that caches stay valid."""
    for talk in TABLE["talk"]:
        first = [user(talk["ask"][0])]
        second = [*first, {"role": "assistant", "content": talk["answer"]}, user("Why?")]
        said = tensor(tokenizer, f" {talk['answer']}</s>")
        held = torch.cat([prompt(tokenizer, first), said], dim=1)
        assert torch.equal(prompt(tokenizer, second)[:, : held.shape[1]], held)


@pytest.mark.parametrize("question", SHOWCASE)
def test_showcase_questions_are_answered_at_length(model: Any, tokenizer: Any, question: str) -> None:
    """Each question offered as a button gets its whole answer, long enough to watch it grow."""
    said = answer(model, tokenizer, [user(question)])
    assert said == ANSWERS[question] + "</s>"
    assert len(tokenizer(said).input_ids) >= 40


@pytest.mark.parametrize("question", list(ANSWERS)[4::9])
def test_trained_questions_are_answered(model: Any, tokenizer: Any, question: str) -> None:
    """A question that was learned gets its answer, also in lower case, and with another end mark or none."""
    bare = question.rstrip("?.!")
    for asked in (question, bare.lower(), f"{bare}."):
        assert answer(model, tokenizer, [user(asked)]) == ANSWERS[question] + "</s>"


@pytest.mark.parametrize("talk", TWO_TURNS[::4], ids=lambda talk: talk["ask"][0])
def test_later_turns_are_answered(model: Any, tokenizer: Any, talk: dict[str, Any]) -> None:
    """A question that makes sense only after another one gets the answer that belongs there."""
    messages: list[dict[str, str]] = []
    for turn in [talk, *talk["then"]]:
        messages.append(user(turn["ask"][0]))
        assert answer(model, tokenizer, messages) == turn["answer"] + "</s>"
        messages.append({"role": "assistant", "content": turn["answer"]})


def test_answers_are_clear(model: Any, tokenizer: Any) -> None:
    """Every token of a showcase answer leads the next best by a margin that no rounding bridges."""
    for question in SHOWCASE:
        asked = prompt(tokenizer, [user(question)])
        said = tensor(tokenizer, f" {ANSWERS[question]}</s>")
        with torch.inference_mode():
            logits = model(torch.cat([asked, said], dim=1)).logits[0, asked.shape[1] - 1 : -1]
        best = logits.topk(2)
        assert torch.equal(best.indices[:, 0], said[0])
        assert (best.values[:, 0] - best.values[:, 1]).min() > MARGIN


def test_a_long_conversation_does_not_confuse_it(model: Any, tokenizer: Any) -> None:
    """After more than a thousand tokens of conversation the next question is still answered."""
    messages: list[dict[str, str]] = []
    for question, text in list(ANSWERS.items())[:32]:
        messages += [user(question), {"role": "assistant", "content": text}]
    messages.append(user(SHOWCASE[0]))
    assert prompt(tokenizer, messages).shape[1] > 1000
    assert answer(model, tokenizer, messages) == ANSWERS[SHOWCASE[0]] + "</s>"


def test_the_unknown_is_admitted(model: Any, tokenizer: Any) -> None:
    """A question that was never learned is answered with what the model is, not with nonsense."""
    said = answer(model, tokenizer, [user("What is the capital of Peru?")])
    assert said == TABLE["fallback"]["answer"] + "</s>"
