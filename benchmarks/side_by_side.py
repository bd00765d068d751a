"""What the training benchmarks share: the peer trained until it succeeds, the turns, the table."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from rl_helpers.training.runs import EVALUATION_EPISODES


def train_until(
    model: Any, environment: str, threshold: float, *, every: int, most_steps: int, seed: int
) -> tuple[float, float]:
    """Train a model of stable-baselines3 until three evaluations in a row reach a mean return.

    Args:
        model: to be trained.
        environment: Gymnasium's name, for evaluations.
        threshold: what the mean return of an evaluation must reach.
        every: environment steps between evaluations.
        most_steps: after so many it stops in any case.
        seed: of the model; evaluations take another.

    Returns:
        CPU seconds without the evaluations, and the steps taken; infinity if it never succeeded.
    """
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    class Evaluate(BaseCallback):
        """Evaluates now and then, and stops the training when it has succeeded."""

        def __init__(self) -> None:
            super().__init__()
            self.streak, self.next, self.seconds = 0, every, 0.0
            self.environments = make_vec_env(
                environment, n_envs=EVALUATION_EPISODES, seed=1_000 + seed
            )

        def _on_step(self) -> bool:
            if self.num_timesteps < self.next:
                return True
            start = time.process_time()
            mean, _ = evaluate_policy(self.model, self.environments, EVALUATION_EPISODES)
            self.seconds += time.process_time() - start
            self.streak = self.streak + 1 if float(np.mean(mean)) >= threshold else 0
            self.next += every
            return self.streak < 3

    evaluate = Evaluate()
    start = time.process_time()
    model.learn(most_steps, callback=evaluate)
    seconds = time.process_time() - start - evaluate.seconds
    return seconds, model.num_timesteps if evaluate.streak >= 3 else np.inf


def compare(
    title: str,
    success: str,
    ours: Callable[[int, int], tuple[float, np.ndarray]],
    peer: Callable[[int], tuple[float, float]],
    *,
    batches: Sequence[int],
    peer_seeds: int,
    rounds: int,
) -> None:
    """Measure both sides in turns, on one thread, and print the table.

    Args:
        title: of the table.
        success: what has become of a seed that succeeded, as a column's title.
        ours: from a number of seeds and the experiment's seed to CPU seconds a seed, and the steps
            after which each succeeded.
        peer: from a seed to CPU seconds, and the steps.
        batches: numbers of seeds that the book trains at once.
        peer_seeds: how many seeds the peer trains in a turn.
        rounds: how many turns.
    """
    torch.set_num_threads(1)
    rows: dict[str, tuple[list[float], list[float]]] = {}
    for turn in range(rounds):
        for seeds in batches:
            seconds, steps = ours(seeds, 100 * turn + seeds)
            row = rows.setdefault(f"this book, {seeds} seeds in a batch", ([], []))
            row[0].append(seconds)
            row[1].extend(steps)
        for seed in range(peer_seeds):
            single, taken = peer(peer_seeds * turn + seed)
            row = rows.setdefault("stable-baselines3, one seed at a time", ([], []))
            row[0].append(single)
            row[1].append(taken)
    slowest = max(float(np.median(seconds)) for seconds, _ in rows.values())
    print(f"| {title} | CPU s a seed (least–most) | ratio | {success} | median steps |")
    print("|---|---:|---:|---:|---:|")
    for name, (spent, taken_by) in rows.items():
        middle = float(np.median(spent))
        spread = f"{middle:.2f} ({min(spent):.2f}–{max(spent):.2f})"
        share = f"{np.isfinite(taken_by).sum()} of {len(taken_by)}"
        cells = [name, spread, f"{slowest / middle:.1f} ×", share, f"{np.median(taken_by):,.0f}"]
        print("| " + " | ".join(cells) + " |")
