"""How much of hivemind is imported, and what of it is heard."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys

import pytest

from core.paths import code
from core.swarm import hive


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


async def test_a_look_up_that_is_given_up_leaves_no_word(caplog: pytest.LogCaptureFixture) -> None:
    """hivemind leaves tasks behind, and asyncio says of each on the terminal that it was destroyed. What is
    our own mistake is still said."""
    hive.load()
    from hivemind.dht.routing import DHTID
    from hivemind.dht.traverse import traverse_dht

    hive.quiet(asyncio.get_running_loop())

    asked = asyncio.Event()  # it is held here: such a call ends in its time

    async def silent(*_: object) -> object:
        return await asked.wait()

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def forget(names: list[str]) -> None:
        task = asyncio.create_task(forever())
        names.append(task.get_name())
        await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR, "asyncio"):
        look_up = asyncio.create_task(
            traverse_dht([DHTID.generate()], [DHTID.generate()], 4, 4, 1, silent)  # type: ignore[arg-type]
        )
        await asyncio.sleep(0.01)
        look_up.cancel()
        await asyncio.gather(look_up, return_exceptions=True)
        del look_up
        await asyncio.sleep(0.01)
        gc.collect()
        assert not caplog.records
        names: list[str] = []
        await forget(names)
        gc.collect()
    assert [names[0] in record.getMessage() for record in caplog.records] == [True]
