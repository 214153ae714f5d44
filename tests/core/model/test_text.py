from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from core.errors import ModelError, PromptError
from core.model.text import Pieces, Text

SAMPLE = ["the swarm lends its idle time", "Grüße, naïve façade", "so it goes, and so it went", "漢字 かな"]
FAMILY = "👩‍👩‍👧‍👦"


@dataclass(frozen=True)
class Said:
    role: str
    text: str


def write_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=330,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SAMPLE * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_model(folder: Path, name: str = "someone/bloom-tiny", **settings_of: object) -> Path:
    config = {
        "model_type": "bloom",
        "hidden_size": 48,
        "n_head": 6,
        "n_layer": 3,
        "vocab_size": 330,
        "eos_token_id": 2,
        "_name_or_path": name,
    }
    (folder / "config.json").write_text(json.dumps(config))
    stated = {"eos_token": "</s>", "bos_token": {"content": "<s>"}} | settings_of
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    return Text(write_model(tmp_path_factory.mktemp("text")))


def spoken(pieces: Pieces, ids: list[int]) -> list[str]:
    return [*(pieces.feed(one) for one in ids), pieces.finish()]


TALK = [Said("system", "Be kind."), Said("user", "Hi "), Said("assistant", " Hello"), Said("user", "Bye")]


@given(st.text())
def test_text_survives_the_round_trip(text: Text, words: str) -> None:
    """Any Unicode text is encoded and decoded to itself, and comes back piece by piece."""
    ids = text.encode(words)
    assert text.decode(ids) == words
    assert "".join(spoken(Pieces(text), ids)) == words


@given(st.lists(st.integers(0, 340)))
def test_pieces_join_to_what_decode_gives(text: Text, ids: list[int]) -> None:
    """Broken characters, special and unknown tokens: pieces always join to decode's text."""
    assert "".join(spoken(Pieces(text), ids)) == text.decode([one for one in ids if one < 330])


def test_special_tokens_have_no_text_but_a_spelling(text: Text) -> None:
    """All others are spelled as they read."""
    (end,) = text.stops
    assert text.bytes_of(end) == b"" and text.spelled(end) == b"</s>"
    ids = text.encode("A 🌸 blooms")
    assert b"".join(map(text.spelled, ids)) == b"".join(map(text.bytes_of, ids)) == "A 🌸 blooms".encode()


def test_no_piece_holds_part_of_a_character(text: Text) -> None:
    """An emoji that is several tokens appears character by character, never as replacement marks."""
    ids = text.encode(FAMILY)
    assert len(ids) > len(FAMILY)
    pieces = spoken(Pieces(text), ids)
    assert "".join(pieces) == FAMILY
    assert "\ufffd" not in "".join(pieces)


def test_an_unfinished_character_is_marked_at_the_end(text: Text) -> None:
    """An answer that ends within a character ends with a replacement mark."""
    ids = text.encode("ok 👋")[:-1]
    assert "".join(spoken(Pieces(text), ids)) == "ok \ufffd"


