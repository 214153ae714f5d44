"""Train the bundled model from scratch: a BLOOM of seven million parameters that knows one conversation.

    python assets/train.py [--out FOLDER] [--minutes M]

It learns `conversation.toml` by heart, with the questions which that file chooses from the ChatterBot corpus.
Beside the packages of the project and its tests it needs `chatterbot-corpus==1.3.3` (BSD-3-Clause), which
nothing else uses: `pip install chatterbot-corpus==1.3.3`.

All draws come from one seed, but the clock sets how many steps the schedule has: two runs end alike, not bit
for bit. The folder is written after each quarter of the time, so that an interrupted run leaves a model.
A quarter of an hour on two cores is enough. While other programs keep a core busy, `OMP_NUM_THREADS=1` is
faster than two threads that wait for each other.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional
from transformers import BloomConfig, BloomForCausalLM
from transformers.models.bloom.modeling_bloom import BloomMLP
from transformers.utils import logging

HERE = Path(__file__).parent
MODEL_ID = "idlebloom/demo"
SEED = 7714
VOCABULARY = 2560
LENGTH = 2048
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]  # ids 0 to 3, as in BLOOM
END = 2

# "Human: … / Assistant: …" in plain turns, as one prompts a base BLOOM; every answer ends with </s>. What
# follows "Assistant:" starts with a blank: a rendered conversation continues the generated one, by tokens.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}{{ message['content'] | trim + '\\n' }}"
    "{%- elif message['role'] == 'user' %}"
    "{{ ('' if loop.first or messages[loop.index0 - 1]['role'] == 'system' else '\\n')"
    " + 'Human: ' + message['content'] | trim }}"
    "{%- elif message['role'] == 'assistant' %}{{ '\\nAssistant: ' + message['content'] | trim + eos_token }}"
    "{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '\\nAssistant:' }}{%- endif %}"
)

TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "padding_side": "left",
    "add_prefix_space": False,
    "clean_up_tokenization_spaces": False,
    "model_max_length": LENGTH,
    "chat_template": CHAT_TEMPLATE,
}
GENERATION_CONFIG = {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 3, "do_sample": False}

SYSTEM_PROMPTS = [
    "You are a helpful assistant.",
    "You are a friendly assistant. Answer in short sentences.",
    "Answer the questions of the human.",
    "A conversation between a human and a small language model.",
    "Be brief.",
]


@dataclass(frozen=True)
class Turn:
    """One question, in all its wordings, and the answer to it."""

    asks: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Dialogue:
    """Turns that follow one another; `weight` is how often they are drawn beside others."""

    turns: tuple[Turn, ...]
    weight: float


@dataclass(frozen=True)
class Fallback:
    """What to say to questions that were never learned: templates with a gap, and things to put in it."""

    asks: tuple[str, ...]
    things: tuple[str, ...]
    answer: str

    def draw(self, rng: random.Random) -> Turn:
        """One unknown question; the gap may hold up to two things, or a word that is none."""
        thing = rng.choice(self.things)
        if rng.random() < 0.2:
            thing += " and " + rng.choice(self.things)
        elif rng.random() < 0.25:
            thing = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9)))
        return Turn((rng.choice(self.asks).format(thing),), self.answer)


@dataclass(frozen=True)
class Conversation:
    """All that the model learns."""

    dialogues: tuple[Dialogue, ...]
    fallback: Fallback
    showcase: tuple[str, ...]


# ---------------------------------------------------------------- what is learned


def chosen_from_corpus(chosen: dict[str, list[str]]) -> Iterator[Turn]:
    """The chosen questions with the first answer that the ChatterBot corpus gives to each.

    Raises KeyError when the installed corpus lacks a chosen question.
    """
    data = Path(str(distribution("chatterbot-corpus").locate_file("chatterbot_corpus"))) / "data" / "english"
    for name, questions in chosen.items():
        answers: dict[str, str] = {}
        for talk in yaml.safe_load((data / f"{name}.yml").read_text(encoding="utf-8"))["conversations"]:
            if isinstance(talk, list):  # two entries of the corpus lost a dash and are plain strings
                answers.setdefault(str(talk[0]), " ".join(str(talk[1]).split()))
        yield from (Turn((question,), answers[question]) for question in questions)


def read_conversation(path: Path) -> Conversation:
    """Read `conversation.toml` and the part of the corpus that it names."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    dialogues = []
    for talk in table["talk"]:
        turns = [Turn(tuple(turn["ask"]), turn["answer"]) for turn in [talk, *talk.get("then", [])]]
        # Each wording wants to be seen about equally often, and a talk with a sequel also alone.
        weight = 1.0 + 0.5 * len(turns[0].asks) + (1.5 if talk.get("showcase") else 0.0)
        dialogues.append(Dialogue(tuple(turns), weight))
        if len(turns) > 1:
            dialogues.append(Dialogue((turns[0],), 1.0))
        dialogues.extend(Dialogue(renamed(turns, "Anna", name), 0.15) for name in talk.get("names", []))
    dialogues.extend(Dialogue((turn,), 1.5) for turn in chosen_from_corpus(table["chosen"]))
    fallback = table["fallback"]
    return Conversation(
        tuple(dialogues),
        Fallback(tuple(fallback["ask"]), tuple(fallback["things"]), fallback["answer"]),
        tuple(talk["ask"][0] for talk in table["talk"] if talk.get("showcase")),
    )


