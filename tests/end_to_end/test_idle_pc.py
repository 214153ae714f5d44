"""An idle PC gives, and its owner takes it back: a real node and worker, a real X server, and a GPU and
system services that tell what the tests set."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.desk import SOON, Desk, desk, while_
from tests.end_to_end.programs import START_SECONDS, kill, until
from tests.fake_gpu import LOST, FakeGpu

pytestmark = pytest.mark.xvfb
GAME = f"quake-{os.getpid()}"


@pytest.fixture(scope="module")
def pc(nvml_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    gpu = FakeGpu(nvml_folder, tmp_path_factory.mktemp("gpu") / "state")
    with desk(gpu) as opened:
        yield opened


def test_nobody_there_then_the_first_key(pc: Desk) -> None:
    """It waits, says for how long, gives; at the first key it says that it leaves, and the memory is free."""
    pc.screen.press()
    assert pc.yields("input")["text"] == "waiting: 1 more minute without input"
    pc.gives()
    assert pc.memory() > 50 << 20 and pc.look()["vram"]["used"] > 50 << 20
    pc.screen.press()
    pc.yields("input")
    assert pc.memory() == 0

    def is_leaving() -> bool:
        # The owner goes on working: after three quiet seconds the PC would give again, unseen.
        pc.screen.press()
        return all(donor["state"] == "leaving" for donor in pc.look("/api/v1/state")["donors"])

    until(is_leaving, SOON)
    events = [(event["state"], (event["reason"] or {}).get("kind")) for event in pc.look("/api/events")]
    left = max(number for number, event in enumerate(events) if event == ("leaving", "input"))
    assert events[left - 1 : left + 2] == [("giving", None), ("leaving", "input"), ("waiting", "input")]


def game(pc: Desk) -> Path:
    """A program that does nothing, under a name that no other on this machine has."""
    path = pc.place.path / GAME
    if not path.exists():
        shutil.copy(str(shutil.which("sleep")), path)
    return path


def cause(pc: Desk, name: str, stack: ExitStack) -> None:
    """Something happens that speaks against giving, until the stack ends."""
    match name:
        case "gpu":
            playing = stack.enter_context(subprocess.Popen([game(pc), "600"]))
            stack.callback(playing.kill)
            pc.gpu.set(processes=((playing.pid, 60),), utilisation=60)
            stack.callback(lambda: pc.gpu.set(processes=(), utilisation=0))
        case "fullscreen":
            stack.enter_context(pc.screen.fullscreen())
        case "inhibitor":
            pc.bus.inhibitors = [("mpv", "idle:sleep")]
            stack.callback(lambda: setattr(pc.bus, "inhibitors", []))
        case "user":
            pc.bus.active = False
            stack.callback(lambda: setattr(pc.bus, "active", True))
        case "program":
            pc.set(yield_programs=[GAME])
            stack.callback(lambda: pc.set(yield_programs=[]))
            playing = stack.enter_context(subprocess.Popen([game(pc), "600"]))
            stack.callback(playing.kill)
        case "battery":
            pc.bus.on_battery = True
            stack.callback(lambda: setattr(pc.bus, "on_battery", False))
        case "metered":
            pc.bus.metered = 1
            stack.callback(lambda: setattr(pc.bus, "metered", 2))
        case "heat":
            pc.gpu.set(temperature=93)
            stack.callback(lambda: pc.gpu.set(temperature=45))
        case "hours":
            away = (time.localtime().tm_hour + 12) % 24
            pc.set(hours=f"{away:02}:00-{(away + 1) % 24:02}:00")
            stack.callback(lambda: pc.set(hours=""))
        case "lost":
            pc.gpu.set(error=LOST)
            stack.callback(lambda: pc.gpu.set(error=0))
        case "told":
            pc.tell(fullscreen="Cyberpunk2077")


CAUSES = {
    "gpu": ("gpu_busy", f"to {GAME}, which uses the GPU"),
    "fullscreen": ("fullscreen", "to Game, which fills the screen"),
    "inhibitor": ("inhibited", "waiting: mpv keeps the screen awake"),
    "user": ("switched_out", "somebody else uses this PC"),
    "program": ("program", f"yielded to {GAME} at"),
    "battery": ("on_battery", "waiting for mains power"),
    "metered": ("metered", "waiting for a network that is not metered"),
    "heat": ("hot", "GPU at 93 °C, resting"),
    "hours": ("hours", "outside the hours that you chose, until"),
    "lost": ("gpu_lost", "the GPU cannot be used: gpu is lost"),
    "told": ("fullscreen", "to Cyberpunk2077, which fills the screen"),
}


@pytest.mark.parametrize(
    "names",
    [
        ("gpu", "inhibitor", "battery", "program"),
        ("fullscreen", "user", "metered"),
        ("hours", "told", "lost", "heat"),
    ],
    ids="+".join,
)
def test_it_yields_and_comes_back(pc: Desk, names: tuple[str, ...]) -> None:
    """To each alone it says to what, the worker is gone, and it stays away while that lasts; after the last
    it comes back by itself."""
    pc.gives()
    with ExitStack() as last:
        for name in names:
            reason, words = CAUSES[name]
            this = ExitStack()
            cause(pc, name, this)
            last.close()
            last.push(this)
            assert words in pc.yields(reason)["text"]
            assert while_(lambda: pc.look()["state"] != "giving", 0.3)
    pc.gives()


def test_a_busy_gpu_of_our_own_is_no_reason(pc: Desk) -> None:
    """What the worker uses does not count against it; nor does a moment of use, or a compositor's few
    percent."""
    pc.gives()
    (worker,) = pc.program.workers()
    compositor = psutil.Process().pid
    pc.gpu.set(match=pc.work(95), processes=((compositor, 8),))
    assert while_(lambda: pc.look()["state"] == "giving", 4)
    pc.gpu.set(match=pc.work(0), processes=())
    assert [process.pid for process in pc.program.workers()] == [worker.pid]


def test_settings_take_the_causes_away(pc: Desk) -> None:
    """Each reaches the running node: what it allows is no reason any more, and is one again when it is set
    back. A locked screen is idle whatever keys are pressed, unless the setting says no."""
    pc.gives()
    allowed = {
        "on_battery": True,
        "on_metered": True,
        "yield_fullscreen": False,
        "yield_gpu_percent": 100,
        "max_gpu_celsius": 100,
    }
    pc.set(**allowed)
    with ExitStack() as stack:
        for name in ("battery", "metered", "fullscreen", "gpu", "heat"):
            cause(pc, name, stack)
        pc.bus.locked = True
        time.sleep(1.5)
        pc.screen.press()
        assert while_(lambda: pc.look()["state"] == "giving", 4), pc.look()
        pc.set(yield_fullscreen=True)
        pc.yields("fullscreen")
        pc.set(on_battery=False, yield_fullscreen=False, locked_is_idle=False)
        pc.yields("on_battery")
    pc.bus.locked = False
    pc.set(
        on_metered=False, yield_fullscreen=True, yield_gpu_percent=15, max_gpu_celsius=80, locked_is_idle=True
    )
    pc.gives()


def test_waits_are_what_the_owner_chose(pc: Desk) -> None:
    """Both waits, each at once: a longer one ends giving or keeps it away, a shorter one brings it back."""
    pc.set(idle_minutes=1440)
    assert pc.yields("input")["text"].startswith("waiting: 1440 more minutes")
    pc.set(idle_minutes=0.05, return_minutes=60, yield_programs=[GAME])
    with subprocess.Popen([game(pc), "600"]) as playing:
        pc.yields("program")
        playing.kill()
    until(lambda: pc.look()["reason"]["until"] is not None, SOON)
    assert pc.look()["reason"]["until"] == pytest.approx(time.time() + 3600, abs=120)
    pc.set(return_minutes=0.05, yield_programs=[])
    pc.gives()


def test_the_device_and_what_is_left_of_it(pc: Desk) -> None:
    """A device that is not there is said, and nothing runs; of one that is, so much is not taken."""
    pc.set(device="cuda:7")
    assert "there is no cuda:7" in pc.yields("no_room")["text"]
    for leave in (11.5, 11):
        pc.set(device="cuda:0", leave_vram_gb=leave)
        left = pc.gpu.card.total - int(leave * 1e9)
        until(lambda left=left: pc.look()["vram"]["cap"] == left, SOON, str(pc.look()["vram"]))
    pc.set(device="cpu", leave_vram_gb=None)
    pc.gives()


def test_warm_is_rested_before_it_is_left(pc: Desk) -> None:
    """A little above the limit the worker goes on, with rests, and says so."""
    pc.gives()
    pc.gpu.set(temperature=83)
    until(lambda: pc.look()["reason"] is not None, 5)
    assert pc.look()["state"] == "giving" and pc.look()["reason"]["text"] == "GPU at 83 °C, resting"
    assert pc.place.answer("ask", "What is Idlebloom?", "--max-tokens", "3")["finish"] == "length"
    pc.gpu.set(temperature=45)
    until(lambda: pc.look()["reason"] is None, 15)


def test_own_chats_keep_the_worker_from_the_owner(pc: Desk) -> None:
    """Who chats touches the keyboard: the layers stay for them, others are turned away; with the setting off,
    the worker goes."""
    pc.gives()
    pc.place.answer("ask", "What is Idlebloom?", "--max-tokens", "3")
    (worker,) = pc.program.workers()
    pc.screen.press()
    until(lambda: (pc.look()["reason"] or {}).get("kind") == "own_chat", 5, str(pc.look()))
    assert pc.look()["state"] == "waiting"
    assert pc.place.answer("ask", "What is Idlebloom?", "--max-tokens", "3")["finish"] == "length"
    assert [process.pid for process in pc.program.workers()] == [worker.pid]
    until(lambda: pc.look()["state"] == "giving", 10)
    pc.set(own_chat_uses_gpu=False)
    pc.screen.press()
    pc.yields("input")
    pc.set(own_chat_uses_gpu=True)


def test_giving_now_and_pausing(pc: Desk) -> None:
    """*Give now* gives while keys are pressed; *finish* ends it when readers have moved; a pause says until
    when; resuming ends it."""
    pc.screen.press()
    status = json.loads(pc.place.run("give", "1h", "--json").out)
    assert status["version"]
    pc.screen.press()
    pc.gives()
    assert pc.look()["giving_until"] == pytest.approx(time.time() + 3600, abs=60)
    pc.screen.press()
    assert while_(lambda: pc.look()["state"] == "giving", 1)
    pc.order("finish")
    pc.yields("paused")
    assert pc.look()["giving_until"] is None
    pc.place.run("pause", "until", "tomorrow")
    assert pc.yields("paused")["text"].startswith("paused until tomorrow 08:00")
    refused = pc.place.run("pause", "soon")
    assert refused.process.returncode == 2 and "15m, 1h or tomorrow" in refused.err
    pc.order("resume")
    until(lambda: (pc.look()["reason"] or {}).get("kind") != "paused", 5)


def counted(pc: Desk) -> dict[str, Any]:
    found = pc.look("/api/given")["all"]
    assert isinstance(found, dict)
    return found


def test_what_is_given_is_counted(pc: Desk) -> None:
    """Tokens, conversations and bytes of answers; neither ledger nor logs nor bundle hold a word of them, nor
    who asked."""
    pc.gives()
    before = counted(pc)
    answers = [pc.place.answer("ask", "What is Idlebloom?", "--max-tokens", str(n)) for n in (7, 12)]
    tokens = sum(len(answer["token_ids"]) for answer in answers)
    # The first token of an answer is drawn by the step that ends its prompt.
    until(
        lambda: counted(pc)["tokens"] - before["tokens"] >= tokens - 2, 10, str((before, counted(pc), tokens))
    )
    time.sleep(1.5)
    after = counted(pc)
    assert tokens - 2 <= after["tokens"] - before["tokens"] <= tokens + 2
    assert after["conversations"] - before["conversations"] == 2
    assert after["up_bytes"] > before["up_bytes"]
    assert pc.look()["today"]["tokens"] == after["tokens"]
    kept = json.loads((pc.program.data / "ledger.json").read_text())
    assert sum(day["tokens"] for day in kept["days"].values()) == after["tokens"]
    bundle = pc.place.path / "bundle.zip"
    assert pc.place.run("bundle", str(bundle)).process.returncode == 0
    with zipfile.ZipFile(bundle) as packed:
        told = [packed.read(name).decode() for name in packed.namelist()]
    told += [log.read_text() for log in pc.program.data.rglob("*.log")]
    said = [answer["text"].strip() for answer in answers]
    for text in (json.dumps(kept), *told):
        assert not any(words in text for words in ("Idlebloom?", "12D3Koo", "/ip4/", *said))


def test_a_killed_worker_comes_back_under_the_same_rules(pc: Desk) -> None:
    """It is trouble, with when it is tried again; and input meanwhile is still input."""
    pc.gives()
    before = counted(pc)
    kill(pc.program.workers())
    until(lambda: pc.look()["state"] == "trouble", 5)
    pc.screen.press()
    pc.yields("input")
    pc.gives()
    assert counted(pc)["tokens"] == before["tokens"] > 0


def test_where_nothing_tells_of_input_it_is_said(pc: Desk) -> None:
    """No display, no session: nothing is given, with the way out; and a bus that hangs holds up nothing."""
    pc.program.send(signal.SIGTERM)
    assert pc.program.wait() == 0
    assert pc.program.err == "" and pc.program.is_gone()
    pc.bus.silent = True
    headless = pc.place.start("node", "--port", "0", environment=pc.bus.environment | pc.gpu.environment)
    headless.line(START_SECONDS)
    status = pc.look()
    assert (status["state"], status["reason"]["kind"]) == ("waiting", "no_idle_source")
    assert "idlebloom settings set donate always" in status["reason"]["text"]
    until(lambda: (pc.tell(idle_seconds=500), pc.look()["state"] != "waiting")[1], 10)
