"""Conversations kept on this PC: one SQLite file, of this user alone, never sent anywhere.

Messages are a tree: each names its parent, so that an answer made again, or a question written anew, is a
branch beside the old one. A conversation's ``leaf`` is the end of the branch that is shown.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import DiskError

log = logging.getLogger(__name__)

TITLE_LENGTH = 60
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE conversations (
      id TEXT PRIMARY KEY, title TEXT NOT NULL, system TEXT NOT NULL,
      created REAL NOT NULL, changed REAL NOT NULL, leaf TEXT
    ) STRICT;
    CREATE TABLE messages (
      id TEXT PRIMARY KEY,
      conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
      parent TEXT REFERENCES messages (id) ON DELETE CASCADE,
      role TEXT NOT NULL, text TEXT NOT NULL, state TEXT NOT NULL, facts TEXT NOT NULL, created REAL NOT NULL
    ) STRICT;
    CREATE INDEX messages_of_conversation ON messages (conversation, created);
    CREATE INDEX messages_of_parent ON messages (parent);
    """,
)
"""Each brings a file from one version to the next; what has been released is never changed."""


@dataclass(frozen=True)
class Conversation:
    id: str
    title: str
    system: str
    created: float
    changed: float
    leaf: str | None


@dataclass(frozen=True)
class Entry:
    """One message. ``state``: running, done, stopped or failed; questions are done."""

    id: str
    conversation: str
    parent: str | None
    role: str
    text: str
    state: str = "done"
    facts: Mapping[str, object] = field(default_factory=dict)
    """What is known of an answer: route, seed, numbers, error."""
    created: float = 0.0


class History:
    """``None`` keeps everything in memory. Any thread may call it; raises ``DiskError``."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._turn = path, threading.RLock()
        self._db = _open(path)
        with self._writing() as db:
            db.execute("UPDATE messages SET state = 'stopped' WHERE state = 'running'")

    def close(self) -> None:
        with self._turn:
            self._db.close()

    # Conversations

    def begin(self, question: str, system: str) -> Conversation:
        """A new one, named after its first question."""
        now = time.time()
        made = Conversation(secrets.token_hex(8), title_of(question), system, now, now, None)
        with self._writing() as db:
            row = (made.id, made.title, made.system, now, now)
            db.execute("INSERT INTO conversations VALUES (?, ?, ?, ?, ?, NULL)", row)
        return made

    def conversations(self, search: str = "") -> list[Conversation]:
        """The newest first; with ``search``, those whose title or messages contain it, in any case."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT * FROM conversations WHERE ?1 = '' OR instr(folded(title), ?1) OR EXISTS (SELECT 1 "
                "FROM messages WHERE conversation = conversations.id AND instr(folded(text), ?1)) "
                "ORDER BY changed DESC",
                (search.strip().casefold(),),
            )
            return [Conversation(*row) for row in rows]

    def conversation(self, conversation: str) -> Conversation | None:
        with self._reading() as db:
            row = db.execute("SELECT * FROM conversations WHERE id = ?", (conversation,)).fetchone()
        return None if row is None else Conversation(*row)

    def change(
        self,
        conversation: str,
        *,
        title: str | None = None,
        system: str | None = None,
        leaf: str | None = None,
    ) -> None:
        """Set what is given."""
        with self._writing() as db:
            db.execute(
                "UPDATE conversations SET title = coalesce(?, title), system = coalesce(?, system), "
                "leaf = coalesce(?, leaf) WHERE id = ?",
                (title, system, leaf, conversation),
            )

    def delete(self, conversation: str | None) -> None:
        """One, or all of them; the file keeps nothing of what is deleted."""
        with self._writing() as db:
            db.execute("DELETE FROM conversations WHERE ?1 IS NULL OR id = ?1", (conversation,))
        with self._reading() as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # Messages

    def add(
        self,
        conversation: str,
        parent: str | None,
        role: str,
        text: str,
        *,
        state: str = "done",
        facts: Mapping[str, object] | None = None,
    ) -> Entry:
        """A new message, which becomes the conversation's leaf."""
        entry = Entry(
            secrets.token_hex(8), conversation, parent, role, text, state, dict(facts or {}), time.time()
        )
        with self._writing() as db:
            db.execute(
                "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (entry.id, conversation, parent, role, text, state, json.dumps(entry.facts), entry.created),
            )
            db.execute(
                "UPDATE conversations SET leaf = ?, changed = ? WHERE id = ?",
                (entry.id, entry.created, conversation),
            )
        return entry

    def keep(self, message: str, text: str, state: str, facts: Mapping[str, object]) -> None:
        """What an answer has come to. One that was deleted meanwhile stays deleted."""
        with self._writing() as db:
            db.execute(
                "UPDATE messages SET text = ?, state = ?, facts = ? WHERE id = ?",
                (text, state, json.dumps(facts), message),
            )

    def entry(self, message: str) -> Entry | None:
        with self._reading() as db:
            row = db.execute(f"SELECT {COLUMNS} FROM messages WHERE id = ?", (message,)).fetchone()  # noqa: S608 a constant
        return None if row is None else _entry(row)

    def entries(self, conversation: str) -> list[Entry]:
        """All branches, in the order in which they were made."""
        with self._reading() as db:
            rows = db.execute(
                f"SELECT {COLUMNS} FROM messages WHERE conversation = ? ORDER BY created, rowid",  # noqa: S608 a constant
                (conversation,),
            )
            return [_entry(row) for row in rows]

    def path(self, leaf: str) -> list[Entry]:
        """The branch that ends with ``leaf``, from the first message on."""
        found = self.entry(leaf)
        if found is None:
            return []
        return branch(self.entries(found.conversation), leaf)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._turn:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise _in_words(error, self._path) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db, db:
            yield db


