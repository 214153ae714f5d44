"""What a stage keeps of its outputs."""

from __future__ import annotations

from core.ring.log import Log


def test_a_log_gives_what_was_sent_in_pieces() -> None:
    """From any position on, after any truncation."""
    log = Log()
    for start in range(0, 12, 3):
        log.append(start, 3, bytes(range(2 * start, 2 * start + 6)))
    assert list(log.pieces(4, 6)) == [(4, 5, bytes(range(8, 18))), (9, 3, bytes(range(18, 24)))]
    log.truncate(7)
    assert (log.end, log.size) == (7, 14)
    assert list(log.pieces(0, 100)) == [(0, 7, bytes(range(14)))]
    log.append(20, 1, b"xx")
    assert (log.first, log.end, log.size) == (20, 21, 2)
