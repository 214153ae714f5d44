from __future__ import annotations

import http.server
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest

from core import json_file
from core.paths import Paths
from core.pc import gpu
from core.preferences import Preferences
from core.swarm.identity import Identity
from idlebloom import launch, reachability
from idlebloom.commands import doctor
from idlebloom.commands.doctor import Finding, Level


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_the_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each finding is a line with its fix, or one JSON object; only a failure makes the exit code 1."""
    findings = {
        "a": Finding(Level.OK, "a", "it is there"),
        "b": Finding(Level.WARN, "b", "it is slow", "Wait."),
    }
    monkeypatch.setattr(doctor, "CHECKS", [lambda _, f=f: f for f in findings.values()])
    assert launch.main(["doctor"]) == 0
    assert capsys.readouterr().out == "ok    a          it is there.\nwarn  b          it is slow. Wait.\n"
    monkeypatch.setattr(doctor, "CHECKS", [lambda _: Finding(Level.FAIL, "c", "it is broken", "Mend it.")])
    assert launch.main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {"level": "fail", "name": "c", "message": "it is broken", "fix": "Mend it."}
    ]


@pytest.mark.parametrize("check", doctor.CHECKS, ids=lambda check: check.__name__)
def test_each_check_answers(check: Callable[[Paths], Finding], monkeypatch: pytest.MonkeyPatch) -> None:
    """On any PC each check answers, and whatever is not right has its fix."""
    monkeypatch.setattr(doctor, "HUB", "http://127.0.0.1:9")
    finding = check(Paths.of())
    assert finding.message
    assert bool(finding.fix) == (finding.level is not Level.OK)


def test_essentials_are_found_here() -> None:
    """Where the tests run, packages and p2pd are there."""
    assert doctor.check_packages(Paths.of()).level is Level.OK
    assert doctor.check_p2pd(Paths.of()).level is Level.OK


def test_a_missing_package_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is missing is named."""
    monkeypatch.setattr(doctor, "PACKAGES", ("torch", "not-there"))
    finding = doctor.check_packages(Paths.of())
    assert (finding.level, finding.message) == (Level.FAIL, "not-there cannot be found")


def test_a_gpu_with_the_cpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that PyTorch's CPU build cannot use is a warning with the way out."""
    monkeypatch.setattr(gpu, "read_gpus", lambda: gpu.Gpus("580", (gpu.Gpu("RTX", 8 << 30, 6 << 30),)))
    monkeypatch.setattr(doctor, "_version", lambda _: "2.13.0+cpu")
    finding = doctor.check_gpu(Paths.of())
    assert finding.level is Level.WARN
    assert "RTX with 6.4 GB of 8.6 GB free, but PyTorch is the CPU build" in finding.message
    monkeypatch.setattr(doctor, "_version", lambda _: "2.13.0")
    assert doctor.check_gpu(Paths.of()).level is Level.OK


def test_a_taken_port(free_port: int) -> None:
    """A port that another program has is a warning; a free one is fine."""
    paths = Paths.of()
    Preferences(paths.settings_file).change({"port": free_port})
    assert doctor.check_port(paths).level is Level.OK
    with socket.create_server(("127.0.0.1", free_port)):
        assert doctor.check_port(paths).level is Level.WARN


def test_broken_settings(home: Path) -> None:
    """A broken settings file is a warning, once."""
    (home / "settings.json").write_text("{")
    assert doctor.check_settings(Paths.of()).level is Level.WARN
    assert doctor.check_settings(Paths.of()).level is Level.OK


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    """A data folder that cannot be made is a failure with the way out."""
    (tmp_path / "file").write_text("")
    finding = doctor.check_folders(Paths.of(tmp_path / "file"))
    assert finding.level is Level.FAIL
    assert "--data DIR" in finding.fix


@pytest.mark.parametrize(
    ("behind", "level", "said"),
    [
        (0.4, Level.OK, "agrees with the swarm's meeting points'"),
        (7200.0, Level.WARN, "is 7200 s behind the swarm's meeting points'"),
        (-5.0, Level.WARN, "is 5 s ahead of the swarm's meeting points'"),
    ],
)
def test_a_wrong_clock(home: Path, behind: float, level: Level, said: str) -> None:
    """What the running node was told of its clock by meeting points is repeated, with the fix."""
    paths = Paths.of().make()
    json_file.write(
        paths.runtime / "network.json",
        {"pid": os.getpid(), "addresses": [], "access": "unknown", "private": False, "behind": behind},
    )
    finding = doctor.check_clock(paths)
    assert finding.level is level and said in finding.message


@pytest.mark.parametrize(("ahead", "level"), [(0, Level.OK), (-3600, Level.WARN), (3600, Level.WARN)])
def test_a_clock_without_a_node(
    home: Path, monkeypatch: pytest.MonkeyPatch, ahead: int, level: Level
) -> None:
    """Then the hub is asked what time it is, whatever else it answers."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(404)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() + ahead, usegmt=True)

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(doctor, "HUB", f"http://127.0.0.1:{server.server_port}")
        finding = doctor.check_clock(Paths.of())
        server.shutdown()
    assert finding.level is level, finding
    assert doctor.HUB in finding.message


def test_a_missing_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundled model that lacks a file is a failure that names it."""
    monkeypatch.setattr(doctor, "bundled_model", lambda: tmp_path)
    (tmp_path / "config.json").write_text("{}")
    finding = doctor.check_bundled(Paths.of())
    assert finding.level is Level.FAIL
    assert "lacks tokenizer.json and model.safetensors" in finding.message


def test_a_p2pd_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A p2pd that cannot be started is a failure."""
    package = tmp_path / "hivemind"
    (package / "hivemind_cli").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, "hivemind", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "missing" in doctor.check_p2pd(Paths.of()).message
    (package / "hivemind_cli" / "p2pd").write_text("")
    assert "does not run" in doctor.check_p2pd(Paths.of()).message


def test_meeting_points_that_do_not_answer_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them that does is enough; without any, the PC is a swarm of its own."""
    assert doctor.check_swarm(Paths.of()).level is Level.OK
    dead, live = (f"/ip4/127.0.0.1/tcp/{port}/p2p/{Identity.make().peer_id}" for port in (1, 2))
    preferences = Preferences(Paths.of().settings_file)
    preferences.change({"swarm": [dead]})
    silent = doctor.check_swarm(Paths.of())
    assert silent.level is Level.WARN and "idlebloom settings get swarm" in silent.fix

    async def answers(_: str, port: int) -> bool:
        return port == 2

    monkeypatch.setattr(reachability, "answers", answers)
    preferences.change({"swarm": [dead, live]})
    assert doctor.check_swarm(Paths.of()).message == "its meeting points answer, 1 of 2"
