"""What the faces in this package need of the node, and nothing more.

Flask's threads call it; the node answers from its asyncio loop. Anything with these methods will do:
``webchat.fake`` is one that needs no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, Self, TypeVar

from core.routing.ask import Ask, Event, ModelCard
from core.terms import Happened, ModelRef, PeerId, Record, Status

T_co = TypeVar("T_co", covariant=True)


class Stream(Protocol[T_co]):
    """An iterator that another thread may close.

    ``close`` may be called at any time, from any thread and more than once, also while a thread waits in
    ``__next__``: that one then gets ``StopIteration`` at once. A plain generator is no ``Stream``, for
    closing it while it runs raises ``ValueError``.
    """

    def __iter__(self) -> Self: ...

    def __next__(self) -> T_co: ...

    def close(self) -> None: ...


class Reader(Protocol):
    """The node, as its pages and APIs see it. Every method may raise an error of ``core.errors``."""

    def generate(self, ask: Ask) -> Stream[Event]:
        """One ``Started``, any number of ``Piece``, one ``Ended``; an error of ``core.errors`` in place of
        the rest. Closing it cancels the answer, and then there is no ``Ended``."""
        ...

    def forget(self, conversation: str) -> None:
        """Free the session kept under this key; an unknown key is no error."""
        ...

    def card(self) -> ModelCard: ...

    def encode(self, text: str) -> tuple[int, ...]:
        """The tokens of ``text``."""
        ...

    def spelled(self, token_id: int) -> bytes:
        """What a token stands for, perhaps a part of a character; a special one as it is written."""
        ...

    def status(self) -> Status: ...

    def watch(self) -> Iterator[Status]:
        """One whole snapshot a change, the first at once. One thread of this package reads it."""
        ...

    def swarm(self) -> tuple[Record, ...]:
        """The live records of the model's donors, in no special order."""
        ...

    def others(self) -> Mapping[ModelRef, tuple[Record, ...]]:
        """The other models of the swarm, each with the records of its donors."""
        ...

    def licence(self) -> str:
        """The licence that has to be accepted before the model answers; empty where none has."""
        ...

    def accept(self, licence: str) -> None:
        """Remember, for this node and its commands, that the owner has accepted this licence."""
        ...

    def donate(self, action: str, duration: str | None) -> Status:
        """``pause``, ``resume``, ``give`` or ``finish``, for ``15m``, ``1h``, ``tomorrow`` or until told
        otherwise; the status then. Raises ``SettingError``."""
        ...

    def tell(self, facts: Mapping[str, object]) -> None:
        """Facts that another process of the owner has read, such as time without input on Windows; they hold
        for a few seconds. Raises ``SettingError``."""
        ...

    def given(self) -> dict[str, object]:
        """What this PC has given: ``today``, ``week``, ``all``, and ``days``, the oldest first."""
        ...

    def events(self) -> tuple[Happened, ...]:
        """What happened last, the newest last."""

    def own_donors(self) -> frozenset[PeerId]:
        """The peers that this PC gives as."""
        ...

    def settings(self) -> dict[str, object]: ...

    def change_settings(self, changes: Mapping[str, object]) -> dict[str, object]:
        """All of ``changes`` or none (``SettingError``); the settings as they are then."""
        ...
