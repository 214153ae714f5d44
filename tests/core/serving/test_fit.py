"""Bytes into layers: tables of plain values, and what must hold for any of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import TooLittle
from core.model.config import ModelConfig
from core.model.cost import Costs, Form, LayerCost, Numbers, costs
from core.serving.fit import Fitting, Room, Wish, longest
from core.terms import Span

GB = 10**9
BLOOM = ModelConfig(14336, 112, 70, 250_880, 1e-5, False, 2048, 1, (2,), "bigscience/bloom", "main")
NF4 = costs(BLOOM, Form(blocks=Numbers.NF4, head=Numbers.INT8))
SMALL = tuple(LayerCost(m, 2, 10, int(m == 10), 0.001) for m in (1, 10, 10, 10, 10, 30))
WISH = Wish(least=4, most=100)


def room(memory: int, disk: int = 1000, **more: int) -> Room:
    return Room(cap=memory, free=10**12, disk=disk, **more)


@pytest.mark.parametrize(
    ("gigabytes", "blocks"), [(8, 4), (12, 7), (24, 16), (80, 56)], ids=lambda value: str(value)
)
def test_blocks_of_bloom_on_usual_cards(gigabytes: int, blocks: int) -> None:
    """With 1 GB of context and workspace, NF4 blocks: a full-precision matrix has to fit while loading."""
    fitting = Fitting(NF4, Room(10**12, gigabytes * GB, 10**12, context=600_000_000, workspace=400_000_000))
    ends = fitting.ends()
    assert ends[1] - 1 == blocks


@pytest.mark.parametrize(
    ("given_room", "ends"),
    [
        (room(10), (1, 1, 2, 3, 4, 5)),
        (room(15), (2, 2, 3, 4, 5, 5)),
        (room(29), (3, 3, 4, 5, 5, 5)),
        (room(34), (3, 3, 4, 5, 5, 6)),
        (room(1000), (6, 6, 6, 6, 6, 6)),
        (room(1000, disk=25), (2, 3, 4, 5, 6, 6)),
        (room(1000, disk=0), (0, 1, 2, 3, 4, 5)),
        (room(34, context=20), (1, 2, 3, 4, 5, 5)),
        (room(34, workspace=14), (2, 2, 3, 4, 5, 5)),
    ],
)
def test_the_longest_spans(given_room: Room, ends: tuple[int, ...]) -> None:
    """From each layer, by memory at the worst moment and by disk; ends at itself where none fits."""
    assert Fitting(SMALL, given_room, WISH).ends() == ends


def test_what_is_held_already_is_not_missing() -> None:
    """A running worker's memory is not free, and would be if it changed its span."""
    tight = Room(cap=100, free=5, disk=1000)
    assert longest(Fitting(SMALL, tight, WISH).ends()) == 1
    assert longest(Fitting(SMALL, replace(tight, held=40), WISH).ends()) == 4


def test_what_is_on_the_disk_needs_no_room_there() -> None:
    """A full disk holds what it holds."""
    fitting = Fitting(SMALL, room(1000, disk=10), WISH, on_disk=Span(1, 4))
    assert fitting.ends() == (4, 5, 5, 5, 5, 6)


def test_the_cache_takes_what_is_left() -> None:
    """Between the least and the most that is wished for."""
    assert [Fitting(SMALL, room(r), WISH).fit(Span(1, 3)).cache_tokens for r in (28, 40, 4000)] == [
        4,
        10,
        100,
    ]
    assert Fitting(SMALL, room(40), WISH).fit(Span(0, 1)).cache_tokens == 100
    fit = Fitting(SMALL, room(40, context=5), WISH).fit(Span(1, 3))
    assert (fit.cache_tokens, fit.memory, fit.disk) == (7, 39, 20)


@pytest.mark.parametrize(
    ("memory", "span"),
    [(28, "2:4"), (14, "3:4"), (42, "1:4"), (43, "0:4"), (57, "0:5"), (1000, "0:6")],
)
def test_a_changed_cap_keeps_what_is_loaded(memory: int, span: str) -> None:
    """Less memory cuts where it hurts least, more memory adds layers around."""
    weights = (1, 1, 2, 3, 1, 1)
    worth = lambda span: sum(weights[layer] for layer in range(span.start, span.end))  # noqa: E731
    assert str(Fitting(SMALL, room(memory), WISH).refit(Span(1, 4), worth).span) == span


@pytest.mark.parametrize(
    ("given_room", "words"),
    [
        (room(2), "layer 0 would take 3 bytes of memory and 2 bytes may be used. Close other programs"),
        (room(3, context=9), "layer 0 would take 3 bytes of memory and none may be used"),
        (room(1000, disk=9), "layer 0 would take 10 bytes of the disk and 9 bytes is left. Make room"),
    ],
)
def test_nothing_fits_in_words(given_room: Room, words: str) -> None:
    """The least that would do, what there is, and what to do about it."""
    with pytest.raises(TooLittle, match=words):
        Fitting(SMALL, given_room, WISH).check()


LAYERS = st.builds(
    LayerCost,
    memory=st.integers(0, 50),
    loading=st.integers(0, 50),
    disk=st.integers(0, 50),
    cache=st.integers(0, 3),
    seconds=st.floats(0.001, 1),
)
TABLES = st.lists(LAYERS, min_size=1, max_size=12).map(tuple)
ROOMS = st.builds(
    Room,
    cap=st.integers(0, 400),
    free=st.integers(0, 400),
    disk=st.integers(0, 400),
    held=st.integers(0, 50),
    context=st.integers(0, 50),
    workspace=st.integers(0, 50),
)


@given(TABLES, ROOMS)
def test_the_walk_finds_what_trying_each_span_finds(table: Costs, some: Room) -> None:
    """The longest span from each layer is the longest of all that fit."""
    fitting = Fitting(table, some, WISH)
    count = len(table)
    for start, end in enumerate(fitting.ends()):
        fitting_ends = [e for e in range(start + 1, count + 1) if fitting.fits(Span(start, e))]
        assert end == max(fitting_ends, default=start)


@given(TABLES, ROOMS)
def test_no_cap_is_ever_exceeded(table: Costs, some: Room) -> None:
    """What a fit takes at its peak, context and cache included, stays within cap and free memory."""
    fitting = Fitting(table, some, WISH)
    for start, end in enumerate(fitting.ends()):
        if end > start:
            fit = fitting.fit(Span(start, end))
            assert fit.memory <= min(some.cap, some.free + some.held)
            assert fit.disk <= some.disk
            assert WISH.least <= fit.cache_tokens <= WISH.most


@given(TABLES, ROOMS, st.integers(0, 400))
def test_more_memory_never_means_fewer_layers(table: Costs, some: Room, more: int) -> None:
    """Ends only move outwards."""
    wider = Fitting(table, replace(some, cap=some.cap + more, free=some.free + more), WISH).ends()
    assert all(a <= b for a, b in zip(Fitting(table, some, WISH).ends(), wider, strict=True))


@given(TABLES, ROOMS, st.data())
def test_a_refit_keeps_or_cuts_but_never_both(table: Costs, some: Room, data: st.DataObject) -> None:
    """The new span lies within what is loaded, or around it."""
    start = data.draw(st.integers(0, len(table) - 1))
    loaded = Span(start, data.draw(st.integers(start + 1, len(table))))
    fitting = Fitting(table, some, WISH)
    try:
        span = fitting.refit(loaded).span
    except TooLittle:
        assert not any(fitting.fits(Span(layer, layer + 1)) for layer in range(loaded.start, loaded.end))
        return
    assert span in loaded or loaded in span
    assert fitting.fits(span)
