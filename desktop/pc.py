"""What this PC has for layers, as far as choosing a model needs it, and words about it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from core.model.config import ModelConfig
from core.pc.gpu import Gpu, Gpus, read_gpus
from core.pc.machine import free_disk, read_machine
from core.serving.outlook import Outlook, outlook
from core.words import _, size

OLD_DRIVER = 550
"""PyTorch's CUDA build needs at least this NVIDIA driver."""
LEAST = 4 * 10**9
"""Video memory with less than this holds little beside a desktop."""


@dataclass(frozen=True)
class Pc:
    gpu: Gpu | None
    driver: str
    trouble: str
    memory: int
    """Bytes of system memory."""
    free: int
    """Bytes of the disk."""

    @classmethod
    def read(cls, folder: Path) -> Pc:
        gpus = read_gpus()
        return cls(_best(gpus), gpus.driver, gpus.trouble, read_machine().memory_bytes, free_disk(folder))

    def room(self, leave_gb: float | None = None) -> int:
        """Bytes of memory for layers, what is left to the owner taken off."""
        if self.gpu is None:
            return self.memory // 2
        total = self.gpu.memory_bytes
        return int(total - (max(2e9, total / 4) if leave_gb is None else leave_gb * 1e9))

    def outlook(self, config: ModelConfig, leave_gb: float | None = None, disk_gb: float = 50.0) -> Outlook:
        disk = min(self.free, int(disk_gb * 1e9))
        return outlook(config, memory=self.room(leave_gb), disk=disk, gpu=self.gpu is not None)


def shares_folders() -> bool:
    """Whether the node sees this PC's folders. In Windows' Linux it does not."""
    return sys.platform != "win32"


def _best(gpus: Gpus) -> Gpu | None:
    return max(gpus.found, key=lambda gpu: gpu.memory_bytes, default=None)


def found(pc: Pc) -> str:
    """What was found, in one line."""
    memory = _("{size} of memory, {free} of disk free").format(size=size(pc.memory), free=size(pc.free))
    if pc.gpu is None:
        return memory
    return _("{name} with {size}, driver {driver}; {rest}").format(
        name=pc.gpu.name, size=size(pc.gpu.memory_bytes), driver=pc.driver, rest=memory
    )


def lacks(pc: Pc) -> str:
    """What keeps this PC from giving with its GPU, and what to do; empty where nothing does."""
    chat = _("Chatting works all the same.")
    if pc.gpu is None:
        if pc.trouble in ("", "no NVIDIA driver"):
            none = _(
                "No NVIDIA driver was found. With an NVIDIA graphics card: install its driver, start this PC "
                "again, then Idlebloom."
            )
            return f"{none} {chat}"
        odd = _(
            "The NVIDIA driver answers: {trouble}. Installing it again, or starting this PC again, may help."
        )
        return f"{odd.format(trouble=pc.trouble)} {chat}"
    major = pc.driver.partition(".")[0]
    if major.isdigit() and int(major) < OLD_DRIVER:
        old = _("The NVIDIA driver {driver} is too old: install {needed} or newer.")
        return f"{old.format(driver=pc.driver, needed=OLD_DRIVER)} {chat}"
    if pc.gpu.memory_bytes < LEAST:
        small = _("The graphics card has too little memory to hold much of a model.")
        return f"{small} {chat}"
    if pc.free < 2 * 10**9:
        return _(
            "The disk has too little space for layers: make room, or choose another folder in the settings."
        )
    return ""


def holds(of: Outlook, blocks: int) -> str:
    """``about 5 of 70 blocks, 25 GB to fetch; about 14 such PCs make it whole``."""
    if of.whole:
        return _("all of it, {size} to fetch").format(size=size(of.fetch))
    if of.pcs == 0:
        return _("nothing of it: too little memory or disk")
    return _("about {held} of {blocks} blocks, {size} to fetch; about {pcs} such PCs make it whole").format(
        held=of.blocks, blocks=blocks, size=size(of.fetch), pcs=of.pcs
    )


def holds_in(of: Outlook, blocks: int) -> str:
    """The same with the time that fetching takes."""
    if of.whole:
        return f"{holds(of, blocks)}, {minutes(of.fetch)}"
    if of.pcs == 0:
        return holds(of, blocks)
    words = _("about {held} of {blocks} blocks, {size} to fetch, {time}; about {pcs} such PCs make it whole")
    return words.format(
        held=of.blocks, blocks=blocks, size=size(of.fetch), time=minutes(of.fetch), pcs=of.pcs
    )


def minutes(count: int, mbit: float = 100.0) -> str:
    """How long fetching takes at a usual speed."""
    return _("about {count} min at {mbit} Mbit/s").format(
        count=max(1, round(count * 8 / mbit / 1e6 / 60)), mbit=f"{mbit:g}"
    )
