"""Bellman backups, values and optimal policies: by hand, as properties, and against other hands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from rl_helpers.mdp.gridworld import gridworld
from rl_helpers.mdp.planning import (
    action_values,
    advantage,
    bellman_backup,
    brute_force,
    greedy,
    objective,
    optimality_backup,
    policy_action_value,
    policy_iteration,
    policy_value,
    value_iteration,
)
from rl_helpers.mdp.process import (
    MDP,
    Array,
    deterministic_policy,
    random_mdp,
    random_policy,
    under_policy,
    uniform_policy,
)
from rl_helpers.mdp.trajectories import occupancy
from tests.mdp.models import MOVE, STAY, models, two_states

Model = tuple[MDP, Array, np.random.Generator]


# ---- By hand ------------------------------------------------------------------------------------


def test_two_states_uniform() -> None:
    # V(1) = 0. V(0) = (1 + 0.5 V(0)) / 2 + (2 + 0.5 * 0) / 2 = 1.5 + V(0) / 4, so V(0) = 2.
    mdp = two_states(0.5)
    policy = uniform_policy(mdp)
    np.testing.assert_allclose(policy_value(mdp, policy), [2, 0])
    # Q(0, stay) = 1 + 0.5 * 2 = 2, Q(0, move) = 2 + 0.5 * 0 = 2
    np.testing.assert_allclose(policy_action_value(mdp, policy), [[2, 2], [0, 0]])
    np.testing.assert_allclose(advantage(mdp, policy), np.zeros((2, 2)), atol=1e-15)
    assert objective(mdp, policy) == pytest.approx(2)


@pytest.mark.parametrize(
    ("gamma", "V0", "best"),
    [
        # for ever staying is worth 1 / (1 - gamma), moving 2
        (0.3, 2.0, MOVE),  # 1 / 0.7 = 1.43
        (0.5, 2.0, STAY),  # 1 / 0.5 = 2: a tie, the first action
        (0.9, 10.0, STAY),  # 1 / 0.1
    ],
)
def test_two_states_optimal(gamma: float, V0: float, best: int) -> None:
    mdp = two_states(gamma)
    for plan in (value_iteration(mdp, tol=1e-12), policy_iteration(mdp)):
        np.testing.assert_allclose(plan.V, [V0, 0], atol=1e-11)
        assert plan.policy[0].argmax() == best
    values, V = brute_force(mdp)
    assert values.shape == (4, 2)
    np.testing.assert_allclose(V, [V0, 0])


def test_backups_by_hand() -> None:
    mdp, V = two_states(0.5), np.array([4.0, 6.0])
    # stay: 1 + 0.5 * 4 = 3; move: 2 + 0.5 * 6 = 5; state 1: 0 + 0.5 * 6 = 3
    np.testing.assert_array_equal(action_values(mdp, V), [[3, 5], [3, 3]])
    np.testing.assert_array_equal(
        bellman_backup(mdp, np.array([[0.25, 0.75], [1, 0]]), V), [4.5, 3]
    )
    np.testing.assert_array_equal(optimality_backup(mdp, V), [5, 3])


def test_value_iteration_by_hand() -> None:
    # gamma 0.5, from zero: T0 = (max(1, 2), 0) = (2, 0); T(2, 0) = (max(1 + 1, 2), 0) = (2, 0)
    plan = value_iteration(two_states(0.5), keep=True)
    assert plan.history is not None
    np.testing.assert_array_equal(plan.history, [[0, 0], [2, 0], [2, 0]])
    assert plan.steps == 2
    assert value_iteration(two_states(0.5)).history is None


def test_value_iteration_starts_where_it_is_told() -> None:
    plan = value_iteration(two_states(0.5), V=np.array([2.0, 0.0]), keep=True)
    assert plan.steps == 1


def test_without_discount_one_sweep_is_enough() -> None:
    plan = value_iteration(two_states(0.0))
    assert plan.steps == 1
    np.testing.assert_array_equal(plan.V, [2, 0])


def test_greedy_takes_the_first_of_equals() -> None:
    Q = np.array([[1.0, 3.0, 2.0], [5.0, 5.0, 4.0], [0.0, 0.1 + 0.2, 0.3]])
    np.testing.assert_array_equal(greedy(Q).argmax(axis=1), [1, 0, 1])
    # 0.1 + 0.2 exceeds 0.3 by rounding alone
    assert greedy(np.array([[0.3, 0.1 + 0.2]])).tolist() == [[1, 0]]
    for scale in (1e-15, 1e9):  # what counts as rounding goes with the size of the values
        assert greedy(scale * np.array([[0.3, 0.1 + 0.2]])).tolist() == [[1, 0]]
        assert greedy(scale * np.array([[0.3, 0.3 + 1e-9]])).tolist() == [[0, 1]]


# ---- Properties ---------------------------------------------------------------------------------


@given(models())
def test_backups_contract(model: Model) -> None:
    mdp, policy, rng = model
    V, W = rng.normal(size=(2, mdp.n_states)) * 10
    distance = np.abs(V - W).max()
    for backup in (optimality_backup, lambda mdp, V: bellman_backup(mdp, policy, V)):
        assert np.abs(backup(mdp, V) - backup(mdp, W)).max() <= mdp.gamma * distance + 1e-12


@given(models())
def test_backups_are_monotone(model: Model) -> None:
    mdp, policy, rng = model
    V = rng.normal(size=mdp.n_states)
    W = V + rng.random(mdp.n_states)
    assert (optimality_backup(mdp, V) <= optimality_backup(mdp, W) + 1e-12).all()
    assert (bellman_backup(mdp, policy, V) <= bellman_backup(mdp, policy, W) + 1e-12).all()


@given(models())
def test_values_are_fixed_points(model: Model) -> None:
    mdp, policy, _ = model
    V = policy_value(mdp, policy)
    np.testing.assert_allclose(bellman_backup(mdp, policy, V), V, atol=1e-10)
    best = policy_iteration(mdp).V
    np.testing.assert_allclose(optimality_backup(mdp, best), best, atol=1e-10)
    assert (best + 1e-10 >= V).all()


@given(models(), st.floats(-10, 10))
def test_a_constant_reward_shifts_the_value(model: Model, c: float) -> None:
    mdp, policy, _ = model
    shifted = MDP(mdp.P, mdp.R + c, mdp.gamma, mdp.p0)
    for V, W in [
        (policy_value(mdp, policy), policy_value(shifted, policy)),
        (policy_iteration(mdp).V, policy_iteration(shifted).V),
    ]:
        np.testing.assert_allclose(W, V + c / (1 - mdp.gamma), atol=1e-9)


@given(models(), st.floats(0.1, 10))
def test_scaled_rewards_scale_the_value(model: Model, factor: float) -> None:
    mdp, policy, _ = model
    scaled = MDP(mdp.P, factor * mdp.R, mdp.gamma, mdp.p0)
    V = policy_value(mdp, policy)
    np.testing.assert_allclose(policy_value(scaled, policy), factor * V, atol=1e-9)


@given(models())
def test_greedy_improvement_never_hurts(model: Model) -> None:
    mdp, policy, _ = model
    better = greedy(policy_action_value(mdp, policy))
    assert (policy_value(mdp, better) >= policy_value(mdp, policy) - 1e-10).all()


@given(models())
def test_policy_iteration_improves_at_each_step(model: Model) -> None:
    mdp, policy, _ = model
    history = policy_iteration(mdp, policy).history
    assert history is not None
    np.testing.assert_allclose(history[0], policy_value(mdp, policy))
    assert (np.diff(history, axis=0) >= -1e-10).all()


@given(models(), st.floats(0.1, 10))
def test_greedy_is_invariant(model: Model, factor: float) -> None:
    """Neither a positive factor nor a number added to a state's row changes the best action."""
    mdp, policy, rng = model
    Q = np.round(policy_action_value(mdp, policy), 3)  # ties are exact, gaps are large
    moved = np.round(factor * Q + rng.normal(size=(mdp.n_states, 1)), 9)
    np.testing.assert_array_equal(greedy(moved), greedy(Q))


