"""Quantized layers on disk, a file a layer: written whole or not at all, and checked when read.

A file is safetensors whose metadata holds a hash of its tensors: SHA-256 over the SHA-256 of their pieces,
which the threads that read it work out on the way (``core.model.reading``). (One SHA-256 over all, after
reading, held a start up: a core hashes no faster than a good disk reads.) Layers rather than spans are kept,
so that a span that grows, shrinks or moves by a layer uses what is there.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from core.errors import ModelError
from core.model.config import ModelConfig
from core.model.parts import disk_error, sync_folder
from core.model.reading import digest_of, read
from core.model.stored import layer_file, store_folder
from core.paths import make_folder

log = logging.getLogger(__name__)

PIECES, WHOLE = "sha256-of-pieces", "sha256"
"""What a file's metadata call its hash: WHOLE in files made before."""
CPU = torch.device("cpu")


class Store:
    """Quantized layers of one model, revision and kind, in ``folder``. Layers are named as their tensors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, layer: str) -> Path:
        return layer_file(self.folder, layer)

    def size(self, layer: str) -> int:
        """Bytes of a layer's file; 0 where there is none."""
        try:
            return self.path(layer).stat().st_size
        except OSError:
            return 0

    def read(self, layer: str, device: torch.device = CPU) -> dict[str, Tensor] | None:
        """A layer's tensors, in the memory of ``device``. None where there is none; a damaged one is removed
        and said."""
        path = self.path(layer)
        try:
            found = read(path, device)
        except FileNotFoundError:
            return None
        except (SafetensorError, ModelError, ValueError, OSError) as error:
            log.warning("%s cannot be read (%s) and is made anew", path, error)
            sound = False
        else:
            pieces, whole = found.metadata.get(PIECES), found.metadata.get(WHOLE)
            sound = pieces == found.digest if pieces else whole is not None and whole == _whole(found.tensors)
        if not sound:
            log.warning("%s is damaged and is made anew", path)
            path.unlink(missing_ok=True)
            return None
        os.utime(path)  # its time is when it was last used: core.model.shelf
        return found.tensors

    def write(self, layer: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep a layer. DiskError where it cannot be written; nothing is left of it then."""
        path = layer_file(make_folder(self.folder), layer)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        here = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(here, draft, metadata={PIECES: digest_of(here)})
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(path)
            sync_folder(self.folder)
        except (OSError, SafetensorError) as error:
            draft.unlink(missing_ok=True)
            known = error if isinstance(error, OSError) else OSError(str(error))
            raise disk_error(path, known) from error


def store_of(root: Path, folder: Path, config: ModelConfig, kind: str) -> Store:
    """Where quantized layers of the checkpoint in ``folder`` are kept below ``root``."""
    return Store(store_folder(root, folder, config, kind))


def _whole(tensors: Mapping[str, Tensor]) -> str:
    """As files were hashed before."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
