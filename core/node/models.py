"""From the setting ``model`` to a folder that a reader can use: configuration and tokenizer, no weights."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from core.errors import ModelError, NodeError
from core.meter import Throttle
from core.model.fetch import Fetcher
from core.model.hub import Hub, Patience, Source
from core.model.shelf import Shelf
from core.node.checkpoint import Model
from core.paths import bundled_model
from core.secrets import Secret, Vault
from core.settings import BUNDLED
from core.words import size

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@.*)?")
READER_PATIENCE = Patience(tries=3, first=1.0, longest=4.0, silence=15.0)
"""Someone waits at a terminal for these few files."""


def chosen(text: str) -> Path | Source:
    """What the setting ``model`` names: a folder that is there, or a model on the hub. Raises
    ``ModelError``."""
    if text == BUNDLED:
        return bundled_model()
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder.absolute()
    if _HUB_ID.fullmatch(text.strip()) and not text.startswith(("/", ".", "~")):
        return Source.parse(text)
    raise ModelError(
        f"there is no model folder {folder}",
        f"Choose another: idlebloom settings set model FOLDER, a model on the hub such as "
        f"bigscience/bloomz-560m, or {BUNDLED}.",
    )


def hub_token(secrets: Vault) -> str | None:
    """What the environment says, else what was given to ``idlebloom model token``. None where nobody can be
    asked: few models need one, and the hub says so."""
    try:
        return os.environ.get("HF_TOKEN") or secrets.get(Secret.HUB_TOKEN)
    except NodeError:
        return None


async def find_model(
    text: str,
    shelf: Shelf,
    *,
    token: str | None = None,
    throttle: Throttle | None = None,
    patience: Patience = READER_PATIENCE,
    say: Callable[[str], None] = lambda words: None,
) -> Model:
    """The chosen model, fetched as far as a reader needs it: nothing where that is there already.
    Raises ``ModelError``, ``DiskError``."""
    what = chosen(text)
    if isinstance(what, Path):
        return Model.read(what)
    say(f"asking for {what.model_id}")
    async with Hub(token=token, throttle=throttle, patience=patience) as hub:
        folder = await Fetcher(hub, shelf).reader(
            what, lambda done, total: say(f"fetching {what.model_id}: {size(done)} of {size(total)}")
        )
    return Model.read(folder)
