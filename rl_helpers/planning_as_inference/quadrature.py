"""Integrals over one-dimensional actions: Gauss–Legendre quadrature, and what it is needed for."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import logsumexp, roots_legendre
from torch import Tensor

from rl_helpers.planning_as_inference.squashed_gaussian import log_tanh_slope
from rl_helpers.validation import require, require_positive

Array = np.ndarray
N_POINTS = 800  # smooth functions are integrated to rounding


@cache
def _legendre() -> tuple[Array, Array]:
    x, weights = roots_legendre(N_POINTS)
    return x, weights


def quadrature(
    low: float | int, high: float | int
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Points and weights whose weighted sums are integrals from `low` to `high`.

    Raises:
        ValueError: an interval that is empty.

    Source: Gauss and Legendre.

    >>> x, weights = quadrature(0.0, 3.0)
    >>> round(float(weights @ x**2), 10)
    9.0
    """
    require(bool(low < high), "low", low, f"it must be below high = {high}")
    x, weights = _legendre()
    half = (high - low) / 2
    return low + half * (x + 1), half * weights


def masses(
    log_density: Callable[[Tensor], Tensor], edges: Sequence[float] | Array
) -> Float[Array, " n"]:
    """Probability of each interval between neighbouring edges, and last of all of them together.

    Args:
        log_density: from actions [n, 1] to log-densities [n], in nats.
        edges: at least two, rising.
    """
    each = []
    for low, high in pairwise(edges):
        x, weights = quadrature(low, high)
        each.append(float(weights @ log_density(torch.tensor(x)[:, None]).exp().numpy()))
    return np.array([*each, sum(each)])


def boltzmann_density(
    Q: Float[Array, " n"], weights: Float[Array, " n"], alpha: float
) -> tuple[Float[Array, " n"], float]:
    """The density exp((Q - V) / α) at points of an interval, and V = α log ∫ exp(Q / α).

    Args:
        Q: action values at the points of a quadrature.
        weights: of the quadrature.
        alpha: temperature, positive.

    Source: eq-boltzmann and eq-soft-bellman-v, for actions that are numbers.
    """
    require_positive(alpha=alpha)
    V = alpha * float(logsumexp(Q / alpha, b=weights))
    return np.exp((Q - V) / alpha), V


class Fit(NamedTuple):
    """A squashed Gaussian.

    Args:
        mean, log_std: of the Gaussian before squashing.
        loss: E[α log π(a) - Q(a)].
    """

    mean: float
    log_std: float
    loss: float


def best_fits(
    Q: Callable[[Array], Array], scale: float, alphas: Sequence[float] | Array
) -> list[Fit]:
    """For each temperature the squashed Gaussian with the smallest actor's loss, on a grid.

    Args:
        Q: action values of actions between -scale and scale.
        scale: largest action, positive.
        alphas: temperatures, positive.

    Source: eq-sac-actor.
    """
    require_positive(scale=scale, alphas=tuple(alphas))
    grid = np.meshgrid(np.linspace(-2.5, 2.5, 151), np.linspace(-4.5, 0.5, 81))
    means, log_stds = (x.ravel() for x in grid)
    xi = np.linspace(-7, 7, 401)  # a sum over equal steps is exact enough for a Gaussian
    weights = np.exp(-0.5 * xi**2) / np.exp(-0.5 * xi**2).sum()
    u = means + np.exp(log_stds) * xi[:, None]  # [xi, candidates]
    mean_Q = weights @ Q(scale * np.tanh(u))
    stretch = weights @ (math.log(scale) + log_tanh_slope(torch.tensor(u)).numpy())
    entropy = 0.5 * math.log(2 * math.pi * math.e) + log_stds + stretch
    losses = [-(mean_Q + alpha * entropy) for alpha in alphas]
    places = [int(loss.argmin()) for loss in losses]
    return [
        Fit(float(means[at]), float(log_stds[at]), float(loss[at]))
        for at, loss in zip(places, losses, strict=True)
    ]
