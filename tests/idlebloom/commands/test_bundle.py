from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from core.paths import Paths
from core.preferences import Preferences
from idlebloom import launch

PEER = "12D3KooWAyMd9v9ztAdCtzLboyWJzZfhGQKzCCSr5exL71HkPyK2"
SECRETS = (PEER, "203.0.113.7", "hf_abcdefghijklmnopqrstuvwxyz012345", "my secret")


def test_a_bundle_holds_what_helps_and_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also without a node that runs: what was chosen, what the logs say, and nothing of anybody's."""
    paths = Paths.of(tmp_path / "data").make()
    Preferences(paths.settings_file).change(
        {"donate": "always", "swarm": [f"/ip4/203.0.113.7/tcp/1/p2p/{PEER}"]}
    )
    (paths.state / "worker.log").write_text(f"worker WARNING dialling {PEER} at 203.0.113.7: no route\n")
    paths.secrets_file.write_text('{"api_key": "hf_abcdefghijklmnopqrstuvwxyz012345"}')
    paths.history_file.write_bytes(b"What is my secret?")
    file = tmp_path / "bundle.zip"
    assert launch.main(["--data", str(tmp_path / "data"), "bundle", str(file)]) == 0
    assert str(file) in capsys.readouterr().out
    with zipfile.ZipFile(file) as bundle:
        text = "".join(bundle.read(name).decode() for name in bundle.namelist())
    assert '"donate": "always"' in text and "no route" in text
    assert not [secret for secret in SECRETS if secret in text]


def test_a_place_that_takes_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In words."""
    where = str(tmp_path / "nowhere" / "bundle.zip")
    assert launch.main(["--data", str(tmp_path / "data"), "bundle", where]) == 1
    assert "Name another file" in capsys.readouterr().err
