"""Random mazes: distances by a walk of one's own, times by simulation, blocks by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rl_helpers.mdp import planning
from rl_helpers.mdp.gridworld import gridworld
from rl_helpers.mdp.process import uniform_policy
from rl_helpers.mdp.trajectories import sample_trajectories
from rl_helpers.planning_as_inference import mazes
from rl_helpers.planning_as_inference.soft_q_learning import epsilon_greedy


def moves_from_the_start(world: mazes.GridWorld) -> list[int]:
    """How many moves each state is away, by flooding."""
    away, front = {0: 0}, [0]
    for s in front:
        for a in range(4):
            t = int(world.mdp.P[s, a].argmax())
            if t not in away:
                away[t] = away[s] + 1
                front.append(t)
    return [away[s] for s in range(world.mdp.n_states)]


def by_hand(rows: list[str], gamma: float = 0.9) -> mazes.GridWorld:
    return gridworld(rows, slip=0.0, gamma=gamma, goal=0.0, step=-1.0)


def test_a_maze() -> None:
    for seed in range(20):
        world, far = mazes.random_maze(np.random.default_rng(seed), size=6, walls=0.25)
        moves_from_the_start(world)  # no state is missing: the goal cuts nothing off
        goal = mazes.goal_state(world)
        away = moves_from_the_start(by_hand([row.replace("G", ".") for row in world.layout]))
        assert world.layout[0][0] == "S"
        assert away[far] == max(away)
        assert 0 < away[goal] < away[far]
        V = planning.value_iteration(world.mdp).V[0]
        steps = away[goal]
        assert pytest.approx(-(1 - 0.99**steps) / 0.01, abs=1e-6) == V


def test_blocks_by_hand() -> None:
    world = by_hand(["S..G", ".#..", "...."])
    right = np.tile([0.0, 1.0, 0.0, 0.0], (world.mdp.n_states, 1))
    blocked = mazes.blocked_mazes(world, right)
    assert [b.layout[0] for b in blocked] == ["S#.G", "S.#G"]
    assert mazes.blocked_mazes(by_hand(["S.G"]), right[:3]) == []
    for way in ([0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]):
        with pytest.raises(ValueError, match="policy does not lead to the goal"):
            mazes.blocked_mazes(world, np.tile(way, (world.mdp.n_states, 1)))


def test_a_policy_carried_over() -> None:
    world, other = by_hand(["S.G", "..."]), by_hand(["S#G", "..."])
    policy = np.random.default_rng(0).dirichlet(np.ones(4), size=6)
    carried = mazes.carried_over(policy, world, other)
    assert (carried == policy[[0, 2, 3, 4, 5]]).all()


def test_steps_to_find_against_simulation() -> None:
    world = by_hand(["SG", "..", ".."])
    uniform, target = uniform_policy(world.mdp), world.state(2, 1)
    exact = mazes.steps_to_find(world, uniform, target)
    P = world.mdp.P.copy()
    P[mazes.goal_state(world)] = world.mdp.p0
    again = type(world.mdp)(P, world.mdp.R, 0.9, world.mdp.p0)
    rng = np.random.default_rng(0)
    states, _, _ = sample_trajectories(again, uniform, 4_000, 400, rng)
    first = (states == target).argmax(axis=1)
    assert (states == target).any(axis=1).all()
    assert abs(first.mean() - exact) < 4 * first.std() / 4_000**0.5


def test_pushes_by_hand() -> None:
    """In a corridor of two cells: the walker pushes half of the time, whatever the discount."""
    world = by_hand(["S.G"])
    policy = np.tile([0.5, 0.5, 0.0, 0.0], (3, 1))  # up into the edge, or right
    assert mazes.pushes(world, policy) == pytest.approx(0.5)
    assert mazes.pushes(world, np.tile([0.0, 1.0, 0.0, 0.0], (3, 1))) == 0.0


def test_an_epsilon_of_equal_return() -> None:
    world, _ = mazes.random_maze(np.random.default_rng(3), gamma=0.9)
    Q = planning.action_values(world.mdp, planning.value_iteration(world.mdp).V)
    wanted = epsilon_greedy(Q, 0.37)
    J = planning.objective(world.mdp, wanted)
    assert mazes.epsilon_greedy_of_return(world, Q, J) == pytest.approx(wanted, abs=1e-8)
    with pytest.raises(ValueError, match="J is 1; allowed is"):
        mazes.epsilon_greedy_of_return(world, Q, 1.0)


def test_bad_input() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="size is 2"):
        mazes.random_maze(rng, size=2)
    with pytest.raises(ValueError, match=r"walls is 0\.5"):
        mazes.random_maze(rng, walls=0.5)
    with pytest.raises(ValueError, match="gamma is 1"):
        mazes.random_maze(rng, gamma=1.0)
