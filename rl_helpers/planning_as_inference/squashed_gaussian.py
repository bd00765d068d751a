"""A policy over continuous actions: a Gaussian, squashed into the actions' bounds by tanh.

The last axis of every array holds the D dimensions of an action, which are independent given the
state. Log-densities are sums over it.
"""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rl_helpers.validation import require_positive


def gaussian_log_prob(
    u: Float[Tensor, "... D"],
    mean: Float[Tensor, "... D"],
    log_std: Float[Tensor, "... D"],
) -> Float[Tensor, "..."]:
    """log N(u; mean, exp(log_std)²), summed over dimensions, in nats.

    Args:
        u: where.
        mean, log_std: of the Gaussian, log_std in nats.

    >>> import torch
    >>> zero = torch.zeros(1)
    >>> round(float(gaussian_log_prob(torch.ones(1), zero, zero)), 3)
    -1.419
    """
    z = (u - mean) * (-log_std).exp()
    return -(0.5 * z**2 + log_std + 0.5 * math.log(2 * math.pi)).sum(-1)


def log_tanh_slope(u: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """log(1 - tanh²(u)), the logarithm of tanh's slope, without cancellation.

    Source: eq-tanh-slope.

    >>> import torch
    >>> u = torch.tensor(10.0)
    >>> round(float(log_tanh_slope(u)), 3), float((1 - u.tanh() ** 2).log())
    (-18.614, -inf)
    """
    return 2 * (math.log(2) - u - F.softplus(-2 * u))


def squash(u: Float[Tensor, "*batch D"], scale: Float[Tensor, " D"]) -> Float[Tensor, "*batch D"]:
    """The action scale * tanh(u), between -scale and scale."""
    return scale * u.tanh()


def log_slope(u: Float[Tensor, "... D"], scale: Float[Tensor, " D"]) -> Float[Tensor, "..."]:
    """log of the volume by which `squash` stretches at u: the sum of log(scale (1 - tanh² u)).

    Args:
        u: before squashing.
        scale: largest action in each dimension, positive.
    """
    return (scale.log() + log_tanh_slope(u)).sum(-1)


def squashed_log_prob(
    u: Float[Tensor, "... D"],
    mean: Float[Tensor, "... D"],
    log_std: Float[Tensor, "... D"],
    scale: Float[Tensor, " D"],
) -> Float[Tensor, "..."]:
    """Log-density of the action scale * tanh(u), in nats for actions in their own units.

    It is given u, from which the action came: the inverse of tanh is lost near the bounds.

    Args:
        u: before squashing.
        mean, log_std: of the Gaussian.
        scale: largest action in each dimension, positive.

    Raises:
        ValueError: scale not positive.

    Source: eq-tanh-logprob; Haarnoja et al. (2018a), appendix C.

    >>> import torch
    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> round(float(squashed_log_prob(one, zero, zero, 2 * one)), 3)
    -1.245
    """
    require_positive(scale=scale)
    return gaussian_log_prob(u, mean, log_std) - log_slope(u, scale)