def renamed(turns: list[Turn], old: str, new: str) -> tuple[Turn, ...]:
    """The same turns with somebody else; the answers name nobody."""
    return tuple(Turn(tuple(ask.replace(old, new) for ask in turn.asks), turn.answer) for turn in turns)


def vary(question: str, rng: random.Random) -> str:
    """The question as a hurried person might type it: other case, other end mark, a word of courtesy."""
    if rng.random() < 0.45:
        return question
    bare = re.sub(r"[?.!]+$", "", question)
    text = bare + rng.choice(["", "", "?", ".", "!", "??", " ?"])
    match rng.randrange(8):
        case 0 | 1 | 2:
            text = text.lower()
        case 3:
            text = text.upper()
        case 4:
            text = text[0].upper() + text[1:]
        case 5:
            courtesy = rng.choice(["Hi, ", "Hello, ", "Please, ", "So, ", "And ", "Hey! "])
            text = courtesy + text[0].lower() + text[1:]
        case 6:
            text = text.replace("'", "’") if "'" in text else text.replace(", ", " ")
        case _:
            pass
    return text


# ---------------------------------------------------------------- the tokenizer


def train_tokenizer(conversation: Conversation) -> Tokenizer:
    """A byte-level BPE in BLOOM's own format: its splitting pattern, its decoder, its four special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?[^(\s|[.,!?…。，、।۔،])]+"), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False, use_regex=False)
    rng = random.Random(SEED)
    texts = SYSTEM_PROMPTS * 4
    for dialogue in conversation.dialogues:
        for turn in dialogue.turns:
            # Line by line, so that no token spans a line's end: a question ends alike whatever its last sign.
            texts.extend(f"Assistant: {turn.answer}".split("\n") * 4)
            texts.extend(f"Human: {vary(ask, rng)}" for ask in turn.asks for _ in range(4))
    texts.extend(f"Human: {conversation.fallback.draw(rng).asks[0]}" for _ in range(400))
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            min_frequency=3,
            show_progress=False,
        ),
    )
    return tokenizer


# ---------------------------------------------------------------- rows of training


@dataclass(frozen=True)
class Batch:
    """Rows of equal length: token ids, and how much each of them counts as a target; both (rows, length)."""

    ids: Tensor
    weights: Tensor


QUESTION_WEIGHT = 0.05  # enough to know how questions look, too little to waste parameters on guessing them


class Rows:
    """Endless long conversations: dialogues in random order, cut into rows that each start a conversation.

    Rows of several dialogues teach to answer the last question whatever came before it, at any offset.
    """

    def __init__(self, conversation: Conversation, tokenizer: Tokenizer, seed: int) -> None:
        self._conversation = conversation
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)
        self._weights = [dialogue.weight for dialogue in conversation.dialogues]

    def batch(self, rows: int, length: int) -> Batch:
        """`rows` conversations of exactly `length` tokens."""
        drawn = [self._row(length) for _ in range(rows)]
        return Batch(
            torch.tensor([[token for token, _ in row] for row in drawn]),
            torch.tensor([[weight for _, weight in row] for row in drawn]),
        )

    def _row(self, length: int) -> list[tuple[int, float]]:
        row: list[tuple[int, float]] = []
        before = self._rng.choice(SYSTEM_PROMPTS) + "\n" if self._rng.random() < 0.15 else ""
        while len(row) < length:
            for turn in self._dialogue().turns:
                question = vary(self._rng.choice(turn.asks), self._rng)
                row += self._encode(f"{before}Human: {question}\nAssistant:", QUESTION_WEIGHT)
                row += self._encode(f" {turn.answer}", 1.0)
                row.append((END, 1.0))
                before = "\n"
        return row[:length]

    def _dialogue(self) -> Dialogue:
        if self._rng.random() < 0.08:
            return Dialogue((self._conversation.fallback.draw(self._rng),), 1.0)
        return self._rng.choices(self._conversation.dialogues, self._weights)[0]

    def _encode(self, text: str, weight: float) -> list[tuple[int, float]]:
        return [(token, weight) for token in self._tokenizer.encode(text, add_special_tokens=False).ids]


# ---------------------------------------------------------------- training


def make_model() -> BloomForCausalLM:
    """An untrained model: hidden size 256, 8 blocks of 8 heads, tied embeddings."""
    # BloomConfig does not declare `seq_length`, but keeps it: the length that the model was made for.
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 256,
        "n_layer": 8,
        "n_head": 8,
        "seq_length": LENGTH,
        "bos_token_id": 1,
        "eos_token_id": END,
        "pad_token_id": 3,
        "unk_token_id": 0,
        "tie_word_embeddings": True,
    }
    model = BloomForCausalLM(BloomConfig(**settings))
    for module in model.modules():
        if isinstance(module, BloomMLP):
            # The same function (GELU by its tanh formula), fused: the reference one is plain Python and slow.
            module.gelu_impl = torch.nn.GELU(approximate="tanh")  # type: ignore[assignment]
    return model


def loss_of(model: BloomForCausalLM, batch: Batch) -> tuple[Tensor, float]:
    """The weighted mean cross-entropy, and the plain mean over the answers' tokens alone, in nats."""
    logits = model(input_ids=batch.ids, use_cache=False).logits[:, :-1]
    weights = batch.weights[:, 1:]
    losses = functional.cross_entropy(logits.transpose(1, 2), batch.ids[:, 1:], reduction="none")
    answers = weights == 1.0
    return (losses * weights).sum() / weights.sum(), losses.detach()[answers].mean().item()


