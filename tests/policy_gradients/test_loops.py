"""The training loops: they learn, they repeat, they say when they diverge."""

from __future__ import annotations

import ast
import inspect
import math
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from rl_helpers.policy_gradients.a2c import A2CConfig, train_a2c
from rl_helpers.policy_gradients.advantages import estimate_advantages
from rl_helpers.policy_gradients.ppo import PPOConfig, train_ppo
from rl_helpers.policy_gradients.reinforce import ReinforceConfig, train_reinforce
from rl_helpers.training.environments import (
    collect,
    collect_episodes,
    episode_returns,
    evaluate,
    make_environments,
    record_episode,
)
from rl_helpers.training.networks import network
from rl_helpers.training.recorder import raise_if_diverged, start_snapshots
from rl_helpers.training.runs import Run, policy_of, solved_at
from rl_helpers.training.seeds import seed_generators

PPO = PPOConfig(total_steps=1_024, evaluate_every=512)
A2C = A2CConfig(total_steps=512, evaluate_every=256)
REINFORCE = ReinforceConfig(total_steps=400, evaluate_every=200)
CASES: list[Any] = [(train_ppo, PPO), (train_a2c, A2C), (train_reinforce, REINFORCE)]


# ---- On the page --------------------------------------------------------------------------------

LOOP_LINES = 40  # a loop is read on its page, so it fits a screen


@pytest.mark.parametrize("train", [train for train, _ in CASES])
def test_a_loop_is_short_enough_to_be_read(train: Any) -> None:
    tree = ast.parse(inspect.getsource(train))
    (loop,) = (node for node in ast.walk(tree) if isinstance(node, ast.While))
    lines = (loop.end_lineno or 0) - loop.lineno  # of its body
    assert 5 < lines <= LOOP_LINES, f"{train.__name__}: {lines} lines"


# ---- Learning -----------------------------------------------------------------------------------


def sampled_returns(run: Run) -> np.ndarray:
    """Mean return of each seed's last policy, actions sampled, over 20 episodes.

    The uniform policy reaches 22, and so does an untrained network. An untrained *greedy* one is
    no baseline: its argmax is a random linear controller, whose mean is 50 to 80 and now and then
    500.
    """
    envs = make_environments("CartPole-v1", len(run.theta), 20, seed=99)
    theta = run.theta[:, -1]
    generators = seed_generators(99, len(theta))
    episodes = collect_episodes(envs, network(theta, run.sizes), generators)
    return episode_returns(episodes).mean(1).numpy()


def test_an_untrained_policy_is_random() -> None:
    nothing = ReinforceConfig(total_steps=1, evaluate_every=1, learning_rate=1e-9)
    assert 18 < sampled_returns(train_reinforce(nothing, n_seeds=8)).mean() < 27


@pytest.mark.site  # takes long
def test_ppo_learns() -> None:
    config = PPOConfig(total_steps=10_000, evaluate_every=10_000)
    returns = sampled_returns(train_ppo(config, n_seeds=4, seed=1))
    assert np.median(returns) > 150
    assert returns.min() > 80


@pytest.mark.site  # takes long
@pytest.mark.parametrize("baseline", [True, False])
def test_reinforce_learns(baseline: bool) -> None:
    config = ReinforceConfig(total_steps=6_000, evaluate_every=6_000, baseline=baseline)
    run = train_reinforce(config, n_seeds=4, seed=1)
    assert sampled_returns(run).min() > 45
    assert run.value_losses.shape[1] == (run.policy_losses.shape[1] if baseline else 0)


def test_a2c_learns() -> None:
    config = A2CConfig(total_steps=6_000, evaluate_every=6_000)
    returns = sampled_returns(train_a2c(config, n_seeds=4, seed=1))
    assert np.median(returns) > 120
    assert returns.min() > 60


def test_ppo_stops_when_solved() -> None:
    easy = replace(PPO, total_steps=10_000, stop_at=5.0)
    run = train_ppo(easy, n_seeds=2)
    assert run.steps.tolist() == [512, 1024, 1536]
    assert run.returns.shape == (2, 3)
    assert run.theta.shape[:2] == (2, 3)
    assert np.isfinite(solved_at(run.steps, run.returns, 5.0)).all()


# ---- Records ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "config"), CASES)
def test_record_and_repetition(train: Any, config: Any) -> None:
    run, again = train(config, n_seeds=3, seed=5), train(config, n_seeds=3, seed=5)
    other = train(config, n_seeds=3, seed=6)
    assert run.steps.tolist() == [config.evaluate_every, 2 * config.evaluate_every]
    assert run.returns.shape == (3, 2)
    assert run.theta.shape[:2] == (3, 2)
    for field in fields(run):
        value = getattr(run, field.name)
        if isinstance(value, np.ndarray | torch.Tensor):
            assert np.isfinite(np.asarray(value)).all()
            np.testing.assert_array_equal(value, getattr(again, field.name))  # bit for bit
    for name, numbers in run.diagnostics.items():
        assert numbers.shape == (3, 2), name
        assert np.isfinite(numbers).all(), name
        np.testing.assert_array_equal(numbers, again.diagnostics[name])
    assert bool(run.diagnostics) == (train is train_ppo)
    assert not torch.equal(run.theta, other.theta)
    assert not torch.equal(run.theta[0], run.theta[1])
    assert not torch.equal(run.theta[:, 0], run.theta[:, 1])


