"""The setup for Windows: built here twice, installed and removed under Wine. It carries a stand-in for the
distribution, which has tests of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from core.secrets import Secret
from tests.screen import virtual_screen

TOP = Path(__file__).resolve().parents[2]
SECRETS = ("idlebloom", *(f"{secret}@idlebloom" for secret in Secret), "someone@else")
RING = "HKCU\\Software\\Wine\\Credential Manager"
"""Where Wine keeps what Windows has in its keyring."""
RECORDER = Path(__file__).with_name("recorder.nsi")
pytestmark = pytest.mark.skipif(
    not (shutil.which("makensis") and shutil.which("wine")), reason="needs makensis and wine"
)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("idlebloom_build", TOP / "installers" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.path.copy()
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@dataclass(frozen=True)
class Made:
    stage: Path
    setup: Path


@dataclass(frozen=True)
class Windows:
    """A user's Windows as Wine has it."""

    prefix: Path

    @property
    def local(self) -> Path:
        return next((self.prefix / "drive_c" / "users").glob("[!P]*")) / "AppData" / "Local"

    @property
    def program(self) -> Path:
        return self.local / "Programs" / "Idlebloom"

    @property
    def data(self) -> Path:
        return self.local / "Idlebloom"

    @property
    def menu(self) -> Path:
        roaming = self.local.parent / "Roaming" / "Microsoft" / "Windows"
        return roaming / "Start Menu" / "Programs" / "Idlebloom.lnk"

    @property
    def environment(self) -> dict[str, str]:
        variables = {"WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all", "DISPLAY": ""}
        return os.environ | variables | {"WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe="}

    def run(self, *command: str | Path) -> str:
        """Its output goes through a file: what stays up holds a pipe open for ever."""
        said = self.prefix / "said.txt"
        with said.open("wb") as out:
            subprocess.run(
                ["wine", *command],
                env=self.environment,
                stdout=out,
                stderr=subprocess.DEVNULL,
                stdin=subprocess.DEVNULL,
                timeout=120,
                check=False,
            )
        return said.read_text(encoding="utf-8", errors="replace")

    def begin(self) -> None:
        """It stays up between commands."""
        subprocess.run(["wineserver", "-p"], env=self.environment, stdout=subprocess.DEVNULL, check=True)

    def end(self) -> None:
        """What is started next finds the screen of then."""
        subprocess.run(["wineserver", "-k"], env=self.environment, check=False)
        subprocess.run(["wineserver", "-w"], env=self.environment, timeout=60, check=True)

    def remove(self, *more: str) -> None:
        """It goes on in a copy of itself, since Windows lets nobody delete a program that runs."""
        self.run(self.program / "uninstall.exe", "/S", *more)
        until(lambda: not self.program.exists())

    def value(self, key: str, name: str) -> str:
        key = f"HKCU\\Software\\Microsoft\\Windows\\CurrentVersion\\{key}"
        text = self.run("reg", "query", key, "/v", name)
        return text.partition("REG_SZ")[2].strip()

    def left(self) -> list[str]:
        """All that there is of Idlebloom, in the user's files and registry."""
        user = self.local.parent.parent
        found = [str(path.relative_to(user)) for path in user.rglob("*") if "idlebloom" in path.name.lower()]
        registry = self.run("reg", "query", "HKCU\\Software", "/s").lower()
        assert "currentversion" in registry
        return found + [line for line in registry.splitlines() if "idlebloom" in line]