@settings(max_examples=200)
@given(
    st.text("ab\né👋", max_size=30),
    st.lists(st.text("ab\né👋", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_stop_strings_cut_where_they_first_occur(text: Text, words: str, stops: list[str]) -> None:
    """Pieces join to the text before the stop string that is complete first, and nothing follows it."""
    pieces = Pieces(text, stops)
    out = ""
    for one in text.encode(words):
        new = pieces.feed(one)
        out += new
        assert not any(stop in out for stop in stops)
    out += pieces.finish()
    found = [(words.find(stop) + len(stop), words.find(stop)) for stop in stops if stop in words]
    assert pieces.stopped == bool(found)
    assert out == (words[: min(found)[1]] if found else words)


def test_a_stop_string_across_tokens_is_never_shown(text: Text) -> None:
    """What may begin a stop string is held back, and shown once it turns out not to."""
    pieces = Pieces(text, ["\nHuman:"])
    shown = "".join(pieces.feed(one) for one in text.encode("fine\nHum"))
    assert shown == "fine"
    assert "".join(pieces.feed(one) for one in text.encode("ble")) == "\nHumble"
    assert "".join(pieces.feed(one) for one in text.encode(" x\nHuman: y")) == " x"
    assert pieces.stopped
    assert pieces.feed(text.encode("z")[0]) + pieces.finish() == ""


def test_what_was_held_back_is_shown_at_the_end(text: Text) -> None:
    """An answer that ends with the beginning of a stop string keeps it."""
    pieces = Pieces(text, ["###", ""])
    assert "".join(spoken(pieces, text.encode("a ##"))) == "a ##"
    assert not pieces.stopped


def test_broken_text_is_refused(text: Text) -> None:
    """Half of a surrogate pair is not text."""
    with pytest.raises(PromptError, match="not valid text"):
        text.encode("\ud83d")


def test_base_bloom_continues_a_transcript(text: Text) -> None:
    """Without a template, base BLOOM gets a transcript and a stop string."""
    assert text.kind == "continues text"
    assert text.chat(TALK) == "Be kind.\n\nHuman: Hi\nAssistant: Hello\nHuman: Bye\nAssistant:"
    assert text.chat_stops == ("\nHuman:",)
    assert text.stops == {2}


def test_bloomz_takes_plain_turns(tmp_path: Path) -> None:
    """BLOOMZ gets the bare turns, answers closed by its end token."""
    text = Text(write_model(tmp_path, "bigscience/bloomz-560m"))
    assert text.kind == "plain turns"
    assert text.chat(TALK) == "Be kind.\nHi\nHello</s>Bye\n"
    assert text.chat_stops == ()


OWN = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{{ eos_token }}\n{% endfor %}{{ bos_token }}"


@pytest.mark.parametrize("form", ["text", "named", "file"])
def test_the_checkpoints_own_template_goes_first(tmp_path: Path, form: str) -> None:
    """A template in tokenizer_config.json, one of several there, or a file of its own."""
    stated = {"text": OWN, "named": [{"name": "default", "template": OWN}], "file": None}[form]
    write_model(tmp_path, "bigscience/bloomz-560m", **({"chat_template": stated} if stated else {}))
    if form == "file":
        (tmp_path / "chat_template.jinja").write_text(OWN)
    text = Text(tmp_path)
    assert text.kind == "chat"
    assert text.chat([Said("user", "Hi")]) == "<user>Hi</s>\n<s>"


def test_a_template_may_refuse(tmp_path: Path) -> None:
    """A template's own complaint reaches the person as one sentence."""
    text = Text(write_model(tmp_path, chat_template="{{ raise_exception('roles must alternate') }}"))
    with pytest.raises(PromptError, match="roles must alternate"):
        text.chat(TALK)


@pytest.mark.parametrize("attack", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}"])
def test_a_template_cannot_reach_out(tmp_path: Path, attack: str) -> None:
    """Templates come from strangers: they run in a sandbox and change nothing."""
    text = Text(write_model(tmp_path, chat_template=attack))
    with pytest.raises(PromptError):
        text.chat(TALK)


def test_templates_have_the_helpers_of_transformers(tmp_path: Path) -> None:
    """``tojson``, ``strftime_now`` and loop controls work as there."""
    source = (
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}"
    )
    text = Text(write_model(tmp_path, chat_template=source + "{{ strftime_now('%Y') | length }}"))
    assert text.chat([Said("user", "<ä>"), Said("user", "b")]) == '{"role": "user", "content": "<ä>"}4'


def test_old_turns_are_dropped_whole(text: Text) -> None:
    """Past the length, the oldest turns go, system message and last question stay, and it is counted."""
    talk = [Said("system", "Be kind.")]
    for i in range(6):
        talk += [Said("user", f"question {i}"), Said("assistant", f"answer {i}")]
    talk.append(Said("user", "last"))
    assert text.fit(talk, 10_000) == (talk, 0)
    limit = len(text.encode(text.chat([talk[0], *talk[7:]])))
    assert text.fit(talk, limit) == ([talk[0], *talk[7:]], 6)
    assert text.fit(talk, limit - 1) == ([talk[0], *talk[9:]], 8)
    assert text.fit(talk, 1) == ([talk[0], talk[-1]], 12)
    assert text.fit([], 100) == ([], 0)


BYTE_LEVEL = '"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}'


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "damaged"),
        (lambda path: path.write_text('{"version": "1.0"}'), "damaged"),
        (lambda path: path.write_text(path.read_text().replace(BYTE_LEVEL, '"decoder":null')), "byte-level"),
    ],
)
def test_broken_tokenizers_are_said(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    """A tokenizer file that is missing, cut off or of another kind is an error in words."""
    folder = write_model(tmp_path)
    tokenizer = folder / "tokenizer.json"
    raw = json.loads(tokenizer.read_text())
    tokenizer.write_text(json.dumps(raw, separators=(",", ":")))
    damage(tokenizer)
    with pytest.raises(ModelError, match=words):
        Text(folder)


def test_a_broken_template_is_said(tmp_path: Path) -> None:
    """A template that cannot be parsed is an error of the model, not of the prompt."""
    with pytest.raises(ModelError, match="chat template is damaged"):
        Text(write_model(tmp_path, chat_template="{% for %}"))
