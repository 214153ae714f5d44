from __future__ import annotations

import zipfile
from pathlib import Path

from core.paths import Paths
from desktop import bundle

SECRETS = (
    "203.0.113.7",
    "/ip4/198.51.100.2/tcp/31337/p2p/12D3KooWBhV3nWk6ZqT7mKrb9gZbZ4q4Xw3vQb8xgJqhB1zX5n2p",
    "12D3KooWBhV3nWk6ZqT7mKrb9gZbZ4q4Xw3vQb8xgJqhB1zX5n2p",
    "2001:db8:85a3:0:0:8a2e:370:7334",
    "hf_abcdefghijklmnop",
    "ib-AbCdEfGhIjKlMnOp",
    "Bearer: sesame-street",
    "idlebloom:join?secret=opensesame",
)


def test_nothing_secret_is_in_it(tmp_path: Path, paths: Paths) -> None:
    """Addresses, peers, keys and links of logs, settings and status are taken out; the rest helps."""
    log = "\n".join(f"the worker said {secret} and ended" for secret in SECRETS)
    (paths.state / "worker.log").write_text(log)
    (paths.state / "history.sqlite3").write_text("a private chat")
    paths.secrets_file.write_text('{"api_key": "ib-AbCdEfGhIjKlMnOp"}')
    file = tmp_path / "bundle.zip"
    settings = {"donate": "always", "swarm": [SECRETS[1]], "data_dir": str(Path.home() / "x")}
    bundle.write(file, paths, status={"reason": f"lost {SECRETS[2]}"}, settings=settings, version="0.1.0")
    with zipfile.ZipFile(file) as made:
        names = made.namelist()
        text = "\n".join(made.read(name).decode() for name in names)
    assert names == ["about.txt", "settings.json", "status.json", "worker.log"]
    for secret in (*SECRETS, "sesame", "a private chat", str(Path.home()) + "/"):
        assert secret not in text, secret
    assert "the worker said (address) and ended" in text and '"donate": "always"' in text
