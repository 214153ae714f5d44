"""./run and ./test as far as they can be tried without fetching anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
PARTS = ("run", "test", "constraints.txt", "pyproject.toml", "installers/environment.sh")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree whose environment is set up, with stand-ins for what pip would install."""
    tree = tmp_path / "tree"
    for part in PARTS:
        (tree / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / part, tree / part)
    program = tree / ".venv" / "bin" / "idlebloom"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$(pwd): $*"\n')
    program.chmod(0o755)
    (tree / ".venv" / "pyvenv.cfg").write_text("")
    (tree / ".venv" / ".idlebloom").mkdir()
    (tree / ".venv" / ".idlebloom" / "test").write_text(bash(tree, "fingerprint").stdout)
    return tree


def bash(tree: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    source = f"set -euo pipefail; here={tree}; source {tree}/installers/environment.sh; {script}"
    return started(["bash", "-c", source], tree, **variables)


def started(command: list[str | Path], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IDLEBLOOM") and k != "CI"}
    environment |= {"HOME": str(cwd.parent), "XDG_CONFIG_HOME": str(cwd.parent / "config")} | variables
    environment = {k: v for k, v in environment.items() if k not in ("XDG_STATE_HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_tree_that_is_set_up_starts_at_once(tree: Path) -> None:
    """Nothing is said and nothing is fetched; the arguments and the folder are passed on."""
    elsewhere = tree.parent / "else where"
    elsewhere.mkdir()
    done = started([tree / "run", "ask", "a b"], elsewhere)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{elsewhere}: ask a b\n", "")


def test_without_arguments_it_is_the_demo(tree: Path) -> None:
    """./run alone starts the main job."""
    assert started([tree / "run"], tree).stdout == f"{tree}: demo\n"


def test_a_changed_pin_sets_up_again(tree: Path) -> None:
    """The stamp holds only for the very pins that were installed."""
    assert bash(tree, "is_set_up run && is_set_up test").returncode == 0
    with (tree / "constraints.txt").open("a") as pins:
        pins.write("new==1\n")
    assert bash(tree, "is_set_up run").returncode == 1


def test_an_environment_for_running_is_not_one_for_tests(tree: Path) -> None:
    """What ./run set up lacks the tests' tools."""
    marks = tree / ".venv" / ".idlebloom"
    (marks / "test").rename(marks / "run")
    assert bash(tree, "is_set_up run").returncode == 0
    assert bash(tree, "is_set_up test").returncode == 1


def test_an_old_python_is_refused(tree: Path, tmp_path: Path) -> None:
    """Where there is no Python that will do, it is said what to install."""
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = bash(tree, "require_python", IDLEBLOOM_PYTHON=str(old))
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "sudo apt install" in done.stderr


def test_a_missing_venv_is_one_line_to_type(tree: Path, tmp_path: Path) -> None:
    """Debian's Python without its venv package becomes one command for the owner."""
    bare = tmp_path / "python3"
    bare.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *python%d*) echo python3.11-venv;; esac\n')
    bare.chmod(0o755)
    done = bash(tree, "require_python", IDLEBLOOM_PYTHON=str(bare))
    assert done.returncode == 1
    assert "sudo apt install python3.11-venv" in done.stderr


def test_a_folder_in_the_way_is_kept(tree: Path, tmp_path: Path) -> None:
    """A folder that is no virtual environment is never overwritten."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    done = bash(tree, "make_venv python3", IDLEBLOOM_VENV=str(tmp_path / "mine"))
    assert done.returncode == 1
    assert "is in the way" in done.stderr
    assert (tmp_path / "mine" / "letter").exists()


def test_remove_never_deletes_unasked(tree: Path) -> None:
    """Without a terminal to ask on, everything is kept, and it is said how to delete it."""
    done = started([tree / "run", "remove"], tree)
    assert done.returncode == 0
    assert f"kept {tree}/.venv" in done.stderr
    assert (tree / ".venv").exists()


def test_remove_all(tree: Path) -> None:
    """With --yes the environment and the data go, the source stays."""
    settings = tree.parent / "config" / "idlebloom"
    settings.mkdir(parents=True)
    assert started([tree / "run", "remove", "--yes"], tree).returncode == 0
    assert not settings.exists()
    assert not (tree / ".venv").exists()
    assert (tree / "run").exists()


def test_remove_spares_a_home_folder(tree: Path) -> None:
    """A data folder that is the whole home folder is refused."""
    done = started([tree / "run", "remove", "--yes"], tree, IDLEBLOOM_HOME=str(tree.parent))
    assert done.returncode == 1
    assert tree.exists()
