"""The loop that makes a node a donor: observe, plan, act, publish.

``core.pc.observe`` reads facts in threads and wakes the loop when there is news; ``core.pc.limits`` judges
them under the settings and the owner's orders; ``core.node.plan`` says what to do about it; this carries
it out.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psutil

from core.errors import IdlebloomError, SettingError
from core.meter import used_up
from core.node.account import Account
from core.node.ahead import Ahead
from core.node.giver import Giver
from core.node.ledger import Given, Ledger
from core.node.node import Node
from core.node.orders import Told
from core.node.plan import (
    Action,
    Begin,
    Doing,
    End,
    Go,
    Rest,
    ServeOnly,
    Stay,
    next_action,
    state_of,
)
from core.pc.limits import Trail, judge
from core.pc.observe import CALM_SECONDS, Observer, check_told, sources
from core.settings import DECLARED, Change, Donate, Settings
from core.terms import Because, Budget, Facts, Leave, Memory, Reason, State, Status

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
"""The longest between two looks; news makes it sooner."""
LEAST_CALM_SECONDS = 0.2
MEASURE_SECONDS = 2.0
"""Between two readings of what the worker takes."""
OBEY_SECONDS = 3.0
ACTIONS = ("pause", "resume", "give", "finish")


class Loop:
    """Of ``node``, through ``giver``. ``hindrances`` are what other parts have against giving: each is asked
    at every look, and the first answer counts."""

    def __init__(self, node: Node, giver: Giver, settings: Settings, told: Told, ledger: Ledger) -> None:
        self.node, self.giver, self.settings, self.told, self.ledger = node, giver, settings, told, ledger
        self.hindrances: list[Callable[[Settings], Because | None]] = []
        self.hindrances.append(self._quota)
        self._fetched = 0.0
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        self._trail = Trail()
        self._leaves: Leave | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._ahead = Ahead(node, giver)
        self._account = Account(ledger)
        self._measured_at = -math.inf
        self._ours: Collection[int] = ()
        self.observer = Observer(
            lambda: sources(lambda: self.settings.yield_programs, self._our_processes),
            self._wake,
            _calm(settings),
        )
        node.on_counts = self._account.count
        node.watchers.append(lambda status: ledger.note(status, time.time()))
        self._running: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the first facts are read and acted on."""
        await asyncio.to_thread(self.observer.wait)
        await self._round()
        self._running = asyncio.create_task(self._run(), name="donor loop")
        counting = self._account.count_own(lambda: self.node.peer.pid)
        self._counting = asyncio.create_task(counting, name="own traffic")

    async def close(self) -> None:
        self.observer.close()
        for task in (self._running, self._leaving, self._counting):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        await self._ahead.stop()
        self._account.keep_own()
        self.ledger.save(at_end=True)

    # The owner's words, from other threads too

    def order(self, action: str, duration: str | None = None) -> None:
        """``pause``, ``resume``, ``give`` or ``finish``. Raises ``SettingError``."""
        if action not in ACTIONS:
            raise SettingError(f"“{action}” is none of {', '.join(ACTIONS)}")
        if action == "give" and self.settings.donate is Donate.OFF:
            raise SettingError(
                "this PC gives nothing until you say so",
                "Say so with: idlebloom settings set donate when_idle",
            )
        match action:
            case "pause":
                self.told.pause(duration)
            case "finish":
                self.told.pause(duration, finish=True)
            case "give":
                self.told.give(duration)
            case _:
                self.told.resume()
        self._wake()

    async def obey(self) -> None:
        """Returns when an order has been acted on, so that the status tells of it; what takes longer, such as
        another worker's start, is not waited for."""
        looking = asyncio.create_task(self._look(), name="obey")
        await asyncio.wait({looking}, timeout=OBEY_SECONDS)
        await asyncio.sleep(0)  # what the round began says itself what it does

    def tell(self, facts: Mapping[str, Any]) -> None:
        """Facts from another process of the owner. Raises ``SettingError``."""
        try:
            self.observer.tell(check_told(facts))
        except ValueError as error:
            raise SettingError(str(error)) from None

    def verify(self, change: Change) -> None:
        self.giver.check(change)

    def apply(self, change: Change) -> bool:
        asyncio.run_coroutine_threadsafe(self._change(change), self._loop)
        return all(DECLARED[name].live for name in change.names)

    # One round

    async def _run(self) -> None:
        while True:
            # Not wait_for: on Python 3.11 that loses a cancellation that comes with the news, and the node
            # would never end.
            with suppress(TimeoutError):
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._news.wait()
            await self._look()

    async def _look(self) -> None:
        try:
            await self._round()
        except IdlebloomError as error:
            log.warning("a look failed: %s", error)

    async def _round(self) -> None:
        async with self._turn:
            self._news.clear()
            facts = self.observer.facts(self.node.own_chat_seconds)
            orders = self.told.look(facts.now, facts.clock)
            hindrance = self._hindrance()
            budget, self._trail = judge(self.settings, facts, orders, self._trail, hindrance)
            await self._act(next_action(budget, self._doing()))
            self.observer.pause = 0.0 if self.node.gives else _calm(self.settings)
            self._count_downloads()
            metered = facts.metered and not self.settings.on_metered
            self._ahead.look(self.settings, budget.because, may=not metered and hindrance is None)
            self._publish(budget, facts)

    def _quota(self, settings: Settings) -> Because | None:
        """Why nothing is given for the rest of the month, once its quota is used."""
        now = time.time()
        if not used_up(self.ledger.month(now), settings.monthly_gb):
            return None
        return Because(Reason.QUOTA, {"gb": f"{settings.monthly_gb:g}"}, until=next_month(now))

    def _count_downloads(self) -> None:
        """They are traffic like any other, and make way for the worker's."""
        taken = self.giver.downloads.taken
        new, self._fetched = int(taken - self._fetched), taken
        if new:
            self.ledger.add(Given(down_bytes=new))
        self.giver.deal(self.settings, self._account.counted.down_rate + self._account.own_rate)

    def _hindrance(self) -> Because | None:
        return next((found for ask in self.hindrances if (found := ask(self.settings)) is not None), None)

    def _doing(self) -> Doing:
        worker = self.node.worker
        serves = self.node.serving is not None and worker is not None
        return Doing(
            gives=self.node.gives,
            serves=serves,
            leaves=self._leaves,
            own_only=worker.own_only if serves and worker is not None else False,
            rest=worker.rest if serves and worker is not None else 0.0,
        )

    async def _act(self, action: Action) -> None:
        match action:
            case Stay():
                pass
            case Begin():
                await self._ahead.stop()
                self.giver.begin(self.settings)
            case End(because):
                await self._end(because)
            case Go(because, how, seconds):
                self._leaves = how
                if self._leaving is not None:
                    self._leaving.cancel()
                self._leaving = asyncio.create_task(self._leave(because, seconds), name="leave")
            case ServeOnly(own):
                if (worker := self.node.worker) is not None:
                    worker.serve_only(self.node.peer.peer_id if own else None)
                    self.node.generator.serves_me(worker.peer_id if own else None)
            case Rest(part) if self.node.worker is not None:
                self.node.worker.rest_for(part)

    async def _end(self, because: Because) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        self._leaves = self._leaving = None
        self.node.generator.serves_me(None)
        await self.node.stop_giving(state_of(because), because)

    async def _leave(self, because: Because, seconds: float) -> None:
        try:
            await self.node.leave(state_of(because), because, seconds)
        finally:
            if self._leaving is asyncio.current_task():
                self._leaves = self._leaving = None
                self._wake()

    async def _change(self, change: Change) -> None:
        async with self._turn:
            self.settings = change.after
            self._ahead.after = -math.inf
            await self._ahead.stop()
            if self.node.gives and not await self.giver.change(change):
                # Another worker is needed: the next round begins with it.
                self._leaves = None
                await self.node.stop_giving(State.WAITING, Because(Reason.CHANGING))
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._news.set)

    # What is told

    def _publish(self, budget: Budget, facts: Facts) -> None:
        account, doing = self._account, self._doing()
        account.served(doing.serves and not doing.own_only, facts)
        status = replace(
            self.node.untroubled,
            sessions=account.counted.sessions if self.node.serving is not None else 0,
            today=account.today,
            vram=self._memory(facts),
            rates=account.rates,
            giving_until=_plain_end(self.told.orders.give_until),
            finishing=self._leaves is Leave.FINISH,
        )
        because = budget.because
        if because is not None and not doing.gives:
            status = replace(status, state=state_of(because), reason=because, span=None)
        elif doing.serves and doing.leaves is None:
            status = self._serving(status, budget, doing)
        self.node.publish(status)
        self.ledger.save()

    def _serving(self, status: Status, budget: Budget, doing: Doing) -> Status:
        if doing.own_only:
            return replace(status, state=State.WAITING, reason=Because(Reason.OWN_CHAT))
        hot = Because(Reason.HOT, {"celsius": round(budget.celsius)}) if budget.rest else None
        return replace(status, state=State.GIVING, reason=hot)

    def _memory(self, facts: Facts) -> Memory:
        if self.node.worker_pid is None:
            return Memory(0, self.giver.cap)
        if self.giver.on_gpu and facts.gpu is not None:
            return Memory(facts.gpu.ours_bytes, self.giver.cap)
        if time.monotonic() - self._measured_at < MEASURE_SECONDS:
            return replace(self.node.status.vram, cap=self.giver.cap)
        self._measured_at = time.monotonic()
        return self.giver.memory()

    def _our_processes(self) -> Collection[int]:
        """The worker's, and this one's; asked from the thread that reads the GPU."""
        pid = self.node.worker_pid
        found = {psutil.Process().pid}
        if pid is not None:
            found.add(pid)
        return found


def _calm(settings: Settings) -> float:
    """Seconds between readings while nothing is given: a small part of what is waited for."""
    waits = 60 * min(settings.idle_minutes, settings.return_minutes)
    return min(CALM_SECONDS, max(LEAST_CALM_SECONDS, waits / 10))


def _plain_end(until: float | None) -> float | None:
    """Infinity has no place in JSON: 0 is until stopped."""
    return 0.0 if until is not None and math.isinf(until) else until


def next_month(now: float) -> float:
    """When the next month begins in local time, as Unix time."""
    then = time.localtime(now)
    year, month = (then.tm_year + 1, 1) if then.tm_mon == 12 else (then.tm_year, then.tm_mon + 1)
    return time.mktime((year, month, 1, 0, 0, 0, 0, 0, -1))