def test_ratios_leave_the_interval() -> None:
    run = train_ppo(replace(PPO, learning_rate=1e-2, anneal_learning_rate=False), n_seeds=3)
    assert run.ratios is not None
    assert run.ratios_live is not None
    assert run.ratios.shape == run.ratios_live.shape == (3, 2, 256)
    counted = run.ratios[run.ratios_live]
    assert (counted > 0).all()
    assert (np.abs(counted - 1) > PPO.epsilon).any()  # clipping does not hold them inside
    assert 0.9 < run.ratios_live.mean() < 1
    # the last diagnostics are of these ratios
    rho, live = run.ratios[:, -1], run.ratios_live[:, -1]
    for seed in range(3):
        counted = rho[seed, live[seed]].astype(float)
        kl = (counted - 1 - np.log(counted)).mean()
        assert run.diagnostics["kl"][seed, -1] == pytest.approx(kl, rel=1e-3)


def test_replay() -> None:
    run = train_ppo(replace(PPO, total_steps=2_048), n_seeds=2)
    episode = record_episode("CartPole-v1", policy_of(run, seed=1), seed=0)
    assert episode.states.shape == (len(episode.actions) + 1, 4)
    envs = make_environments("CartPole-v1", 1, 5, seed=0)
    assert evaluate(envs, policy_of(run, seed=0, at=0)).shape == (1, 5)
    with pytest.raises(ValueError, match="seed is 2 and at is -1; this run has 2 seeds and 4 eval"):
        policy_of(run, seed=2)


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": math.inf},
        {"epsilon": (0.1, math.inf)},
        {"anneal_learning_rate": False},
        {"anneal_epsilon": False},
        {"adam_eps": 1e-3},
        {"max_grad_norm": math.inf},
        {"normalise_advantages": False},
        {"value_clip": 0.2},
        {"orthogonal_init": False},
        {"entropy_coefficient": 0.01},
        {"n_epochs": 1},
        {"n_minibatches": 1},
    ],
)
def test_each_detail_can_be_switched(change: dict[str, Any]) -> None:
    config = replace(PPO, total_steps=512, learning_rate=1e-2)
    assert not torch.equal(
        train_ppo(replace(config, **change), n_seeds=2).theta, train_ppo(config, n_seeds=2).theta
    )


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("epsilon", math.inf),
        ("adam_eps", 1e-3),
        ("max_grad_norm", math.inf),
        ("normalise_advantages", False),
        ("value_clip", 0.2),
        ("orthogonal_init", False),
        ("anneal_learning_rate", False),
    ],
)
def test_a_setting_of_each_seed_is_its_own(name: str, other: Any) -> None:
    # two iterations, so that the rate has begun to fall; whichever seed is first sees the same
    # first states, later ones come from one stream that all seeds draw from
    n_iterations = 2 if name == "anneal_learning_rate" else 1
    steps = 256 * n_iterations
    config = replace(PPO, learning_rate=1e-2, total_steps=steps, evaluate_every=steps)
    mine = getattr(config, name)
    same, changed = train_ppo(config, 2), train_ppo(replace(config, **{name: other}), 2)
    mixed = train_ppo(replace(config, **{name: (mine, other)}), n_seeds=2)
    if name not in ("orthogonal_init", "anneal_learning_rate"):
        torch.testing.assert_close(mixed.theta[0], same.theta[0])
        torch.testing.assert_close(mixed.theta[1], changed.theta[1])
    assert not torch.equal(mixed.theta[1], same.theta[1])
    with pytest.raises(ValueError, match=f"{name} holds 2 numbers; with n_seeds 3 it must be 1"):
        train_ppo(replace(config, **{name: (mine, other)}), n_seeds=3)


def test_estimate_advantages_stops_at_ends() -> None:
    envs = make_environments("CartPole-v1", 1, 1, seed=0, max_episode_steps=3)
    rollout = collect(
        envs, lambda x: torch.stack([-x[..., 2], x[..., 2]], -1), 5, seed_generators(0, 1)
    )
    values = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]])
    assert rollout.truncated[0, 0].tolist() == [False, False, True, False, False]
    # gamma 0.5, λ 1, rewards 1 1 1 (dead) 1: G_2 = 1 + 4/2 = 3, G_1 = 2.5, G_0 = 2.25, G_4 = 1 + 6/2
    advantages = estimate_advantages(
        rollout.rewards, values, rollout.terminated, rollout.truncated, 0.5, 1.0
    )[0, 0]
    assert advantages[[0, 1, 2, 4]].tolist() == [1.25, 0.5, 0.0, -1.0]


# ---- The rule and the grid ----------------------------------------------------------------------


