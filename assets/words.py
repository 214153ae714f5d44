"""Gathers every text for people from the sources into assets/locale, and compiles the translations.

    python -m assets.words        writes the .po files anew, and the .mo files that the program reads

Texts are what ``_``, ``N_`` and ``several`` are called with, and the settings' labels and help. Translate
by editing the .po file, then run this again. A text that has gone from the sources goes from the files.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import polib

from core.kinds import Choice, Decimal, Switch, Whole
from core.settings import DECLARED

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "assets" / "locale"
SOURCES = ("core", "desktop", "webchat", "idlebloom")
Message = tuple[str, str]
"""A text, and its form for several (empty where it counts nothing)."""


def messages() -> dict[Message, str]:
    """Every text with the file that it was first found in, in the order of the files."""
    found: dict[Message, str] = {}
    for top in SOURCES:
        for file in sorted((ROOT / top).rglob("*.py")):
            for message in _in_code(ast.parse(file.read_text(encoding="utf-8"))):
                found.setdefault(message, str(file.relative_to(ROOT)))
    for setting in DECLARED.values():
        spoken = () if isinstance(setting.kind, Whole | Decimal | Choice | Switch) else (setting.kind.words,)
        for text in (setting.label, setting.help, setting.unit, *spoken):
            if text:
                found.setdefault((text, ""), "core/settings.py")
    return found


def _in_code(tree: ast.AST) -> Iterator[Message]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if name in ("_", "N_") and texts and texts[0]:
            yield texts[0], ""
        elif name == "several" and len(texts) >= 2:
            yield texts[0], texts[1]


def renew(file: Path) -> polib.POFile:
    """The translations of ``file`` for the texts that there are now."""
    known = {(e.msgid, e.msgid_plural): e for e in polib.pofile(str(file))} if file.exists() else {}
    fresh = polib.POFile(wrapwidth=100)
    language = file.parent.parent.name
    fresh.metadata = {
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": "nplurals=2; plural=(n != 1);",
    }
    for (text, several), source in messages().items():
        old = known.get((text, several))
        entry = polib.POEntry(msgid=text, msgid_plural=several, occurrences=[(source, "")])
        if several:
            entry.msgstr_plural = old.msgstr_plural if old else {0: "", 1: ""}
        else:
            entry.msgstr = old.msgstr if old else ""
        fresh.append(entry)
    return fresh


def main() -> int:
    for file in sorted(LOCALE.glob("*/LC_MESSAGES/idlebloom.po")):
        fresh = renew(file)
        fresh.save(str(file))
        fresh.save_as_mofile(str(file.with_suffix(".mo")))
        left = fresh.untranslated_entries()
        print(f"{file.parent.parent.name}: {len(fresh)} texts, {len(left)} without a translation")
        for entry in left:
            print(f"  {entry.occurrences[0][0]}: {entry.msgid}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
