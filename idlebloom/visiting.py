"""A temporary client of the chosen swarm, for commands where no node runs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from core.errors import NodeError
from core.handed import secrets_of
from core.model.fetch import Fetcher
from core.model.hub import Hub, Source
from core.model.progress import FetchProgress
from core.node.checkpoint import Model
from core.node.licences import Licences
from core.node.models import READER_PATIENCE, chosen, find_model, hub_token
from core.node.node import Node
from core.node.storage import Storage
from core.paths import Paths
from core.preferences import Preferences
from core.secrets import Vault
from core.settings import Settings
from core.swarm.p2p import start_peer
from core.terms import Span
from core.words import size
from idlebloom.launch import version
from idlebloom.membership import stored_secret
from idlebloom.progress import Progress
from idlebloom.temporary import sweep, temporary_folder

NOTHING_TO_ASK = "no node is running and no swarm is chosen"
ADVICE = (
    "Start one with: idlebloom node. Or join a swarm: idlebloom settings set swarm ADDRESS. "
    "Or try it alone: idlebloom demo"
)


async def model_of(
    text: str, settings: Settings, paths: Paths, *, quiet: bool = False, secrets: Vault | None = None
) -> Model:
    """The model that ``text`` names, as far as a reader needs it; what is missing is fetched, with a line
    on a terminal. Raises ``ModelError``, ``DiskError``."""
    progress = Progress(quiet=quiet or not sys.stderr.isatty())
    try:
        shelf = Storage.of(settings, paths).shelf
        token = hub_token(secrets or secrets_of(paths)) if isinstance(chosen(text), Source) else None
        return await find_model(text, shelf, token=token, say=progress.say)
    finally:
        progress.done()


async def fetch_all(source: Source, model: Model, settings: Settings, paths: Paths, *, quiet: bool) -> None:
    """Fetches every layer of a model on the hub. Raises ``ModelError``, ``DiskError``."""
    progress = Progress(quiet=quiet or not sys.stderr.isatty())

    def tell(at: FetchProgress) -> None:
        left = "" if at.seconds_left is None else f", {at.seconds_left:.0f} s left"
        progress.say(f"fetching {source.model_id}: {size(at.done)} of {size(at.total)}{left}")

    try:
        async with Hub(token=hub_token(secrets_of(paths)), patience=READER_PATIENCE) as hub:
            fetcher = Fetcher(hub, Storage.of(settings, paths).shelf)
            await fetcher.span(source, Span(0, model.config.layers), tell)
    finally:
        progress.done()


@contextlib.asynccontextmanager
async def visitor(paths: Paths) -> AsyncIterator[Node]:
    """A node that only asks, for as long as the block runs."""
    settings = Preferences(paths.settings_file).settings
    if not settings.swarm:
        raise NodeError(NOTHING_TO_ASK, ADVICE)
    model = await model_of(settings.model, settings, paths)
    secret = await asyncio.to_thread(stored_secret, secrets_of(paths))
    sweep()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        peer = await start_peer(
            identity=folder / "visitor.key",
            runtime=folder,
            initial_peers=settings.swarm,
            client_only=True,
            secret=secret,
        )
        stack.push_async_callback(peer.close)
        node = Node(peer, model, version())
        stack.push_async_callback(node.close)
        node.licences = Licences(paths.licences_file)
        yield node
