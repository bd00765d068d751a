"""The tuple, policies and Gymnasium's tables: by hand and against other hands."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
from scipy import sparse

from rl_helpers.mdp.planning import policy_value, value_iteration
from rl_helpers.mdp.process import (
    MDP,
    Array,
    deterministic_policy,
    from_gymnasium,
    under_policy,
    uniform_policy,
)
from rl_helpers.mdp.trajectories import (
    occupancy,
    sample_trajectories,
)
from tests.mdp.models import two_states

Model = tuple[MDP, Array, np.random.Generator]
HALF = np.full((2, 2, 2), 0.5)
ONES = np.ones((2, 2))

# ---- The tuple ----------------------------------------------------------------------------------


def test_first_state_is_uniform_by_default() -> None:
    np.testing.assert_array_equal(MDP(HALF, ONES, 0.9).p0, [0.5, 0.5])


def test_arrays_are_copies_that_cannot_be_changed() -> None:
    P = HALF.copy()
    mdp = MDP(P, ONES, 0.9)
    P[:] = 0.0
    assert mdp.P.sum() == 4
    for array in (mdp.P, mdp.R, mdp.p0):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def spoiled(index: Any, value: float) -> Array:
    P = HALF.copy()
    P[index] = value
    return P


@pytest.mark.parametrize(
    ("P", "R", "gamma", "p0", "message"),
    [
        (HALF, ONES, 1.0, None, r"gamma is 1\.0; allowed is 0 <= gamma < 1"),
        (HALF, ONES, -0.1, None, r"gamma is -0\.1; allowed"),
        (HALF, ONES, np.nan, None, "gamma is nan; allowed"),
        (HALF, np.ones(2), 0.9, None, r"R has shape \(2,\); it must be \[S, A\]"),
        (HALF, np.ones((0, 2)), 0.9, None, r"R has shape \(0, 2\)"),
        (HALF, ONES * np.nan, 0.9, None, "R holds 4 values that are NaN or infinite"),
        (HALF[0], ONES, 0.9, None, r"P has shape \(2, 2\);.* it must be \(2, 2, 2\)"),
        (sparse.csr_array(HALF[0]), ONES, 0.9, None, r"P has shape \(2, 2\);.* must be \(4, 2\)"),
        (spoiled((1, 0, 1), 0.4), ONES, 0.9, None, r"row \[1, 0\] of P sums to 0\.9; every row"),
        (spoiled((1, 0), np.array([1.5, -0.5])), ONES, 0.9, None, "P holds the negative .* -0.5"),
        (spoiled((0, 0, 0), np.nan), ONES, 0.9, None, "P holds 1 values that are NaN"),
        (HALF, ONES, 0.9, np.ones(3) / 3, r"p0 has shape \(3,\);.* it must be \(2,\)"),
        (HALF, ONES, 0.9, np.array([0.5, 0.4]), r"p0 sums to 0\.9; every row must sum to 1"),
    ],
)
def test_bad_tuples(untyped: None, P: Any, R: Any, gamma: float, p0: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MDP(P, R, gamma, p0)


def test_a_sparse_row_without_entries_is_named() -> None:
    P = sparse.csr_array(np.array([[1.0, 0], [0, 0], [0, 1], [0, 1]]))
    with pytest.raises(ValueError, match=r"row \[1\] of P sums to 0"):
        MDP(P, ONES, 0.9)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.full((2, 3), 1 / 3), r"policy has shape \(2, 3\); this MDP needs \(2, 2\)"),
        (np.array([[0.5, 0.5], [0.5, 0.6]]), r"row \[1\] of policy sums to 1\.1"),
        (np.array([[0.5, 0.5], [1.5, -0.5]]), "policy holds the negative probability -0.5"),
    ],
)
def test_bad_policies(untyped: None, policy: Array, message: str) -> None:
    mdp = two_states()
    for helper in (under_policy, occupancy, policy_value):
        with pytest.raises(ValueError, match=message):
            helper(mdp, policy)
    with pytest.raises(ValueError, match=message):
        sample_trajectories(mdp, policy, 1, 1, np.random.default_rng(0))


@pytest.mark.parametrize("actions", [[0], [0, 2], [-1, 0]])
def test_bad_actions(untyped: None, actions: list[int]) -> None:
    with pytest.raises(ValueError, match=r"actions is .*\[S\] = \[2\] with entries 0 to 1"):
        deterministic_policy(two_states(), np.array(actions))


def test_policies() -> None:
    mdp = two_states()
    np.testing.assert_array_equal(deterministic_policy(mdp, np.array([1, 0])), [[0, 1], [1, 0]])
    np.testing.assert_array_equal(uniform_policy(mdp), np.full((2, 2), 0.5))
    assert two_states().expected_next(np.array([3.0, 5.0])).tolist() == [[3, 5], [5, 5]]


# ---- Gymnasium's tables -------------------------------------------------------------------------

START = {"FrozenLake-v1": 0, "CliffWalking-v1": 36, "Taxi-v4": 1}
# States where an episode goes on, and where it ends. Lake: 16 cells, of which four holes and the
# goal end it. Cliff: 48 cells less ten of the cliff and the goal. Taxi with one destination: 25
# places, four for the passenger (destination excepted) or aboard.
SIZE = {"FrozenLake-v1": (11, 5), "CliffWalking-v1": (37, 1), "Taxi-v4": (100, 1)}


Table = dict[int, dict[int, list[tuple[float, int, float, bool]]]]


def table(name: str) -> Table:
    return gymnasium.make(name).unwrapped.P  # type: ignore[attr-defined]


def played(transitions: Table, start: int) -> tuple[set[int], set[int]]:
    """The states of episodes that begin at `start`: where they go on, and where they end."""
    going, ended, fresh = {start}, set[int](), [start]
    while fresh:
        for _, t, _, end in itertools.chain(*transitions[fresh.pop()].values()):
            if end:
                ended.add(t)
            elif t not in going:
                going.add(t)
                fresh.append(t)
    return going, ended


@pytest.mark.parametrize("name", START)
def test_optimal_value_equals_a_loop_over_the_table(name: str) -> None:
    transitions, gamma = table(name), 0.8
    V = dict.fromkeys(transitions, 0.0)
    for _ in range(150):  # from at most 100 away: 100 * 0.8 ** 150 < 1e-12
        V = {
            s: max(
                sum(p * (r + gamma * V[t] * (not end)) for p, t, r, end in outcomes)
                for outcomes in actions.values()
            )
            for s, actions in transitions.items()
        }
    found = value_iteration(from_gymnasium(transitions, gamma), tol=1e-12).V
    going, ended = map(sorted, played(transitions, START[name]))
    np.testing.assert_allclose(found[going], [V[s] for s in going], atol=1e-10)
    assert not found[ended].any()
    assert (len(going), len(ended)) == SIZE[name]


def test_repeated_next_states_add_up() -> None:
    # from the corner of the 4 x 4 lake, action 0 (left) slides left, down or up with 1/3 each:
    # left and up stay at the edge, so the table names state 0 twice
    transitions = table("FrozenLake-v1")
    assert [t for _, t, _, _ in transitions[0][0]].count(0) == 2
    P = from_gymnasium(transitions, 0.9).P
    assert P[0, 0, 0] == pytest.approx(2 / 3)
    assert P[0, 0, 4] == pytest.approx(1 / 3)


def test_holes_and_goal_are_absorbing() -> None:
    mdp = from_gymnasium(table("FrozenLake-v1"), 0.9)
    for state in (5, 7, 11, 12, 15):
        np.testing.assert_array_equal(mdp.P[state], np.tile(np.eye(16)[state], (4, 1)))
    # state 14 is left of the goal: 1/3 of the moves right (action 2) arrive there and pay 1
    assert mdp.R[14, 2] == pytest.approx(1 / 3)
    assert mdp.R.sum() == pytest.approx(1.0)  # three actions can slide into the goal


def test_cliff_does_not_end_the_episode() -> None:
    mdp = from_gymnasium(table("CliffWalking-v1"), 0.9)
    # from the start, 36, a step right (1) falls: back to 36 for -100
    assert mdp.P[36, 1, 36] == 1
    assert mdp.R[36, 1] == -100
    assert mdp.R[35, 2] == -1  # down into the goal, 47
    assert mdp.P[35, 2, 47] == 1
    assert mdp.R[47].tolist() == [0, 0, 0, 0]


def test_value_equals_playing_frozen_lake() -> None:
    env, gamma, rng = gymnasium.make("FrozenLake-v1").unwrapped, 0.9, np.random.default_rng(0)
    returns = []
    env.reset(seed=0)
    for _ in range(2_000):
        env.reset()
        discount, total, terminated = 1.0, 0.0, False
        while not terminated:
            _, reward, terminated, _, _ = env.step(int(rng.integers(4)))
            total, discount = total + discount * float(reward), discount * gamma
        returns.append(total)
    mdp = from_gymnasium(env.P, gamma)  # type: ignore[attr-defined]
    exact = policy_value(mdp, uniform_policy(mdp))[0]
    assert abs(np.mean(returns) - exact) < 4 * np.std(returns) / np.sqrt(len(returns))


def test_empty_table() -> None:
    with pytest.raises(ValueError, match=r"table is empty; expected env\.unwrapped\.P"):
        from_gymnasium({}, 0.9)
