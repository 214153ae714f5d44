"""The node as pages, APIs and commands see it: threads on one side, the event loop on the other.

An answer is an iterator that any thread may read and any thread may close; the loop fills it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Self, TypeVar

from core.errors import IdlebloomError, UserError
from core.node.loop import Loop
from core.node.node import Node
from core.preferences import Preferences
from core.routing.ask import Ask, Event, ModelCard
from core.settings import to_json
from core.terms import Happened, ModelRef, PeerId, Record, Status

T = TypeVar("T")

CALL_SECONDS = 30.0


class Answer:
    """The events of one answer, for a thread. Closing it from any thread cancels the answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, node: Node, ask: Ask) -> None:
        self._events: queue.SimpleQueue[Event | IdlebloomError | None] = queue.SimpleQueue()
        self._over = False
        self._pumping = asyncio.run_coroutine_threadsafe(self._pump(node, ask), loop)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = None if self._over else self._events.get()
        if event is None or self._over:
            self._over = True
            raise StopIteration
        if isinstance(event, IdlebloomError):
            self._over = True
            raise event
        return event

    def close(self) -> None:
        self._over = True
        self._events.put(None)
        self._pumping.cancel()

    async def _pump(self, node: Node, ask: Ask) -> None:
        try:
            async with aclosing(node.generate(ask)) as events:
                async for event in events:
                    self._events.put(event)
        except IdlebloomError as error:
            self._events.put(error)
        except Exception as error:  # whoever waits must hear of it, whatever it is
            self._events.put(IdlebloomError(f"unexpected {type(error).__name__}: {error}"))
            raise
        finally:
            self._events.put(None)


class NodeReader:
    """Calls a node's loop from other threads."""

    def __init__(self, node: Node, preferences: Preferences | None, donor: Loop | None = None) -> None:
        self._node, self._preferences, self._donor = node, preferences, donor
        self._loop = asyncio.get_running_loop()
        self.own: Callable[[], frozenset[PeerId]] = frozenset
        """Tells the peers that this PC gives as."""

    def generate(self, ask: Ask) -> Answer:
        return Answer(self._loop, self._node, ask)

    def forget(self, conversation: str) -> None:
        self._loop.call_soon_threadsafe(self._node.generator.forget, conversation)

    def card(self) -> ModelCard:
        return self._node.card

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(self._node.model.text.encode(text))

    def spelled(self, token_id: int) -> bytes:
        return self._node.model.text.spelled(token_id)

    def status(self) -> Status:
        return self._node.status

    def watch(self) -> Iterator[Status]:
        changes: queue.SimpleQueue[Status] = queue.SimpleQueue()
        self._node.watchers.append(changes.put)
        try:
            yield self._node.status
            while True:
                yield changes.get()
        finally:
            self._node.watchers.remove(changes.put)

    def swarm(self) -> tuple[Record, ...]:
        future: concurrent.futures.Future[tuple[Record, ...]] = asyncio.run_coroutine_threadsafe(
            self._node.generator.records(), self._loop
        )
        return future.result(CALL_SECONDS)

    def others(self) -> Mapping[ModelRef, tuple[Record, ...]]:
        return asyncio.run_coroutine_threadsafe(self._node.elsewhere.models(), self._loop).result(
            CALL_SECONDS
        )

    def licence(self) -> str:
        return self._node.licence

    def accept(self, licence: str) -> None:
        if self._node.licences is not None:
            self._node.licences.accept(licence)

    def donate(self, action: str, duration: str | None) -> Status:
        giving = self._giving()
        giving.order(action, duration)
        asyncio.run_coroutine_threadsafe(giving.obey(), self._loop).result(CALL_SECONDS)
        return self._node.status

    def tell(self, facts: Mapping[str, object]) -> None:
        self._giving().tell(facts)

    def given(self) -> dict[str, object]:
        return self._call(self._giving().ledger.summary)

    def events(self) -> tuple[Happened, ...]:
        return self._call(lambda: tuple(self._giving().ledger.events))

    def _giving(self) -> Loop:
        if self._donor is None:
            raise UserError("the demo's donors serve this PC alone, for as long as it runs", "End the demo.")
        return self._donor

    def _call(self, what: Callable[[], T]) -> T:
        """In the node's loop, which alone changes what is asked for."""

        async def ask() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result(CALL_SECONDS)

    def own_donors(self) -> frozenset[PeerId]:
        return self.own()

    def settings(self) -> dict[str, object]:
        return {} if self._preferences is None else to_json(self._preferences.settings)

    def change_settings(self, changes: Mapping[str, object]) -> dict[str, object]:
        if self._preferences is None:
            raise UserError("the demo has no settings to change")
        self._preferences.change(changes)
        return self.settings()