@given(models())
def test_advantage_averages_to_zero(model: Model) -> None:
    mdp, policy, _ = model
    np.testing.assert_allclose((policy * advantage(mdp, policy)).sum(axis=1), 0, atol=1e-10)


@given(models())
def test_value_iteration_keeps_its_promise(model: Model) -> None:
    mdp, *_ = model
    best = policy_iteration(mdp).V
    for tol in (1.0, 1e-3, 1e-9):
        assert np.abs(value_iteration(mdp, tol=tol).V - best).max() <= tol + 1e-12


# ---- Against other hands ------------------------------------------------------------------------


@given(models())
def test_policy_value_equals_scipy(model: Model) -> None:
    mdp, policy, _ = model
    P_pi, R_pi = under_policy(mdp, policy)
    series = scipy.linalg.inv(np.eye(mdp.n_states) - mdp.gamma * P_pi) @ R_pi
    np.testing.assert_allclose(policy_value(mdp, policy), series, atol=1e-9)


@given(models())
def test_optimal_value_equals_the_linear_program(model: Model) -> None:
    # the smallest V with V(s) >= R(s, a) + gamma E V(s') for all s, a
    mdp, *_ = model
    S = mdp.n_states
    rows = mdp.gamma * mdp.P.reshape(-1, S) - np.repeat(np.eye(S), mdp.n_actions, axis=0)
    found = linprog(np.ones(S), A_ub=rows, b_ub=-mdp.R.ravel(), bounds=(None, None))
    np.testing.assert_allclose(value_iteration(mdp, tol=1e-10).V, found.x, atol=1e-6)


