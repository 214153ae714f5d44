"""hivemind, imported late and made quiet. Beside it only ``core.swarm.dht`` imports it."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from core.errors import SwarmError

log = logging.getLogger(__name__)


class Hive(NamedTuple):
    """What is used of hivemind."""

    P2P: Any
    Multiaddr: Any
    messages: Any
    """The protobufs of p2pd's control socket."""
    make_node: Any
    """Of ``core.swarm.dht``."""


_loading = threading.Lock()
"""Its modules import each other in circles: of two threads that import it, one would find half a module."""


def load() -> Hive:
    """Imports hivemind, which imports torch: 1 to 4 s the first time. Safe in a thread.

    Raises ``SwarmError`` if that fails.
    """
    try:
        with _loading:
            return _load()
    except ImportError as error:
        raise SwarmError(f"hivemind cannot be loaded: {error}", "Install Idlebloom again.") from error


def _only_its_parts() -> None:
    """hivemind's own ``__init__`` imports all that trains models with it, scipy included: nearly a second of
    every start, and tens of megabytes. Its parts that we use import each other, and nothing of that."""
    if "hivemind" in sys.modules:
        return
    spec = importlib.util.find_spec("hivemind")
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("No module named 'hivemind'")
    package = ModuleType("hivemind")
    package.__spec__, package.__path__ = spec, list(spec.submodule_search_locations)
    sys.modules["hivemind"] = package


def _load() -> Hive:
    _only_its_parts()
    with warnings.catch_warnings():  # torch warns of what hivemind's unused parts do at import
        warnings.simplefilter("ignore")
        from hivemind.p2p import P2P
        from hivemind.proto import p2pd_pb2
        from hivemind.utils.logging import use_hivemind_log_handler
        from hivemind.utils.multiaddr import Multiaddr

        from core.swarm.dht import make_node

    use_hivemind_log_handler("nowhere")
    logger = logging.getLogger("hivemind")
    logger.setLevel(logging.WARNING)
    # It warns of each request that a handler refuses: strangers could fill the log.
    logging.getLogger("hivemind.p2p").setLevel(logging.ERROR)
    if not logger.handlers:
        # Else a warning goes to the terminal where nobody has set up logging.
        logger.addHandler(logging.NullHandler())
    logging.addLevelName(logging.WARNING, "WARNING")  # hivemind renames it for everybody
    return Hive(P2P, Multiaddr, p2pd_pb2, make_node)


def quiet(loop: asyncio.AbstractEventLoop) -> None:
    """Keeps what hivemind's unattended tasks raise from being printed: it spawns one for each
    message it receives and never looks at them again, so strangers could fill the log."""
    before = loop.get_exception_handler()
    if isinstance(before, _Quiet):
        return
    loop.set_exception_handler(_Quiet(before))


_OURS = Path(__file__).with_name("dht.py")


class _Quiet:
    def __init__(self, before: Any) -> None:
        self._before = before

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        task = context.get("task") or context.get("future")
        if isinstance(task, asyncio.Task) and (_is_hivemind(task) or _is_left_over(task, context)):
            log.debug("in hivemind: %s", context.get("message"), exc_info=context.get("exception"))
        elif self._before is not None:
            self._before(loop, context)
        else:
            loop.default_exception_handler(context)


def _is_hivemind(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    file = Path(code.co_filename) if code is not None else None
    return file is not None and ("hivemind" in file.parts or file == _OURS)


def _is_left_over(task: asyncio.Task[Any], context: dict[str, Any]) -> bool:
    """Whether it only waited for an event that nobody can set any more: a look-up in the DHT that is given up
    leaves such tasks behind (``hivemind.dht.traverse``), and asyncio tells of each when it is collected."""
    waits = getattr(task.get_coro(), "__qualname__", "") == asyncio.Event.wait.__qualname__
    return waits and "destroyed" in str(context.get("message"))