COLUMNS = "id, conversation, parent, role, text, state, facts, created"


def branch(entries: Sequence[Entry], leaf: str | None) -> list[Entry]:
    """The messages from the first one to ``leaf``."""
    known = {entry.id: entry for entry in entries}
    path: list[Entry] = []
    while leaf is not None and leaf in known:
        path.append(known.pop(leaf))
        leaf = path[-1].parent
    return path[::-1]


def title_of(question: str) -> str:
    words = " ".join(question.split())
    if len(words) <= TITLE_LENGTH:
        return words
    return words[:TITLE_LENGTH].rsplit(" ", 1)[0].rstrip(" ,;:") + "…"


def _entry(row: tuple[str, str, str | None, str, str, str, str, float]) -> Entry:
    name, conversation, parent, role, text, state, facts, created = row
    return Entry(name, conversation, parent, role, text, state, json.loads(facts), created)


def _open(path: Path | None) -> sqlite3.Connection:
    try:
        return _connect(path)
    except sqlite3.OperationalError as error:
        raise _in_words(error, path) from error
    except sqlite3.DatabaseError as error:
        if path is None:
            raise
        # A damaged file must not keep the program from starting, nor be thrown away.
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        path.rename(aside)
        log.warning("the conversations could not be read (%s): they were moved to %s", error, aside)
        return _connect(path)


def _connect(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        try:
            # SQLite gives the files beside it the same rights.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            path.chmod(0o600)
        except OSError as error:
            raise DiskError(f"cannot write {path}: {error.strerror}", "Choose another folder.") from error
    db = sqlite3.connect(path or ":memory:", timeout=10, check_same_thread=False)
    try:
        db.create_function("folded", 1, str.casefold, deterministic=True)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            db.execute(f"PRAGMA {pragma}")
        _migrate(db)
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise DiskError("the conversations were kept by a newer Idlebloom", "Update this one.")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        db.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")


def _in_words(error: sqlite3.Error, path: Path | None) -> DiskError:
    where = "in memory" if path is None else f"in {path}"
    return DiskError(f"conversations cannot be kept {where}: {error}", "Make space, or look at its rights.")
