"""What to watch in a run: numbers worked by hand, what must hold for any samples, and bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from rl_helpers.policy_gradients.diagnostics import (
    approximate_kl,
    clip_fraction,
    explained_variance,
)
from rl_helpers.policy_gradients.losses import categorical_log_prob
from rl_helpers.training.masks import masked_variance

LIVE = torch.tensor([[True, True, True, False]])
seeds = st.integers(0, 2**32 - 1)


def test_kl_by_hand() -> None:
    # ratios 1/2 and 3/2: terms 1/2 - 1 + log 2 and 3/2 - 1 - log(3/2)
    terms = approximate_kl(torch.tensor([0.25, 0.75]).log(), torch.tensor([0.5, 0.5]).log())
    expected = torch.tensor([math.log(2) - 0.5, 0.5 - math.log(1.5)])
    torch.testing.assert_close(terms, expected)


@given(seeds)
def test_the_mean_of_the_terms_under_the_old_policy_is_the_divergence(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    new, old = torch.randn(2, 5, generator=generator).double()
    actions = torch.arange(5)
    terms = approximate_kl(
        categorical_log_prob(new.expand(5, 5), actions),
        categorical_log_prob(old.expand(5, 5), actions),
    )
    assert (terms >= 0).all()
    exact = kl_divergence(Categorical(logits=old), Categorical(logits=new))
    torch.testing.assert_close((old.softmax(-1) * terms).sum(), exact)


def test_the_kl_of_a_small_and_of_a_huge_change() -> None:
    old = torch.zeros(1)
    small = approximate_kl(old + 1e-3, old)  # to second order half the square
    torch.testing.assert_close(small, torch.tensor([5e-7]), rtol=1e-2, atol=0.0)
    assert approximate_kl(old - 500, old).item() == pytest.approx(499)  # the ratio rounds to 0


def test_clip_fraction_by_hand() -> None:
    ratio = torch.tensor([[0.5, 1.0, 1.3, 9.0]])  # the last one does not count
    assert clip_fraction(ratio, LIVE, 0.2).tolist() == pytest.approx([2 / 3])
    assert clip_fraction(ratio, LIVE, 0.4).tolist() == pytest.approx([1 / 3])
    assert clip_fraction(ratio, LIVE, math.inf).tolist() == [0.0]
    both = clip_fraction(ratio.expand(2, 4), LIVE.expand(2, 4), torch.tensor([[0.2], [math.inf]]))
    assert both.tolist() == pytest.approx([2 / 3, 0])


def test_explained_variance_by_hand() -> None:
    targets = np.array([[1.0, 2.0, 3.0, np.nan]])  # variance 2/3
    live = LIVE.numpy()
    values = np.array([[1.0, 2.0, 2.0, 7.0]])  # errors 0, 0, 1: variance 2/9
    assert explained_variance(values, targets, live) == pytest.approx(1 - 1 / 3)
    assert explained_variance(values - 4, targets, live) == pytest.approx(1 - 1 / 3)
    assert explained_variance(-values, targets, live) < 0
    assert math.isnan(explained_variance(values, 0 * values, live)[0])


@given(seeds)
def test_explained_variance_of_a_constant_and_of_the_targets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets, live = rng.normal(size=(3, 8)), rng.random((3, 8)) < 0.9
    live[:, :2] = True
    constant = rng.normal(size=(3, 1)) * np.ones((3, 8))
    np.testing.assert_allclose(explained_variance(constant, targets, live), 0, atol=1e-9)
    np.testing.assert_allclose(explained_variance(targets + 1, targets, live), 1)
    values = rng.normal(size=(3, 8))
    arrays = values, targets, live
    of_tensors = explained_variance(*(torch.tensor(x) for x in arrays))
    np.testing.assert_allclose(of_tensors.numpy(), explained_variance(*arrays))
    for i in range(3):
        left = np.var((targets - values)[i, live[i]]) / np.var(targets[i, live[i]])
        assert explained_variance(*arrays)[i] == pytest.approx(1 - left)


def test_masked_variance() -> None:
    x = np.array([[1.0, 3.0, 8.0, np.nan], [2.0, 2.0, 2.0, 5.0]])
    live = np.array([[True, True, True, False]] * 2)
    np.testing.assert_allclose(masked_variance(x, live), [np.var([1, 3, 8]), 0])


X, Y = torch.ones(1, 3), torch.ones(1, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: approximate_kl(X, Y), r"old_log_probs has shape \(1, 4\); log_probs has \(1, 3\)"),
        (lambda: clip_fraction(X, LIVE, 0.2), r"live has shape \(1, 4\)"),
        (lambda: clip_fraction(Y, LIVE, 0.0), r"epsilon is 0\.0; it must be positive"),
        (
            lambda: explained_variance(X, Y, LIVE),
            r"targets has shape \(1, 4\); values has \(1, 3\)",
        ),
        (lambda: explained_variance(X, X, LIVE), r"live has shape \(1, 4\)"),
    ],
)
def test_bad_input(untyped: None, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
