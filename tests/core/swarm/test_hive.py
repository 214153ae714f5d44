"""How much of hivemind is imported."""

from __future__ import annotations

import subprocess
import sys

from core.paths import code


def test_only_what_is_used_of_it_is_imported() -> None:
    """Nothing that trains models, and no scipy: that takes a start longer than all the rest of it."""
    words = (
        "import sys; from core.swarm import hive; found = hive.load(); found = hive.load(); "
        "print(*{name.partition('.')[0] for name in sys.modules}, "
        "*(name for name in sys.modules if name.startswith('hivemind.')), found.P2P.__name__)"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", words],
        cwd=code(),
        capture_output=True,
        text=True,
        check=True,
    )
    names = set(ended.stdout.split())
    assert {"hivemind.p2p", "hivemind.dht.node", "P2P"} <= names
    assert not {"scipy", "hivemind.averaging", "hivemind.moe", "hivemind.optim"} & names
