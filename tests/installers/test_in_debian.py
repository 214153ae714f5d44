"""The package in a clean Debian 12 with nothing but the registries to reach, and the root file system that
WSL2 imports: from the first start over the tray to the purge. One Debian is fetched, and one environment is
built, for all of it; so the tests here build upon each other in their order."""

from __future__ import annotations

import configparser
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from core.door import RunningNode
from core.handover import Handed, line
from core.secrets import Secret
from tests.end_to_end.programs import START_SECONDS, folder
from tests.installers.chroot import Chroot
from tests.screen import virtual_screen

TOP = Path(__file__).resolve().parents[2]
QUESTION = "What is Idlebloom?"
KEY = "ib-of-windows"
pytestmark = [pytest.mark.root, pytest.mark.xvfb]


def until(holds: Callable[[], object], seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the systems lie: folders of root's, removed at the end."""
    made = tmp_path_factory.mktemp("systems")
    made.parent.chmod(0o755)
    yield made
    subprocess.run(["rm", "-rf", "--one-file-system", made], check=True)


@pytest.fixture(scope="module")
def base(build: ModuleType, place: Path) -> Path:
    """A clean Debian 12."""
    import rootfs

    rootfs.base(place / "base", build.moment())
    return place / "base"


@pytest.fixture(scope="module")
def debian(build: ModuleType, deb: Path, base: Path, place: Path) -> Chroot:
    """A clean Debian with the package, its recommended libraries, and a user Anna who never used it."""
    made = Chroot(place / "debian", "anna", {"SSL_CERT_FILE": "/host-ca.crt", "IDLEBLOOM_WHEELS": "/wheels"})
    subprocess.run(["cp", "-a", base, made.root], check=True)
    (made.root / "wheels").mkdir()
    if wheels := os.environ.get("PIP_FIND_LINKS"):
        made.binds[Path(wheels)] = "/wheels"
    shutil.copyfile("/etc/resolv.conf", made.root / "etc" / "resolv.conf")
    shutil.copyfile("/etc/ssl/certs/ca-certificates.crt", made.root / "host-ca.crt")
    shutil.copyfile(deb, made.root / "tmp" / deb.name)
    # What a desktop has already is not needed here: a progress window and a bus.
    wanted = [name for name in build.RECOMMENDS if name not in ("python3-tk", "dbus-user-session")]
    libraries = [name.rpartition("| ")[2] for name in wanted]
    made.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", f"/tmp/{deb.name}", *libraries)
    made.run("useradd", "--create-home", "--uid", "1000", "anna")
    return made


def environment(system: Chroot) -> Path:
    return system.home / ".local" / "share" / "idlebloom"


def test_an_ordinary_users_first_command_answers(debian: Chroot) -> None:
    """It says how much it fetches, builds the environment and answers; the second one fetches nothing."""
    answer = debian.say("idlebloom", "demo", "--ask", QUESTION, "--greedy", "--json")
    assert "first start fetches" in answer.stderr
    found = json.loads(answer.stdout)
    assert "Idlebloom" in found["text"] and len(found["route"]) == 3
    assert list((environment(debian) / "wheels").iterdir()) == []
    again = debian.say("idlebloom", "settings", "set", "port", "7800")
    assert "fetches" not in again.stderr
    assert (debian.home / ".config" / "idlebloom" / "settings.json").exists()


def windows(display: str) -> str:
    """All windows of the screen, as a tree."""
    environment = {**os.environ, "DISPLAY": display}
    command = ["xwininfo", "-root", "-tree"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def icon_in_panel(tree: str) -> bool:
    """Whether a window of Idlebloom's lies inside the panel's: those below a line are indented further."""
    lines = tree.splitlines()
    deep = [len(line) - len(line.lstrip()) for line in lines]
    panel = next((at for at, line in enumerate(lines) if '("panel" "trayer")' in line), len(lines))
    inside = itertools.takewhile(lambda at: deep[at] > deep[panel], range(panel + 1, len(lines)))
    return any('("Idlebloom" "Idlebloom")' in lines[at] for at in inside)


def test_the_tray_opens(debian: Chroot, tmp_path: Path) -> None:
    """The first start on a desktop fetches what a window needs; then its icon sits in the panel and the first
    run's window is on the screen. Told to end, it does."""
    with virtual_screen() as screen:
        panel = subprocess.Popen(["trayer"], env={**os.environ, **screen.environment})
        run = debian.home / "run"
        run.mkdir(mode=0o700)
        os.chown(run, 1000, 1000)
        command = debian.as_user(
            "idlebloom", more={**screen.environment, "XDG_RUNTIME_DIR": "/home/anna/run"}
        )
        tray = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: tray.poll() is not None or "Welcome to Idlebloom" in windows(screen.name))
            until(lambda: tray.poll() is not None or icon_in_panel(windows(screen.name)))
            picture = tmp_path / "tray.png"
            subprocess.run(["import", "-display", screen.name, "-window", "root", picture], check=True)
            if os.environ.get("IDLEBLOOM_PICTURES") == "1":
                shutil.copyfile(picture, TOP / "docs" / "images" / "installed.png")
            psutil.Process(tray.pid).children(recursive=True)[-1].terminate()
            said = tray.communicate(timeout=30)[1]
        finally:
            tray.kill()
            panel.terminate()
            panel.wait()
    assert "Traceback" not in said, said
    shutil.rmtree(run)


@pytest.fixture(scope="module")
def distribution(build: ModuleType, base: Path, debian: Chroot, place: Path) -> Chroot:
    """What ``wsl --import`` makes of the root file system. The environment that Anna's first start built
    serves there too: it is for the same files and the same Python."""
    archive = build.rootfs(place, base)
    made = Chroot(place / "wsl", "idlebloom")
    made.root.mkdir()
    subprocess.run(["tar", "-xzp", "--numeric-owner", "-f", archive, "-C", made.root], check=True)
    shared = environment(made)
    for folder_ in (shared.parents[1], shared.parent, shared):
        folder_.mkdir()
        os.chown(folder_, 1000, 1000)
    made.binds[environment(debian)] = f"/{shared.relative_to(made.root)}"
    return made


def test_the_root_file_system_is_a_nodes_alone(distribution: Chroot, build: ModuleType) -> None:
    """It starts as its own user, sees nothing of Windows, tells its release, and carries licences."""
    settings = configparser.ConfigParser()
    settings.read(distribution.root / "etc" / "wsl.conf")
    assert settings["user"]["default"] == "idlebloom"
    assert (settings["automount"]["enabled"], settings["interop"]["enabled"]) == ("false", "false")
    assert (distribution.root / "etc" / "idlebloom-version").read_text() == f"{build.version()}\n"
    assert list((distribution.root / "dev").iterdir()) == []
    assert (distribution.root / "usr/share/doc/libssl3/copyright").exists()
    assert (distribution.root / "usr/share/doc/idlebloom/copyright").exists()
    said = distribution.say("/usr/lib/idlebloom/setup", "headless", "--json").stdout.splitlines()
    assert [line for line in said if "phase" not in json.loads(line)] == []
    assert distribution.say("idlebloom", "--version").stdout.split()[-1] == build.version()


def test_its_node_joins_a_swarm_and_serves_it(distribution: Chroot) -> None:
    """As Windows starts it: a line says where it listens, a reader elsewhere gets an answer from it, and it
    ends with its input. A key that its input brought opens it, and lies in no file; without the node a
    command says who has it."""
    with folder() as reader:
        meeting = reader.start("bootstrap", "--host", "127.0.0.1", "--json")
        address = json.loads(meeting.line())["addresses"][0]
        distribution.say("idlebloom", "settings", "set", "donate", "always")
        command = distribution.as_user(
            "idlebloom", *f"node --owned --handover --json --port 0 --peers {address}".split()
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        node = subprocess.Popen(command, text=True, **pipes)
        assert node.stdout is not None and node.stdin is not None
        try:
            handed = Handed("a token that nobody guesses", {}, {Secret.API_KEY: KEY})
            node.stdin.write(line(handed).decode())
            node.stdin.flush()
            ready = json.loads(node.stdout.readline())
            assert ready["url"].startswith("http://127.0.0.1:")
            # root is another user than the node's, whom only the key lets in
            assert RunningNode(ready["url"], node.pid, KEY).request("/v1/models")["data"]
            reader.run("settings", "set", "swarm", address)
            until(lambda: reader.answer("swarm")["whole"])
            answer = reader.answer("ask", QUESTION, "--greedy")
            assert "Idlebloom" in answer["text"] and len(answer["route"]) == 1
        finally:
            _, said = node.communicate(timeout=30)
        assert (node.returncode, said) == (0, "")
        command = distribution.as_user("idlebloom", "key")
        alone = subprocess.run(command, capture_output=True, text=True, check=False)
        assert alone.returncode == 1 and "Start Idlebloom from the start menu" in alone.stderr
        small = [path for path in distribution.home.rglob("*.json*") if path.stat().st_size < 10**6]
        assert not [path for path in small if KEY.encode() in path.read_bytes()]


def test_a_new_release_renews_it_and_keeps_what_is_the_users(distribution: Chroot, place: Path) -> None:
    """What is cut off on its way changes nothing; what is whole takes the old one's place, and homes stay."""
    version = distribution.root / "etc" / "idlebloom-version"
    mine = distribution.home / ".config" / "idlebloom" / "settings.json"
    kept, new = mine.read_text(), version.read_text()
    version.write_text("0.0.1\n")
    (distribution.root / "etc" / "resolv.conf").write_text("nameserver 10.0.0.1\n")
    (distribution.root / "usr" / "lib" / "idlebloom" / "lock.json").write_text("old")
    whole = next(place.glob("*.tar.gz")).read_bytes()

    def renew(sent: bytes) -> int:
        command = distribution.enter("/usr/lib/idlebloom/renew")
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(
            command, input=sent, env=environment, capture_output=True, check=False
        ).returncode

    assert renew(whole[: len(whole) // 2]) != 0
    assert version.read_text() == "0.0.1\n" and not (distribution.root / "var/lib/idlebloom-new").exists()
    assert renew(whole) == 0
    assert (version.read_text(), mine.read_text()) == (new, kept)
    assert (distribution.root / "etc" / "resolv.conf").read_text() == "nameserver 10.0.0.1\n"
    assert distribution.say("idlebloom", "settings", "get", "donate").stdout == "always\n"
    assert not (distribution.root / "var/lib/idlebloom-new").exists()


def test_purged_it_leaves_nothing(debian: Chroot) -> None:
    """Removing the package takes the environment away, purging it all else, and another user's files stay."""
    mine = debian.home / "mine.txt"
    mine.write_text("kept")
    settings = debian.home / ".config" / "idlebloom" / "settings.json"
    assert environment(debian).exists()
    debian.run("apt-get", "remove", "-y", "-qq", "idlebloom")
    assert (environment(debian).exists(), settings.exists()) == (False, True)
    debian.run("apt-get", "purge", "-y", "-qq", "idlebloom")
    found = subprocess.run(
        ["find", debian.root, "-xdev", "-iname", "*idlebloom*"], capture_output=True, text=True, check=True
    )
    left = [line for line in found.stdout.splitlines() if not line.endswith("_amd64.deb")]
    assert [line for line in left if "/var/log/" not in line and "/var/cache/" not in line] == []
    assert mine.read_text() == "kept"
