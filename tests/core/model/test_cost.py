"""The cost table of layers, against the real shapes of BLOOM."""

from __future__ import annotations

import pytest

from core.errors import ModelError
from core.model.config import ModelConfig, read_config
from core.model.cost import Form, Numbers, costs, disk_of, measured, memory_of, peak_of, rate_of
from core.model.weights import Checkpoint, span_tensors
from core.paths import bundled_model
from core.terms import Span

BLOOM = ModelConfig(14336, 112, 70, 250_880, 1e-5, False, 2048, 1, (2,), "bigscience/bloom", "main")
NF4 = Form(blocks=Numbers.NF4, head=Numbers.INT8)


def test_a_block_of_bloom_has_the_known_sizes() -> None:
    """4.9 GB in bfloat16, 1.3 GB in NF4; the tied matrix is 7.2 GB, and half of that in int8."""
    plain, quantized = costs(BLOOM, Form()), costs(BLOOM, NF4)
    assert plain[1].memory / 1e9 == pytest.approx(4.93, abs=0.02)
    assert quantized[1].memory / 1e9 == pytest.approx(1.27, abs=0.02)
    assert plain[0].disk / 1e9 == pytest.approx(7.19, abs=0.01)
    assert quantized[-1].memory / 1e9 == pytest.approx(3.60, abs=0.01)


def test_the_ends_are_not_like_blocks() -> None:
    """The embedding takes disk and next to no memory; neither end has a cache."""
    table = costs(BLOOM, Form())
    assert len(table) == 72
    assert table[0].memory < 1e6 and table[0].seconds < table[1].seconds / 1000
    assert (table[0].cache, table[-1].cache) == (0, 0)
    assert table[1].cache == 2 * 14336 * 2
    assert table[-1].memory > table[1].memory


@pytest.mark.parametrize("span", [Span(0, 10), Span(0, 1), Span(1, 4), Span(8, 10)], ids=str)
def test_disk_is_what_the_checkpoint_holds(span: Span) -> None:
    """To the byte, for every kind of span of the bundled model."""
    folder = bundled_model()
    config, checkpoint = read_config(folder), Checkpoint(folder)
    held = checkpoint.check(span_tensors(config, span, tied=True))
    stored = checkpoint.bytes_of("word_embeddings.weight") // (config.vocab * config.hidden)
    assert disk_of(costs(config, Form(stored=stored)), span) == held


def test_the_worst_moment_is_loading_or_serving() -> None:
    """A big cache outweighs loading; with none, the last layer's copies are what counts."""
    table = costs(BLOOM, NF4)
    span = Span(1, 5)
    assert peak_of(table, span) == memory_of(table, span) + table[1].loading
    many = 200_000
    assert peak_of(table, span, many, 7) == memory_of(table, span, many) + 7


def test_measured_seconds_scale_the_whole_table() -> None:
    """One measured span says what the others will take."""
    table = costs(BLOOM, Form())
    scaled = measured(table, Span(1, 11), 0.5)
    assert rate_of(scaled, Span(1, 11)) == pytest.approx(2.0)
    assert scaled[30].seconds == pytest.approx(0.05)
    assert measured(table, Span(1, 2), 0.0) == table


def test_nothing_computes_in_nf4() -> None:
    """A form or a speed that makes no sense is refused in words."""
    with pytest.raises(ModelError, match="nothing computes in nf4"):
        Form(dtype=Numbers.NF4)
    with pytest.raises(ModelError, match="serves nothing"):
        costs(BLOOM, Form(), bytes_a_second=0)
