"""What the equations say, once, as pure functions of arrays; training loops and checks both call
these.

Time is the last axis. NumPy arrays and torch tensors are both welcome; the result is of the same
kind.
"""

from typing import Any

import numpy as np
from jaxtyping import Float

Array = Any  # a NumPy array or a torch tensor


def discounted_returns(rewards: Float[Array, "*batch T"], gamma: float) -> Float[Array, "*batch T"]:
    """Return of every step, G_t = r_t + gamma G_{t+1} with G_T = 0, by one scan from the end.

    Args:
        rewards: r_0 to r_{T-1} [..., T], T >= 1.
        gamma: discount, 0 <= gamma <= 1 (an episode that ends may go undiscounted).

    Returns:
        G_0 to G_{T-1} [..., T].

    Raises:
        ValueError: gamma outside [0, 1], no steps, or rewards that are not finite.

    Source: eq-return-recursion; Sutton & Barto (2018), equation 3.9.

    >>> discounted_returns(np.array([1.0, 0.0, 4.0]), 0.5)
    array([2., 2., 4.])
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma is {gamma}; allowed is 0 <= gamma <= 1")
    if rewards.ndim == 0 or rewards.shape[-1] == 0:
        raise ValueError(
            f"rewards has shape {tuple(rewards.shape)}; it must be [..., T] with T >= 1"
        )
    returns = _floats_like(rewards)
    if not bool((abs(rewards) < np.inf).all()):  # false for NaN too
        raise ValueError("rewards holds values that are NaN or infinite")
    following = 0.0
    for t in reversed(range(rewards.shape[-1])):
        following = rewards[..., t] + gamma * following
        returns[..., t] = following
    return returns


def _floats_like(array: Array) -> Array:
    if isinstance(array, np.ndarray):
        return np.empty(array.shape)
    if not array.is_floating_point():
        raise ValueError(f"rewards is a tensor of {array.dtype}; it must be floating point")
    return array.new_empty(array.shape)
