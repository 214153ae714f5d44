from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from core.node.ledger import DAYS, EVENTS, Given, Ledger
from core.terms import Because, Reason, Span, State, Status

MUCH = Given(tokens=412, conversations=9, up_bytes=1_200_000_000, down_bytes=5, hours=1.5)


def status(state: State, because: Because | None = None, span: Span | None = None) -> Status:
    return Status("test", state, because, span)


def test_what_was_given_is_found_again(tmp_path: Path) -> None:
    """By day, by week and in all, also after a restart."""
    file, now = tmp_path / "ledger.json", time.time()
    ledger = Ledger(file)
    for ago in (0, 3, 8):
        ledger.add(MUCH, now - ago * 86_400)
    ledger.add(MUCH)
    ledger.save()
    for one in (ledger, Ledger(file)):
        found = one.summary()
        assert (found["today"]["tokens"], found["week"]["tokens"], found["all"]["tokens"]) == (
            824,
            1236,
            1648,
        )
        assert [day["tokens"] for day in found["days"]] == [412, 412, 824]
        assert found["days"][-1]["day"] == time.strftime("%Y-%m-%d", time.localtime(now))
        assert one.today == MUCH + MUCH


def test_old_days_become_one_sum(tmp_path: Path) -> None:
    """Nothing is lost from all time, and the file stays small."""
    ledger = Ledger(tmp_path / "ledger.json")
    for day in range(DAYS + 40):
        ledger.add(Given(tokens=1), 86_400 * (100 + day))
    ledger.save()
    found = Ledger(tmp_path / "ledger.json").summary()
    assert (len(found["days"]), found["all"]["tokens"]) == (DAYS, DAYS + 40)


def test_events_are_kept_where_they_are_news(tmp_path: Path) -> None:
    """A count of minutes that goes down is none; the oldest go."""
    ledger = Ledger(tmp_path / "ledger.json")
    for minutes in (3, 2, 1):
        ledger.note(status(State.WAITING, Because(Reason.INPUT, {"minutes": minutes})), 1.0)
    ledger.note(status(State.LOADING, span=Span(0, 3)), 2.0)
    ledger.note(status(State.GIVING, span=Span(0, 3)), 3.0)
    ledger.note(status(State.GIVING, Because(Reason.HOT, {"celsius": 83}), Span(0, 3)), 4.0)
    ledger.note(status(State.GIVING, Because(Reason.HOT, {"celsius": 84}), Span(0, 3)), 5.0)
    ledger.save()
    again = Ledger(tmp_path / "ledger.json")
    assert list(again.events) == list(ledger.events)
    assert [(event.at, event.state) for event in again.events] == [
        (1.0, State.WAITING),
        (2.0, State.LOADING),
        (3.0, State.GIVING),
        (4.0, State.GIVING),
    ]
    for turn in range(EVENTS):
        ledger.note(status(State.OFF if turn % 2 else State.PAUSED), 10.0 + turn)
    assert len(ledger.events) == EVENTS


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_broken_file_is_kept_aside_and_said(tmp_path: Path, content: str) -> None:
    """Counting begins anew."""
    file = tmp_path / "ledger.json"
    file.write_text(content)
    ledger = Ledger(file)
    assert "kept as" in ledger.notice and ledger.today == Given()
    ledger.add(MUCH)
    ledger.save()
    assert Ledger(file).today == MUCH and not Ledger(file).notice


@pytest.mark.parametrize(
    "content",
    [
        {"days": 3, "events": {}, "before": []},
        {"days": {"x": {"tokens": -1, "hours": "much", "up_bytes": True}}, "events": [1, {}, {"at": 1}]},
        {
            "events": [
                {
                    "at": 1,
                    "state": "giving",
                    "reason": {"kind": "new", "args": {}, "until": None},
                    "span": None,
                }
            ]
        },
        {"events": [{"at": 1, "state": "giving", "reason": None, "span": [5, 2]}]},
    ],
)
def test_odd_content_counts_as_nothing(tmp_path: Path, content: object) -> None:
    """Whatever an older, newer or meddled-with program wrote."""
    (tmp_path / "ledger.json").write_text(json.dumps(content))
    ledger = Ledger(tmp_path / "ledger.json")
    assert ledger.summary()["all"]["tokens"] == 0 and not ledger.events


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written when there is room again."""
    folder = tmp_path / "later"
    folder.write_text("in the way")
    ledger = Ledger(folder / "ledger.json")
    ledger.add(MUCH)
    ledger.save()
    folder.unlink()
    ledger.save()  # it does not try again at once
    assert not folder.exists()
    monkeypatch.setattr("core.node.ledger.RETRY_SECONDS", 0.0)
    ledger._not_before = 0.0
    ledger.save()
    assert Ledger(folder / "ledger.json").today == MUCH


def test_time_alone_is_written_seldom(tmp_path: Path) -> None:
    """Hours go on all night: the disk is left alone, and at the end all is written."""
    file = tmp_path / "ledger.json"
    ledger = Ledger(file)
    ledger.add(MUCH)
    ledger.save()
    before = file.read_text()
    ledger.add(Given(hours=0.1))
    ledger.save()
    assert file.read_text() == before
    ledger.save(at_end=True)
    assert Ledger(file).today.hours == pytest.approx(1.6)
