"""The documentation says what the program has."""

from __future__ import annotations

from pathlib import Path

from core.settings import DECLARED, as_markdown
from idlebloom import launch

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_settings_page_is_the_declaration() -> None:
    """docs/settings.md is what the declarations make of it; it is written anew by
    ``python -c "from core.settings import as_markdown; print(as_markdown(), end='')"``."""
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert page == as_markdown()
    assert all(f"## {name}\n" in page for name in DECLARED)


def test_every_command_is_documented() -> None:
    """Each command offered has its line in docs/commands.md."""
    page = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert [c.NAME for c in launch.offered() if f"| `idlebloom {c.NAME}" not in page] == []
