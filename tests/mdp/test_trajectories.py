"""Trajectories, sampled and enumerated, and occupancies: by hand and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_helpers.mdp.process import (
    MDP,
    Array,
    random_mdp,
    random_policy,
    uniform_policy,
)
from rl_helpers.mdp.trajectories import (
    all_trajectories,
    occupancy,
    sample_trajectories,
    state_marginals,
    trajectory_probability,
)
from tests.mdp.models import MOVE, STAY, models, two_states

Model = tuple[MDP, Array, np.random.Generator]
HALF = np.full((2, 2, 2), 0.5)
ONES = np.ones((2, 2))

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
