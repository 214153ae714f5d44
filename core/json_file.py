"""Small JSON files that survive a crash: written whole or not at all, and kept aside when broken."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.errors import DiskError
from core.paths import ADVICE, FULL, make_folder, words

READABLE = "Make it readable, or move it away."


class Broken(DiskError):
    """The file held no JSON object; it was renamed to ``kept``."""

    def __init__(self, file: Path, kept: Path, why: str) -> None:
        super().__init__(f"{file} is damaged ({why}) and was kept as {kept.name}")
        self.kept = kept


def read(file: Path) -> dict[str, Any]:
    """The object in the file, empty where there is no file. Raises ``Broken`` once, having moved the
    broken file out of the way, and ``DiskError`` where it cannot be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DiskError(f"cannot read {file}: {words(error)}", READABLE) from error
    except (ValueError, RecursionError) as error:
        raise Broken(file, keep_aside(file), "not JSON") from error
    if not isinstance(found, dict):
        raise Broken(file, keep_aside(file), "not a JSON object")
    return found


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Replace the file in one step, readable by this user alone. On an error the old file stays."""
    make_folder(file.parent)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=2, ensure_ascii=False)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        advice = "Make room there." if error.errno in FULL else ADVICE
        raise DiskError(f"cannot write {file}: {words(error)}", advice) from error


def keep_aside(file: Path) -> Path:
    """Move a broken file out of the way, under a name that says when."""
    kept = file.with_name(f"{file.name}.broken-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        file.replace(kept)
    except OSError as error:
        raise DiskError(f"cannot move the damaged {file} aside: {words(error)}") from error
    return kept
