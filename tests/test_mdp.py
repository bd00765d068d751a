"""The tuple, grid worlds, Gymnasium's tables and trajectories: by hand and against other hands."""

from __future__ import annotations

import itertools
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from rl_helpers.mdp.gridworld import gridworld
from rl_helpers.mdp.planning import policy_value, value_iteration
from rl_helpers.mdp.process import (
    MDP,
    Array,
    deterministic_policy,
    from_gymnasium,
    random_mdp,
    random_policy,
    under_policy,
    uniform_policy,
)
from rl_helpers.mdp.trajectories import (
    all_trajectories,
    occupancy,
    sample_trajectories,
    state_marginals,
    trajectory_probability,
)
from tests.models import MOVE, STAY, models, two_states

UP, RIGHT, DOWN, LEFT = range(4)
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


# ---- Grid worlds --------------------------------------------------------------------------------

ROOM = ("S.#", ".XG")  # states: (0,0) (0,1) (1,0) (1,1) (1,2), the wall has none


def test_cells_and_states() -> None:
    world = gridworld(ROOM)
    assert world.cells == ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
    assert world.state(1, 0) == 2
    assert world.mdp.p0.tolist() == [1, 0, 0, 0, 0]
    for nowhere in [(0, 2), (2, 0), (0, -1)]:
        with pytest.raises(ValueError, match="is no state of this grid world"):
            world.state(*nowhere)


@pytest.mark.parametrize(
    ("state", "action", "expected"),
    [
        # slip 0.2: 0.8 ahead, 0.1 to each side; from the corner (0,0):
        (0, UP, {0: 0.9, 1: 0.1}),  # ahead and left are the edge, right is (0,1)
        (0, RIGHT, {1: 0.8, 0: 0.1, 2: 0.1}),  # up is the edge, down is (1,0)
        (0, DOWN, {2: 0.8, 0: 0.1, 1: 0.1}),
        (0, LEFT, {0: 0.9, 2: 0.1}),  # ahead and up are the edge
        # from (0,1), beside the wall
        (1, RIGHT, {1: 0.9, 3: 0.1}),  # ahead is the wall, up the edge, down the pit
        (1, DOWN, {3: 0.8, 1: 0.1, 0: 0.1}),  # sides: the wall, (0,0)
        (3, LEFT, {3: 1.0}),  # the pit keeps
        (4, LEFT, {4: 1.0}),  # the goal keeps
    ],
)
def test_transitions(state: int, action: int, expected: dict[int, float]) -> None:
    P = gridworld(ROOM, slip=0.2).mdp.P
    row = np.zeros(5)
    row[list(expected)] = list(expected.values())
    np.testing.assert_allclose(P[state, action], row, atol=1e-15)


def test_rewards() -> None:
    R = gridworld(ROOM, slip=0.2, goal=10.0, pit=-5.0, step=-1.0).mdp.R
    assert R[1, DOWN] == pytest.approx(0.8 * -5 - 1)  # into the pit ahead, and the step
    assert R[2, RIGHT] == pytest.approx(0.8 * -5 - 1)
    assert R[0, RIGHT] == pytest.approx(-1)
    assert not R[3:].any(), "an absorbing cell pays once, on entering, and costs no steps"


def test_without_slip_and_with_slip_only() -> None:
    sure = gridworld(["S.", ".G"], slip=0.0).mdp
    assert sure.P[0, RIGHT].tolist() == [0, 1, 0, 0]
    assert sure.R[1, DOWN] == 1.0
    sideways = gridworld(["S.", ".G"], slip=1.0).mdp
    assert sideways.P[0, RIGHT].tolist() == [0.5, 0, 0.5, 0]  # up stays at the edge, or down


