"""NumPy arrays and torch tensors alike: what the formulas of arrays need to serve both."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any  # a NumPy array or a torch tensor


def floats_like(name: str, array: Array) -> Array:
    """Return an empty array of floats, of the kind and shape of `array`."""
    if isinstance(array, np.ndarray):
        return np.empty(array.shape)
    if not array.is_floating_point():
        raise ValueError(f"{name} is a tensor of {array.dtype}; it must be floating point")
    return array.new_empty(array.shape)


def where(condition: Array, x: Array, y: Array) -> Array:
    """Return x where the condition holds, and y elsewhere."""
    choose: Any = torch.where if isinstance(condition, Tensor) else np.where
    return choose(condition, x, y)


def fixed(x: Array) -> Array:
    """`x` without gradient: a number, as far as optimisation is concerned."""
    return x.detach() if isinstance(x, Tensor) else x


def column(per_seed: Array, x: Array) -> Array:
    """Numbers [seeds], shaped to broadcast against x [seeds, ...]."""
    return per_seed.reshape((-1,) + (1,) * (x.ndim - 1))
