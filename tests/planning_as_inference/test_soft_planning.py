"""Soft maxima, Boltzmann policies and soft values: by hand, as properties, against other hands."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import entropy

from rl_helpers.mdp.planning import action_values, policy_value, value_iteration
from rl_helpers.mdp.process import MDP, random_mdp, random_policy, uniform_policy
from rl_helpers.planning_as_inference.soft_planning import (
    boltzmann,
    bonus,
    soft_maximum,
    soft_policy_iteration,
    soft_policy_value,
    soft_value_iteration,
)
from tests.mdp.models import models, two_states

temperatures = st.sampled_from([0.05, 0.5, 1.0, 7.0])


def test_two_actions_by_hand() -> None:
    Q = np.array([[1.0, 0.0], [3.0, 3.0]])
    assert soft_maximum(Q, 0.5)[0] == pytest.approx(0.5 * math.log(math.e**2 + 1))
    assert soft_maximum(Q, 0.5)[1] == pytest.approx(3 + 0.5 * math.log(2))
    assert boltzmann(Q, 0.5)[0, 0] == pytest.approx(math.e**2 / (math.e**2 + 1))


def test_a_reference_by_hand() -> None:
    Q, reference = np.array([[0.0, 2.0]]), np.array([[0.9, 0.1]])
    total = 0.9 + 0.1 * math.e**2
    assert soft_maximum(Q, 1.0, reference)[0] == pytest.approx(math.log(total))
    assert boltzmann(Q, 1.0, reference)[0, 1] == pytest.approx(0.1 * math.e**2 / total)


def test_an_action_the_reference_never_takes_stays_out() -> None:
    Q, reference = np.array([[0.0, 2.0, 9.0]]), np.array([[0.5, 0.5, 0.0]])
    policy = boltzmann(Q, 1.0, reference)
    assert policy[0, 2] == 0.0
    assert np.isfinite(soft_maximum(Q, 1.0, reference)).all()
    assert bonus(np.array([[0.0, 0.0, 1.0]]), reference)[0] == -math.inf


def test_large_values_do_not_overflow() -> None:
    Q = np.array([[1e6, 1e6 - 1.0], [-1e6, -1e6 - 1.0]])
    more = math.log(1 + math.exp(-1))
    assert soft_maximum(Q, 1.0) == pytest.approx([1e6 + more, -1e6 + more], rel=1e-14)


@given(models(), temperatures)
def test_the_soft_maximum_is_the_best_reward_plus_bonus(model, temperature) -> None:  # type: ignore[no-untyped-def]
    mdp, policy, rng = model
    Q, reference = rng.normal(size=mdp.R.shape), random_policy(rng, *mdp.R.shape)
    for weights in (None, reference):
        best, V = boltzmann(Q, temperature, weights), soft_maximum(Q, temperature, weights)

        def judged(p, weights=weights):  # type: ignore[no-untyped-def]
            return (p * Q).sum(1) + temperature * bonus(p, weights)

        assert judged(best) == pytest.approx(V, abs=1e-9)
        assert (judged(policy) <= V + 1e-9).all()


def test_the_bonus_is_entropy_or_minus_kl() -> None:
    rng = np.random.default_rng(0)
    policy, reference = random_policy(rng, 4, 3), random_policy(rng, 4, 3)
    assert bonus(policy) == pytest.approx(entropy(policy, axis=1))
    assert bonus(policy, reference) == pytest.approx(-entropy(policy, reference, axis=1))


@pytest.mark.site  # takes long
@given(models(), temperatures)
def test_the_plan_is_a_fixed_point_and_its_policy_has_its_value(model, temperature) -> None:  # type: ignore[no-untyped-def]
    mdp, policy, rng = model
    for reference in (None, random_policy(rng, *mdp.R.shape)):
        plan = soft_value_iteration(mdp, temperature, reference)
        again = soft_maximum(action_values(mdp, plan.V), temperature, reference)
        assert again == pytest.approx(plan.V, abs=1e-8)
        own = soft_policy_value(mdp, plan.policy, temperature, reference)
        assert own == pytest.approx(plan.V, abs=1e-7)
        other = soft_policy_value(mdp, policy, temperature, reference)
        assert (other <= plan.V + 1e-7).all()


@given(models(), temperatures)
def test_policy_iteration_ends_where_value_iteration_does(model, temperature) -> None:  # type: ignore[no-untyped-def]
    mdp, _, rng = model
    for reference in (None, random_policy(rng, *mdp.R.shape)):
        plan = soft_policy_iteration(mdp, temperature, reference)
        Q = action_values(mdp, plan.V)
        assert soft_maximum(Q, temperature, reference) == pytest.approx(plan.V, abs=1e-8)
        assert boltzmann(Q, temperature, reference) == pytest.approx(plan.policy, abs=1e-12)
        assert plan.steps < 20
    if mdp.gamma < 0.5:  # few sweeps
        swept = soft_value_iteration(mdp, temperature, reference)
        assert pytest.approx(swept.V, abs=2e-8) == plan.V


def test_a_sure_policy_has_entropy_zero_without_a_sign() -> None:
    assert not np.signbit(bonus(np.eye(2))).any()


def test_the_plan_against_a_general_optimiser() -> None:
    rng = np.random.default_rng(1)
    mdp = random_mdp(rng, 3, 3)

    def loss(logits: np.ndarray) -> float:
        policy = boltzmann(logits.reshape(3, 3), 1.0)
        return -float(mdp.p0 @ soft_policy_value(mdp, policy, 0.7))

    found = minimize(loss, np.zeros(9), tol=1e-12)
    assert -found.fun == pytest.approx(mdp.p0 @ soft_value_iteration(mdp, 0.7).V, abs=1e-7)


def test_a_finite_walk_by_hand() -> None:
    """Every step of a policy pays its reward and its entropy, the first step's included."""
    mdp = two_states(gamma=0.5)
    half = np.full((2, 2), 0.5)
    last = 2 * math.log(2)  # of the absorbing state: log 2 a step, for ever, at gamma = 1/2
    V = soft_policy_value(mdp, half, 1.0)
    assert V[1] == pytest.approx(last)
    # v = 1/2 (1 + v/2) + 1/2 (2 + last/2) + log 2
    assert V[0] == pytest.approx((1.5 + last / 4 + math.log(2)) / 0.75)