@given(models(largest=4))
def test_optimal_value_equals_brute_force(model: Model) -> None:
    mdp, *_ = model
    values, best = brute_force(mdp)
    assert values.shape == (mdp.n_actions**mdp.n_states, mdp.n_states)
    np.testing.assert_allclose(policy_iteration(mdp).V, best, atol=1e-10)
    assert np.isclose(values, best).all(axis=1).any(), "one policy is best in all states"


@given(models(largest=3))
def test_gradient_by_reward_is_the_occupancy(model: Model) -> None:
    # J is linear in R, so the difference quotient is exact but for rounding
    mdp, policy, _ = model
    slopes = np.empty_like(mdp.R)
    for index in np.ndindex(mdp.R.shape):
        step = np.zeros_like(mdp.R)
        step[index] = 0.5
        up, down = (MDP(mdp.P, mdp.R + sign * step, mdp.gamma, mdp.p0) for sign in (1, -1))
        slopes[index] = objective(up, policy) - objective(down, policy)
    np.testing.assert_allclose(slopes, occupancy(mdp, policy) / (1 - mdp.gamma), atol=1e-9)


@given(models())
def test_gradient_by_gamma(model: Model) -> None:
    # (I - gamma P) V = R gives dV/dgamma = (I - gamma P)^-1 P V: the value of the reward P V
    mdp, policy, _ = model
    V, h = policy_value(mdp, policy), 1e-6
    P_pi, _ = under_policy(mdp, policy)
    up, down = (
        policy_value(MDP(mdp.P, mdp.R, g, mdp.p0), policy) for g in (mdp.gamma + h, mdp.gamma)
    )
    exact = scipy.linalg.solve(np.eye(mdp.n_states) - mdp.gamma * P_pi, P_pi @ V)
    np.testing.assert_allclose((up - down) / h, exact, rtol=1e-3, atol=1e-3)


# ---- Size ---------------------------------------------------------------------------------------


def test_ten_thousand_states() -> None:
    layout = ["." * 100] * 99 + ["S" + "." * 98 + "G"]
    mdp = gridworld(layout, store_sparse=True).mdp
    assert mdp.n_states == 10_000
    plan = value_iteration(mdp, tol=1e-8)
    exact = policy_value(mdp, plan.policy)
    assert np.abs(plan.V - exact).max() <= 1e-8
    np.testing.assert_allclose(optimality_backup(mdp, exact), exact, atol=1e-10)


# ---- Bad input ----------------------------------------------------------------------------------


def test_bad_input(untyped: None) -> None:
    mdp: Any = two_states()
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"V has shape \(3,\); this MDP needs \(2,\)"):
        action_values(mdp, np.zeros(3))
    with pytest.raises(ValueError, match=r"policy has shape \(3, 2\); this MDP needs \(2, 2\)"):
        bellman_backup(mdp, random_policy(rng, 3, 2), np.zeros(2))
    with pytest.raises(ValueError, match=r"V has shape \(1,\)"):
        value_iteration(mdp, V=np.zeros(1))
    for tol in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=f"tol is {tol}; it must be positive"):
            value_iteration(mdp, tol=tol)
    for Q in (np.zeros(3), np.zeros((0, 2)), np.array([[np.nan, 1.0]])):
        with pytest.raises(ValueError, match=r"Q has shape .*; it must be \[S, A\], not empty"):
            greedy(Q)


def test_limits() -> None:
    mdp = two_states(0.9)
    with pytest.raises(RuntimeError, match=r"3 sweeps left V up to .* away, tol 1e-08"):
        value_iteration(mdp, max_sweeps=3)
    with pytest.raises(RuntimeError, match="the policy still improves after 1 steps"):
        policy_iteration(mdp, deterministic_policy(mdp, np.array([MOVE, STAY])), max_steps=1)
    with pytest.raises(ValueError, match="131,072 deterministic policies; brute force allows 100"):
        brute_force(random_mdp(np.random.default_rng(0), 17, 2))
