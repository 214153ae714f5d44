"""A temporary client of the chosen swarm, for commands where no node runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from core.errors import ModelError, NodeError
from core.node.node import Model, Node
from core.paths import Paths, bundled_model
from core.preferences import Preferences
from core.settings import BUNDLED, Settings
from core.swarm.p2p import start_peer
from idlebloom.launch import version
from idlebloom.temporary import sweep, temporary_folder

NOTHING_TO_ASK = "no node is running and no swarm is chosen"
ADVICE = (
    "Start one with: idlebloom node. Or join a swarm: idlebloom settings set swarm ADDRESS. "
    "Or try it alone: idlebloom demo"
)


def model_of(settings: Settings) -> Model:
    """The model that is chosen, read and checked. Raises ``ModelError``."""
    if settings.model == BUNDLED:
        return Model.read(bundled_model())
    folder = Path(settings.model).expanduser()
    if not folder.is_dir():
        raise ModelError(
            f"there is no model folder {folder}",
            f"Choose another: idlebloom settings set model FOLDER, or {BUNDLED}.",
        )
    return Model.read(folder.absolute())


@contextlib.asynccontextmanager
async def visitor(paths: Paths) -> AsyncIterator[Node]:
    """A node that only asks, for as long as the block runs."""
    settings = Preferences(paths.settings_file).settings
    if not settings.swarm:
        raise NodeError(NOTHING_TO_ASK, ADVICE)
    model = model_of(settings)
    sweep()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        peer = await start_peer(
            identity=folder / "visitor.key",
            runtime=folder,
            initial_peers=settings.swarm,
            client_only=True,
        )
        stack.push_async_callback(peer.close)
        node = Node(peer, model, version())
        stack.push_async_callback(node.close)
        yield node
