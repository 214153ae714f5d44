from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import DiskError
from webchat import history
from webchat.history import History, branch, title_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.sqlite3"


def test_what_was_said_is_there_again(path: Path) -> None:
    """Conversations, their tree and their facts outlive the program."""
    kept = History(path)
    made = kept.begin("What is  a flower?", "Be kind.")
    asked = kept.add(made.id, None, "user", "What is a flower?")
    first = kept.add(made.id, asked.id, "assistant", "A plant.", facts={"seed": 3})
    second = kept.add(made.id, asked.id, "assistant", "Part of a plant.")
    kept.close()
    again = History(path)
    (found,) = again.conversations()
    assert (found.title, found.system, found.leaf) == ("What is a flower?", "Be kind.", second.id)
    assert again.path(second.id) == [asked, second]
    assert again.entries(found.id) == [asked, first, second]
    assert again.entry(first.id).facts == {"seed": 3}  # type: ignore[union-attr]
    again.close()


def test_only_this_user_can_read_the_file(path: Path) -> None:
    """0600, and so are the files that SQLite puts beside it."""
    kept = History(path)
    kept.begin("a", "")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    kept.close()


def test_search_finds_titles_and_messages_in_any_case(path: Path) -> None:
    """Signs that SQL gives a meaning are just signs."""
    kept = History(path)
    for question, answer in (("Roses", "They are RED, 100 %."), ("Violets", "Ähnlich wie Veilchen_")):
        made = kept.begin(question, "")
        kept.add(made.id, None, "assistant", answer)
    assert [one.title for one in kept.conversations("roses")] == ["Roses"]
    assert [one.title for one in kept.conversations("ähnlich")] == ["Violets"]
    assert [one.title for one in kept.conversations("0 %")] == ["Roses"]
    assert [one.title for one in kept.conversations("n_")] == ["Violets"]
    assert kept.conversations("' OR 1=1 --") == []
    assert [one.title for one in kept.conversations()] == ["Violets", "Roses"]
    kept.close()


def test_the_file_keeps_nothing_of_what_is_deleted(path: Path) -> None:
    """One conversation or all: their words are overwritten."""
    kept = History(path)
    made, other = kept.begin("secret plans", ""), kept.begin("others", "")
    kept.add(made.id, None, "user", "secret plans " * 100)
    kept.delete(made.id)
    assert [one.id for one in kept.conversations()] == [other.id]
    assert kept.entries(made.id) == []
    assert all(b"secret" not in file.read_bytes() for file in path.parent.iterdir())
    kept.delete(None)
    assert kept.conversations() == []
    kept.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from webchat.history import History
kept = History(Path(sys.argv[1]))
made = kept.begin("q", "")
asked = kept.add(made.id, None, "user", "q")
answer = kept.add(made.id, asked.id, "assistant", "", state="running")
kept.keep(answer.id, "half of it", "running", {})
done = kept.add(made.id, asked.id, "assistant", "all of it")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_no_message(path: Path) -> None:
    """Finished ones are whole; one that was being made is kept as far as it was written, as stopped."""
    ended = subprocess.run([sys.executable, "-c", KILLED, str(path)], env={**os.environ}, check=False)
    assert ended.returncode == -signal.SIGKILL
    kept = History(path)
    (found,) = kept.conversations()
    assert [(one.text, one.state) for one in kept.entries(found.id)] == [
        ("q", "done"),
        ("half of it", "stopped"),
        ("all of it", "done"),
    ]
    kept.close()


def test_a_damaged_file_is_kept_aside(path: Path) -> None:
    """The program starts all the same, and throws nothing away."""
    path.write_bytes(b"not a database at all" * 100)
    kept = History(path)
    assert kept.conversations() == []
    kept.close()
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"not a database")


def test_a_newer_file_is_left_alone(path: Path) -> None:
    """An older program does not touch what it does not know."""
    History(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(DiskError, match="newer Idlebloom"):
        History(path)


def test_an_older_file_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each migration runs once, and what was there stays."""
    kept = History(path)
    kept.begin("old", "")
    kept.close()
    more = (*history.MIGRATIONS, "CREATE TABLE extra (id INTEGER);")
    monkeypatch.setattr(history, "MIGRATIONS", more)
    for _ in range(2):
        kept = History(path)
        assert [one.title for one in kept.conversations()] == ["old"]
        kept.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(more),)
        db.execute("INSERT INTO extra VALUES (1)")
    db.close()


def test_a_place_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    """With its name, and what to do."""
    with pytest.raises(DiskError, match="cannot write"):
        History(tmp_path / "missing" / "history.sqlite3")


def test_titles_are_short_and_end_with_a_word() -> None:
    """Long questions are cut where a word ends."""
    assert title_of("  one\n two ") == "one two"
    assert title_of("word " * 30) == "word " * 11 + "word…"
    assert len(title_of("a" * 500)) <= 61


def test_a_branch_ends_even_where_a_tree_has_a_ring() -> None:
    """Whatever a file says, drawing it comes to an end."""
    one = history.Entry("a", "c", "b", "user", "")
    two = history.Entry("b", "c", "a", "assistant", "")
    assert len(branch([one, two], "a")) == 2
