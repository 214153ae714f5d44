"""The support bundle: what helps to understand a trouble, and nothing that is somebody's secret.

What goes in is chosen, not what stays out: settings that differ from their defaults, the status, what
happened last, what was given, and the ends of the logs. Of all that, addresses, peer ids, keys and the user's
folder are made unreadable.
"""

from __future__ import annotations

import json
import platform
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core import json_file
from core.door import find
from core.errors import DiskError, IdlebloomError
from core.paths import Paths, words
from core.preferences import Preferences
from core.settings import chosen

LOG_BYTES = 100_000
"""Of the end of each log."""
LOGS = ("idlebloom.log", "worker.log", "tray.log")
_SECRET = (
    (re.compile(r"/(ip[46]|dns[46]?|dnsaddr)/[^/\s\"']+"), r"/\1/…"),
    (re.compile(r"\b(12D3KooW|Qm)[1-9A-HJ-NP-Za-km-z]{20,}"), "(peer)"),
    (re.compile(r"\b(?:hf_|sk-)[A-Za-z0-9_-]{8,}"), "(key)"),
    (re.compile(r"\bidlebloom:[^\s\"']+"), "(invite)"),
    (re.compile(r"(?i)(bearer|token|secret|password)([\"' ]*[:=][\"' ]*)[^\s\"',}]+"), r"\1\2(hidden)"),
    (re.compile(r"\b[A-Za-z0-9+/_-]{43,}={0,2}"), "(key)"),
    (re.compile(r"(?<![\d.])(?!127\.)\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"), "(address)"),
    (re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}(?![\w:])"), "(address)"),
)


def write(file: Path, paths: Paths) -> list[str]:
    """The names of what was put in. Raises ``DiskError``."""
    parts = dict(_parts(paths))
    try:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, text in parts.items():
                bundle.writestr(name, clean(text))
    except OSError as error:
        raise DiskError(f"cannot write {file}: {words(error)}", "Name another file.") from error
    return list(parts)


def clean(text: str) -> str:
    """The same text, with whatever could be a secret made unreadable."""
    text = text.replace(str(Path.home()), "~")
    for pattern, instead in _SECRET:
        text = pattern.sub(instead, text)
    return text


def _parts(paths: Paths) -> Iterator[tuple[str, str]]:
    from idlebloom.launch import version

    system = {"version": version(), "system": platform.platform(), "python": platform.python_version()}
    yield "system.json", _json(system)
    yield "settings.json", _json(_settings(paths))
    node = find(paths.door_file)
    for name, path in (("status", "/api/status?once=1"), ("events", "/api/events"), ("given", "/api/given")):
        if node is not None:
            try:
                yield f"{name}.json", _json(node.request(path))
            except IdlebloomError as error:
                yield f"{name}.txt", str(error)
    if node is None and paths.ledger_file.exists():
        yield "ledger.json", _json(_read(paths.ledger_file))
    for name in LOGS:
        if (paths.state / name).is_file():
            yield name, _end(paths.state / name)


def _settings(paths: Paths) -> dict[str, Any]:
    """Folders and addresses say more of a person than of a trouble: only that they were set."""
    if not paths.settings_file.exists():
        return {}
    values = chosen(Preferences(paths.settings_file).settings)
    return {name: "(set)" if name in ("swarm", "data_dir") else value for name, value in values.items()}


def _read(file: Path) -> Any:
    try:
        return json_file.read(file)
    except DiskError as error:
        return str(error)


def _end(file: Path) -> str:
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - LOG_BYTES))
            return log.read().decode("utf-8", errors="replace")
    except OSError as error:
        return words(error)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
