"""Grid worlds: transitions and rewards by hand; sparse and dense arrays alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from rl_helpers.mdp.gridworld import gridworld
from rl_helpers.mdp.planning import policy_value
from rl_helpers.mdp.process import (
    MDP,
    Array,
    random_policy,
    under_policy,
)
from rl_helpers.mdp.trajectories import (
    occupancy,
    state_marginals,
)
from tests.mdp.models import DOWN, LEFT, RIGHT, UP

Model = tuple[MDP, Array, np.random.Generator]
HALF = np.full((2, 2, 2), 0.5)
ONES = np.ones((2, 2))

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