def test_the_limits() -> None:
    mdp = random_mdp(np.random.default_rng(2), 5, 3)
    hard = value_iteration(mdp, tol=1e-10).V
    assert pytest.approx(hard, abs=1e-2) == soft_value_iteration(mdp, 1e-4).V
    assert soft_value_iteration(mdp, 1e5).policy == pytest.approx(uniform_policy(mdp), abs=1e-3)
    reference = random_policy(np.random.default_rng(3), 5, 3)
    stiff, plain = soft_value_iteration(mdp, 1e5, reference), policy_value(mdp, reference)
    assert stiff.policy == pytest.approx(reference, abs=1e-3)
    assert pytest.approx(plain, abs=1e-2) == stiff.V
    assert soft_policy_value(mdp, reference, 0.0) == pytest.approx(plain)


def test_bad_input(untyped: None) -> None:
    mdp = two_states()
    half, sure = np.full((2, 2), 0.5), np.array([[1.0, 0.0], [1.0, 0.0]])
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"temperature is {temperature}; it must be positive"):
            soft_value_iteration(mdp, temperature)
        with pytest.raises(ValueError, match="temperature is"):
            soft_maximum(mdp.R, temperature)
        with pytest.raises(ValueError, match="temperature is"):
            boltzmann(mdp.R, temperature)
    with pytest.raises(ValueError, match=r"temperature is -1\.0; it must be at least 0"):
        soft_policy_value(mdp, half, -1.0)
    with pytest.raises(ValueError, match=r"reference\[0, 1\] is 0 where policy is 0.5"):
        soft_policy_value(mdp, half, 1.0, sure)
    with pytest.raises(ValueError, match=r"reference is an array of shape \(1, 2\)"):
        soft_maximum(mdp.R, 1.0, half[:1])
    with pytest.raises(ValueError, match=r"reference sums to"):
        soft_value_iteration(mdp, 1.0, half / 2)
    with pytest.raises(ValueError, match="Q holds 1 values"):
        soft_maximum(np.array([[math.nan, 0.0]]), 1.0)
    with pytest.raises(ValueError, match="Q holds 1 values"):
        boltzmann(np.array([[math.inf, 0.0]]), 1.0)
    with pytest.raises(ValueError, match=r"tol is 0\.0; it must be positive"):
        soft_value_iteration(mdp, 1.0, tol=0.0)
    with pytest.raises(ValueError, match="max_sweeps is 0"):
        soft_value_iteration(mdp, 1.0, max_sweeps=0)
    with pytest.raises(ValueError, match="temperature is 0"):
        soft_policy_iteration(mdp, 0.0)
    with pytest.raises(ValueError, match=r"tol is -1\.0; it must be positive"):
        soft_policy_iteration(mdp, 1.0, tol=-1.0)
    with pytest.raises(ValueError, match="max_steps is 0"):
        soft_policy_iteration(mdp, 1.0, max_steps=0)
    with pytest.raises(ValueError, match=r"reference sums to"):
        soft_policy_iteration(mdp, 1.0, half / 2)
    with pytest.raises(RuntimeError, match="1 steps left V up to"):
        soft_policy_iteration(MDP(mdp.P, mdp.R, 0.9), 1.0, max_steps=1)
    with pytest.raises(RuntimeError, match="1 sweeps left V up to"):
        soft_value_iteration(MDP(mdp.P, mdp.R, 0.9), 1.0, max_sweeps=1)
