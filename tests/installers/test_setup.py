"""The first start, against a package index of the test's own over real, tiny wheels and the real uv."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

LINUX = Path(__file__).resolve().parents[2] / "installers" / "linux"
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def make_wheel(name: str, ballast: int = 0) -> bytes:
    """A wheel of one module, padded with bytes that do not compress."""
    info = f"{name}-1.0.dist-info"
    members: dict[str, bytes] = {
        f"{name}.py": b"VALUE = 42\n",
        f"{name}_ballast.bin": os.urandom(ballast),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"])
    path = Path(f"/tmp/{name}-{os.getpid()}.whl")
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/RECORD", record)
    data = path.read_bytes()
    path.unlink()
    return data


@dataclass
class Index:
    """Serves files by name, with ranges, as slow or as broken as a test wants; counts what it sent."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    cut_after: int | None = None
    cuts: int = 0
    pause: float = 0.0
    status: int = 0
    ranges: bool = True
    before: Callable[[str], None] = lambda name: None
    """Called with a file's name before it is sent."""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        name = handler.path.rpartition("/")[2]
        if self.status:
            handler.send_error(self.status)
            return
        self.before(name)
        data, start = self.files[name], 0
        asked = handler.headers.get("Range")
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        end = len(data)
        if self.cuts:
            self.cuts -= 1
            end = min(end, start + (self.cut_after or 0))
        for at in range(start, end, 65536):
            part = data[at : min(at + 65536, end)]
            handler.wfile.write(part)
            self.sent[name] = self.sent.get(name, 0) + len(part)
            time.sleep(self.pause)
        if end < len(data):
            handler.connection.close()


