"""SAC's losses by hand and as properties, its rollouts, a run that learns, and bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from rl_helpers.planning_as_inference import sac
from rl_helpers.planning_as_inference.pendulum import Pendulums
from rl_helpers.planning_as_inference.replay import Transitions
from rl_helpers.planning_as_inference.sac import SACConfig, per_seed, train_sac
from rl_helpers.planning_as_inference.sac_losses import (
    actor_loss,
    polyak,
    soft_target,
    temperature_loss,
)
from rl_helpers.planning_as_inference.sac_nets import evaluate, roll_out, start_nets, tanh
from rl_helpers.training.seeds import seed_generators
from tests.planning_as_inference.plain_sac import Hill

numbers = st.floats(-5, 5)
TINY = SACConfig(total_steps=80, random_steps=20, batch_size=10, hidden=(4,), evaluate_every=40)


def hills(n: int) -> gym.vector.VectorEnv:
    return SyncVectorEnv([Hill] * n, autoreset_mode=AutoresetMode.DISABLED)


# ---- Losses -------------------------------------------------------------------------------------


def test_target_by_hand() -> None:
    """-0.5 + 0.99 (-3 - 0.2 · 0.7) = -3.6086; at a terminal state -0.5."""
    y = soft_target(
        np.full(2, -0.5), np.array([0.0, 1.0]), np.full(2, -3.0), np.full(2, 0.7), 0.2, 0.99
    )
    np.testing.assert_allclose(y, [-3.6086, -0.5])


def test_actor_and_temperature_by_hand() -> None:
    np.testing.assert_allclose(actor_loss(np.array([0.7]), np.array([-3.0]), 0.2), [3.14])
    log_alpha = torch.tensor([math.log(0.5)], requires_grad=True)
    log_probs = torch.tensor([0.7, 0.1], requires_grad=True)
    temperature_loss(log_alpha, log_probs, -1.0).mean().backward()
    assert log_alpha.grad is not None
    assert log_alpha.grad.item() == pytest.approx(0.6)  # entropy -0.4 less the target -1
    assert log_probs.grad is None, "the policy does not learn from it"


@given(numbers, numbers, st.floats(0, 1))
def test_polyak(target: float, online: float, tau: float) -> None:
    slow, quick = torch.tensor([target]).double(), torch.tensor([online]).double()
    polyak(slow, quick, tau)
    assert slow.item() == pytest.approx((1 - tau) * float(target) + tau * online, abs=1e-6)
    assert quick.item() == torch.tensor([online]).double().item()


@given(st.floats(-40, 40))
def test_tanh(x: float) -> None:
    assert abs(tanh(torch.tensor(x)) - math.tanh(x)) < 3e-7


# ---- Networks and rollouts ----------------------------------------------------------------------


def nets(config: SACConfig = TINY, n_seeds: int = 2) -> sac.Nets:
    envs = hills(1)
    each = per_seed(config, n_seeds, envs)
    return start_nets(envs, config.hidden, each, seed_generators(0, n_seeds))


def test_first_networks() -> None:
    start = nets()
    states = torch.rand(2, 7, 3)
    mean, log_std = start.gaussian(states)
    assert mean.abs().max() < 0.05
    assert log_std.abs().max() < 0.05
    assert torch.equal(start.critics, start.targets)
    assert start.critics.requires_grad
    assert not start.targets.requires_grad, "targets follow by averaging alone"
    assert start.alpha.tolist() == [[1], [1]]
    assert start.largest.tolist() == [2, 5, 1], "1 where there is no bound"
    first, second = start.both(start.critics, states, torch.zeros(2, 7, 2))
    assert (first - second).abs().min() > 0, "the twins differ"
    smaller = start.smaller(start.critics, states, torch.zeros(2, 7, 2))
    assert torch.equal(smaller, torch.minimum(first, second))


def test_both_critics_pay_for_their_own_distance() -> None:
    """Where every next state is terminal the target is the reward: half of each mean square is paid."""
    start, draw = nets(), torch.Generator().manual_seed(0)
    states, actions = torch.randn(2, 5, 3, generator=draw), torch.randn(2, 5, 2, generator=draw)
    rewards = torch.randn(2, 5, generator=draw)
    batch = Transitions(states, actions, rewards, states, torch.ones(2, 5))
    loss = sac.critic_loss(start, batch, torch.zeros(2, 5, 2), gamma=0.9)
    first, second = start.both(start.critics, batch.states, batch.actions) - batch.rewards
    assert not torch.equal(first, second)
    torch.testing.assert_close(loss, (first**2).mean(-1) / 2 + (second**2).mean(-1) / 2)


def test_per_seed_columns() -> None:
    mixed = replace(TINY, alpha=(None, 0.2), tau=(0.5, 0.1), target_entropy=(None, 3.0))
    each = per_seed(mixed, 2, hills(1))
    assert each.alpha.flatten().tolist() == pytest.approx([1, 0.2])
    assert each.learned.flatten().tolist() == [True, False]
    assert each.target_entropy.flatten().tolist() == [-2, 3]
    assert per_seed(TINY, 3, hills(1)).tau.flatten().tolist() == pytest.approx([0.01] * 3)


def test_episodes_end_one_by_one() -> None:
    """Rewards after an end are 0, and the lengths are those of the environment alone."""
    start = nets()
    seen = roll_out(start, hills, 4, 11, seed_generators(5, 2))
    T = seen.rewards.shape[-1]
    assert seen.states.shape == (2, 4, T + 1, 3)
    lengths = (seen.rewards != 0).sum(-1)
    assert lengths.max() == T <= 6
    assert lengths.min() < T, "some are lost early"
    assert (seen.actions.abs() <= start.scale).all()
    for i in range(2):
        for j in range(4):
            env = Hill()
            env.reset(seed=11 + 4 * i + j)
            for t in range(int(lengths[i, j])):
                observation, reward, terminated, _, _ = env.step(seen.actions[i, j, t].numpy())
                assert seen.rewards[i, j, t] == pytest.approx(reward, abs=1e-5)
                expected = torch.tensor(observation) / start.largest
                torch.testing.assert_close(seen.states[i, j, t + 1], expected)
            assert terminated or lengths[i, j] == 6


def test_evaluations_take_the_median_action() -> None:
    start = nets()
    seen = roll_out(start, hills, 20, 3)
    mean, _ = start.gaussian(seen.states[:, 0, :-1])
    torch.testing.assert_close(seen.actions[:, 0], start.scale * mean.tanh())
    np.testing.assert_allclose(evaluate(start, hills, 3), seen.rewards.sum(-1).mean(-1))


def test_observations_become_single_precision() -> None:
    """Whatever an environment returns: the networks are in single precision."""
    start = nets()
    states = start.observe(np.ones((2, 3)))
    assert states.dtype == torch.float32
    np.testing.assert_allclose(states[:, 0], np.tile([0.5, 0.2, 1], (2, 1)))


def test_defaults_are_the_settings_that_the_page_compares_with_the_paper() -> None:
    config = SACConfig()
    assert (config.batch_size, config.random_steps, config.hidden) == (64, 300, (32, 32))
    assert (config.gamma, config.learning_rate, config.tau) == (0.98, 3e-3, 0.01)
    assert (config.total_steps, config.evaluate_every, config.capacity) == (4_000, 250, 100_000)


# ---- Training -----------------------------------------------------------------------------------


@pytest.mark.site  # takes long
def test_it_learns_to_stay_on_the_hill() -> None:
    config = replace(TINY, total_steps=600, random_steps=100, batch_size=32, hidden=(16, 16),
                     gamma=0.9, tau=0.05, learning_rate=0.01, evaluate_every=200)  # fmt: skip
    run = train_sac(config, 8, 0, hills)
    random = evaluate(replace(run.nets[0], actor=torch.zeros_like(run.nets[0].actor)), hills, 9)
    assert run.returns.shape == run.alpha.shape == (8, 3)
    assert run.returns[:, -1].mean() > random.mean() + 0.5
    assert (run.returns[:, -1] > random).all()


@pytest.mark.site  # takes long
def test_a_run_repeats_and_stops_when_solved() -> None:
    config = replace(TINY, total_steps=400, stop_at=-100.0)
    one, two = (train_sac(config, 2, 4, hills) for _ in range(2))
    assert one.steps.tolist() == [40, 80, 120], "three evaluations in a row"
    assert torch.equal(one.nets[-1].critics, two.nets[-1].critics)
    np.testing.assert_array_equal(one.returns, two.returns)
    assert not torch.equal(one.nets[0].actor, one.nets[1].actor), "each evaluation keeps its own"


def test_divergence_names_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Hill):
        number = 0

        def step(self, action: np.ndarray) -> Any:
            observation, reward, *rest = super().step(action)
            return observation, math.nan if self.number == 1 else reward, *rest

    def odd(n: int) -> gym.vector.VectorEnv:
        envs: Any = SyncVectorEnv([Odd] * n, autoreset_mode=AutoresetMode.DISABLED)
        for number, env in enumerate(envs.envs):
            env.number = number
        return envs

    with pytest.raises(
        FloatingPointError, match=r"SAC diverged: .* of seed 1 is not finite after 40"
    ):
        train_sac(TINY, 3, 0, odd)


# ---- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": 0.0}, "alpha is"),
        ({"alpha": -0.2}, "alpha is"),
        ({"alpha": (None, 0.0)}, "alpha is"),
        ({"tau": 1.5}, "tau is 1.5; allowed is 0 <= tau <= 1"),
        ({"tau": (0.1, -0.1)}, "tau is -0.1"),
        ({"gamma": 1.1}, "gamma"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 30}, "random_steps is 20; it must be at least batch_size = 30"),
        ({"capacity": 9}, "capacity is 9; it must be at least batch_size = 10"),
        ({"evaluate_every": 81}, "evaluate_every is 81; it must be 1 to total_steps = 80"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **wrong)


def test_settings_of_too_many_seeds() -> None:
    with pytest.raises(ValueError, match="the length of twin is 2; with n_seeds 3 it must be 1 or"):
        train_sac(replace(TINY, twin=(True, False)), 3, 0, hills)


def test_no_seeds() -> None:
    with pytest.raises(ValueError, match="n_seeds is 0"):
        train_sac(TINY, 0)


class Other(Hill):
    """Another action space, or another observation space."""

    def __init__(self, **spaces: gym.Space) -> None:
        for name, space in spaces.items():
            setattr(self, name, space)


@pytest.mark.parametrize(
    ("spaces", "message"),
    [
        ({"action_space": gym.spaces.Box(-np.inf, np.inf, (1,))}, "the action space is .* finite"),
        ({"action_space": gym.spaces.Box(-1.0, 2.0, (1,))}, "bounds -c and c are needed"),
        ({"action_space": gym.spaces.Box(0.0, 0.0, (1,))}, "finite and positive"),
        ({"action_space": gym.spaces.Box(-1.0, 1.0, (2, 2))}, "vectors with bounds"),
        ({"action_space": gym.spaces.Discrete(3)}, "the action space is Discrete"),
        ({"observation_space": gym.spaces.Discrete(3)}, "the observation space is Discrete"),
        ({"observation_space": gym.spaces.Box(-1, 1, (2, 2))}, "the observation space is Box"),
    ],
)
def test_spaces_that_do_not_fit(spaces: dict[str, gym.Space], message: str) -> None:
    def make(n: int) -> gym.vector.VectorEnv:
        return SyncVectorEnv([lambda: Other(**spaces)] * n, autoreset_mode=AutoresetMode.DISABLED)

    with pytest.raises(ValueError, match=message):
        train_sac(TINY, 1, 0, make)


def test_environments_that_reset_themselves() -> None:
    with pytest.raises(ValueError, match=r"the autoreset mode is .*NEXT_STEP; DISABLED is needed"):
        train_sac(TINY, 1, 0, lambda n: SyncVectorEnv([Hill] * n))


def test_pendulums_are_the_default() -> None:
    run = train_sac(replace(TINY, total_steps=40), 1)
    assert run.nets[0].scale.tolist() == [2]
    assert run.nets[0].largest.tolist() == [1, 1, 8]
    assert -1_900 < evaluate(run.nets[0], Pendulums, 0)[0] < 0