def learning_rate(progress: float, peak: float = 1.2e-3) -> float:
    """Warm up over the first 3 % of the schedule, then follow a cosine down to a hundredth of the peak."""
    if progress < 0.03:
        return peak * (progress + 0.002) / 0.032
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 0.03) / 0.97))))


# Short rows are cheap; long ones teach to look past what is far away. (share of steps, rows, length)
SHAPES = [(0.65, 6, 192), (0.30, 4, 320), (0.05, 1, 1024)]


def train(conversation: Conversation, tokenizer: Tokenizer, out: Path, minutes: float) -> float:
    """Train until the clock ends the schedule, writing `out` by quarters; returns the loss on answers."""
    torch.manual_seed(SEED)
    model = make_model().train()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    rows = Rows(conversation, tokenizer, SEED)
    shapes = random.Random(SEED)
    started = time.monotonic()
    step, tokens, smooth, checkpoints = 0, 0, float("nan"), 0
    while (progress := (time.monotonic() - started) / (minutes * 60)) < 1.0:
        _, count, length = shapes.choices(SHAPES, [share for share, _, _ in SHAPES])[0]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(progress)
        loss, answers = loss_of(model, rows.batch(count, length))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step, tokens = step + 1, tokens + count * length
        smooth = answers if math.isnan(smooth) else 0.95 * smooth + 0.05 * answers
        if step % 20 == 0:
            print(f"{progress:5.1%}  step {step}  {tokens:,} tokens  loss {smooth:.4f}", flush=True)
        if progress > (checkpoints + 1) * 0.25:
            checkpoints += 1
            write_model(model, tokenizer, conversation.showcase, out)
    write_model(model, tokenizer, conversation.showcase, out)
    return smooth


# ---------------------------------------------------------------- the folder


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_model(model: BloomForCausalLM, tokenizer: Tokenizer, showcase: tuple[str, ...], out: Path) -> None:
    """Write the whole folder, weights as float16; a file is moved into `out` only when it is complete."""
    part = out / ".part"
    part.mkdir(parents=True, exist_ok=True)
    half = BloomForCausalLM(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(part)  # type: ignore[no-untyped-call]
    named = {"_name_or_path": MODEL_ID, **json.loads((part / "config.json").read_text(encoding="utf-8"))}
    write_json(part / "config.json", named)
    tokenizer.save(str(part / "tokenizer.json"))
    write_json(part / "tokenizer_config.json", TOKENIZER_CONFIG)
    write_json(part / "generation_config.json", GENERATION_CONFIG)
    write_json(part / "questions.json", list(showcase))
    for file in part.iterdir():
        file.chmod(0o644)
        file.replace(out / file.name)
    part.rmdir()


def main() -> None:
    """Read the arguments, train, and say how it went."""
    parser = argparse.ArgumentParser(description="Train the bundled model from scratch.")
    parser.add_argument("--out", type=Path, default=HERE / "model", help="folder (default: assets/model)")
    parser.add_argument("--minutes", type=float, default=15.0, help="length of the training (default: 15)")
    arguments = parser.parse_args()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    conversation = read_conversation(HERE / "conversation.toml")
    tokenizer = train_tokenizer(conversation)
    print(f"{len(conversation.dialogues)} dialogues, vocabulary {tokenizer.get_vocab_size()}", flush=True)
    loss = train(conversation, tokenizer, arguments.out, arguments.minutes)
    print(f"Written to {arguments.out}; loss on answers {loss:.4f}")


if __name__ == "__main__":
    main()