def test_solved_at_by_hand() -> None:
    steps = np.array([10, 20, 30, 40, 50])
    returns = np.array(
        [
            [480.0, 480.0, 480.0, 0.0, 0.0],  # at once
            [480.0, 480.0, 474.9, 480.0, 480.0],  # never three in a row
            [0.0, 0.0, 475.0, 475.0, 475.0],  # the limit counts
        ]
    )
    assert solved_at(steps, returns).tolist() == [30.0, math.inf, 50.0]
    assert solved_at(steps, returns, in_a_row=1).tolist() == [10.0, 10.0, 30.0]
    assert solved_at(steps[:2], returns[:, :2]).tolist() == [math.inf] * 3
    with pytest.raises(ValueError, match="in_a_row is 0"):
        solved_at(steps, returns, in_a_row=0)


def test_snapshots_keep_the_first_policy_that_passed() -> None:
    snapshots = start_snapshots(torch.zeros(2, 1), total_steps=30, evaluate_every=10)
    assert not snapshots.keep(np.array([9, 5]), torch.tensor([[1.0], [1.0]]))
    assert snapshots.keep(np.array([25, 9]), torch.tensor([[2.0], [2.0]]))
    assert snapshots.passed == 0
    assert snapshots.keep(np.array([29, 30]), torch.tensor([[3.0], [3.0]]))
    assert snapshots.passed == 2
    assert snapshots.keep(np.array([31, 40]), torch.tensor([[4.0], [4.0]]))
    assert snapshots.theta[..., 0].tolist() == [[2.0, 2.0, 4.0], [3.0, 3.0, 3.0]]


# ---- Divergence and bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "config", "name"),
    [
        (train_ppo, replace(PPO, learning_rate=1e38), "PPO"),
        (
            train_a2c,
            replace(A2C, learning_rate=1e38, critic_learning_rate=1e38),
            "A2C",
        ),
        (
            train_reinforce,
            replace(REINFORCE, learning_rate=1e38, baseline_learning_rate=1e38),
            "REINFORCE",
        ),
    ],
)
def test_a_run_that_diverges_says_so(train: Any, config: Any, name: str) -> None:
    with pytest.raises(
        FloatingPointError, match=rf"{name} diverged: .* of seed \d is not finite after [\d,]+ env"
    ):
        train(config, n_seeds=2)


def test_divergence_names_seed_and_steps() -> None:
    losses = torch.tensor([1.0, math.nan, 2.0])
    with pytest.raises(
        FloatingPointError, match=r"X diverged: loss of seed 1 is not finite after 2,000 .*1 of 3"
    ):
        raise_if_diverged("X", np.array([10, 2000, 30]), loss=losses)
    theta = torch.zeros(2, 4)
    raise_if_diverged("X", 5, theta=theta)
    theta[1, 2] = math.inf
    with pytest.raises(FloatingPointError, match="theta of seed 1 is not finite after 5"):
        raise_if_diverged("X", 5, theta=theta)


@pytest.mark.parametrize(("train", "config"), CASES)
def test_bad_runs(untyped: None, train: Any, config: Any) -> None:
    with pytest.raises(ValueError, match="n_seeds is 0"):
        train(config, n_seeds=0)
    with pytest.raises(ValueError, match="discrete actions are needed"):
        train(config, n_seeds=1, environment="Pendulum-v1")
    with pytest.raises(ValueError, match="evaluate_every is 9999999; it must be 1 to total_steps"):
        train(replace(config, evaluate_every=9_999_999), n_seeds=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PPOConfig(epsilon=0.0), r"epsilon is 0\.0; it must be positive"),
        (lambda: PPOConfig(epsilon=(0.2, -1.0)), "epsilon is"),
        (lambda: PPOConfig(epsilon=math.nan), "epsilon is nan"),
        (lambda: PPOConfig(lambda_=1.01), r"lambda_ is 1\.01; allowed is 0 <= lambda_ <= 1"),
        (lambda: PPOConfig(gamma=-0.1), r"gamma is -0\.1"),
        (lambda: PPOConfig(n_minibatches=7), r"n_minibatches is 7; it must divide .* = 256"),
        (lambda: PPOConfig(n_epochs=0), "n_epochs is 0; it must be at least 1"),
        (lambda: PPOConfig(learning_rate=0.0), r"learning_rate is 0\.0; it must be positive"),
        (lambda: PPOConfig(value_clip=0.0), r"value_clip is 0\.0"),
        (
            lambda: PPOConfig(evaluate_every=255),
            "evaluate_every is 255; it must be at least .* 256",
        ),
        (lambda: A2CConfig(lambda_=-0.5), r"lambda_ is -0\.5"),
        (lambda: A2CConfig(n_envs=0), "n_envs is 0"),
        (lambda: A2CConfig(entropy_coefficient=-1.0), r"entropy_coefficient is -1\.0"),
        (lambda: ReinforceConfig(n_episodes=0), "n_episodes is 0"),
        (lambda: ReinforceConfig(gamma=1.1), r"gamma is 1\.1"),
        (lambda: train_ppo(PPOConfig(epsilon=(0.1, 0.2)), n_seeds=3), "epsilon holds 2 numbers"),
    ],
)
def test_bad_settings(untyped: None, make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