def test_several_starts_share_the_first_state() -> None:
    assert gridworld(["S.S"]).mdp.p0.tolist() == [0.5, 0, 0.5]


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        ([], {}, r"layout has rows of lengths \[\]"),
        (["S.", "."], {}, r"rows of lengths \[2, 1\]; all must be equal"),
        ([""], {}, r"rows of lengths \[0\]"),
        (["S?"], {}, r"layout holds \['\?'\]; allowed are S \. # G X"),
        ([".G"], {}, "layout has no start cell 'S'"),
        (["SG"], {"slip": 1.5}, r"slip is 1\.5; allowed is 0 <= slip <= 1"),
        (["SG"], {"gamma": 1.0}, r"gamma is 1\.0; allowed is 0 <= gamma < 1"),
        (["SG"], {"goal": np.inf}, "R holds .* values that are NaN or infinite"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")  # 0 * inf
def test_bad_grid_worlds(
    untyped: None, layout: list[str], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        gridworld(layout, **options)  # type: ignore[arg-type]


# ---- Sparse and dense ---------------------------------------------------------------------------

maps = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.text("S.#GX", min_size=width, max_size=width), min_size=1, max_size=4)
)


@given(maps, st.floats(0, 1), st.integers(0, 999))
def test_sparse_equals_dense(layout: list[str], slip: float, seed: int) -> None:
    layout[0] = "S" + layout[0][1:]
    dense = gridworld(layout, slip=slip).mdp
    thin = gridworld(layout, slip=slip, store_sparse=True).mdp
    assert sparse.issparse(thin.P)
    np.testing.assert_allclose(thin.P.toarray().reshape(dense.P.shape), dense.P)
    np.testing.assert_array_equal(thin.R, dense.R)
    policy = random_policy(np.random.default_rng(seed), dense.n_states, 4)
    np.testing.assert_allclose(
        under_policy(thin, policy)[0].toarray(), under_policy(dense, policy)[0]
    )
    for helper in (occupancy, policy_value):
        np.testing.assert_allclose(helper(thin, policy), helper(dense, policy), atol=1e-12)
    np.testing.assert_allclose(
        state_marginals(thin, policy, 3), state_marginals(dense, policy, 3), atol=1e-15
    )


def test_sparse_memory_is_linear_in_transitions() -> None:
    for side in (10, 100):
        P = gridworld([*["." * side] * (side - 1), "S" * side], store_sparse=True).mdp.P
        assert P.nnz <= 3 * 4 * side**2  # ahead and two sides
        size = P.data.nbytes + P.indices.nbytes + P.indptr.nbytes
        assert size / P.nnz <= 24  # bytes: a number, a column, a share of the row's start


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


# ---- Trajectories -------------------------------------------------------------------------------


def test_trajectory_probability_by_hand() -> None:
    P = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5], [0.0, 1.0]]])
    mdp = MDP(P, np.zeros((2, 2)), 0.9, np.array([0.25, 0.75]))
    policy = np.array([[0.6, 0.4], [0.3, 0.7]])
    # s 1 -a 0-> s 0 -a 1-> s 1: p0 0.75, pi 0.3, P 0.5, pi 0.4, P 0.8 = 0.036
    found = trajectory_probability(mdp, policy, np.array([[1, 0, 1]]), np.array([[0, 1]]))
    np.testing.assert_allclose(found, [0.036])


def test_every_trajectory_once() -> None:
    states, actions = all_trajectories(random_mdp(np.random.default_rng(0), 3, 2), 2)
    assert states.shape == (3**3 * 2**2, 3)
    assert actions.shape == (3**3 * 2**2, 2)
    assert len({(*s, *a) for s, a in zip(states.tolist(), actions.tolist(), strict=True)}) == 108
    assert states.max() == 2
    assert actions.max() == 1


@given(models(largest=3), st.integers(1, 2))
def test_trajectory_probabilities_sum_to_one_and_give_the_marginals(
    model: Model, horizon: int
) -> None:
    mdp, policy, _ = model
    states, actions = all_trajectories(mdp, horizon)
    probability = trajectory_probability(mdp, policy, states, actions)
    assert probability.sum() == pytest.approx(1, abs=1e-12)
    enumerated = [
        [probability[states[:, t] == s].sum() for s in range(mdp.n_states)]
        for t in range(horizon + 1)
    ]
    np.testing.assert_allclose(state_marginals(mdp, policy, horizon), enumerated, atol=1e-12)


