"""Several answers at once, read as one stream: each event comes with the number of its answer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Self

from core.routing.ask import Event
from webchat.reader import Stream

Numbered = tuple[int, Event]


class Several:
    """A ``Stream`` over streams. The first that fails ends all of them with its error."""

    def __init__(self, opened: Sequence[Stream[Event]]) -> None:
        self._streams = opened
        self._left = len(opened)
        self._heard: queue.SimpleQueue[Numbered | Exception | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._read, args=(number, stream), name="answer", daemon=True)
            for number, stream in enumerate(opened)
        ]
        for thread in self._threads:
            thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Numbered:
        while self._left:
            heard = self._heard.get()
            if isinstance(heard, Exception):
                self.close()
                raise heard
            if heard is not None:
                return heard
            self._left -= 1
        raise StopIteration

    def close(self) -> None:
        for stream in self._streams:
            stream.close()

    def _read(self, number: int, stream: Stream[Event]) -> None:
        try:
            for event in stream:
                self._heard.put((number, event))
        except Exception as error:  # noqa: BLE001 whoever reads must hear of it, whatever it is
            self._heard.put(error)
        finally:
            self._heard.put(None)


class Alone:
    """One answer as ``Several`` gives them, without a thread."""

    def __init__(self, stream: Stream[Event]) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Numbered:
        return 0, next(self._stream)

    def close(self) -> None:
        self._stream.close()


def side_by_side(begin: Sequence[Callable[[], Stream[Event]]]) -> Stream[Numbered]:
    """Begins all of them; if one cannot begin, none goes on."""
    opened: list[Stream[Event]] = []
    try:
        opened.extend(one() for one in begin)
    except BaseException:
        for stream in opened:
            stream.close()
        raise
    return Alone(opened[0]) if len(opened) == 1 else Several(opened)
