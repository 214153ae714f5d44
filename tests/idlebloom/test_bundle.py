from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from core.errors import DiskError
from core.paths import Paths
from core.preferences import Preferences
from idlebloom.bundle import clean, write

PEER = "12D3KooWAyMd9v9ztAdCtzLboyWJzZfhGQKzCCSr5exL71HkPyK2"
SECRETS = (
    PEER,
    "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
    "203.0.113.7",
    "2001:db8:0:1:1:1:1:1",
    "hf_abcdefghijklmnopqrstuvwxyz012345",
    "idlebloom:join#c2VjcmV0",
    "Zm9yIHRoZSBvd25lciBhbmQgbm9ib2R5IGVsc2UhISEhISEhIQ",
    "relay.example.net",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_made_unreadable(secret: str) -> None:
    """In a log's line, in JSON and in an address."""
    if secret == "relay.example.net":
        assert secret not in clean(f"/dns4/{secret}/tcp/31337")
        return
    for line in (
        f"dialling {secret} failed",
        json.dumps({"peer": secret}),
        f"/ip4/{secret}/tcp/1/p2p/{PEER}",
    ):
        assert secret not in clean(line)


@pytest.mark.parametrize(
    "plain",
    ["http://127.0.0.1:7714", "the GPU is at 83 °C", "version 0.1.0", "2026-11-27 18:04:05", "layers 0 to 9"],
)
def test_plain_words_stay(plain: str) -> None:
    """They are what helps."""
    assert clean(plain) == plain


def test_a_bundle_holds_what_helps_and_no_secret(tmp_path: Path) -> None:
    """Also without a node that runs."""
    paths = Paths.of(tmp_path / "data").make()
    Preferences(paths.settings_file).change(
        {"donate": "always", "swarm": [f"/ip4/203.0.113.7/tcp/1/p2p/{PEER}"]}
    )
    (paths.state / "worker.log").write_text(f"worker WARNING dialling {PEER} at 203.0.113.7: no route\n")
    paths.secrets_file.write_text('{"api_key": "hf_abcdefghijklmnopqrstuvwxyz012345"}')
    paths.history_file.write_bytes(b"What is my secret?")
    names = write(tmp_path / "bundle.zip", paths)
    assert names == ["system.json", "settings.json", "worker.log"]
    with zipfile.ZipFile(tmp_path / "bundle.zip") as bundle:
        assert bundle.namelist() == names
        text = "".join(bundle.read(name).decode() for name in names)
    assert '"donate": "always"' in text and "no route" in text
    assert not [secret for secret in (*SECRETS, "my secret") if secret in text]


def test_a_place_that_takes_nothing_is_said(tmp_path: Path) -> None:
    """In words."""
    with pytest.raises(DiskError, match="Name another file"):
        write(tmp_path / "nowhere" / "bundle.zip", Paths.of(tmp_path))
