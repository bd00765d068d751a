"""TD errors, GAE, policy, value and PPO losses: by hand, at their ends, and against definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_helpers.mdp.returns import discounted_returns
from rl_helpers.policy_gradients.advantages import bootstrapped_returns, gae, td_errors
from rl_helpers.policy_gradients.losses import (
    categorical_entropy,
    categorical_log_prob,
    clipped_surrogate,
    clipped_value_loss,
    importance_ratio,
    policy_gradient_loss,
    surrogate,
    surrogate_ceiling,
    value_loss,
)
from rl_helpers.training.masks import masked_mean, normalise_advantages

NO, YES = False, True


def tensor(*numbers: float, grad: bool = False) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=grad)


# ---- Returns, TD errors, GAE --------------------------------------------------------------------


def test_td_errors_by_hand() -> None:
    # step 1 inside, step 2 terminated, step 3 truncated (nothing special: V of the last state)
    deltas = td_errors(
        np.array([1.0, 2.0, 3.0]),
        np.array([4.0, 5.0, 6.0]),
        np.array([5.0, 99.0, 8.0]),
        np.array([NO, YES, NO]),
        0.5,
    )
    np.testing.assert_array_equal(deltas, [1 + 2.5 - 4, 2 - 5, 3 + 4 - 6])


def test_gae_by_hand() -> None:
    # gamma λ = 0.5 * 0.8 = 0.4: 4; 2 + 0.4 * 4 = 3.6; 1 + 0.4 * 3.6 = 2.44
    deltas = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(gae(deltas, np.zeros(3, bool), 0.5, 0.8), [2.44, 3.6, 4.0])
    # the second step ends an episode, so the third does not enter: 1 + 0.4 * 2 = 1.8
    np.testing.assert_allclose(gae(deltas, np.array([NO, YES, NO]), 0.5, 0.8), [1.8, 2.0, 4.0])


def test_gae_equals_its_sum() -> None:
    rng = np.random.default_rng(0)
    deltas, gamma, lambda_ = rng.normal(size=(3, 7)), 0.9, 0.7
    for t in range(7):
        weights = (gamma * lambda_) ** np.arange(7 - t)
        estimate = gae(deltas, np.zeros((3, 7), bool), gamma, lambda_)[:, t]
        np.testing.assert_allclose(estimate, deltas[:, t:] @ weights)


def test_bootstrapped_returns_by_hand() -> None:
    # two episodes in one rollout, and the beginning of a third; gamma = 0.5
    rewards = np.array([1.0, 2.0, 0.0, 4.0, 8.0, 0.0, 3.0])
    next_values = np.array([9.0, 9.0, 9.0, 9.0, 6.0, 9.0, 2.0])
    terminated = np.array([NO, YES, NO, NO, NO, NO, NO])
    truncated = np.array([NO, NO, NO, NO, YES, NO, NO])
    returns = bootstrapped_returns(rewards, next_values, terminated, truncated, 0.5)
    live = [0, 1, 3, 4, 6]  # steps 2 and 5 are resets
    # 2; 1 + 1 = 2; 8 + 0.5 * 6 = 11; 4 + 5.5 = 9.5; 3 + 0.5 * 2 = 4
    np.testing.assert_array_equal(returns[live], [2.0, 2.0, 9.5, 11.0, 4.0])


def test_a_truncated_step_that_also_terminated_is_terminal() -> None:
    one = np.ones(1)
    ended = np.array([YES])
    np.testing.assert_array_equal(bootstrapped_returns(one, 9 * one, ended, ended, 0.5), [1.0])


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 8)))
    terminated, truncated = rng.random((2, *shape)) < 0.2
    rewards, values, next_values = rng.normal(size=(3, *shape))
    # inside an episode the next value is the next step's value
    ended = terminated | truncated
    next_values[:, :-1] = np.where(ended[:, :-1], next_values[:, :-1], values[:, 1:])
    return rewards, values, next_values, terminated, truncated


@given(rollouts(), st.floats(0, 1))
def test_the_ends_of_lambda(arrays: tuple[np.ndarray, ...], gamma: float) -> None:
    rewards, values, next_values, terminated, truncated = arrays
    deltas = td_errors(rewards, values, next_values, terminated, gamma)
    ended = terminated | truncated
    np.testing.assert_array_equal(gae(deltas, ended, gamma, 0.0), deltas)
    returns = bootstrapped_returns(rewards, next_values, terminated, truncated, gamma)
    np.testing.assert_allclose(gae(deltas, ended, gamma, 1.0), returns - values, atol=1e-12)


@given(rollouts(), st.floats(0, 1), st.floats(0, 1))
def test_tensors_give_what_arrays_give(
    arrays: tuple[np.ndarray, ...], gamma: float, lambda_: float
) -> None:
    rewards, values, next_values, terminated, truncated = arrays
    r, v, v_next, term, trunc = (torch.tensor(x) for x in arrays)
    deltas = td_errors(rewards, values, next_values, terminated, gamma)
    np.testing.assert_allclose(td_errors(r, v, v_next, term, gamma).numpy(), deltas)
    ended = terminated | truncated
    np.testing.assert_allclose(
        gae(torch.tensor(deltas), torch.tensor(ended), gamma, lambda_).numpy(),
        gae(deltas, ended, gamma, lambda_),
    )
    np.testing.assert_allclose(
        bootstrapped_returns(r, v_next, term, trunc, gamma).numpy(),
        bootstrapped_returns(rewards, next_values, terminated, truncated, gamma),
    )


def test_one_episode_that_terminates_is_the_plain_return() -> None:
    rewards = np.random.default_rng(0).normal(size=(2, 5))
    terminated = np.zeros((2, 5), bool)
    terminated[:, -1] = True
    returns = bootstrapped_returns(
        rewards, np.full((2, 5), 7.0), terminated, np.zeros((2, 5), bool), 0.9
    )
    np.testing.assert_allclose(returns, discounted_returns(rewards, 0.9))


def test_gamma_and_lambda_are_not_interchangeable() -> None:
    rewards, values = np.array([1.0, 2.0]), np.array([3.0, 5.0])
    no = np.zeros(2, bool)

    def estimate(gamma: float, lambda_: float) -> np.ndarray:
        return gae(td_errors(rewards, values, np.array([5.0, 0.0]), no, gamma), no, gamma, lambda_)

    # gamma 0.5: δ = (1 + 2.5 - 3, 2 - 5) = (0.5, -3); Â_0 = 0.5 - 0.5 * 0.8 * 3 = -0.7
    np.testing.assert_allclose(estimate(0.5, 0.8), [-0.7, -3.0])
    # gamma 0.8: δ = (1 + 4 - 3, 2 - 5) = (2, -3); Â_0 = 2 - 0.8 * 0.5 * 3 = 0.8
    np.testing.assert_allclose(estimate(0.8, 0.5), [0.8, -3.0])


# ---- Means over live samples --------------------------------------------------------------------


def test_masked_mean_ignores_dead_samples() -> None:
    x = np.array([[1.0, 3.0, np.nan], [np.nan, np.nan, 5.0], [np.nan] * 3])
    live = ~np.isnan(x)
    np.testing.assert_array_equal(masked_mean(x, live), [2.0, 5.0, 0.0])
    np.testing.assert_array_equal(masked_mean(torch.tensor(x), torch.tensor(live)), [2, 5, 0])


def test_masked_mean_keeps_seeds_apart() -> None:
    x = torch.ones(2, 3, 4, requires_grad=True)
    live = torch.ones(2, 3, 4, dtype=torch.bool)
    masked_mean(x, live)[0].backward()
    assert x.grad is not None
    assert x.grad[1].abs().sum() == 0
    torch.testing.assert_close(x.grad[0], torch.full((3, 4), 1 / 12))


def test_normalised_advantages() -> None:
    rng = np.random.default_rng(0)
    advantages, live = rng.normal(3, 5, size=(4, 6, 7)), rng.random((4, 6, 7)) < 0.7
    scaled = normalise_advantages(advantages, live)
    np.testing.assert_allclose(masked_mean(scaled, live), 0, atol=1e-12)
    np.testing.assert_allclose(masked_mean(scaled**2, live), 1, atol=1e-6)
    assert (scaled[~live] == 0).all()
    shifted = normalise_advantages(10 * advantages + 3, live)
    np.testing.assert_allclose(shifted, scaled, atol=1e-6)


def test_a_group_without_spread_becomes_zero() -> None:
    same = normalise_advantages(np.full((1, 3), 7.0), np.ones((1, 3), bool))
    np.testing.assert_array_equal(same, [[0, 0, 0]])


# ---- Policy and value losses --------------------------------------------------------------------


def test_log_prob_and_entropy_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [5.0, 5.0]])  # (1/4, 3/4) and (1/2, 1/2)
    log_probs = categorical_log_prob(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(log_probs, torch.log(torch.tensor([0.75, 0.5])))
    by_hand = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(categorical_entropy(logits), torch.tensor([by_hand, math.log(2.0)]))


def test_policy_gradient_loss_and_its_sign() -> None:
    log_probs, advantages = tensor(-1.0, -2.0, grad=True), tensor(3.0, -4.0, grad=True)
    loss = policy_gradient_loss(log_probs, advantages)
    assert loss.tolist() == [3.0, -8.0]
    loss.sum().backward()
    assert log_probs.grad is not None
    # descent raises the log-probability of what was better than expected
    assert log_probs.grad.tolist() == [-3.0, 4.0]
    assert advantages.grad is None


def test_value_loss_holds_its_target() -> None:
    values = tensor(1.0, 4.0, grad=True)
    targets = 2 * values  # moves with V, but is held
    loss = value_loss(values, targets)
    assert loss.tolist() == [0.5, 8.0]
    loss.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [-1.0, -4.0]


@pytest.mark.parametrize(
    ("value", "loss", "slope"),
    [  # old value 0, target 2, epsilon 0.5
        (0.25, (1.75**2) / 2, -1.75),  # inside: the plain loss
        (1.0, (1.5**2) / 2, 0.0),  # moved far enough towards the target: held at 0.5
        (-1.0, (3.0**2) / 2, -3.0),  # moved away from it: the plain loss, the larger one
    ],
)
def test_clipped_value_loss_by_hand(value: float, loss: float, slope: float) -> None:
    values = tensor(value, grad=True)
    result = clipped_value_loss(values, tensor(0.0), tensor(2.0), 0.5)
    assert result.item() == pytest.approx(loss)
    result.sum().backward()
    assert values.grad is not None
    assert values.grad.item() == pytest.approx(slope)


# ---- PPO ----------------------------------------------------------------------------------------


def test_ratio_is_one_at_the_old_policy() -> None:
    log_probs = tensor(-0.3, -2.0, grad=True)
    ratio = importance_ratio(log_probs, log_probs)
    assert ratio.tolist() == [1.0, 1.0]
    surrogate(ratio, tensor(3.0, -4.0)).sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [3.0, -4.0]  # ∇ log π times Â: the policy gradient


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective", "slope"),
    [  # epsilon 0.2; the four regions outside the interval, and its inside
        (1.5, 2.0, 2.4, 0.0),  # A > 0, ρ > 1 + ε: nothing more to gain
        (0.5, 2.0, 1.0, 2.0),  # A > 0, ρ < 1 - ε: brought back
        (1.5, -2.0, -3.0, -2.0),  # A < 0, ρ > 1 + ε: brought back
        (0.5, -2.0, -1.6, 0.0),  # A < 0, ρ < 1 - ε: nothing more to gain
        (1.1, 2.0, 2.2, 2.0),
        (0.9, -2.0, -1.8, -2.0),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_ppo_clip_and_its_gradient_by_hand(
    ratio: float, advantage: float, objective: float, slope: float
) -> None:
    rho, A = tensor(ratio, grad=True), tensor(advantage, grad=True)
    clipped = clipped_surrogate(rho, A, 0.2)
    assert clipped.item() == pytest.approx(objective)
    clipped.sum().backward()
    assert rho.grad is not None
    assert rho.grad.item() == pytest.approx(slope)
    assert A.grad is None


@given(st.floats(0.01, 5), st.floats(-5, 5), st.floats(0.01, 0.9))
def test_ppo_clip_is_a_lower_bound_and_equals_the_form_with_g(
    ratio: float, advantage: float, epsilon: float
) -> None:
    rho, A = tensor(ratio), tensor(advantage)
    clipped = clipped_surrogate(rho, A, epsilon)
    assert clipped <= surrogate(rho, A)
    torch.testing.assert_close(clipped, torch.minimum(rho * A, surrogate_ceiling(epsilon, A)))


def test_infinite_epsilon_is_the_surrogate() -> None:
    rho, A = tensor(0.1, 1.0, 9.0), tensor(2.0, -1.0, -3.0)
    torch.testing.assert_close(clipped_surrogate(rho, A, math.inf), surrogate(rho, A))


def test_each_seed_its_own_epsilon() -> None:
    rho, A = torch.full((3, 2), 9.0), torch.ones(3, 2)
    epsilon = torch.tensor([[0.1], [0.3], [math.inf]])
    torch.testing.assert_close(
        clipped_surrogate(rho, A, epsilon)[:, 0], torch.tensor([1.1, 1.3, 9.0])
    )


# ---- Bad input ----------------------------------------------------------------------------------

ONE, OFF = np.ones(3), np.zeros(3, bool)
X, Y = torch.ones(3), torch.ones(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gae(ONE, OFF, 0.9, 1.2), r"lambda_ is 1\.2; allowed is 0 <= lambda_ <= 1"),
        (lambda: gae(ONE, OFF, 0.9, -0.1), r"lambda_ is -0\.1"),
        (lambda: gae(ONE, OFF, 1.5, 0.9), r"gamma is 1\.5; allowed is 0 <= gamma <= 1"),
        (lambda: gae(ONE, OFF[:2], 0.9, 0.9), r"ended has shape \(2,\); deltas has \(3,\)"),
        (lambda: gae(ONE[:0], OFF[:0], 0.9, 0.9), r"deltas has shape \(0,\)"),
        (lambda: gae(ONE * np.nan, OFF, 0.9, 0.9), "deltas holds values that are NaN"),
        (lambda: td_errors(ONE * np.nan, ONE, ONE, OFF, 0.9), "rewards holds values that are NaN"),
        (lambda: td_errors(ONE, ONE[:2], ONE, OFF, 0.9), r"values has shape \(2,\)"),
        (
            lambda: bootstrapped_returns(ONE * np.nan, ONE, OFF, OFF, 0.9),
            "rewards holds values that are NaN",
        ),
        (lambda: bootstrapped_returns(ONE, ONE, OFF, OFF[:1], 0.9), r"truncated has shape \(1,\)"),
        (lambda: clipped_surrogate(X, X, 0.0), r"epsilon is 0\.0; it must be positive"),
        (lambda: clipped_surrogate(X, X, math.nan), "epsilon is nan; it must be positive"),
        (lambda: clipped_surrogate(X, X, torch.tensor([0.1, -0.1, 0.1])), "epsilon is tensor"),
        (lambda: clipped_surrogate(X, Y, 0.2), r"advantages has shape \(4,\); ratio has \(3,\)"),
        (lambda: surrogate_ceiling(-0.2, X), r"epsilon is -0\.2"),
        (lambda: clipped_value_loss(X, X, X, 0), "epsilon is 0; it must be positive"),
        (lambda: clipped_value_loss(X, Y, X, 0.2), r"old_values has shape \(4,\)"),
        (lambda: importance_ratio(X, Y), r"old_log_probs has shape \(4,\)"),
        (lambda: surrogate(X, Y), r"advantages has shape \(4,\)"),
        (lambda: value_loss(X, Y), r"targets has shape \(4,\)"),
        (lambda: policy_gradient_loss(X, Y), r"advantages has shape \(4,\)"),
        (lambda: masked_mean(X, Y), r"live has shape \(4,\)"),
        (
            lambda: categorical_log_prob(torch.ones(3, 2), torch.ones(4, dtype=torch.long)),
            r"actions has shape \(4,\); with logits of shape \(3, 2\) it must be \(3,\)",
        ),
    ],
)
def test_bad_input(untyped: None, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
