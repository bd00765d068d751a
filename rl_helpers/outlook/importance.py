"""Importance sampling from a reference: weighted means, how many draws they are worth, and resampling.

Weights are given by their logarithms, such as r(x, y)/β, up to a constant: only ratios count.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rl_helpers.validation import (
    require,
    require_at_least,
    require_finite,
    require_log_distributions,
    require_same_shape,
)

STEP = 0.25  # of the quadrature, in the logarithm of t: enough for the last digits of a float64
MOST_NATS = 600.0  # between weights: beyond, the smallest is no float64 any more


def weighted_mean(
    log_weights: Float[Tensor, "*batch n"], values: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch"]:
    """Self-normalised importance sampling: the weighted mean of values at n draws.

    Args:
        log_weights: log of each draw's weight, up to a constant.
        values: f at each draw.

    Raises:
        ValueError: log-weights that are not finite, or values of another shape.

    Source: eq-snis.

    >>> weighted_mean(torch.tensor([1.0, 3.0]).log(), torch.tensor([0.0, 1.0]))
    tensor(0.7500)
    """
    require_same_shape(log_weights=log_weights, values=values)
    require_finite(log_weights=log_weights)
    return (log_weights.softmax(-1) * values).sum(-1)


def effective_sample_size(
    log_weights: Float[Tensor, "*batch n"],
) -> Float[Tensor, "*batch"]:
    """How many unweighted draws n weighted ones are worth: (sum w)² / sum w², 1 to n.

    Args:
        log_weights: log of each draw's weight, up to a constant.

    Raises:
        ValueError: log-weights that are not finite.

    Source: eq-ess.

    >>> effective_sample_size(torch.tensor([1.0, 1.0, 2.0]).log())
    tensor(2.6667)
    """
    require_finite(log_weights=log_weights)
    return (2 * log_weights.logsumexp(-1) - (2 * log_weights).logsumexp(-1)).exp()


def resampling(
    log_reference: Float[Tensor, "*batch responses"],
    log_weights: Float[Tensor, "*batch responses"],
    n: int,
) -> Float[Tensor, "*batch responses"]:
    """log-probability of keeping each response: of n draws one, as their weights say.

    The integral over t is a sum over equal steps in log t, which for an integrand as
    smooth as this one is exact to rounding.

    Args:
        log_reference: log π_ref(y|x) of all responses.
        log_weights: log of each response's weight, up to a constant for each row.
        n: number of draws, at least 1.

    Raises:
        ValueError: n below 1, log-weights that are not finite, of another shape or more
            than 600 nats apart, a reference that is no distribution.

    Source: eq-resampling.

    >>> two = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    >>> kept = resampling(two, torch.tensor([1.0, 3.0], dtype=torch.float64).log(), 2)
    >>> kept.exp()  # half of the time both are drawn, and 3 of 4 times the second kept
    tensor([0.3750, 0.6250], dtype=torch.float64)
    """
    require_at_least(1, n=n)
    require_same_shape(log_reference=log_reference, log_weights=log_weights)
    require_finite(log_weights=log_weights)
    require_log_distributions(log_reference=log_reference)
    span = float((log_weights.max(-1).values - log_weights.min(-1).values).max())
    allowed = f"at most {MOST_NATS:.0f}"
    require(span <= MOST_NATS, "log_weights", f"{span:.0f} nats apart", allowed)
    size = log_reference.shape[-1]
    rows = (log_reference.reshape(-1, size), log_weights.reshape(-1, size))
    gains = [log_gain(p, log_w, n) for p, log_w in zip(*rows, strict=True)]
    return log_reference + torch.stack(gains).reshape(log_reference.shape)


def log_gain(
    log_p: Float[Tensor, " responses"], log_w: Float[Tensor, " responses"], n: int
) -> Float[Tensor, " responses"]:
    """log of n w ∫ exp(-t w) φ(t)^(n - 1) dt, where φ is the mean of exp(-t w).

    Args:
        log_p: log π_ref(y) of all responses to one prompt.
        log_w: log of their weights; equal weights are one level.
        n: number of draws.

    Source: eq-resampling, divided by the reference.
    """
    levels, level = (log_w - log_w.max()).unique(return_inverse=True)
    p = log_p.softmax(-1).to(levels.dtype)
    mass = torch.zeros_like(levels).index_add(0, level, p)
    start, end = -40.0 - math.log(n), 4.0 - float(levels.min())
    t = torch.arange(start, end, STEP, dtype=levels.dtype).exp()
    decay = -t.unsqueeze(-1) * levels.exp()  # [times, levels]
    alive = decay.exp()
    phi, lost = alive @ mass, -decay.expm1() @ mass  # 1 - φ is exact where φ is near 1
    near = ((n - 1) * torch.log1p(-lost.clamp(max=0.5))).exp()
    others = torch.where(lost < 0.5, near, phi ** (n - 1))
    integral = STEP * (t * others) @ alive  # dt is t d(log t)
    return (n * levels.exp() * integral).log()[level]
