"""Importance sampling: by hand, by listing all draws, by drawing; limits, invariances, bad input."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_helpers.outlook.importance import effective_sample_size, resampling, weighted_mean
from rl_helpers.rlhf.best_of_n import best_of_n
from rl_helpers.rlhf.tilting import tilt

THREE = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
R = torch.tensor([-2.0, -1.0, 0.0], dtype=torch.float64)


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int]:
    """References and log-weights, some of which tie, of two prompts, and a number of draws."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size = (2, draw(st.integers(1, 5)))
    logits = 2 * torch.randn(size, generator=generator, dtype=torch.float64)
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    log_w = scale * torch.randint(-3, 4, size, generator=generator).double()
    return logits.log_softmax(-1), log_w, draw(st.sampled_from([1, 2, 3, 4]))


def by_listing(log_reference: torch.Tensor, log_weights: torch.Tensor, n: int) -> list[float]:
    """All n-tuples of draws of one prompt, each kept in proportion to its weight."""
    p, w = log_reference.exp().tolist(), log_weights.exp().tolist()
    total = [0.0] * len(p)
    for drawn in itertools.product(range(len(p)), repeat=n):
        for y in drawn:
            share = w[y] / sum(w[z] for z in drawn)
            total[y] += math.prod(p[z] for z in drawn) * share
    return total


def test_weighted_mean_by_hand() -> None:
    weights = torch.tensor([[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    values = torch.tensor([[0.0, 4.0, 6.0], [1.0, 2.0, 6.0]], dtype=torch.float64)
    found = weighted_mean((weights + 1e-30).log(), values)
    torch.testing.assert_close(found, torch.tensor([4.0, 3.0], dtype=torch.float64))


def test_effective_sample_size_by_hand() -> None:
    weights = torch.tensor([[1.0, 1.0, 2.0, 4.0], [3.0, 3.0, 3.0, 3.0]], dtype=torch.float64)
    found = effective_sample_size(weights.log())
    torch.testing.assert_close(found, torch.tensor([64 / 22, 4.0], dtype=torch.float64))


@given(st.lists(st.floats(-300, 300), min_size=1, max_size=20), st.floats(-300, 300))
def test_effective_sample_size_is_between_1_and_n_and_ignores_the_scale(
    log_weights: list[float], shift: float
) -> None:
    log_w = torch.tensor(log_weights, dtype=torch.float64)
    found = effective_sample_size(log_w).item()
    assert 1 - 1e-9 <= found <= len(log_weights) * (1 + 1e-9)
    assert effective_sample_size(log_w + shift).item() == pytest.approx(found, rel=1e-9)


@given(problems())
def test_resampling_against_listing_all_draws(
    problem: tuple[torch.Tensor, torch.Tensor, int],
) -> None:
    log_reference, log_weights, n = problem
    found = resampling(log_reference, log_weights, n).exp()
    listed = [by_listing(p, w, n) for p, w in zip(log_reference, log_weights, strict=True)]
    np.testing.assert_allclose(found, listed, atol=1e-12)


def test_resampling_against_drawing() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(THREE.exp().expand(50_000, 3), 6, True, generator=generator)
    kept = drawn.gather(1, torch.multinomial(R[drawn].exp(), 1, generator=generator))
    p = resampling(THREE, R, 6).exp()
    found = torch.bincount(kept.flatten(), minlength=3) / 50_000
    assert bool(((found - p).abs() < 4 * (p * (1 - p) / 50_000).sqrt()).all())


def test_resampling_from_the_reference_to_the_tilt() -> None:
    torch.testing.assert_close(resampling(THREE, R, 1), THREE)
    for n, off in ((10**3, 1e-3), (10**6, 1e-6)):
        assert (resampling(THREE, R, n) - tilt(THREE, R, 1.0)).abs().max() < 2 * off
    exact = resampling(THREE, R, 10**6).exp().sum().item()
    assert exact == pytest.approx(1, abs=1e-12)


def test_with_weights_far_apart_resampling_is_best_of_n() -> None:
    found = resampling(THREE, 200 * R, 4)
    torch.testing.assert_close(found.exp(), best_of_n(THREE, R, 4).exp(), atol=1e-12, rtol=0)


def test_the_constant_of_the_weights_does_not_count() -> None:
    torch.testing.assert_close(resampling(THREE, R + 500, 5), resampling(THREE, R, 5))
    values = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(weighted_mean(R + 500, values), weighted_mean(R, values))


def test_what_the_reference_never_says_is_never_kept() -> None:
    reference = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64).log()
    found = resampling(reference, R, 3).exp()
    assert found[2] == 0
    assert found.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resampling(THREE, R, 0), "n is 0"),
        (lambda: resampling(THREE, 400 * R, 2), "log_weights is 800 nats apart.*at most 600"),
        (lambda: resampling(THREE, torch.log(torch.zeros(3).double()), 2), "log_weights"),
        (lambda: resampling(THREE + 1, R, 2), "log_reference"),
        (lambda: effective_sample_size(torch.tensor([0.0, math.inf])), "log_weights"),
        (lambda: weighted_mean(torch.tensor([0.0, math.nan]), torch.ones(2)), "log_weights"),
    ],
)
def test_bad_input_is_named(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]


def test_weights_of_another_shape_are_named(untyped: None) -> None:
    with pytest.raises(ValueError, match=r"log_weights has shape \(2,\); log_reference has \(3,\)"):
        resampling(THREE, R[:2], 2)
