from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like site-packages, with the wheel unpacked."""
    built, site = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(build, cwd=TREE, check=True, capture_output=True)
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_no_generic_name_is_installed(installed: Path) -> None:
    """Only ``idlebloom`` reaches site-packages: no ``core`` that another project may have too."""
    assert {f.name for f in installed.iterdir() if not f.name.endswith(".dist-info")} == {"idlebloom"}
    assert not list(installed.rglob("train.py"))


def test_the_wheel_runs_its_own_files(installed: Path, tmp_path: Path) -> None:
    """An installed program finds its packages and data under its own folder, whatever lies elsewhere."""
    probe = """import sys
from idlebloom.__main__ import main
sys.argv[1:] = ["settings"]
main()
import core.paths
print(core.paths.code())
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", probe],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0].startswith("donate")
    assert done.stdout.splitlines()[-1] == str(installed / "idlebloom" / "_app")
