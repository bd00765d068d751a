"""What the training loops share: the record of a run, its evaluations, and the news of divergence."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from IPython.core.getipython import get_ipython
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from rl_helpers.networks import network
from rl_helpers.rollouts import Policy, evaluate, make_environments

Array = np.ndarray
EVALUATION_EPISODES = 20
EVALUATION_BATCH = 2_048  # environments stepped at once, to bound memory
SOLVED = 475.0  # mean return that solves CartPole-v1, whose episodes are cut at 500 steps


@dataclass(frozen=True, eq=False)
class Run:
    """What a training run leaves: arrays, one row a seed.

    Args:
        steps: environment steps of one seed at each evaluation [k].
        returns: mean undiscounted return of the greedy policy over 20 episodes [seeds, k].
        policy_losses: mean policy loss of each iteration [seeds, n].
        value_losses: mean value loss of each iteration [seeds, n]; empty [seeds, 0] without critic.
        sizes: widths of the policy's network.
        theta: parameters of the policy at each evaluation [seeds, k, P].
        ratios: PPO's importance ratios after the last update before each evaluation, for every
            sample of its rollout [seeds, k, samples]; otherwise None.
        ratios_live: which of them are samples that count [seeds, k, samples]; otherwise None.
    """

    steps: Int[Array, " k"]
    returns: Float[Array, "seeds k"]
    policy_losses: Float[Array, "seeds n"]
    value_losses: Float[Array, "seeds m"]
    sizes: tuple[int, ...]
    theta: Float[Tensor, "seeds k P"]
    ratios: Float[Array, "seeds k samples"] | None = None
    ratios_live: Bool[Array, "seeds k samples"] | None = None


def policy_of(run: Run, seed: int, at: int = -1) -> Policy:
    """The policy that one seed of a run had at an evaluation, as `record_episode` takes it.

    Args:
        run: the run.
        seed: which seed, from 0.
        at: which evaluation, from 0; the last by default.

    Returns:
        A function from observations [1, envs, d] to logits [1, envs, A].
    """
    n_seeds, n_points, _ = run.theta.shape
    if not 0 <= seed < n_seeds or not -n_points <= at < n_points:
        raise ValueError(
            f"seed is {seed} and at is {at}; this run has {n_seeds} seeds and {n_points} evaluations"
        )
    return network(run.theta[seed, at].unsqueeze(0), run.sizes)


def solved_at(
    steps: Int[Array, " k"],
    returns: Float[Array, "seeds k"],
    threshold: float = SOLVED,
    in_a_row: int = 3,
) -> Float[Array, " seeds"]:
    """Environment steps after which each seed had solved the task; infinity if it never did.

    Solved means `in_a_row` evaluations in a row of at least `threshold`; counted are the steps at
    the last of them.

    Args:
        steps: environment steps of one seed at each evaluation [k].
        returns: mean return of each evaluation [seeds, k].
        threshold: what an evaluation must reach.
        in_a_row: how many evaluations, at least 1.

    >>> solved_at(np.array([10, 20, 30]), np.array([[9.0, 9.0, 9.0], [9.0, 1.0, 9.0]]), 5.0)
    array([30., inf])
    """
    if in_a_row < 1:
        raise ValueError(f"in_a_row is {in_a_row}; it must be at least 1")
    if returns.ndim != 2 or returns.shape[1:] != steps.shape:
        raise ValueError(
            f"returns has shape {returns.shape}, steps {steps.shape}; allowed are [seeds, k] and [k]"
        )
    if len(steps) < in_a_row:
        return np.full(len(returns), math.inf)
    good = np.lib.stride_tricks.sliding_window_view(returns >= threshold, in_a_row, axis=1)
    streaks = np.asarray(good.all(axis=-1))  # [seeds, k - in_a_row + 1]
    last = steps[streaks.argmax(axis=1) + in_a_row - 1]
    return np.where(streaks.any(axis=1), last, math.inf)


# -- for the training loops
# ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Snapshots:
    """Parameters of the policy on a grid of environment steps, kept as training passes each point.

    A point keeps the policy after the first update by which the seed had taken so many steps.

    Args:
        steps: the grid [k].
        theta: parameters [seeds, k, P].
        kept: which of them are known [seeds, k].
    """

    steps: Int[Array, " k"]
    theta: Float[Tensor, "seeds k P"]
    kept: Bool[Tensor, "seeds k"]

    def keep(self, spent: Any, theta: Float[Tensor, "seeds P"]) -> bool:
        """Keep `theta` at the points now passed; `spent` is the steps of each seed, or of all.

        Returns:
            Whether there was one.
        """
        taken = np.broadcast_to(np.asarray(spent), len(theta))
        due = torch.as_tensor(taken[:, None] >= self.steps) & ~self.kept
        self.theta[due] = theta.detach().unsqueeze(1).expand_as(self.theta)[due]
        self.kept[due] = True
        return bool(due.any())

    @property
    def passed(self) -> int:
        """Number of points that every seed has passed."""
        return int(self.kept.all(dim=0).sum())


def start_snapshots(
    theta: Float[Tensor, "seeds P"], total_steps: int, evaluate_every: int
) -> Snapshots:
    """An empty grid: multiples of `evaluate_every` up to `total_steps`.

    Raises:
        ValueError: evaluate_every not between 1 and total_steps.
    """
    if not 1 <= evaluate_every <= total_steps:
        raise ValueError(
            f"evaluate_every is {evaluate_every}; it must be 1 to total_steps = {total_steps}"
        )
    grid = np.arange(evaluate_every, total_steps + 1, evaluate_every)
    n_seeds, n_points = len(theta), len(grid)
    return Snapshots(
        grid,
        torch.zeros(n_seeds, n_points, theta.shape[1]),
        torch.zeros(n_seeds, n_points, dtype=torch.bool),
    )


def evaluate_snapshots(
    name: str, theta: Float[Tensor, "seeds k P"], sizes: Sequence[int], seed: int
) -> Float[Array, "seeds k"]:
    """Mean undiscounted return of each greedy policy over 20 episodes, several points in one batch.

    Args:
        name: Gymnasium's name of the environment.
        theta: parameters of the policies [seeds, k, P].
        sizes: widths of their network.
        seed: of the first states.
    """
    n_seeds = len(theta)
    at_once = max(1, EVALUATION_BATCH // (n_seeds * EVALUATION_EPISODES))
    means = []
    for group, points in enumerate(theta.split(at_once, dim=1)):
        rows = points.flatten(0, 1)
        envs = make_environments(name, len(rows), EVALUATION_EPISODES, seed + group)
        returns = evaluate(envs, network(rows, sizes))
        envs.vector.close()
        means.append(returns.mean(1).view(n_seeds, -1))
    return torch.cat(means, 1).double().numpy()


def raise_if_diverged(algorithm: str, spent: Any, **quantities: Tensor) -> None:
    """Raise `FloatingPointError` if a seed's numbers are no longer finite.

    Args:
        algorithm: its name, for the message.
        spent: environment steps so far, of each seed or of all.
        quantities: tensors [seeds, ...] by name.
    """
    for name, value in quantities.items():
        bad = ~value.isfinite().flatten(1).all(1) if value.ndim > 1 else ~value.isfinite()
        if bool(bad.any()):
            seed = int(bad.nonzero()[0])
            steps = int(np.broadcast_to(np.asarray(spent), len(bad))[seed])
            raise FloatingPointError(
                f"{algorithm} diverged: {name} of seed {seed} is not finite after {steps:,} environment "
                f"steps ({int(bad.sum())} of {len(bad)} seeds); a smaller learning rate may help"
            )


def progress(total: int, label: str) -> Any:
    """A progress bar over environment steps in a live kernel; silent in builds, scripts, tests."""
    live = hasattr(get_ipython(), "kernel") and not os.environ.get("BOOK_STATIC")
    return tqdm(total=total, desc=label, unit="step", leave=False, disable=not live)


def stack(history: Sequence[Tensor], n_seeds: int) -> Float[Array, "seeds n"]:
    """A list of [seeds] as one array [seeds, n]."""
    return torch.stack(list(history), 1).numpy() if history else np.empty((n_seeds, 0))


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise `ValueError` naming a configuration's field unless `condition` holds."""
    if not condition:
        raise ValueError(f"{name} is {value}; {allowed}")


def require_at_least(least: int, config: object, *names: str) -> None:
    """Raise `ValueError` if a field is smaller than `least`."""
    for name in names:
        value = getattr(config, name)
        require(value >= least, name, value, f"it must be at least {least}")


def require_unit(config: object, *names: str) -> None:
    """Raise `ValueError` if a field is outside [0, 1]."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value <= 1, name, value, f"allowed is 0 <= {name} <= 1")


def require_positive(config: object, *names: str) -> None:
    """Raise `ValueError` if a field, or a number of a tuple, is not positive."""
    for name in names:
        value = getattr(config, name)
        require(bool(np.all(np.array(value) > 0)), name, value, "it must be positive")
