"""Steps with a moving and a fixed reference, the other KL, and steps from samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import rel_entr, softmax

from rl_helpers.mdp.gridworld import gridworld
from rl_helpers.mdp.planning import greedy, objective, policy_action_value, policy_value
from rl_helpers.mdp.process import random_mdp, random_policy, uniform_policy
from rl_helpers.planning_as_inference.mirror_descent import (
    fixed_reference,
    forward_kl_step,
    improve_from_samples,
    mirror_descent,
    sampled_action_values,
)
from rl_helpers.planning_as_inference.soft_planning import boltzmann, soft_value_iteration
from tests.mdp.models import models, two_states

prices = st.sampled_from([0.1, 1.0, 5.0])


def test_a_moving_reference_by_hand() -> None:
    """gamma = 0, so Q is the reward: k steps at beta are one step at beta / k."""
    mdp = two_states(gamma=0.0)
    start = np.array([[0.9, 0.1], [0.9, 0.1]])
    policies = mirror_descent(mdp, 1.0, 3, start)
    assert policies.shape == (4, 2, 2)
    odds = math.log(9.0) + 3 * (mdp.R[0, 0] - mdp.R[0, 1])
    assert np.log(policies[3, 0, 0] / policies[3, 0, 1]) == pytest.approx(odds)


@pytest.mark.site  # takes long
@given(models(), prices)
def test_a_moving_reference_never_loses_and_a_fixed_one_finds_the_plan(model, beta) -> None:  # type: ignore[no-untyped-def]
    mdp, policy, _ = model
    values = np.array([policy_value(mdp, p) for p in mirror_descent(mdp, beta, 4, policy)])
    assert (np.diff(values, axis=0) >= -1e-9).all()
    plan = soft_value_iteration(mdp, beta, policy)
    assert fixed_reference(mdp, beta, 400, policy)[-1] == pytest.approx(plan.policy, abs=1e-6)


def test_the_gain_of_a_step_is_beta_times_both_divergences() -> None:
    mdp, beta = random_mdp(np.random.default_rng(0), 5, 3), 0.7
    old, new = mirror_descent(mdp, beta, 1)
    gain = ((new - old) * policy_action_value(mdp, old)).sum(axis=1)
    both = (rel_entr(new, old) + rel_entr(old, new)).sum(axis=1)
    assert gain == pytest.approx(beta * both, abs=1e-12)


def test_the_other_divergence_against_a_general_optimiser() -> None:
    rng, beta = np.random.default_rng(1), 0.4
    old, Q = random_policy(rng, 4, 3), rng.normal(size=(4, 3))

    def loss(logits: np.ndarray) -> float:
        new = softmax(logits.reshape(4, 3), axis=1)
        return float(beta * rel_entr(old, new).sum() - (new * Q).sum())

    found = softmax(minimize(loss, np.zeros(12), tol=1e-12).x.reshape(4, 3), axis=1)
    new = forward_kl_step(old, Q, beta)
    assert new == pytest.approx(found, abs=1e-5)
    assert new == pytest.approx(forward_kl_step(old, Q + rng.normal(size=(4, 1)), beta))


def test_the_other_divergence_by_hand_and_far_out() -> None:
    golden = (math.sqrt(5) - 1) / 2  # old (1/2, 1/2), Q (1, 0), beta 1/2: (1 + golden) / 2
    step = forward_kl_step(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]), 0.5)
    assert step[0, 0] == pytest.approx((1 + golden) / 2)
    far = forward_kl_step(np.array([[1 - 1e-9, 1e-9]]), np.array([[0.0, 1e3]]), 1e-3)
    assert far.sum() == pytest.approx(1)
    assert far[0, 1] == pytest.approx(1, abs=1e-5)


def test_sampled_action_values_have_the_right_mean() -> None:
    rng = np.random.default_rng(2)
    mdp, policy = random_mdp(rng, 4, 3, gamma=0.6), random_policy(rng, 4, 3)
    drawn = sampled_action_values(mdp, np.tile(policy, (4_000, 1, 1)), 40, rng)
    error = drawn.std(axis=0) / math.sqrt(len(drawn))
    exact = policy_action_value(mdp, policy)
    assert (np.abs(drawn.mean(axis=0) - exact) < 4.5 * error).all()


def test_each_policy_is_followed_in_its_own_walks() -> None:
    mdp = gridworld(["S.G"], slip=0.0, gamma=0.5).mdp
    right, left = (np.tile(np.eye(4)[a], (3, 1)) for a in (1, 3))
    Q = sampled_action_values(mdp, np.array([right, left]), 5, np.random.default_rng(0))
    assert Q[0, 0] == pytest.approx([0.25, 0.5, 0.25, 0.25])  # only right saves a step
    assert Q[1, 0] == pytest.approx([0, 0, 0, 0])
    assert Q[:, 1, 1] == pytest.approx([1, 1])


def test_steps_from_samples_without_noise_are_exact_steps() -> None:
    """No slip and a sure policy: one walk is the truth, and greed is policy iteration."""
    mdp = gridworld(["S..G"], slip=0.0, gamma=0.9).mdp
    rng = np.random.default_rng(0)
    history = improve_from_samples(mdp, lambda last, _: greedy(last), 6, 3, rng)
    assert history.shape == (3, 7)
    assert history[:, 0] == pytest.approx(objective(mdp, uniform_policy(mdp)))
    assert history[:, -1] == pytest.approx(0.81)


def test_the_rule_sees_the_last_estimate_and_the_sum() -> None:
    mdp, seen = two_states(), []

    def rule(last: np.ndarray, total: np.ndarray) -> np.ndarray:
        seen.append((last.copy(), total.copy()))
        return boltzmann(total, 1.0)

    improve_from_samples(mdp, rule, 3, 2, np.random.default_rng(0), walks=2)
    assert seen[2][1] == pytest.approx(sum(last for last, _ in seen))


def test_bad_input(untyped: None) -> None:
    mdp, rng = two_states(), np.random.default_rng(0)
    half = uniform_policy(mdp)
    for loop in (mirror_descent, fixed_reference):
        with pytest.raises(ValueError, match=r"beta is 0\.0; it must be positive"):
            loop(mdp, 0.0, 1)
        with pytest.raises(ValueError, match="n_steps is 0"):
            loop(mdp, 1.0, 0)
        with pytest.raises(ValueError, match="sums to"):
            loop(mdp, 1.0, 1, half / 2)
    with pytest.raises(ValueError, match="beta is -1"):
        forward_kl_step(half, mdp.R, -1.0)
    with pytest.raises(ValueError, match="policy has shape"):
        forward_kl_step(half[:1], mdp.R, 1.0)
    with pytest.raises(ValueError, match="Q holds 4 values"):
        forward_kl_step(half, np.full((2, 2), math.nan), 1.0)
    with pytest.raises(ValueError, match=r"policy\[0, 1\] is 0; every action needs"):
        forward_kl_step(np.eye(2), mdp.R, 1.0)
    with pytest.raises(ValueError, match="sums to"):
        forward_kl_step(half / 2, mdp.R, 1.0)
    with pytest.raises(ValueError, match="horizon is 0"):
        sampled_action_values(mdp, half[None], 0, rng)
    with pytest.raises(ValueError, match=r"policies is an array of shape \(2, 2\)"):
        sampled_action_values(mdp, half, 5, rng)
    sparse = gridworld(["S.G"], store_sparse=True).mdp
    with pytest.raises(ValueError, match="P is sparse"):
        sampled_action_values(sparse, np.full((1, 3, 4), 0.25), 5, rng)
    with pytest.raises(ValueError, match="walks is 0"):
        improve_from_samples(mdp, lambda last, _: greedy(last), 1, 1, rng, walks=0)
