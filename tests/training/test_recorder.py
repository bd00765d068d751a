"""Evaluations of what a run leaves: each policy against itself evaluated alone."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rl_helpers.policy_gradients.a2c import A2CConfig, train_a2c
from rl_helpers.policy_gradients.ppo import PPOConfig, train_ppo
from rl_helpers.training import recorder
from rl_helpers.training.networks import ActorCritic, initial_parameters
from rl_helpers.training.recorder import evaluate_snapshots, start_snapshots
from rl_helpers.training.seeds import seed_generators
from tests.policy_gradients.plain_loops import SAME_START, layers

SIZES = (4, 2)  # a linear policy of CartPole-v1: weights [4, 2], biases [2]


def linear(*push: float, bias: float = 0.0) -> Tensor:
    """Pushes to the right where push · s + bias > 0."""
    right = torch.tensor(push)
    return torch.cat([torch.stack([-right, right], 1).flatten(), torch.tensor([-bias, bias])])


RIGHT, LEFT = linear(0, 0, 0, 0, bias=1.0), linear(0, 0, 0, 0, bias=-1.0)
TO_AND_FRO = linear(0, 0, 1.0, 0)  # towards where the pole leans, however fast it moves
BALANCING = linear(0.1, 0.3, 3.0, 1.0)
# what is known of each: the least and the most mean return
KNOWN = {
    "right": (9.0, 10.0),
    "left": (9.0, 10.0),
    "to and fro": (25.0, 60.0),
    "balancing": (500, 500),
}


@pytest.mark.parametrize(("total", "points"), [(29, [10, 20]), (30, [10, 20, 30])])
def test_the_last_point_is_within_the_run(total: int, points: list[int]) -> None:
    snapshots = start_snapshots(torch.zeros(2, 1), total, evaluate_every=10)
    assert snapshots.steps.tolist() == points


@pytest.mark.parametrize("batch", [2_048, 100, 20])
def test_policies_of_known_return(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    """In one batch, in several, and one policy at a time: each return stays in its place."""
    monkeypatch.setattr(recorder, "EVALUATION_BATCH", batch)
    theta = torch.stack([
        torch.stack([RIGHT, BALANCING, TO_AND_FRO]), torch.stack([LEFT, RIGHT, BALANCING])
    ])  # fmt: skip
    names = [["right", "balancing", "to and fro"], ["left", "right", "balancing"]]
    returns = evaluate_snapshots("CartPole-v1", theta, SIZES, seed=0)
    assert returns.shape == (2, 3)
    assert returns.dtype == np.float64
    for seed, point in np.ndindex(2, 3):
        least, most = KNOWN[names[seed][point]]
        assert least <= returns[seed, point] <= most, (names[seed][point], returns)


def greedy_alone(theta: Tensor, sizes: tuple[int, ...], first_seed: int) -> float:
    """Mean return of one greedy policy over 20 episodes, played one after another."""
    policy, returns = layers(theta, sizes), []
    for seed in range(first_seed, first_seed + 20):
        env = gym.make(SAME_START)
        env.reset(seed=seed)
        observation, _ = env.reset()
        total, ended = 0.0, False
        while not ended:
            with torch.no_grad():
                action = int(policy(torch.tensor(observation)).argmax())
            observation, reward, terminated, truncated, _ = env.step(action)
            total, ended = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


@pytest.mark.parametrize(("batch", "points_at_once"), [(2_048, 5), (150, 2)])
def test_each_policy_has_the_return_that_it_has_alone(
    monkeypatch: pytest.MonkeyPatch, batch: int, points_at_once: int
) -> None:
    monkeypatch.setattr(recorder, "EVALUATION_BATCH", batch)
    sizes = (2, 5, 3)
    flat = initial_parameters(sizes, seed_generators(0, 15), orthogonal=False).detach()
    theta = flat.view(3, 5, -1)
    returns = evaluate_snapshots(SAME_START, theta, sizes, seed=11)
    for seed, point in np.ndindex(3, 5):
        # environments are seeded one after another, in each batch of points from the next seed on
        group, place = divmod(point, points_at_once)
        in_group = min(points_at_once, 5 - group * points_at_once)
        first_seed = 11 + group + 20 * (seed * in_group + place)
        expected = greedy_alone(theta[seed, point], sizes, first_seed)
        assert returns[seed, point] == pytest.approx(expected, rel=1e-6)
    assert len(np.unique(returns)) == 15, "all policies can be told apart"


def test_a_run_evaluates_its_policies() -> None:
    config = A2CConfig(total_steps=40, n_envs=2, n_steps=10, hidden=(4,), evaluate_every=20)
    run = train_a2c(config, n_seeds=2, seed=3, environment=SAME_START)
    # all at the end, where the first states are those of the next seed
    expected = evaluate_snapshots(SAME_START, run.theta, run.sizes, seed=4)
    np.testing.assert_array_equal(run.returns, expected)


def test_a_run_that_may_stop_evaluates_as_it_goes() -> None:
    config = PPOConfig(
        total_steps=200, n_envs=2, n_steps=10, n_minibatches=2, hidden=(4,), evaluate_every=20,
        stop_at=-100.0,
    )  # fmt: skip
    run = train_ppo(config, n_seeds=2, seed=3, environment=SAME_START)
    assert run.returns.shape == (2, 3)  # three in a row, and no more
    for point in range(3):
        theta = run.theta[:, point : point + 1]
        expected = evaluate_snapshots(SAME_START, theta, run.sizes, seed=3 + 1 + point)
        np.testing.assert_array_equal(run.returns[:, point : point + 1], expected)


class Bar:
    """A progress bar that notes what it is told."""

    def __init__(self, **options: object) -> None:
        self.options, self.n, self.closed, self.seen = options, 0, False, [0]

    def update(self, n: int) -> None:
        self.n += n
        self.seen.append(self.n)

    def close(self) -> None:
        self.closed = True


def test_the_bar_follows_the_slowest_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = Bar()
    monkeypatch.setattr(recorder, "progress", lambda *_: bar)
    nets = ActorCritic(SIZES, (4, 1), torch.zeros(2, 10), torch.zeros(2, 5))
    run = recorder.Recorder("X", "CartPole-v1", nets, total_steps=100, evaluate_every=50, seed=0)
    for steps in ([30, 80], [55, 5], [90, 90]):
        run.losses(torch.zeros(2), torch.zeros(2))
        run.iteration(steps)
    assert bar.seen == [0, 30, 85, 100]


@pytest.mark.parametrize("live", [True, False])
def test_progress_is_counted_in_steps(monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    bars: list[Bar] = []

    def bar(**options: object) -> Bar:
        bars.append(Bar(**options))
        return bars[-1]

    class Shell:
        kernel = object()

    monkeypatch.setattr(recorder, "tqdm", bar)
    monkeypatch.setattr(recorder, "get_ipython", Shell if live else lambda: None)
    monkeypatch.delenv("BOOK_STATIC", raising=False)
    config = A2CConfig(total_steps=300, n_envs=2, n_steps=50, evaluate_every=100)
    train_a2c(config, n_seeds=1)
    (one,) = bars
    assert one.options == {
        "total": 300, "desc": "A2C", "unit": "step", "leave": False, "disable": not live,
    }  # fmt: skip
    assert one.seen == [0, 100, 200, 300]
    assert one.closed
    monkeypatch.setenv("BOOK_STATIC", "1")
    assert recorder.progress(1, "X").options["disable"], "none in a build"