def until(so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not so():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def started(folder: Path) -> list[str]:
    log = folder / "started.txt"
    return log.read_text(encoding="utf-16-le").splitlines() if log.exists() else []


def recorder(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["makensis", "-V1", "-NOCD", f"-DOUT={target}", RECORDER], check=True)


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    made = Windows(tmp_path_factory.mktemp("wine") / "prefix")
    made.prefix.mkdir()
    made.begin()
    made.run("wineboot", "-i")
    yield made
    made.end()
    shutil.rmtree(made.prefix)


@pytest.fixture(scope="module")
def made(build: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("windows")
    stage = folder / "stage"
    (stage / "packed").mkdir(parents=True)
    (stage / "packed" / "rootfs.tar.gz").write_bytes(b"a distribution")
    build.stage_windows(stage, stage / "packed")
    return Made(stage, build.windows_of(stage, folder / "one"))


def test_two_builds_give_the_same_bytes(build: ModuleType, made: Made, tmp_path: Path) -> None:
    """Whatever the times of the files that it is made from. Without uv, which takes long to pack."""
    builds = []
    for name in ("one", "two"):
        stage = tmp_path / "stage"
        shutil.copytree(made.stage, stage, ignore=shutil.ignore_patterns("uv.exe"))
        builds.append(build.windows_of(stage, tmp_path / name).read_bytes())
        shutil.rmtree(stage)
    assert builds[0] == builds[1]


def windows_path(wine: Windows, name: str) -> str:
    user = wine.local.parent.parent.name
    return f"C:\\users\\{user}\\AppData\\Local\\Programs\\Idlebloom\\{name}"


def test_installed_and_started(made: Made, wine: Windows) -> None:
    """Silently, without an administrator: program, start menu, list of programs, start at login where asked;
    always in its own folder. uv, which does not run under Wine, does not stop it. Its launcher starts Python
    with what was laid down."""
    mine = wine.prefix / "drive_c" / "mine"
    mine.mkdir()
    (mine / "file").touch()
    wine.run(made.setup, "/S", "/LOGIN", "/D=C:\\mine")
    assert [path.name for path in mine.iterdir()] == ["file"]
    files = [path for path in made.stage.rglob("*") if path.is_file()]
    assert {path.name for path in wine.program.iterdir()} == {p.name for p in files} | {"uninstall.exe"}
    assert [p.name for p in files if (wine.program / p.name).read_bytes() != p.read_bytes()] == []
    assert wine.menu.exists()
    version = (wine.program / "version").read_text().strip()
    assert wine.value("Uninstall\\Idlebloom", "DisplayVersion") == version
    assert wine.value("Run", "Idlebloom") == f'"{windows_path(wine, "Idlebloom.exe")}"'

    number = json.loads((made.stage / "lock.json").read_text())["python"]
    python = wine.data / "python" / f"cpython-{number}-windows-x86_64-none"
    recorder(python / "pythonw.exe")
    wine.run(wine.program / "Idlebloom.exe")
    until(lambda: bool(started(python)))
    (line,) = started(python)
    assert line.endswith(f'pythonw.exe" -I "{windows_path(wine, "launch.py")}"')


def test_removed_without_a_word_it_keeps_the_models(wine: Windows) -> None:
    """The distribution is unregistered after its disk was set aside; settings and secrets stay, all else
    goes."""
    for name in SECRETS:
        wine.run("reg", "add", f"{RING}\\Generic: {name}", "/ve", "/d", "x", "/f")
    system = wine.prefix / "drive_c" / "windows" / "system32"
    recorder(system / "wsl.exe")
    for part in ("env/Scripts", "wheels", "linux", "idlebloom"):
        (wine.data / part).mkdir(parents=True)
    (wine.data / "idlebloom" / "settings.json").write_text("{}")
    (wine.data / "window.ready").touch()
    (wine.data / "linux" / "ext4.vhdx").write_text("models")
    wine.remove()
    asked = [line.partition("--")[2] for line in started(system)]
    assert asked == ["terminate Idlebloom", "unregister Idlebloom"]
    kept = [str(path.relative_to(wine.data)) for path in sorted(wine.data.rglob("*")) if path.is_file()]
    assert kept == ["idlebloom/settings.json", "kept/ext4.vhdx"]
    assert not wine.menu.exists() and wine.value("Run", "Idlebloom") == ""
    ring = wine.run("reg", "query", RING)
    assert all(f"Generic: {name}" in ring for name in SECRETS)


@pytest.mark.xvfb
def test_clicked_through_by_a_person(made: Made, wine: Windows, tmp_path: Path) -> None:
    """They agree, see what is installed, with the start at login not chosen, and need not have it run."""
    wine.end()
    with virtual_screen() as screen:
        here = {**wine.environment, **screen.environment}
        streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        setup = subprocess.Popen(["wine", made.setup], env=here, **streams)
        picture = tmp_path / "setup.png"

        def seen() -> bytes:
            subprocess.run(
                ["import", "-window", "root", "-strip", f"RGB:{tmp_path / 'now'}"], env=here, check=True
            )
            return (tmp_path / "now").read_bytes()

        def press(key: str) -> None:
            """What it does is seen, and stands still then."""
            before = seen()
            screen.press(key)
            until(lambda: seen() != before)
            until(lambda: seen() == (time.sleep(0.3) or seen()))

        try:
            until(lambda: screen.windows("Idlebloom Setup"))
            (window,) = screen.windows("Idlebloom Setup")
            until(lambda: len(set(seen())) > 20)
            subprocess.run(["xdotool", "windowfocus", "--sync", window], env=here, check=True)
            press("alt+a")
            subprocess.run(["import", "-window", window, picture], env=here, check=True)
            if os.environ.get("IDLEBLOOM_PICTURES") == "1":
                shutil.copyfile(picture, TOP / "docs" / "images" / "windows-setup.png")
            assert not wine.program.exists()
            press("Return")
            until(lambda: (wine.program / "uninstall.exe").exists())
            until(lambda: seen() == (time.sleep(0.5) or seen()))
            press("space")  # not to be run now
            screen.press("Return")
            setup.wait(60)
        finally:
            setup.kill()
            wine.end()
            wine.begin()
    assert wine.menu.exists() and wine.value("Run", "Idlebloom") == ""


def test_removed_with_all_nothing_is_left(wine: Windows) -> None:
    """Kept models, settings and secrets go too. A distribution of that name whose disk is not in our folder
    is another's, and not touched."""
    system = wine.prefix / "drive_c" / "windows" / "system32"
    (system / "started.txt").unlink()
    wine.remove("/ALL")
    assert started(system) == []
    assert wine.left() == []
    assert "Generic: someone@else" in wine.run("reg", "query", RING)
