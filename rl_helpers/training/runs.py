"""What a training run leaves, and when it had solved its task."""

import math
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl_helpers.training.environments import Policy
from rl_helpers.training.networks import network
from rl_helpers.validation import require_at_least

Array = np.ndarray
EVALUATION_EPISODES = 20
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
        diagnostics: other numbers of each evaluated policy, by name [seeds, k]; PPO's are those of
            `ppo.diagnose`, the other loops keep none.
    """

    steps: Int[Array, " k"]
    returns: Float[Array, "seeds k"]
    policy_losses: Float[Array, "seeds n"]
    value_losses: Float[Array, "seeds m"]
    sizes: tuple[int, ...]
    theta: Float[Tensor, "seeds k P"]
    ratios: Float[Array, "seeds k samples"] | None = None
    ratios_live: Bool[Array, "seeds k samples"] | None = None
    diagnostics: dict[str, Float[Array, "seeds k"]] = field(default_factory=dict)


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
    require_at_least(1, in_a_row=in_a_row)
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
