"""``idlebloom`` and ``python -m idlebloom``."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path


def main() -> int:
    _prepare()
    # An installed wheel keeps core, webchat and desktop under _app (docs/decisions/0001).
    app = Path(__file__).resolve().parent / "_app"
    if app.is_dir() and str(app) not in sys.path:
        sys.path.insert(0, str(app))

    from idlebloom.launch import main

    return main(sys.argv[1:])


def _prepare() -> None:
    """Ctrl-C ends the program without a word until a command runs; no file or socket takes the number of a
    standard stream that is closed; and no text fails for what a terminal cannot show."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None and sys.platform != "win32":
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115 for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
