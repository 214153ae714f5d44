"""An environment of its own for ``petals``, outside the checkout, from the package registry alone.

    python -m benchmarks.petals.install

Its versions are years old and need four changes to run beside today's torch: hivemind 1.1.10.post2 is
source only and built here, with the p2pd of the hivemind that Idlebloom itself uses; one import of its moved
within torch; ``multiaddr`` must be older than its own requirement allows. Nothing of petals is changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import appdirs

PETALS = "2.2.0.post1"
HIVEMIND = "1.1.10.post2"
TORCH = "2.13.0"
MARK = "complete"


def home() -> Path:
    return Path(appdirs.user_cache_dir("idlebloom-benchmarks"), f"petals-{PETALS}")


def python(say: Callable[[str], None] = print) -> Path:
    """The environment's interpreter; made on the first call, which takes some minutes."""
    folder = home()
    found = folder / "bin" / "python"
    if not (folder / MARK).exists():
        shutil.rmtree(folder, ignore_errors=True)
        say(f"making an environment for petals {PETALS} in {folder}")
        _make(folder, found, say)
        (folder / MARK).touch()
    return found


def _make(folder: Path, found: Path, say: Callable[[str], None]) -> None:
    _run(sys.executable, "-m", "venv", str(folder))
    pip = (str(found), "-m", "pip", "install", "-q", "--disable-pip-version-check")
    say(f"torch {TORCH}")
    _run(*pip, f"torch=={TORCH}", "numpy<2", "wheel")
    with tempfile.TemporaryDirectory(prefix="petals-") as made:
        say(f"hivemind {HIVEMIND}, built from source")
        wheel = _hivemind(Path(made), found)
        limits = Path(made, "limits.txt")
        limits.write_text(f"torch=={TORCH}\nnumpy<2\n", "ascii")
        say(f"petals {PETALS} and what it needs")
        _run(*pip, "-c", str(limits), str(wheel), f"petals=={PETALS}")
    _run(*pip, "--no-deps", "multiaddr==0.0.9")
    _mend(next(folder.glob("lib/python3*/site-packages/hivemind")))


def _hivemind(made: Path, found: Path) -> Path:
    """Its wheel. The old build needs an old setuptools, for that wheel alone."""
    limits = made / "build.txt"
    limits.write_text("setuptools<70\n", "ascii")
    old = dict(os.environ, PIP_CONSTRAINT=str(limits))
    fetch = (str(found), "-m", "pip", "download", "-q", "--no-deps", "--no-binary=hivemind", "-d", str(made))
    _run(*fetch, f"hivemind=={HIVEMIND}", env=old)
    with tarfile.open(next(made.glob("hivemind-*.tar.gz"))) as packed:
        packed.extractall(made, filter="data")
    source = made / f"hivemind-{HIVEMIND}"
    daemon = source / "hivemind" / "hivemind_cli" / "p2pd"
    shutil.copy2(_our_p2pd(), daemon)
    setup = source / "setup.py"
    digest = hashlib.sha256(daemon.read_bytes()).hexdigest()
    words = re.sub(r'("p2pd-linux-amd64": )"[0-9a-f]+"', rf'\1"{digest}"', setup.read_text("utf-8"))
    setup.write_text(words, "utf-8")
    build = (str(found), "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(made / "wheels"), str(source))
    _run(*build, env=old)
    return next((made / "wheels").glob("hivemind-*.whl"))


def _our_p2pd() -> Path:
    import hivemind.hivemind_cli

    return Path(hivemind.hivemind_cli.__path__[0], "p2pd")


def _mend(package: Path) -> None:
    """torch moved one private name."""
    file = package / "optim" / "grad_scaler.py"
    old = "from torch.cuda.amp.grad_scaler import OptState, _refresh_per_optimizer_state"
    new = "from torch.amp.grad_scaler import OptState, _refresh_per_optimizer_state"
    file.write_text(file.read_text("utf-8").replace(old, new), "utf-8")


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, check=False, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    print(python())
