"""Best-of-n: draw n responses of the reference, keep one with the highest reward. Its distribution.

Responses with exactly equal rewards are on one *level*, and share what the level gets as they share
it under the reference: which of n tied draws is kept does not depend on what they say.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rl_helpers.validation import (
    require_at_least,
    require_finite,
    require_log_distributions,
    require_same_shape,
)


def best_of_n(
    log_reference: Float[Tensor, "*batch responses"],
    reward: Float[Tensor, "*batch responses"],
    n: int,
) -> Float[Tensor, "*batch responses"]:
    """log-probability with which each response is the best of n draws.

    A level is the best with probability F^n - (F - m)^n, where m is its mass under the reference and
    F that of all levels up to it.

    Args:
        log_reference: log π_ref(y|x) of all responses.
        reward: r(x, y) of all responses; equal rewards must be equal to the last bit.
        n: number of draws, at least 1.

    Raises:
        ValueError: n below 1, rewards not finite or of another shape, a reference that is no
            distribution.

    Source: eq-best-of-n; Beirami et al. (2025), where rewards do not tie.

    >>> tied = best_of_n(torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor([0.0, 1.0, 1.0]), 2)
    >>> tied.exp().numpy().round(3)
    array([0.25 , 0.375, 0.375], dtype=float32)
    """
    require_at_least(1, n=n)
    require_finite(reward=reward.detach())
    require_same_shape(log_reference=log_reference, reward=reward)
    require_log_distributions(log_reference=log_reference)
    r, order = reward.sort(dim=-1)
    p = log_reference.gather(-1, order).exp()
    start = torch.cat([torch.ones_like(r[..., :1]) > 0, r[..., 1:] != r[..., :-1]], dim=-1)
    level = start.cumsum(-1) - 1  # [..., responses], of sorted responses
    mass = torch.zeros_like(p).scatter_add(-1, level, p)
    F = mass.cumsum(-1).gather(-1, level)
    # (F^n - (F - m)^n) / m, without taking the difference of nearly equal numbers
    share = (mass.gather(-1, level) / F).clamp(max=1.0)
    ratio = (n - 1) * F.log() + (-torch.expm1(n * torch.log1p(-share)) / share).log()
    gained = torch.empty_like(ratio).scatter(-1, order, ratio)
    return torch.where(log_reference.isneginf(), log_reference, log_reference + gained)
