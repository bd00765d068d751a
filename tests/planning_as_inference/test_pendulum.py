"""The pendulum as arrays, step by step beside Gymnasium's own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from rl_helpers.planning_as_inference.pendulum import Pendulums, swing

N = 5


def gymnasium(n: int) -> Any:
    return gym.make_vec(
        "Pendulum-v1", num_envs=n, vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.DISABLED},
    )  # fmt: skip


def test_step_by_step() -> None:
    """Two episodes and a bit: first states, observations, rewards, ends; torques beyond the bounds.

    Theirs computes in another order: the last digits of float32 may differ, and a step of a
    pendulum near its highest point doubles such a difference in some twenty steps.
    """
    rng = np.random.default_rng(0)
    ours, theirs = Pendulums(N), gymnasium(N)
    (mine, _), (other, _) = ours.reset(seed=7), theirs.reset(seed=7)
    np.testing.assert_array_equal(mine, other)
    for t in range(430):
        for i, env in enumerate(theirs.envs):  # the same state: differences do not add up
            env.unwrapped.state = np.array([ours.angle[i], ours.speed[i]])
        actions = rng.uniform(-2.5, 2.5, size=(N, 1)).astype(np.float32)
        mine, paid, *ends, _ = ours.step(actions)
        other, reward, *their_ends, _ = theirs.step(actions)
        np.testing.assert_allclose(mine, other, atol=1e-6)
        np.testing.assert_allclose(paid, reward, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(ends, their_ends)
        if ends[1].any():
            assert (t + 1) % 200 == 0
            mine, _ = ours.reset(options={"reset_mask": ends[1]})
            other, _ = theirs.reset(options={"reset_mask": ends[1]})
            np.testing.assert_array_equal(mine, other)


def test_an_episode_without_correction() -> None:
    """Left alone for 60 steps, both stay together to a thousandth."""
    ours, theirs = Pendulums(N), gymnasium(N)
    ours.reset(seed=3), theirs.reset(seed=3)
    for t in range(60):
        actions = np.full((N, 1), np.sin(0.3 * t), np.float32)
        mine, other = ours.step(actions)[0], theirs.step(actions)[0]
    np.testing.assert_allclose(mine, other, atol=1e-3)


def test_spaces() -> None:
    ours, theirs = Pendulums(2), gymnasium(2)
    for name in ("action_space", "observation_space"):
        for prefix in ("", "single_"):
            assert getattr(ours, prefix + name) == getattr(theirs, prefix + name)


def test_by_hand() -> None:
    """Hanging at rest: -π²; and upright, torque 2: speed 3 · 2 · 0.05 = 0.3."""
    angle, speed, reward = swing(np.array([np.pi, 0.0]), np.zeros(2), np.array([0.0, 2.0]))
    np.testing.assert_allclose(reward, [-(np.pi**2), -0.004])
    np.testing.assert_allclose(speed, [0, 0.3], atol=1e-12)
    np.testing.assert_allclose(angle, [np.pi, 0.015])


@given(st.floats(-50, 50), st.floats(-8, 8), st.floats(-2, 2))
def test_a_turn_more_or_a_mirror_changes_nothing(angle: float, speed: float, torque: float) -> None:
    x, v, u = np.array([angle]), np.array([speed]), np.array([torque])
    x1, v1, r1 = swing(x, v, u)
    x2, v2, r2 = swing(x + 2 * np.pi, v, u)
    x3, v3, r3 = swing(-x, -v, -u)
    np.testing.assert_allclose([v2, -v3], [v1, v1], atol=1e-9)
    np.testing.assert_allclose([x2 - 2 * np.pi, -x3], [x1, x1], atol=1e-9)
    np.testing.assert_allclose([r2, r3], [r1, r1], atol=1e-6)
    assert -16.3 < r1[0] <= 0


def test_only_the_masked_begin_anew() -> None:
    envs = Pendulums(3, time_limit=4)
    envs.reset(seed=0)
    for _ in range(4):
        before, *_, truncated, _ = envs.step(np.ones((3, 1), np.float32))
    assert truncated.all()
    after, _ = envs.reset(options={"reset_mask": np.array([True, False, False])})
    assert (after[0] != before[0]).any()
    np.testing.assert_array_equal(after[1:], before[1:])
    assert envs.step(np.ones((3, 1), np.float32))[3].tolist() == [False, True, True]


def test_streams_go_on_and_differ() -> None:
    envs = Pendulums(2)
    first, second = envs.reset(seed=5)[0], envs.reset()[0]
    assert len({tuple(row) for row in [*first, *second]}) == 4
    np.testing.assert_array_equal(Pendulums(1).reset(seed=6)[0][0], first[1])


@pytest.mark.parametrize("given", [{"num_envs": 0}, {"num_envs": 1, "time_limit": 0}])
def test_none(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="it must be at least 1"):
        Pendulums(**given)
