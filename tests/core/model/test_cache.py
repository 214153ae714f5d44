from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ModelError
from core.model.cache import PAGE, CacheFull, CachePool, Slot
from core.model.config import ModelConfig
from core.terms import Span

CONFIG = ModelConfig(
    hidden=48,
    heads=6,
    blocks=3,
    vocab=300,
    epsilon=1e-5,
    residual_post_layernorm=False,
    max_length=256,
    bos_id=1,
    eos_ids=(2,),
    model_id="m",
    revision="r",
)


def pool_of(tokens: int, slots: int = 4) -> CachePool:
    return CachePool(CONFIG, Span(0, 5), torch.float32, "cpu", tokens, slots=slots)


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def test_reserves_whole_pages() -> None:
    """A reservation is rounded up to pages, and asking for less changes nothing."""
    pool = pool_of(10 * PAGE)
    slot = pool.open()
    assert pool.reserve(slot, 1)
    assert slot.reserved == PAGE
    assert pool.reserve(slot, PAGE + 1)
    assert pool.reserve(slot, 3)
    assert (slot.reserved, pool.free_tokens) == (2 * PAGE, 8 * PAGE)


def test_a_full_pool_refuses_without_a_change() -> None:
    """A reservation that does not fit changes nothing, and fits once another session has ended."""
    pool = pool_of(4 * PAGE)
    first, second = pool.open(), pool.open()
    assert pool.reserve(first, 3 * PAGE)
    assert not pool.reserve(second, 2 * PAGE)
    assert (second.reserved, pool.free_tokens) == (0, PAGE)
    pool.release(first)
    assert pool.reserve(second, 2 * PAGE)


def test_slots_run_out_and_come_back() -> None:
    """Opening more sessions than there are slots is refused until one ends; the lowest is used first."""
    pool = pool_of(64 * PAGE, slots=2)
    first, _ = pool.open(), pool.open()
    with pytest.raises(CacheFull):
        pool.open()
    pool.release(first)
    pool.release(first)
    assert pool.open().index == 0
    assert pool.free_slots == 0


def test_a_slot_is_given_to_nobody_while_a_step_may_write_to_it() -> None:
    """Its session ended under the step, whichever part of it that was."""
    pool = pool_of(10 * PAGE, slots=1)
    slot = pool.open()
    pool.reserve(slot, PAGE)
    pool.begin_step(slot)
    pool.release(slot)
    with pytest.raises(CacheFull):
        pool.open()
    pool.end_step(slot)
    assert (pool.open().index, pool.used_tokens) == (slot.index, 0)


def test_misuse_is_refused() -> None:
    """A released slot and a position beyond the session's length are programming errors."""
    pool = pool_of(64 * PAGE)
    slot = pool.open()
    with pytest.raises(ValueError, match="beyond"):
        pool.reserve(slot, 257)
    pool.release(slot)
    with pytest.raises(ValueError, match="released"):
        pool.reserve(slot, 1)
    with pytest.raises(ModelError):
        pool_of(PAGE - 1)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["reserve", "truncate", "release"]), st.integers(0, 256))
    )
)
def test_accounting_always_adds_up(steps: list[tuple[int, str, int]]) -> None:
    """Whatever is reserved, truncated and released, free and reserved tokens make the capacity."""
    pool = pool_of(12 * PAGE)
    slots: dict[int, Slot] = {}
    for who, what, tokens in steps:
        slot = slots.setdefault(who, pool.open()) if who not in slots else slots[who]
        if what == "reserve":
            before = slot.reserved
            assert pool.reserve(slot, tokens) == (slot.reserved >= tokens)
            assert slot.reserved >= before
        elif what == "truncate":
            pool.truncate(slot, tokens)
            assert slot.reserved <= -(-tokens // PAGE) * PAGE
        else:
            pool.release(slots.pop(who))
        assert pool.free_tokens + sum(one.reserved for one in slots.values()) == pool.capacity
        assert pool.free_tokens >= 0


def test_a_new_session_sees_nothing_of_the_last() -> None:
    """What a released slot held reads as zeros, even where it was not a number."""
    pool = pool_of(64 * PAGE)
    slot = pool.open()
    pool.reserve(slot, 256)
    for layer in pool.layers:
        layer[:, slot.index].fill_(float("nan"))
    neighbour = pool.open()
    pool.reserve(neighbour, 256)
    pool.layers[0][:, neighbour.index].fill_(1.0)
    pool.release(slot)
    assert all(float(layer[:, slot.index].abs().sum()) == 0.0 for layer in pool.layers)
    assert float(pool.layers[0][:, neighbour.index].min()) == 1.0


def test_truncation_keeps_what_is_before() -> None:
    """Truncating leaves every position before it as it was."""
    pool = pool_of(64 * PAGE)
    slot = pool.open()
    pool.reserve(slot, 256)
    pool.layers[1].normal_()
    before = pool.layers[1][:, slot.index, :, :100].clone()
    pool.truncate(slot, 100)
    assert torch.equal(pool.layers[1][:, slot.index, :, :100], before)


def test_memory_follows_what_is_written() -> None:
    """Opening a huge pool takes no memory, writing does, and release gives it back to the system."""
    config = ModelConfig(**{**CONFIG.__dict__, "hidden": 1024, "heads": 16, "max_length": 2048})
    start = resident_bytes()
    pool = CachePool(config, Span(1, 4), torch.float32, "cpu", 1 << 20, slots=512)
    slot = pool.open()
    pool.reserve(slot, 2048)
    opened = resident_bytes()
    for layer in pool.layers:
        layer[:, slot.index].fill_(1.0)
    written = resident_bytes()
    pool.release(slot)
    released = resident_bytes()
    assert opened - start < 4 << 20
    assert written - opened > 40 << 20  # 3 blocks · 2 · 2,048 · 4 KiB = 48 MiB
    assert written - released > 40 << 20
