"""The command line: finds the command, runs it, and turns whatever happens into words and an exit code.

A command is a module in ``idlebloom.commands`` with ``NAME``, ``HELP``, ``arguments(parser)`` and
``run(args, paths) -> int``. Its top level imports nothing heavy: help for all of them is one import
of each. To add one, write the module and add its name to ``COMMANDS``.

Exit codes: 0 done, 1 it failed and stderr has one line about it, 2 bad arguments, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.util
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from core.errors import DiskError, IdlebloomError, UserError
from core.paths import FULL, HOME_VARIABLE, Paths, make_folder, words
from idlebloom import tray

COMMANDS = (
    "demo",
    "ask",
    "node",
    "swarm",
    "status",
    "pause",
    "resume",
    "give",
    "settings",
    "model",
    "key",
    "invite",
    "join",
    "bootstrap",
    "doctor",
    "bundle",
)
"""In the order that help shows. A name without a module yet is not offered."""


class BadArguments(UserError):
    """What was typed makes no sense, whatever runs and whatever is there: exit code 2."""


class Command(Protocol):
    NAME: str
    HELP: str

    def arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace, paths: Paths) -> int: ...


def main(argv: Sequence[str]) -> int:
    commands = {command.NAME: command for command in offered()}
    parser = make_parser(commands)
    args = parser.parse_args(argv)
    if args.command is None:
        if tray.is_possible():
            return guarded(cast(Command, tray), args, Paths.of(args.data))
        parser.print_help()
        return 0
    if sys.platform == "win32":
        return guarded(Elsewhere(argv), args, Paths.of(args.data))
    return guarded(commands[args.command], args, Paths.of(args.data))


@dataclass(frozen=True)
class Elsewhere:
    """Any command on Windows, whose node lives in its Linux."""

    argv: Sequence[str]
    NAME: str = "windows"
    HELP: str = ""

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """The command's own."""

    def run(self, args: argparse.Namespace, paths: Paths) -> int:
        from idlebloom.on_windows import forward

        return forward(self.argv)


def offered() -> Iterator[Command]:
    for name in COMMANDS:
        if importlib.util.find_spec(f"idlebloom.commands.{name}") is not None:
            yield cast(Command, importlib.import_module(f"idlebloom.commands.{name}"))


def guarded(command: Command, args: argparse.Namespace, paths: Paths) -> int:
    """Run a command; no traceback reaches a user."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # while the program was read, see __main__
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = command.run(args, paths)
        sys.stdout.flush()
    except BadArguments as error:
        return _say(str(error), 2)
    except IdlebloomError as error:
        return _say(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone.
        _forget_output()
        return 141
    except Exception as error:  # noqa: BLE001 – the last place that can turn it into words
        if isinstance(error, OSError) and error.errno in FULL:
            _forget_output()
            return _say(f"{words(error)}. Free some space, or let the output go elsewhere.")
        return _say(f"unexpected {type(error).__name__}: {error}; {_log(command.NAME, paths)}")
    return code


def _forget_output() -> None:
    """What is still buffered must not raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(line: str, code: int = 1) -> int:
    print(f"idlebloom: {' '.join(line.split())}", file=sys.stderr)
    return code


def _log(command: str, paths: Paths) -> str:
    """Write the current traceback to the log; where it went, in words."""
    try:
        make_folder(paths.state)
        with paths.log_file.open("a", encoding="utf-8") as log:
            when = time.strftime("%Y-%m-%d %H:%M:%S%z")
            log.write(f"{when} idlebloom {command}\n{traceback.format_exc()}\n")
    except (OSError, DiskError) as error:
        return f"the details could not be written: {error}"
    return f"details in {paths.log_file}"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all errors of this program do."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            near = difflib.get_close_matches(str(value), choices, n=1)
            hint = f"did you mean “{near[0]}”?" if near else f"there are {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"“{value}” is unknown, {hint}")

    def error(self, message: str) -> NoReturn:
        self.exit(
            2, f"{self.prog}: {message}{'' if message.endswith('?') else '.'} See {self.prog} --help.\n"
        )


def make_parser(commands: dict[str, Command]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="idlebloom",
        description="Lend an idle GPU to a swarm that runs BLOOM, and chat with the whole model.",
        epilog="idlebloom COMMAND --help tells more about one command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"idlebloom {version()}")
    parser.set_defaults(json=False, data=None)
    _everywhere(parser)
    group = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, command in commands.items():
        sub = group.add_parser(name, help=command.HELP, description=command.HELP, allow_abbrev=False)
        _everywhere(sub)
        command.arguments(sub)
    return parser


def _everywhere(parser: argparse.ArgumentParser) -> None:
    """Options that stand before or after the command. SUPPRESS: one given before is not reset after."""
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        default=argparse.SUPPRESS,
        help=f"keep settings, state and cache in this folder (or set {HOME_VARIABLE})",
    )


def version() -> str:
    try:
        return metadata.version("idlebloom")
    except metadata.PackageNotFoundError:
        return "from source"
