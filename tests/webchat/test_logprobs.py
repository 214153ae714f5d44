from __future__ import annotations

from core.terms import Token
from webchat.logprobs import TokenLog, token_text

WORDS = {1: b"a", 2: b"\xf0\x9f", 3: b"\x8c\xb8", 4: b" END", 5: b"", 6: b" b"}


def token(name: int) -> Token:
    return Token(0, name, -1.0)


def ids(tokens: list[Token]) -> list[int]:
    return [one.token_id for one in tokens]


def test_tokens_wait_for_their_text() -> None:
    """Parts of a character are reported with the character, and keep their order."""
    log = TokenLog(WORDS.__getitem__)
    assert ids(log.take("a", [token(1)])) == [1]
    assert ids(log.take("🌸", [token(2), token(3)])) == [2, 3]


def test_tokens_of_a_stop_string_are_not_reported() -> None:
    """Their text was never sent; nor is a token without text."""
    log = TokenLog(WORDS.__getitem__)
    assert ids(log.take("a", [token(1)])) == [1]
    assert ids(log.take("", [token(4), token(5)])) == []


def test_text_held_back_brings_its_token_later() -> None:
    """What looked like a stop string and was none."""
    log = TokenLog(WORDS.__getitem__)
    assert ids(log.take("", [token(4)])) == []
    assert ids(log.take(" END b", [token(6)])) == [4, 6]


def test_a_part_of_a_character_is_spelled_out() -> None:
    """As OpenAI's API writes it."""
    assert token_text(b"\xf0\x9f") == "\\xf0\\x9f"
    assert token_text("é".encode()) == "é"


def test_what_cannot_come_has_a_number_that_json_knows() -> None:
    """Minus infinity is none."""
    shape = TokenLog(WORDS.__getitem__).plain([Token(0, 1, float("-inf"))])
    assert shape["token_logprobs"] == [-9999.0]
