"""Collection: masks, ends of episodes and whole episodes, against Gymnasium stepped by hand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rl_helpers.training.environments import (
    Environments,
    collect,
    collect_episodes,
    episode_returns,
    evaluate,
    make_environments,
    record_episode,
)
from rl_helpers.training.seeds import seed_generators


def uniform(observations: Tensor) -> Tensor:
    return torch.zeros(*observations.shape[:-1], 2)


def balancing(observations: Tensor) -> Tensor:
    """A hand-made controller that keeps the pole up: push towards where it falls."""
    push = observations @ torch.tensor([0.1, 0.3, 3.0, 1.0])
    return torch.stack([-push, push], -1)


def test_shapes_and_continuation() -> None:
    envs = make_environments("CartPole-v1", 3, 2, seed=0)
    generators = seed_generators(0, 3)
    first = collect(envs, uniform, 50, generators)
    assert first.observations.shape == (3, 2, 51, 4)
    assert first.actions.shape == first.rewards.shape == first.live.shape == (3, 2, 50)
    second = collect(envs, uniform, 50, generators, after=first)
    torch.testing.assert_close(second.observations[:, :, 0], first.observations[:, :, -1])
    assert (second.live[:, :, 0] == ~first.ended[:, :, -1]).all()


def test_an_end_at_the_border_of_two_rollouts() -> None:
    envs = make_environments("CartPole-v1", 3, 2, seed=0)
    generators = seed_generators(0, 3)
    rollout, ends = collect(envs, uniform, 1, generators), 0
    for _ in range(60):
        before, rollout = rollout, collect(envs, uniform, 1, generators, after=rollout)
        assert (rollout.live == ~before.ended).all()
        ends += int(before.ended.sum())
    assert ends > 5


def test_dead_steps_are_those_after_an_end() -> None:
    envs = make_environments("CartPole-v1", 4, 4, seed=0)
    rollout = collect(envs, uniform, 200, seed_generators(0, 4))
    assert rollout.ended.sum() > 50
    assert (rollout.live[..., 1:] == ~rollout.ended[..., :-1]).all()
    assert rollout.live[..., 0].all()
    assert (rollout.rewards[~rollout.live] == 0).all()
    assert (rollout.rewards[rollout.live] == 1).all()
    assert not (rollout.ended & ~rollout.live).any()
    # after a dead step stands a fresh first state, within ±0.05
    after_dead = rollout.observations[:, :, 1:][~rollout.live]
    assert (after_dead.abs() <= 0.05).all()
    # and the observation after an end is the true last one: outside the limits
    last = rollout.observations[:, :, 1:][rollout.terminated]
    assert ((last[:, 0].abs() > 2.4) | (last[:, 2].abs() > np.deg2rad(12))).all()


def test_truncated_is_not_terminated() -> None:
    envs = make_environments("CartPole-v1", 1, 3, seed=0, max_episode_steps=7)
    rollout = collect(envs, balancing, 16, seed_generators(0, 1))
    expected = torch.zeros(16, dtype=torch.bool)
    expected[[6, 14]] = True  # seven steps, one dead, seven steps, one dead
    assert (rollout.truncated == expected).all()
    assert not rollout.terminated.any()
    assert rollout.live.sum() == 3 * 14


def test_equals_gymnasium_stepped_by_hand() -> None:
    envs = make_environments("CartPole-v1", 2, 1, seed=0)
    rollout = collect(envs, uniform, 5, seed_generators(3, 2))
    env = gym.make("CartPole-v1").unwrapped
    for seed in range(2):
        env.reset(seed=0)
        states = rollout.observations[seed, 0].numpy()
        env.state = states[0].astype(np.float64)  # type: ignore[attr-defined]
        for t, action in enumerate(rollout.actions[seed, 0].tolist()):
            state, *_ = env.step(action)
            np.testing.assert_allclose(states[t + 1], state, atol=1e-5)


def test_whole_episodes() -> None:
    envs = make_environments("CartPole-v1", 2, 3, seed=0)
    episodes = collect_episodes(envs, uniform, seed_generators(0, 2))
    assert (episodes.ended.sum(-1) == 1).all()
    lengths = episodes.live.sum(-1)
    assert (lengths == episodes.ended.int().argmax(-1) + 1).all()
    assert episodes.live.shape[-1] == lengths.max()
    torch.testing.assert_close(episode_returns(episodes), lengths.float())
    assert len(episode_returns(episodes).unique()) > 1


def test_evaluation_is_greedy() -> None:
    envs = make_environments("CartPole-v1", 2, 20, seed=0)
    returns = evaluate(envs, balancing)
    assert returns.shape == (2, 20)
    assert (returns == 500).all()
    pushed = evaluate(envs, lambda x: torch.tensor([0.0, 1e-6]).expand(2, 20, 2))
    assert (pushed < 12).all()  # always to the right


def test_recorded_episode() -> None:
    episode = record_episode("CartPole-v1", balancing, seed=3, max_episode_steps=40)
    assert episode.states.shape == (41, 4)
    assert episode.actions.shape == episode.rewards.shape == (40,)
    assert not episode.terminated
    again = record_episode("CartPole-v1", balancing, seed=3, max_episode_steps=40)
    np.testing.assert_array_equal(episode.states, again.states)
    fallen = record_episode("CartPole-v1", lambda x: torch.tensor([[[0.0, 1.0]]]), seed=3)
    assert fallen.terminated
    assert abs(fallen.states[-1, 2]) > np.deg2rad(12)


def test_environments_without_a_vectorised_version() -> None:
    envs = make_environments("Acrobot-v1", 2, 1, seed=0, max_episode_steps=5)
    rollout = collect(envs, lambda x: torch.zeros(2, 1, 3), 7, seed_generators(0, 2))
    assert rollout.observations.shape == (2, 1, 8, 6)
    assert rollout.truncated[0, 0].tolist() == [False] * 4 + [True] + [False] * 2
    assert rollout.live[0, 0].tolist() == [True] * 5 + [False, True]
    envs.vector.close()


def test_rollouts_repeat_bit_for_bit() -> None:
    def observations(seed: int) -> Tensor:
        envs = make_environments("CartPole-v1", 2, 2, seed=seed)
        return collect(envs, uniform, 100, seed_generators(seed, 2)).observations

    assert torch.equal(observations(1), observations(1))
    assert not torch.equal(observations(1), observations(2))


class _NaNRewards:
    """CartPole whose reward is NaN at one step."""

    def __init__(self) -> None:
        self.inner = make_environments("CartPole-v1", 2, 2, seed=0).vector
        self.steps = 0

    def reset(self) -> Any:
        return self.inner.reset()

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.inner.step(action)
        reward[3] = np.nan if self.steps == 4 else reward[3]
        self.steps += 1
        return observation, reward, *rest


def test_nan_rewards(untyped: None) -> None:
    envs = Environments(_NaNRewards(), 2, 2, 4, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the reward of seed 1, environment 1, step 4 is nan"):
        collect(envs, uniform, 10, seed_generators(0, 2))


class _DoubleObservations:
    """CartPole, whose observations come in double precision, as those of some environments do."""

    def __init__(self) -> None:
        self.inner = make_environments("CartPole-v1", 2, 2, seed=0).vector

    def reset(self) -> Any:
        observation, info = self.inner.reset(seed=0)
        return observation.astype(np.float64), info

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.inner.step(action)
        return observation.astype(np.float64), reward, *rest


def test_rollouts_are_in_single_precision(untyped: None) -> None:
    envs = Environments(_DoubleObservations(), 2, 2, 4, 2)  # type: ignore[arg-type]
    rollout = collect(envs, uniform, 5, seed_generators(0, 2))
    assert rollout.observations.dtype == rollout.rewards.dtype == torch.float32


def envs() -> Environments:
    return make_environments("CartPole-v1", 2, 2, seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: make_environments("Pendulum-v1", 1, 1, 0),
            "Pendulum-v1 has the actions Box.*; discrete actions are needed",
        ),
        (
            lambda: make_environments("MountainCarContinuous-v0", 1, 1, 0),
            "discrete actions are needed",
        ),
        (lambda: make_environments("FrozenLake-v1", 1, 1, 0), "vectors are needed"),
        (lambda: make_environments("CartPole-v1", 0, 1, 0), "n_seeds is 0 and n_envs is 1"),
        (lambda: make_environments("CartPole-v1", 1, 0, 0), "n_seeds is 1 and n_envs is 0"),
        (lambda: collect(envs(), uniform, 0, seed_generators(0, 2)), "n_steps is 0"),
        (
            lambda: collect(envs(), uniform, 5, seed_generators(0, 3)),
            "generators holds 3; 2 seeds need one each",
        ),
        (
            lambda: collect(envs(), lambda x: torch.zeros(2, 2, 3), 5, seed_generators(0, 2)),
            r"logits of shape \(2, 2, 3\); it must be \[seeds, envs, A\] = \(2, 2, 2\)",
        ),
    ],
)
def test_bad_input(untyped: None, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_an_endless_episode() -> None:
    envs = make_environments("CartPole-v1", 1, 1, seed=0)
    with pytest.raises(RuntimeError, match="did not end within max_steps = 20 steps"):
        collect_episodes(envs, balancing, max_steps=20)
