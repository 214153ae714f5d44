"""The tokens of an answer with their log-probabilities, in OpenAI's two shapes.

A token counts where its text begins: tokens of a stop string, which is not sent, are not reported.
Log-probabilities are the model's own, before temperature and penalties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.terms import Token
from webchat.snapshots import Shape

LEAST = -9999.0
"""What OpenAI's API reports for a token that cannot come: JSON has no infinity."""


@dataclass
class TokenLog:
    """Of one answer. ``spelled`` gives the bytes that a token stands for."""

    spelled: Callable[[int], bytes]
    _shown: int = 0
    """Bytes of text that were sent."""
    _begun: int = 0
    """Bytes of all tokens so far."""
    _waiting: tuple[tuple[int, Token], ...] = ()
    _offset: int = 0
    """Characters of text before the next token to report."""

    def take(self, text: str, tokens: Sequence[Token]) -> list[Token]:
        """The tokens to report with ``text``; those whose text is held back follow with it."""
        self._shown += len(text.encode())
        for token in tokens:
            self._waiting += ((self._begun, token),)
            self._begun += len(self.spelled(token.token_id))
        ready = [token for start, token in self._waiting if start < self._shown]
        self._waiting = tuple(one for one in self._waiting if one[0] >= self._shown)
        return ready

    def chat(self, tokens: Sequence[Token]) -> Shape:
        content = [
            {
                **self._entry(token.token_id, token.logprob),
                "top_logprobs": [self._entry(name, logprob) for name, logprob in token.top],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def plain(self, tokens: Sequence[Token]) -> Shape:
        """Of plain completions; offsets count from the start of the answer."""
        words = [token_text(self.spelled(token.token_id)) for token in tokens]
        offsets = []
        for word in words:
            offsets.append(self._offset)
            self._offset += len(word)
        top = [
            {token_text(self.spelled(name)): _number(logprob) for name, logprob in _with_own(token)}
            for token in tokens
        ]
        return {
            "tokens": words,
            "token_logprobs": [_number(token.logprob) for token in tokens],
            "top_logprobs": top,
            "text_offset": offsets,
        }

    def _entry(self, token_id: int, logprob: float) -> Shape:
        raw = self.spelled(token_id)
        return {"token": token_text(raw), "logprob": _number(logprob), "bytes": list(raw)}


def token_text(raw: bytes) -> str:
    r"""A token as text; a part of a character as OpenAI writes it, ``\xe2\x80``."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in raw)


def _with_own(token: Token) -> tuple[tuple[int, float], ...]:
    """The alternatives, and the token itself where it is none of the best."""
    known = {name for name, _ in token.top}
    return token.top if token.token_id in known else (*token.top, (token.token_id, token.logprob))


def _number(logprob: float) -> float:
    return max(logprob, LEAST)
