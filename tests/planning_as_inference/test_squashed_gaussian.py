"""The squashed Gaussian and quadrature: by hand, as properties, against other hands."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, TanhTransform

from rl_helpers.planning_as_inference.quadrature import (
    best_fits,
    boltzmann_density,
    masses,
    quadrature,
)
from rl_helpers.planning_as_inference.squashed_gaussian import (
    gaussian_log_prob,
    log_slope,
    log_tanh_slope,
    squash,
    squashed_log_prob,
)

numbers = st.floats(-3, 3)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.double)


def test_by_hand() -> None:
    """-0.5 - log(2π)/2 = -1.4189; log(1 - 0.7616²) = -0.8676; log 2 = 0.6931."""
    zero, one = double(0.0), double(1.0)
    assert gaussian_log_prob(one, zero, zero).item() == pytest.approx(-1.41894, abs=1e-5)
    assert log_tanh_slope(one).item() == pytest.approx(-0.86756, abs=1e-5)
    assert squashed_log_prob(one, zero, zero, one).item() == pytest.approx(-0.55138, abs=1e-5)
    assert squashed_log_prob(one, zero, zero, 2 * one).item() == pytest.approx(-1.24452, abs=1e-5)
    assert squash(one, 2 * one).item() == pytest.approx(2 * 0.761594)


def test_a_narrow_policy_has_a_positive_log_density() -> None:
    log_prob = squashed_log_prob(double(0.0), double(0.0), double(math.log(0.01)), double(1.0))
    assert log_prob.item() == pytest.approx(math.log(100) - 0.5 * math.log(2 * math.pi))


@given(
    st.lists(
        st.tuples(numbers, numbers, st.floats(-2, 1), st.floats(0.1, 9)), min_size=1, max_size=4
    )
)
def test_against_torch(dimensions: list[tuple[float, float, float, float]]) -> None:
    u, mean, log_std, scale = (double(*column) for column in zip(*dimensions, strict=True))
    theirs = TransformedDistribution(
        Independent(Normal(mean, log_std.exp()), 1),
        [TanhTransform(cache_size=1), AffineTransform(0.0, scale, cache_size=1, event_dim=1)],
    )
    action = theirs.transforms[1](theirs.transforms[0](u))
    torch.testing.assert_close(squash(u, scale), action)
    torch.testing.assert_close(squashed_log_prob(u, mean, log_std, scale), theirs.log_prob(action))


@given(st.floats(-300, 300))
def test_the_slope_of_tanh_loses_nothing(u: float) -> None:
    """-2 log cosh u, and even: the same for u and -u."""
    x = double(u)
    expected = -2 * (torch.logaddexp(x, -x) - math.log(2))
    torch.testing.assert_close(log_tanh_slope(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_tanh_slope(x), log_tanh_slope(-x), rtol=1e-12, atol=1e-12)


def test_the_slope_in_single_precision() -> None:
    u = torch.tensor([0.0, 3.0, 7.6, 10.0, 50.0])
    torch.testing.assert_close(log_tanh_slope(u), log_tanh_slope(u.double()).float())
    assert (1 - u.tanh() ** 2).log()[3:].isinf().all(), "as it stands, the formula breaks"


@given(numbers, st.floats(-1.5, 0.3), st.floats(0.3, 5))
def test_the_density_is_the_gaussian_seen_through_tanh(
    mean: float, log_std: float, c: float
) -> None:
    scale, edges = double(c), c * np.array([-0.95, -0.4, 0.2, 0.9])
    found = masses(
        lambda a: squashed_log_prob((a / scale).atanh(), double(mean), double(log_std), scale),
        edges,
    )
    cumulative = norm.cdf(np.arctanh(edges / c), mean, math.exp(log_std))
    expected = np.diff(cumulative)
    np.testing.assert_allclose(found, [*expected, expected.sum()], atol=1e-10)


def test_gradients_are_those_of_the_formula() -> None:
    """Reparameterised: what reaches mean and deviation through u, too."""
    noise = double(0.7, -1.2)
    arguments = double(0.3, -0.4), double(-0.5, 0.2)

    def loss(mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        u = mean + log_std.exp() * noise
        return (
            squashed_log_prob(u, mean, log_std, double(2.0, 0.5))
            + squash(u, double(2.0, 0.5)).sum()
        )

    assert torch.autograd.gradcheck(loss, [x.requires_grad_() for x in arguments])


def test_log_slope_sums_over_dimensions() -> None:
    u, scale = double(0.2, -0.9), double(3.0, 0.5)
    slopes = [c * (1 - math.tanh(x) ** 2) for c, x in zip((3.0, 0.5), (0.2, -0.9), strict=True)]
    assert log_slope(u, scale).item() == pytest.approx(math.log(slopes[0] * slopes[1]))


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_no_scale(scale: float) -> None:
    with pytest.raises(ValueError, match=r"scale is .* must be positive"):
        squashed_log_prob(double(0.0), double(0.0), double(0.0), double(scale))


# ---- Quadrature ---------------------------------------------------------------------------------


@given(st.floats(-5, 4), st.floats(0.1, 6), st.integers(0, 9))
def test_powers(low: float, width: float, power: int) -> None:
    x, weights = quadrature(low, low + width)
    exact = ((low + width) ** (power + 1) - low ** (power + 1)) / (power + 1)
    assert weights @ x**power == pytest.approx(exact, rel=1e-9, abs=1e-9)


def test_an_empty_interval() -> None:
    with pytest.raises(ValueError, match="low is 1; it must be below high = 1"):
        quadrature(1, 1)


def test_boltzmann_by_hand() -> None:
    """Q = a on [0, 1]: ∫ exp(a/α) = α (exp(1/α) - 1)."""
    x, weights = quadrature(0, 1)
    density, V = boltzmann_density(x, weights, 0.5)
    assert pytest.approx(0.5 * math.log(0.5 * (math.exp(2) - 1))) == V
    assert weights @ density == pytest.approx(1)
    assert density[-1] / density[0] == pytest.approx(math.exp(2 * (x[-1] - x[0])))


def test_no_action_value_has_a_fit_better_than_boltzmann() -> None:
    def Q(a: np.ndarray) -> np.ndarray:
        return np.cos(3 * a) + 0.3 * a

    x, weights = quadrature(-1.5, 1.5)
    alphas = [0.1, 0.5, 3.0]
    for alpha, fit in zip(alphas, best_fits(Q, 1.5, alphas), strict=True):
        _, V = boltzmann_density(Q(x), weights, alpha)
        assert fit.loss > -V - 1e-3  # a grid in u leaves out 1e-4 of the mass
        assert fit.loss < -V + 0.4 * alpha, "nor much worse"


def test_the_fit_of_one_hill_is_its_boltzmann() -> None:
    """Near 0 squashing hardly bends: deviation √α / c for Q = -a²/2."""
    (fit,) = best_fits(lambda a: -(a**2) / 2, 2.0, [0.04])
    assert fit.mean == pytest.approx(0, abs=0.03)
    assert math.exp(fit.log_std) == pytest.approx(0.1, rel=0.07)


@pytest.mark.parametrize("alpha", [0.0, -2.0])
def test_no_temperature(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        boltzmann_density(np.zeros(3), np.ones(3), alpha)
    with pytest.raises(ValueError, match="alphas"):
        best_fits(np.cos, 1.0, [1.0, alpha])
