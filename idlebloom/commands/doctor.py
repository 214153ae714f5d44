"""``idlebloom doctor``: what works on this PC, what does not, and the fix.

Each check is a function that gives a ``Finding``; to add one, write it and add it to ``CHECKS``.
Only what makes Idlebloom unusable here fails; what narrows it down is a warning.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from core.door import find
from core.errors import DiskError
from core.paths import Paths, bundled_model
from core.preferences import Preferences
from core.settings import DECLARED, Settings, chosen
from core.words import size

NAME = "doctor"
HELP = "what works on this PC, what does not, and the fix"

PACKAGES = (
    "torch",
    "hivemind",
    "tokenizers",
    "safetensors",
    "bitsandbytes",
    "flask",
    "flask-sock",
    "keyring",
)
INSTALL = "Install again: ./run in the source tree."
NEEDED_MEMORY = 2e9
NEEDED_DISK = 1e9
HUB = "https://huggingface.co"
"""Unless the environment names another, as for fetching."""
HUB_SECONDS = 4.0


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    level: Level
    name: str
    message: str
    fix: str = ""


def ok(name: str, message: str) -> Finding:
    return Finding(Level.OK, name, message)


def warn(name: str, message: str, fix: str) -> Finding:
    return Finding(Level.WARN, name, message, fix)


def fail(name: str, message: str, fix: str) -> Finding:
    return Finding(Level.FAIL, name, message, fix)


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(args: argparse.Namespace, paths: Paths) -> int:
    findings = []
    for finding in examine(paths):
        findings.append(finding)
        if not args.json:
            fix = f" {finding.fix}" if finding.fix else ""
            print(f"{finding.level:4}  {finding.name:9}  {finding.message}.{fix}", flush=True)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    return 1 if any(finding.level is Level.FAIL for finding in findings) else 0


def examine(paths: Paths) -> Iterator[Finding]:
    """All checks, each as soon as it is done."""
    for check in CHECKS:
        yield check(paths)


def check_python(_: Paths) -> Finding:
    return ok("python", f"Python {platform.python_version()} in {sys.prefix}")


def check_packages(_: Paths) -> Finding:
    versions = {name: _version(name) for name in PACKAGES}
    if missing := [name for name, version in versions.items() if not version]:
        return fail("packages", f"{' and '.join(missing)} cannot be found", INSTALL)
    return ok("packages", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def check_gpu(_: Paths) -> Finding:
    from core.pc.gpu import read_gpus

    gpus = read_gpus()
    if not gpus.found:
        trouble = gpus.trouble or "the driver sees no GPU"
        return warn("gpu", f"no GPU to serve with: {trouble}", "Chatting works all the same.")
    seen = ", ".join(
        f"{gpu.name} with {size(gpu.free_bytes)} of {size(gpu.memory_bytes)} free" for gpu in gpus.found
    )
    if "+cpu" in _version("torch"):
        return warn(
            "gpu", f"{seen}, but PyTorch is the CPU build", "./run remove, then ./run, fetches the other."
        )
    return ok("gpu", f"{seen}, driver {gpus.driver}")


def check_memory(_: Paths) -> Finding:
    from core.pc.machine import read_machine

    machine = read_machine()
    said = f"{size(machine.available_bytes)} of {size(machine.memory_bytes)} free, {machine.cores} cores"
    if machine.available_bytes < NEEDED_MEMORY:
        return warn("memory", said, f"The demo needs about {size(NEEDED_MEMORY)}: close other programs.")
    return ok("memory", said)


def check_folders(paths: Paths) -> Finding:
    try:
        paths.make()
    except DiskError as error:
        return fail("folders", error.message, error.advice)
    return ok("folders", f"settings in {paths.settings}, cache in {paths.cache}, runtime in {paths.runtime}")


def check_disk(paths: Paths) -> Finding:
    from core.pc.machine import free_disk

    free = free_disk(paths.cache)
    said = f"{size(free)} free for {paths.cache}"
    if free < NEEDED_DISK:
        return warn("disk", said, "Make room, or choose another folder with --data DIR.")
    return ok("disk", said)


def check_settings(paths: Paths) -> Finding:
    try:
        preferences = Preferences(paths.settings_file)
    except DiskError as error:
        return fail("settings", error.message, error.advice)
    if preferences.notice:
        return warn("settings", preferences.notice.rstrip("."), "Set again what you had chosen.")
    count = len(chosen(preferences.settings))
    return ok("settings", f"{count} of {len(DECLARED)} differ from the defaults")


def check_port(paths: Paths) -> Finding:
    from core.pc.machine import port_is_free

    if node := find(paths.door_file):
        return ok("port", f"the node is running at {node.url}")
    try:
        port = Preferences(paths.settings_file).settings.port
    except DiskError:
        port = Settings().port  # check_settings has said it
    if port_is_free(port):
        return ok("port", f"{port} is free on 127.0.0.1")
    fix = f"The next free one is used; to choose: idlebloom settings set port {port + 10}"
    return warn("port", f"another program listens on {port}", fix)


def check_keyring(paths: Paths) -> Finding:
    from core.handed import HANDED, VARIABLE, WHERE
    from core.secrets import keyring_trouble

    if os.environ.get(VARIABLE) == HANDED:
        return ok("keyring", f"secrets are kept {WHERE}, and here in the node's memory alone")
    trouble = keyring_trouble()
    if trouble:
        return ok("keyring", f"{trouble}; secrets are kept in {paths.secrets_file}, readable by you alone")
    return ok("keyring", "the keyring answers")


def check_p2pd(_: Paths) -> Finding:
    """The program that speaks libp2p, without importing hivemind, which takes seconds."""
    spec = importlib.util.find_spec("hivemind")
    program = Path(spec.origin).parent / "hivemind_cli" / "p2pd" if spec and spec.origin else None
    if program is None or not program.exists():
        return fail("network", "p2pd, the program that speaks to peers, is missing", INSTALL)
    try:
        done = subprocess.run([program, "--help"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return fail("network", f"p2pd, the program that speaks to peers, does not run: {error}", INSTALL)
    if b"-hostAddrs" not in done.stdout + done.stderr:
        return fail("network", "p2pd, the program that speaks to peers, is damaged", INSTALL)
    return ok("network", "p2pd, the program that speaks to peers, runs")


def check_swarm(paths: Paths) -> Finding:
    """Whether the chosen swarm's meeting points answer."""
    import asyncio

    from idlebloom.reachability import Verdict, test

    try:
        chosen_swarm = Preferences(paths.settings_file).settings.swarm
    except DiskError:
        chosen_swarm = ()  # check_settings has said it
    if not chosen_swarm:
        return ok("swarm", "no swarm is chosen; this PC is one of its own")

    async def ask() -> list[Verdict]:
        return await asyncio.gather(*(test(address) for address in chosen_swarm))

    answers = len(chosen_swarm) - asyncio.run(ask()).count(Verdict.SILENT)
    if not answers:
        fix = "Check the network, and the addresses: idlebloom settings get swarm. Or join with a newer link."
        return warn("swarm", "none of its meeting points answers", fix)
    return ok("swarm", f"its meeting points answer, {answers} of {len(chosen_swarm)}")


