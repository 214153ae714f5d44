"""What every test may rely on: its own data folder, and a word about tests that this system cannot run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fake_gpu import FakeGpu, build

NEEDS: dict[str, tuple[str, Callable[[], bool]]] = {
    "chromium": ("no Chromium", lambda: bool(shutil.which("chromium") and shutil.which("chromedriver"))),
    "xvfb": ("no Xvfb", lambda: shutil.which("Xvfb") is not None),
    "root": ("not root", lambda: os.geteuid() == 0),
}
LONG = {"installers", "end_to_end"}
"""Folders whose files take minutes: `./test`, which runs two processes, begins with them."""
not_run: dict[str, str] = {}
"""Tests that were skipped here, and why."""


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the settings or the keyring of whoever runs it."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("IDLEBLOOM_HOME", str(folder))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.fail.Keyring")
    return folder


@pytest.fixture(scope="session")
def nvml_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library of ``tests.fake_gpu`` lies."""
    folder = tmp_path_factory.mktemp("nvml")
    build(folder)
    return folder


@pytest.fixture
def fake_gpu(nvml_folder: Path, tmp_path: Path) -> FakeGpu:
    """A GPU that tells what the test sets, to whoever is given its environment."""
    return FakeGpu(nvml_folder, tmp_path / "gpu")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, (why, is_there) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not is_there():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=why))
    items.sort(key=lambda item: LONG.isdisjoint(item.path.parts))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Also of tests that ran in another process."""
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        not_run[report.nodeid] = reason.removeprefix("Skipped: ")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a test that could not run is a failure: nobody would notice otherwise."""
    if not_run and os.environ.get("CI") == "true" and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line names what was not tested."""
    if not_run and not hasattr(config, "workerinput"):
        names = ", ".join(f"{nodeid} ({reason})" for nodeid, reason in not_run.items())
        print(f"Skipped: {names}")