@pytest.fixture
def index() -> Iterator[Index]:
    served = Index()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                served.answer(self)
            except (BrokenPipeError, ConnectionError):
                pass  # the reader was killed, as some tests do

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    yield served
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Install:
    """A release over the index, a user's home, and the first start as a process."""

    index: Index
    folder: Path
    home: Path
    lock: dict[str, Any]

    def add(self, name: str, group: str, ballast: int = 0) -> str:
        data, filename = make_wheel(name, ballast), f"{name}-1.0-py3-none-any.whl"
        self.index.files[filename] = data
        entry = {
            "file": filename,
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": len(data),
            "url": f"{self.index.url}/{filename}",
        }
        self.lock["packages"][name] = {"version": "1.0", "group": group, "files": {PYTHON: entry}}
        self.write()
        return filename

    def write(self) -> None:
        (self.folder / "lock.json").write_text(json.dumps(self.lock))

    @property
    def place(self) -> Path:
        return self.home / ".local" / "share" / "idlebloom"

    def start(self, group: str) -> subprocess.Popen[str]:
        environment = {"HOME": str(self.home), "PATH": os.environ["PATH"], "IDLEBLOOM_RETRY_SECONDS": "0.01"}
        command = [sys.executable, "-I", str(self.folder / "setup.py"), group, "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def run(self, group: str = "node") -> tuple[int, list[dict[str, Any]]]:
        process = self.start(group)
        out, _ = process.communicate(timeout=120)
        return process.returncode, [json.loads(line) for line in out.splitlines()]

    def error(self, group: str = "node") -> str:
        code, said = self.run(group)
        assert code == 1
        return str(said[-1]["error"])

    def value(self, module: str) -> str:
        command = [self.place / "env" / "bin" / "python", "-c", f"import {module}; print({module}.VALUE)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def installation(index: Index, tmp_path: Path) -> Install:
    folder, home = tmp_path / "lib", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    for module in LINUX.glob("*.py"):
        (folder / module.name).write_bytes(module.read_bytes())
    (folder / "uv").symlink_to(Path(sys.executable).parent / "uv")
    app = make_wheel("idlebloom")
    (folder / "idlebloom-1.0-py3-none-any.whl").write_bytes(app)
    stated = {"name": "idlebloom", "file": "idlebloom-1.0-py3-none-any.whl", "url": "", "size": len(app)}
    (folder / "app.json").write_text(json.dumps({**stated, "sha256": hashlib.sha256(app).hexdigest()}))
    made = Install(index, folder, home, {"pythons": [PYTHON], "packages": {}, "torch_cpu": {PYTHON: {}}})
    data = make_wheel("torch")
    index.files["torch-1.0-py3-none-any.whl"] = data
    made.lock["torch_cpu"][PYTHON] = {
        "file": "torch-1.0-py3-none-any.whl",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "url": f"{index.url}/torch-1.0-py3-none-any.whl",
    }
    made.add("small", "base")
    return made


def test_the_window_comes_first_and_the_rest_after(installation: Install) -> None:
    """The tray's part is installed alone; the rest joins it, fetching nothing twice and leaving no wheels."""
    installation.add("heavy", "node", 3_000_000)
    installation.add("glass", "screen")
    code, said = installation.run("window")
    assert code == 0
    assert (installation.value("small"), installation.value("glass")) == ("42", "42")
    assert "heavy-1.0-py3-none-any.whl" not in installation.index.sent
    code, said = installation.run("node")
    assert (code, installation.value("heavy"), installation.value("torch")) == (0, "42", "42")
    assert installation.index.sent == {n: len(d) for n, d in installation.index.files.items()}
    assert list((installation.place / "wheels").iterdir()) == []
    fetched = [line for line in said if line["phase"] == "fetching"]
    assert fetched[-1]["done_bytes"] == fetched[-1]["total_bytes"] > 3_000_000
    assert installation.run("node") == (0, [])
    assert installation.run("headless") == (0, [])


def test_a_node_without_a_window_fetches_nothing_of_one(installation: Install) -> None:
    """A donor without a screen has no use for it; where one comes later, only that is fetched."""
    installation.add("glass", "screen")
    assert installation.run("talk")[0] == 0
    assert set(installation.index.sent) == {"small-1.0-py3-none-any.whl"}
    assert installation.run("headless")[0] == 0
    assert installation.value("torch") == "42"
    assert "glass-1.0-py3-none-any.whl" not in installation.index.sent
    assert installation.run("talk") == (0, [])
    installation.index.sent.clear()
    assert installation.run("node")[0] == 0
    assert set(installation.index.sent) == {"glass-1.0-py3-none-any.whl"}


def test_killed_it_goes_on_where_it_was(installation: Install) -> None:
    """After kill -9 in the middle of a file only what lacks is fetched."""
    name = installation.add("heavy", "node", 6_000_000)
    installation.index.pause = 0.01
    process = installation.start("node")
    part = installation.place / "wheels" / f"{name}.part"
    while not part.exists() or part.stat().st_size < 2_000_000:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = part.stat().st_size
    installation.index.sent.clear()
    installation.index.pause = 0.0
    assert installation.run("node")[0] == 0
    lacking = len(installation.index.files[name]) - there
    assert lacking <= installation.index.sent[name] <= lacking + 65536  # one piece was on its way
    assert installation.value("heavy") == "42"


def test_cut_connections_are_taken_up_again(installation: Install) -> None:
    """A connection that breaks, however often, costs no byte twice."""
    name = installation.add("heavy", "node", 2_000_000)
    installation.run("window")
    installation.index.sent.clear()
    installation.index.cuts, installation.index.cut_after = 8, 300_000
    assert installation.run("node")[0] == 0
    assert installation.index.sent[name] <= len(installation.index.files[name]) + 65536


def test_a_server_without_ranges_sends_all_again(installation: Install) -> None:
    """Where a range is not honoured the file is begun anew rather than spliced."""
    installation.add("heavy", "node", 500_000)
    installation.index.ranges = False
    installation.index.cuts, installation.index.cut_after = 3, 200_000
    assert installation.run("node")[0] == 0
    assert installation.value("heavy") == "42"


def test_no_network_is_said_and_what_is_there_stays(installation: Install) -> None:
    """An index that cannot be reached is named, with what to do; the next start goes on."""
    installation.add("heavy", "node", 500_000)
    installation.index.status = 503
    host = installation.index.url.removeprefix("http://")
    assert installation.error() == (
        f"{host} cannot be reached (answered 503). Check the network. "
        "Start Idlebloom again: it goes on where it stopped."
    )
    installation.index.status = 0
    assert installation.run()[0] == 0


def test_a_file_that_is_gone_is_said(installation: Install) -> None:
    """A file that the index has no more asks for a newer release."""
    installation.index.status = 404
    assert "cannot be had any more (404 from" in installation.error()


def test_a_tampered_download_is_refused(installation: Install) -> None:
    """Bytes that are not the lock's are never installed, however the index came to them."""
    name = installation.add("heavy", "node", 100_000)
    good = installation.index.files[name]
    installation.index.files[name] = good[:-1] + bytes([good[-1] ^ 1])
    assert f"{name} is not the file that this release was made with" in installation.error()
    assert not (installation.place / "wheels" / name).exists()
    installation.index.files[name] = good
    assert installation.run()[0] == 0


def test_a_file_changed_on_the_disk_is_refused(installation: Install) -> None:
    """uv checks each fetched file once more when it installs it."""
    name = installation.add("heavy", "node", 100_000)
    wheels = installation.place / "wheels"
    wheels.mkdir(parents=True)
    (wheels / name).write_bytes(make_wheel("heavy", 100_000))
    assert "a fetched file was changed on the disk" in installation.error()


def test_a_tampered_program_is_refused(installation: Install) -> None:
    """The package's own wheel must be the one that its manifest states."""
    (installation.folder / "idlebloom-1.0-py3-none-any.whl").write_bytes(make_wheel("idlebloom", 10))
    assert "is not the file that this release was made with" in installation.error()


def test_a_damaged_installation_is_said(installation: Install) -> None:
    """A package without its lock, or with half of it, says that it is damaged."""
    (installation.folder / "lock.json").write_text("{")
    assert "is damaged" in installation.error()


def test_too_little_disk_is_said_before_anything_is_fetched(installation: Install) -> None:
    """What is lacking is said as a number, and no byte is fetched for nothing."""
    installation.add("heavy", "node")
    installation.lock["packages"]["heavy"]["files"][PYTHON]["size"] = 10**15
    installation.write()
    assert "GB of free space and has" in installation.error()
    assert installation.index.sent == {}


@pytest.fixture
def full_disk(installation: Install) -> Iterator[Callable[[int], None]]:
    """The home on a disk of its own. Called with bytes it fills up until that many are left; with 0 or more
    after it was full, what filled it is removed first."""
    home = installation.home
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", home], check=True)

    def leave(free: int) -> None:
        other = home / "other"
        other.unlink(missing_ok=True)
        now = shutil.disk_usage(home).free
        if free < now:
            with other.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, now - free)

    yield leave
    subprocess.run(["umount", home], check=True)


@pytest.mark.root
@pytest.mark.parametrize("room", [0.5, 1.3], ids=["while-fetching", "while-unpacking"])
def test_a_disk_that_fills_up_is_said_and_the_next_start_goes_on(
    installation: Install, full_disk: Callable[[int], None], room: float
) -> None:
    """Something else fills the disk in the middle: no traceback, and no byte is fetched twice once there is
    space again."""
    name = installation.add("heavy", "node", 8_000_000)
    installation.run("talk")
    whole = len(installation.index.files[name])
    installation.index.before = lambda asked: full_disk(int(room * whole)) if asked == name else None
    said = installation.error()
    assert "the disk" in said and "is full. Free some space" in said and "goes on where it stopped" in said
    there = sum(path.stat().st_size for path in (installation.place / "wheels").glob(f"{name}*"))
    assert there >= min(1.0, room) * whole - 100_000
    installation.index.before = lambda asked: None
    installation.index.sent.clear()
    full_disk(290_000_000)
    assert installation.run()[0] == 0
    assert installation.index.sent.get(name, 0) <= whole - there
    assert installation.value("heavy") == "42"


def test_a_python_that_is_not_known_is_said(installation: Install) -> None:
    """A system whose Python came after this release hears which ones will do."""
    installation.lock["pythons"] = ["3.1"]
    installation.write()
    assert f"Python {PYTHON} is not supported yet; this release knows 3.1." in installation.error()


def test_an_environment_whose_python_went_is_made_anew(installation: Install) -> None:
    """After an update of the system took Python away the environment is built again."""
    assert installation.run()[0] == 0
    python = installation.place / "env" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert installation.run()[0] == 0
    assert installation.value("small") == "42"


def test_two_starts_at_once_fetch_once(installation: Install) -> None:
    """The second waits for the first and then has nothing to do."""
    name = installation.add("heavy", "node", 2_000_000)
    installation.index.pause = 0.005
    processes = [installation.start("node"), installation.start("node")]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert installation.index.sent[name] == len(installation.index.files[name])
    assert sum('"waiting"' in text for text in said) == 1