def check_reach(paths: Paths) -> Finding:
    """Whether others can dial this PC, as its node or meeting point has found out."""
    from core.swarm.whereabouts import find as find_network
    from idlebloom.reachability import FIXES, Verdict, judged

    network = find_network(paths.runtime)
    if network is None:
        return ok("reach", "no node or meeting point runs that could tell whether others can dial this PC")
    verdict = judged(Verdict.HERE, network.access)
    if verdict is Verdict.NEEDS_MEETING_POINT:
        relayed = any("/p2p-circuit/" in address for address in network.addresses)
        how = "others reach it through a meeting point" if relayed else "and no meeting point relays to it"
        return warn("reach", f"the internet cannot dial this PC; {how}", FIXES[verdict])
    said = {
        Verdict.REACHABLE: "others can dial this PC from the internet",
        Verdict.HOME: "others can dial this PC in its home network; nobody beyond was asked",
    }
    return ok("reach", said.get(verdict, "nobody was asked whether this PC can be dialled"))


def check_clock(paths: Paths) -> Finding:
    """Against the swarm's meeting points, which a running node has asked; else against the hub."""
    from core.swarm.watchdog import CLOCK_SECONDS
    from core.swarm.whereabouts import find as find_network

    network = find_network(paths.runtime)
    behind, whose = (None, "") if network is None else (network.behind, "the swarm's meeting points'")
    if behind is None:
        behind, whose = _behind_hub(), f"{_hub()}'s"
    if behind is None:
        return ok("clock", "nobody could be asked whether this PC's clock is right")
    if abs(behind) > CLOCK_SECONDS:
        way = "behind" if behind > 0 else "ahead of"
        return warn(
            "clock",
            f"this PC's clock is {abs(behind):.0f} s {way} {whose}, and more than 3 s keep others from "
            "believing its records",
            "Switch on network time: timedatectl set-ntp true",
        )
    return ok("clock", f"this PC's clock agrees with {whose}")


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT") or HUB


def _behind_hub() -> float | None:
    """Seconds that this PC's clock is behind the hub's, to about one; ``None``: it does not tell."""
    import time
    from email.utils import parsedate_to_datetime

    asked = time.time()
    try:
        said = parsedate_to_datetime(_ask_hub().get("Date", "")).timestamp()
    except (OSError, ValueError):
        return None
    # The hub's time is cut to whole seconds, and was told somewhere in between.
    return said + 0.5 - (asked + time.time()) / 2


def _ask_hub() -> Mapping[str, str]:
    """The headers of its answer, whatever that is. Raises ``OSError``."""
    import urllib.error
    import urllib.request

    request = urllib.request.Request(_hub(), method="HEAD")  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=HUB_SECONDS) as answer:  # noqa: S310 – the owner's
            return dict(answer.headers)
    except urllib.error.HTTPError as error:
        error.close()  # it answers, which is all that was asked
        return dict(error.headers)


def check_bundled(_: Paths) -> Finding:
    folder = bundled_model()
    missing = [n for n in ("config.json", "tokenizer.json", "model.safetensors") if not (folder / n).exists()]
    if missing:
        return fail("model", f"the bundled model lacks {' and '.join(missing)} in {folder}", INSTALL)
    held = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return ok("model", f"the bundled model is there, {size(held)}")


def check_hub(_: Paths) -> Finding:
    try:
        _ask_hub()
    except OSError as error:
        why = getattr(error, "reason", error)
        return warn("hub", f"{_hub()} cannot be reached ({why})", "The bundled model and local folders work.")
    return ok("hub", f"{_hub()} can be reached")


CHECKS: tuple[Callable[[Paths], Finding], ...] = (
    check_python,
    check_packages,
    check_gpu,
    check_memory,
    check_folders,
    check_disk,
    check_settings,
    check_port,
    check_keyring,
    check_p2pd,
    check_swarm,
    check_reach,
    check_clock,
    check_bundled,
    check_hub,
)
