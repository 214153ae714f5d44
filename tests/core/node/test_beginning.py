"""What a worker waits for before it is started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.errors import DiskError, IdlebloomError, ModelError, NotAccepted, TooLittle
from core.node import beginning
from core.node.beginning import cleared


def accepted() -> bool:
    return True


@pytest.mark.parametrize("error", [DiskError("no space left on device"), TooLittle("no layer fits")])
async def test_room_on_the_disk_is_noticed_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: IdlebloomError
) -> None:
    """Whoever made room does not wait for minutes; what did not change is not tried again and again."""
    free = 0
    monkeypatch.setattr(beginning, "free_disk", lambda _: free)
    monkeypatch.setattr(beginning, "CLEARED_SECONDS", 0.01)
    waiting = asyncio.create_task(cleared(error, 60.0, [tmp_path], accepted))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    free = 1 << 30
    async with asyncio.timeout(5):
        assert await waiting
    assert not await cleared(ModelError("it is damaged"), 0.05, [tmp_path], accepted)


async def test_a_licence_is_noticed_when_it_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the whole pause is waited for."""
    monkeypatch.setattr(beginning, "CLEARED_SECONDS", 0.01)
    error = NotAccepted("bigscience/bloomz-560m", "bigscience-bloom-rail-1.0")
    assert await cleared(error, 60.0, [tmp_path], accepted)
    assert not await cleared(error, 0.05, [tmp_path], lambda: False)
