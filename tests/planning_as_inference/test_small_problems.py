"""The lottery, costly cells, death, and the hidden Markov model: by hand and by enumeration."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from rl_helpers.mdp.gridworld import gridworld
from rl_helpers.mdp.process import random_mdp, random_policy, uniform_policy
from rl_helpers.planning_as_inference.hidden_markov import smooth
from rl_helpers.planning_as_inference.messages import (
    OptimalityModel,
    backward_messages,
    posterior_dynamics,
    posterior_marginals,
    soft_values,
    tilted_policy,
)
from rl_helpers.planning_as_inference.small_problems import (
    BUY,
    CHOOSE,
    LOST,
    SURE,
    TAKE,
    WON,
    costly_cells,
    lottery,
    mortal,
)


def test_the_lottery_by_hand() -> None:
    mdp = lottery()
    assert mdp.R.max() == 0
    assert mdp.R[[CHOOSE, SURE, WON, LOST], 0].tolist() == [-10, -9, 0, -10]
    assert mdp.P[CHOOSE, TAKE, SURE] == 1
    assert mdp.P[CHOOSE, BUY, [WON, LOST]].tolist() == [0.01, 0.99]
    model = OptimalityModel(mdp, uniform_policy(mdp), 1.0, 2)
    values, ticket = soft_values(model), 0.01 * math.exp(10) + 0.99
    assert values.Q[0, CHOOSE] + 20 == pytest.approx([1.0, math.log(ticket)])
    bought = tilted_policy(model, values)[0, CHOOSE, BUY]
    assert bought == pytest.approx(ticket / (ticket + math.e))
    luck = posterior_dynamics(model, backward_messages(model), 0).toarray()
    assert luck[2 * CHOOSE + BUY, WON] == pytest.approx(0.01 * math.exp(10) / ticket)


def test_costly_cells_charge_where_the_robot_stands() -> None:
    world = gridworld(["SX", "#G"], slip=0.5)
    costly = costly_cells(world, step=2.0, pit=7.0, goal=1.0)
    assert costly.mdp.R.tolist() == [[-2] * 4, [-7] * 4, [-1] * 4]
    np.testing.assert_array_equal(costly.mdp.P, world.mdp.P)
    assert costly_cells(world).mdp.R[:, 0].tolist() == [-1, -5, 0]


def test_death_is_one_more_state_that_costs_nothing() -> None:
    rng = np.random.default_rng(0)
    mdp = replace(random_mdp(rng, 3, 2), R=-rng.uniform(size=(3, 2)))
    model = OptimalityModel(mdp, random_policy(rng, 3, 2), 0.7, 4)
    doomed = mortal(model, 0.8)
    assert doomed.mdp.P[:3, :, 3] == pytest.approx(0.2)
    assert (doomed.mdp.P[3, :, 3] == 1).all()
    assert doomed.mdp.p0[3] == 0
    free = replace(doomed, mdp=replace(doomed.mdp, R=np.zeros((4, 2))))
    dead = posterior_marginals(free, backward_messages(free))[:, 3].sum(axis=1)
    assert dead == pytest.approx([1 - 0.8**t for t in range(4)])
    for gamma, same in ((1.0, model), (0.0, replace(model, horizon=1))):
        V = soft_values(mortal(model, gamma)).V[0, :3]
        assert pytest.approx(soft_values(same).V[0]) == V


def test_smoothing_against_all_paths() -> None:
    rng = np.random.default_rng(1)
    start, chain = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(3), size=3)
    emission = np.array([0.2, 0.9, 0.0])
    counted = np.zeros((4, 3))
    for path in itertools.product(range(3), repeat=4):
        p = start[path[0]] * math.prod(chain[a, b] for a, b in itertools.pairwise(path))
        p *= math.prod(emission[x] for x in path)
        for t, x in enumerate(path):
            counted[t, x] += p
    counted /= counted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(smooth(start, chain, emission, 4), counted, atol=1e-12)


def test_bad_input(untyped: None) -> None:
    with pytest.raises(ValueError, match="chance is 2; allowed is 0 <= chance <= 1"):
        lottery(chance=2)
    with pytest.raises(ValueError, match=r"prize is 0\.5; it must be at least 1"):
        lottery(prize=0.5)
    with pytest.raises(ValueError, match="prize is -1; it must be at least 0"):
        lottery(prize=-1, sure=-2)
    world = gridworld(["SX", "#G"])
    for name in ("step", "pit", "goal"):
        with pytest.raises(ValueError, match=f"{name} is -1; it must be at least 0"):
            costly_cells(world, **{name: -1})
    model = OptimalityModel(costly_cells(world).mdp, np.full((3, 4), 0.25), 1.0, 2)
    with pytest.raises(ValueError, match=r"gamma is 1.5; allowed is 0 <= gamma <= 1"):
        mortal(model, 1.5)
    half, ones = np.array([0.5, 0.5]), np.ones(2)
    with pytest.raises(ValueError, match="steps is 0; it must be at least 1"):
        smooth(half, np.eye(2), ones, 0)
    with pytest.raises(ValueError, match="start sums to 2"):
        smooth(ones, np.eye(2), ones, 1)
    with pytest.raises(ValueError, match="of transition sums to 2"):
        smooth(half, np.ones((2, 2)), ones, 1)
    with pytest.raises(ValueError, match=r"emission is .*; no probability is negative"):
        smooth(half, np.eye(2), -ones, 1)
    with pytest.raises(ValueError, match="emission holds 2 values that are NaN"):
        smooth(half, np.eye(2), math.nan * ones, 1)
