from __future__ import annotations

import pytest

from desktop.events import LIMIT, Events


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_bytes_come_in_any_pieces(cut: int) -> None:
    """However the network cuts them, events come out whole; comments do not."""
    stream = 'data: {"a": "ä"}\n\n: still here\n\ndata: x\ndata: y\r\n\r\n'.encode()
    events, found = Events(), []
    for start in range(0, len(stream), cut):
        found += events.feed(stream[start : start + cut])
    assert found == ['{"a": "ä"}', "x\ny"]


def test_an_event_without_end_is_refused() -> None:
    """A stream that never ends an event does not fill the memory."""
    with pytest.raises(ValueError, match="without end"):
        Events().feed(b"x" * (LIMIT + 1))
