"""A support bundle: what helps someone to help, and nothing that is secret or private.

Settings (without addresses), status, versions, what the PC is, and the ends of the logs, with addresses, peer
ids, keys and the home folder's name taken out. No conversations, no ledger of single sessions, no secrets.
"""

from __future__ import annotations

import json
import platform
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from core.paths import Paths

LOG_BYTES = 200_000
_HIDDEN = (
    (re.compile(r"/(?:ip4|ip6|dns[46]?|dnsaddr)/[^\s\"',]+"), "(address)"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"), "(address)"),
    (re.compile(r"\b(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{0,4}\b"), "(address)"),
    (re.compile(r"\b(?:12D3KooW|Qm)[1-9A-HJ-NP-Za-km-z]{20,}"), "(peer)"),
    (re.compile(r"\bidlebloom:[^\s\"']+"), "(link)"),
    (re.compile(r"\b(?:hf|ib)[_-][A-Za-z0-9_-]{8,}"), "(key)"),
    (re.compile(r"(?i)(bearer|token|secret|key|password)([\"' ]*[:=][\"' ]*)[^\s\"',}]+"), r"\1\2(hidden)"),
    (re.compile(r"[A-Za-z0-9_+/=-]{40,}"), "(long)"),
)


def clean(text: str, home: str = "") -> str:
    """The text without what tells who or where someone is, and without anything like a key."""
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text.replace(home, "~") if len(home) > 1 else text


def write(file: Path, paths: Paths, *, status: object, settings: Mapping[str, object], version: str) -> None:
    """Raises ``OSError`` where it cannot be written."""
    home = str(Path.home())
    kept = {
        name: f"({len(value)} hidden)" if isinstance(value, list) and value else value
        for name, value in settings.items()
    }
    texts = {
        "about.txt": f"Idlebloom {version}\nPython {platform.python_version()}\n{platform.platform()}\n",
        "settings.json": clean(json.dumps(kept, indent=2), home),
        "status.json": clean(json.dumps(status, indent=2, default=str), home),
    }
    for log in sorted(paths.state.glob("*.log")):
        texts[log.name] = clean(_end(log), home)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in texts.items():
            bundle.writestr(name, content)


def _end(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - LOG_BYTES))
            return stream.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"(not readable: {error})"
