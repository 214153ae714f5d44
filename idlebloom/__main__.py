"""``idlebloom`` and ``python -m idlebloom``."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    # An installed wheel keeps core, webchat and desktop under _app (docs/decisions/0001).
    app = Path(__file__).resolve().parent / "_app"
    if app.is_dir() and str(app) not in sys.path:
        sys.path.insert(0, str(app))

    from idlebloom.launch import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
