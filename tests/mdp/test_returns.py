"""Returns: by hand, against their definition, and for tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rl_helpers.mdp.returns import discounted_returns

rewards = hnp.arrays(
    np.float64, hnp.array_shapes(max_dims=3, max_side=6), elements=st.floats(-10, 10)
)


def test_by_hand() -> None:
    # backwards with gamma = 0.5: 4; 2 + 0.5 * 4 = 4; 1 + 0.5 * 4 = 3
    returns = discounted_returns(np.array([1.0, 2.0, 4.0]), 0.5)
    np.testing.assert_array_equal(returns, [3.0, 4.0, 4.0])


@pytest.mark.parametrize(("gamma", "expected"), [(0.0, [1.0, 2.0, 4.0]), (1.0, [7.0, 6.0, 4.0])])
def test_both_ends_of_gamma(gamma: float, expected: list[float]) -> None:
    returns = discounted_returns(np.array([1.0, 2.0, 4.0]), gamma)
    np.testing.assert_array_equal(returns, expected)


@given(rewards, st.floats(0, 1))
def test_equals_the_definition(rewards: np.ndarray, gamma: float) -> None:
    T = rewards.shape[-1]
    weights = np.array([[gamma ** (k - t) if k >= t else 0.0 for k in range(T)] for t in range(T)])
    np.testing.assert_allclose(discounted_returns(rewards, gamma), rewards @ weights.T, atol=1e-12)


@given(rewards)
def test_a_batch_is_its_rows(rewards: np.ndarray) -> None:
    batch = np.stack([rewards, 2 * rewards])
    np.testing.assert_array_equal(
        discounted_returns(batch, 0.9)[1], discounted_returns(2 * rewards, 0.9)
    )


def test_tensors_give_the_same_and_gradients(untyped: None) -> None:
    numbers = np.random.default_rng(0).normal(size=(3, 5))
    tensor = torch.tensor(numbers, requires_grad=True)
    returns = discounted_returns(tensor, 0.9)
    np.testing.assert_allclose(returns.detach().numpy(), discounted_returns(numbers, 0.9))
    returns[:, 0].sum().backward()
    assert tensor.grad is not None
    np.testing.assert_allclose(tensor.grad[0].numpy(), 0.9 ** np.arange(5))  # dG_0/dr_k = gamma^k


def test_leaves_its_argument_alone() -> None:
    given_rewards = np.array([1.0, 2.0])
    discounted_returns(given_rewards, 0.5)
    np.testing.assert_array_equal(given_rewards, [1.0, 2.0])


@pytest.mark.parametrize(
    ("bad", "gamma", "message"),
    [
        (np.ones(2), 1.1, r"gamma is 1\.1; allowed is 0 <= gamma <= 1"),
        (np.ones(2), np.nan, r"gamma is nan; allowed"),
        (np.ones((2, 0)), 0.9, r"rewards has shape \(2, 0\); it must be \[\.\.\., T\] with T >= 1"),
        (np.array(1.0), 0.9, r"rewards has shape \(\)"),
        (np.array([1.0, np.nan]), 0.9, "rewards holds values that are NaN or infinite"),
        (np.array([1.0, np.inf]), 0.9, "rewards holds values that are NaN or infinite"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")  # inf - inf
def test_bad_input(untyped: None, bad: np.ndarray, gamma: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        discounted_returns(bad, gamma)
