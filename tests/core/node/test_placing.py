"""What a PC without a GPU serves: the whole model where it fits, a span beside others where not."""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest

from core.errors import TooLittle
from core.model.config import ModelConfig
from core.node.placing import Around, Means, fitting, may_leave, place, whole
from core.terms import DonorState, ModelRef, PeerId, Record, Span

GB = 10**9
MODEL = ModelConfig(1024, 16, 24, 250_880, 1e-5, False, 2048, 1, (2,), "bigscience/bloom-560m", "main")
ME = PeerId("me")
BF16, F32 = Means(dtype="bfloat16"), Means(dtype="float32")


def other(start: int, end: int) -> Record:
    model = ModelRef(MODEL.model_id, MODEL.revision, MODEL.layers)
    return Record(PeerId("other"), model, Span(start, end), DonorState.ONLINE, 1000.0, 1090.0, 0.1)


def test_the_whole_model_where_it_fits() -> None:
    """With the cache that is wished for, whoever else is there."""
    found = whole(fitting(MODEL, BF16, 13 * GB // 2))
    assert found is not None and (found.span, found.cache_tokens) == (Span(0, 26), 16_384)


def test_a_part_where_it_does_not_fit() -> None:
    """The part that others lack."""
    able = fitting(MODEL, BF16, 3 * GB // 2)
    assert whole(able) is None
    found = place(able, [other(6, 26)], ME, 1001.0, random.Random(1))
    assert found.span.start == 0 and 6 <= found.span.end < 26
    found = place(able, [other(0, 20)], ME, 1001.0, random.Random(1))
    assert 20 in found.span and found.cache_tokens >= 2048


def test_too_little_memory_is_said() -> None:
    """The need, what there is, and what to do."""
    with pytest.raises(TooLittle, match=r"of memory and none may be used\. Close other programs"):
        place(fitting(MODEL, F32, GB // 3), [], ME, 1001.0, random.Random(1))


async def test_layers_are_left_to_those_who_serve_them() -> None:
    """A record may lie, and outlives a donor that was killed: so it is tried without this donor first."""
    able, heir = fitting(MODEL, BF16, 3 * GB), other(0, 26)
    asked: list[Collection[Record]] = []
    about = (Around([heir], ME, 1001.0 + 60 * window) for window in range(99))
    around = next(one for one in about if one.levels(able).stays)

    async def look() -> Around:
        return around

    async def read(records: Collection[Record]) -> Collection[PeerId]:
        asked.append(records)
        return there

    for there in ([heir.peer_id], [], [PeerId("another")]):
        left = await may_leave(able, look, Span(0, 2), Span(2, 4), read)
        assert left is (there == [heir.peer_id])
    assert asked == [[heir]] * 3
    assert not await may_leave(able, look, Span(0, 2), Span(2, 4), read, known=False)
    assert len(asked) == 3
