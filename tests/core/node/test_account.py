"""What is told of giving, from what a worker counts."""

from __future__ import annotations

from pathlib import Path

from core.node.account import Account
from core.node.ledger import Ledger
from core.serving.counts import Counts
from core.terms import Today


def test_a_worker_that_is_started_anew_begins_from_nothing(tmp_path: Path) -> None:
    """Its sums are added to those of the one before; what one says twice is counted once."""
    account = Account(Ledger(tmp_path / "ledger.json"))
    for counts in (Counts(1, 5, 1, 1, 100, 10), Counts(1, 7, 1, 0, 150, 20), Counts(1, 7, 1, 0, 150, 20)):
        account.count(counts)
    assert account.today == Today(7, 1, 150, 20)
    account.count(Counts(2, 3, 1, 1, 40, 5, 20.0, 2.0))
    assert account.today == Today(10, 2, 190, 25)
    rates = account.rates
    assert (rates.up, rates.down, rates.tokens) == (20.0, 2.0, round(10 / 60, 2))
