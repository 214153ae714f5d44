"""How an incoming stream is served, whatever carries it."""

from __future__ import annotations

import logging

from core.swarm.peer import Handler, Stream, StreamClosed

log = logging.getLogger(__name__)


async def run_handler(protocol: str, handler: Handler, stream: Stream) -> None:
    """Runs the handler to its end and closes the stream; what it raises is logged."""
    try:
        await handler(stream)
    except StreamClosed:
        log.debug("%s: the stream from %s ended", protocol, stream.remote)
    except Exception:
        log.exception("%s: serving %s failed", protocol, stream.remote)
    finally:
        stream.close()