@pytest.mark.parametrize("horizon", [-1, 0, 20])
def test_trajectories_have_a_limit(horizon: int) -> None:
    with pytest.raises(ValueError, match=rf"horizon is {horizon}.*allowed are 1 to 10,000,000"):
        all_trajectories(two_states(), horizon)


def test_rollouts_of_a_sure_policy() -> None:
    # two stays and no move can happen: state 0 throughout, reward 1 a step
    mdp, rng = two_states(), np.random.default_rng(0)
    states, actions, rewards = sample_trajectories(mdp, np.eye(2)[[STAY, STAY]], 3, 4, rng)
    assert (states.shape, actions.shape, rewards.shape) == ((3, 5), (3, 4), (3, 4))
    assert not states.any()
    assert not actions.any()
    assert (rewards == 1).all()
    states, _, rewards = sample_trajectories(mdp, np.eye(2)[[MOVE, STAY]], 1, 3, rng)
    assert states.tolist() == [[0, 1, 1, 1]]
    assert rewards.tolist() == [[2, 0, 0]]


def test_rollouts_follow_the_probabilities() -> None:
    rng, n = np.random.default_rng(1), 20_000
    mdp, policy = random_mdp(rng, 3, 2), random_policy(rng, 3, 2)
    states, actions, _ = sample_trajectories(mdp, policy, n, 2, rng)
    every_state, every_action = all_trajectories(mdp, 2)
    expected = trajectory_probability(mdp, policy, every_state, every_action)
    names = [(*s, *a) for s, a in zip(every_state.tolist(), every_action.tolist(), strict=True)]
    seen = [(*s, *a) for s, a in zip(states.tolist(), actions.tolist(), strict=True)]
    counts = np.array([seen.count(name) for name in names])
    spread = np.sqrt(n * expected * (1 - expected))
    assert (np.abs(counts - n * expected) <= 5 * spread).all()  # 108 counts: 5, not 4, deviations


def test_rollouts_repeat_with_their_generator() -> None:
    mdp = random_mdp(np.random.default_rng(0), 3, 2)
    one, two = (
        sample_trajectories(mdp, uniform_policy(mdp), 5, 6, np.random.default_rng(7))
        for _ in range(2)
    )
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("n", "horizon"), [(0, 1), (1, 0)])
def test_rollouts_need_a_step(n: int, horizon: int) -> None:
    mdp = two_states()
    with pytest.raises(ValueError, match=f"n is {n} and horizon is {horizon}; both must be"):
        sample_trajectories(mdp, uniform_policy(mdp), n, horizon, np.random.default_rng(0))


# ---- Occupancy ----------------------------------------------------------------------------------


def test_occupancy_by_hand() -> None:
    # Half stay, half move; gamma = 0.5. P(s_t = 0) = 0.5^t, so d(0) = 0.5 sum_t 0.25^t = 2/3,
    # shared equally by the actions; the rest, 1/3, is state 1.
    mdp = two_states(0.5)
    np.testing.assert_allclose(occupancy(mdp, uniform_policy(mdp)), [[1 / 3] * 2, [1 / 6] * 2])


@given(models())
def test_occupancy_is_a_distribution_and_a_sum_of_marginals(model: Model) -> None:
    mdp, policy, _ = model
    d = occupancy(mdp, policy)
    assert d.sum() == pytest.approx(1, abs=1e-10)
    assert d.min() >= -1e-15
    marginals = state_marginals(mdp, policy, 1_000)  # 0.97 ** 1001 < 1e-13
    weights = (1 - mdp.gamma) * mdp.gamma ** np.arange(1_001)
    np.testing.assert_allclose(d.sum(axis=1), weights @ marginals, atol=1e-10)
    np.testing.assert_allclose(marginals.sum(axis=1), 1, atol=1e-10)
