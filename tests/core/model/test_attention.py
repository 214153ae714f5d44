from __future__ import annotations

import pytest
import torch
from transformers.models.bloom.modeling_bloom import _get_alibi_slopes

from core.model.attention import Alibi, alibi_slopes


@pytest.mark.parametrize("heads", [1, 2, 6, 8, 12, 16, 32, 71, 112])
def test_slopes_are_those_of_transformers(heads: int) -> None:
    """Slopes are the same for head counts that are powers of two and others."""
    expected = _get_alibi_slopes(heads, torch.device("cpu"))
    torch.testing.assert_close(torch.tensor(alibi_slopes(heads)), expected)


def test_a_row_counts_back_from_its_last_key() -> None:
    """One query's bias is 0 at its last key, falls with distance, and masks what comes after."""
    bias = Alibi(2, 8, torch.device("cpu")).one_row([3, 5])
    slope = alibi_slopes(2)[0]
    assert bias.shape == (2, 2, 1, 5)
    assert bias[0, 0, 0].tolist() == [-2 * slope, -slope, 0.0, -torch.inf, -torch.inf]
    assert bias[1, 0, 0].tolist() == [-4 * slope, -3 * slope, -2 * slope, -slope, 0.0]


def test_a_chunk_is_causal() -> None:
    """Each row of a chunk's bias, last query first, is that query's own."""
    alibi = Alibi(6, 16, torch.device("cpu"))
    bias = alibi.chunk_reversed(4, 9)
    assert bias.shape == (1, 6, 4, 9)
    for row, end in enumerate((9, 8, 7, 6)):
        assert torch.equal(bias[0, :, row, :end], alibi.one_row([end])[0, :, 0])
        assert bool((bias[0, :, row, end:] == -torch.inf).all())


def test_the_longest_chunk_fits_the_table() -> None:
    """A chunk as long as the session is still a window of the table."""
    bias = Alibi(2, 8, torch.device("cpu")).chunk_reversed(8, 8)
    assert torch.equal(bias[0, 0] > -torch.inf, torch.ones(8, 8, dtype=torch.bool).tril().flip(0))
