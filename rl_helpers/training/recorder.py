"""The recorder that all training loops share: what a run leaves, kept while it goes on."""

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

from rl_helpers.training.environments import evaluate, make_environments
from rl_helpers.training.networks import ActorCritic, network
from rl_helpers.training.runs import EVALUATION_EPISODES, Run, solved_at

Array = np.ndarray
EVALUATION_BATCH = 2_048  # environments stepped at once, to bound memory


class Recorder:
    """Follows a training loop: counts its steps, keeps losses and policies, and makes its `Run`.

    Args:
        algorithm: its name, for the progress bar and for messages.
        environment: Gymnasium's name, for evaluations.
        nets: the networks that are trained.
        total_steps: environment steps of one seed.
        evaluate_every: environment steps between evaluations.
        seed: the experiment's seed.
        stop_at: finish once every seed has three evaluations in a row of at least this mean return.

    Raises:
        ValueError: evaluate_every not between 1 and total_steps.
    """

    def __init__(
        self,
        algorithm: str,
        environment: str,
        nets: ActorCritic,
        total_steps: int,
        evaluate_every: int,
        seed: int,
        stop_at: float | None = None,
    ) -> None:
        self.algorithm, self.environment, self.nets = algorithm, environment, nets
        self.total_steps, self.seed, self.stop_at = total_steps, seed, stop_at
        self.snapshots = start_snapshots(nets.actor, total_steps, evaluate_every)
        self.spent = np.zeros(len(nets.actor), dtype=int)  # environment steps of each seed
        self._sums, self._n_updates = torch.zeros(2, len(nets.actor)), 0
        self._losses: list[Tensor] = []  # [2, seeds] of each iteration
        self._returns: list[Array] = []
        self._ratios: list[tuple[Tensor, Tensor]] = []
        self._diagnostics: dict[str, list[Tensor]] = {}  # [seeds] of each evaluation
        self._solved = False
        self._bar = progress(total_steps, algorithm)

    @property
    def finished(self) -> bool:
        """Whether every seed has taken its steps, or all have solved the task."""
        return self._solved or bool(self.spent.min() >= self.total_steps)

    @property
    def remaining(self) -> float:
        """The part of the steps that the slowest seed has still to take, 1 at the start."""
        return 1 - int(self.spent.min()) / self.total_steps

    def losses(self, policy: Float[Tensor, " seeds"], value: Float[Tensor, " seeds"]) -> None:
        """Note the losses of one update; an iteration keeps the means of its updates."""
        self._sums += torch.stack([policy, value]).detach()
        self._n_updates += 1

    def iteration(self, steps: Any) -> bool:
        """Close an iteration in which each seed took so many environment steps.

        Args:
            steps: a number, or one a seed [seeds].

        Returns:
            Whether a policy was kept for evaluation.

        Raises:
            FloatingPointError: losses or parameters that are no longer finite.
        """
        self.spent += np.asarray(steps)
        means = self._sums / self._n_updates
        self._losses.append(means)
        self._sums, self._n_updates = torch.zeros_like(means), 0
        theta, critic = self.nets.actor, self.nets.critic
        loss = means.sum(0)
        raise_if_diverged(self.algorithm, self.spent, loss=loss, theta=theta, critic=critic)
        self._bar.update(min(int(self.spent.min()), self.total_steps) - self._bar.n)
        kept = self.snapshots.keep(self.spent, theta)
        if kept and self.stop_at is not None:
            k = self.snapshots.passed
            self._returns.append(self._evaluate(self.snapshots.theta[:, k - 1 : k], k))
            returns = np.hstack(self._returns)
            solved = solved_at(self.snapshots.steps[:k], returns, self.stop_at)
            self._solved = bool(np.isfinite(solved).all())
        return kept

    def ratios(self, ratio: Float[Tensor, "seeds n"], live: Bool[Tensor, "seeds n"]) -> None:
        """Keep PPO's importance ratios, and which of them are of samples that count."""
        self._ratios.append((ratio, live))

    def diagnostics(self, **numbers: Float[Tensor, " seeds"]) -> None:
        """Keep numbers of each seed, by name: once for each policy that is kept, the same names."""
        for name, values in numbers.items():
            self._diagnostics.setdefault(name, []).append(values.detach())

    def run(self, critic: bool = True) -> Run:
        """What the run leaves; without `critic` its losses are left out."""
        self._bar.close()
        k = self.snapshots.passed
        if self.stop_at is None:
            self._returns = [self._evaluate(self.snapshots.theta, 1)]
        policy_losses, value_losses = torch.stack(self._losses, 2).numpy()  # [seeds, n] each
        ratios, lives = (
            (torch.stack(kept, 1).numpy() for kept in zip(*self._ratios, strict=True))
            if self._ratios
            else (None, None)
        )
        return Run(
            self.snapshots.steps[:k],
            np.hstack(self._returns),
            policy_losses,
            value_losses if critic else value_losses[:, :0],
            self.nets.sizes,
            self.snapshots.theta[:, :k],
            ratios,
            lives,
            {name: torch.stack(kept, 1).numpy() for name, kept in self._diagnostics.items()},
        )

    def _evaluate(self, theta: Float[Tensor, "seeds k P"], offset: int) -> Float[Array, "seeds k"]:
        return evaluate_snapshots(self.environment, theta, self.nets.sizes, self.seed + offset)


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


def progress(total: int, label: str, unit: str = "step") -> Any:
    """A progress bar, over environment steps by default, in a live kernel; silent elsewhere."""
    live = hasattr(get_ipython(), "kernel") and not os.environ.get("BOOK_STATIC")
    return tqdm(total=total, desc=label, unit=unit, leave=False, disable=not live)
