"""What serves NumPy arrays and torch tensors alike: the kind stays, and so do shape and place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rl_helpers.arrays import column, fixed, floats_like, where

KINDS = [np.array, torch.tensor]


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.ones((2, 3)), np.float64),
        (np.ones((2, 3), dtype=int), np.float64),
        (torch.ones(2, 3), torch.float32),
        (torch.ones(2, 3, dtype=torch.float64), torch.float64),
    ],
)
def test_floats_like(array: Any, dtype: Any) -> None:
    empty = floats_like("x", array)
    assert type(empty) is type(array)
    assert (empty.shape, empty.dtype) == (array.shape, dtype)
    assert empty is not array


def test_floats_like_a_tensor_of_whole_numbers() -> None:
    with pytest.raises(
        ValueError, match=r"^rewards is a tensor of torch\.int64; it must be floating point$"
    ):
        floats_like("rewards", torch.ones(2, dtype=torch.int64))


@pytest.mark.parametrize("kind", KINDS)
def test_where(kind: Any) -> None:
    chosen = where(kind([True, False, True]), kind([1.0, 2.0, 3.0]), kind([4.0, 5.0, 6.0]))
    assert isinstance(chosen, type(kind([1.0])))
    assert chosen.tolist() == [1.0, 5.0, 3.0]
    assert where(kind([True, False]), 0.0, kind([4.0, 5.0])).tolist() == [0.0, 5.0]
    # a NaN that is not chosen is gone
    assert where(kind([False, True]), kind([np.nan, 1.0]), 0.0).tolist() == [0.0, 1.0]


def test_fixed() -> None:
    x = torch.tensor([2.0], requires_grad=True)
    (x * fixed(x)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2.0]  # of x² it would be 4
    array = np.ones(2)
    assert fixed(array) is array


@pytest.mark.parametrize("kind", KINDS)
def test_column(kind: Any) -> None:
    per_seed, x = kind([10.0, 20.0]), kind([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    added = column(per_seed, x) + x
    assert added.tolist() == [[[11.0, 12.0], [13.0, 14.0]], [[25.0, 26.0], [27.0, 28.0]]]
    assert column(per_seed, x).shape == (2, 1, 1)
    assert column(per_seed, per_seed).shape == (2,)
