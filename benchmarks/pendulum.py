"""Measure SAC on Pendulum-v1 beside stable-baselines3: CPU seconds a seed until a return is kept.

Run with `make bench`. Kept means: three evaluations in a row, one every 250 steps, with a mean
return of at least -200 over 20 episodes. Both sides run on one thread, in turns. The peer trains
one seed at a time with the settings that its zoo lists for Pendulum-v1; its evaluations are not
counted, the book's own are.
"""

import time

import numpy as np
import torch

from rl_helpers.planning_as_inference.sac import SACConfig, train_sac
from rl_helpers.training.runs import EVALUATION_EPISODES, solved_at

ENVIRONMENT, EVERY, KEPT = "Pendulum-v1", SACConfig.evaluate_every, -200.0
PEER_SEEDS, BATCHES, ROUNDS = 1, (16, 32), 3
MOST_STEPS = 20_000  # for the peer, as its zoo trains


def ours(seeds: int, seed: int) -> tuple[float, np.ndarray]:
    """CPU seconds a seed until all have kept it, and after how many steps each had."""
    start = time.process_time()
    run = train_sac(SACConfig(total_steps=6_000, stop_at=KEPT), seeds, seed)
    return (time.process_time() - start) / seeds, solved_at(run.steps, run.returns, KEPT)


def peer(seed: int) -> tuple[float, float]:
    """CPU seconds of stable-baselines3's SAC until kept, without evaluations, and the steps."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    class Evaluate(BaseCallback):
        """Evaluates every 250 steps, and stops the training when the return is kept."""

        def __init__(self) -> None:
            super().__init__()
            self.streak, self.next, self.seconds = 0, EVERY, 0.0
            self.environments = make_vec_env(
                ENVIRONMENT, n_envs=EVALUATION_EPISODES, seed=1_000 + seed
            )

        def _on_step(self) -> bool:
            if self.num_timesteps < self.next:
                return True
            start = time.process_time()
            mean, _ = evaluate_policy(self.model, self.environments, EVALUATION_EPISODES)
            self.seconds += time.process_time() - start
            self.streak = self.streak + 1 if float(np.mean(mean)) >= KEPT else 0
            self.next += EVERY
            return self.streak < 3

    model = SAC("MlpPolicy", ENVIRONMENT, learning_rate=1e-3, seed=seed, device="cpu")
    evaluate = Evaluate()
    start = time.process_time()
    model.learn(MOST_STEPS, callback=evaluate)
    seconds = time.process_time() - start - evaluate.seconds
    return seconds, model.num_timesteps if evaluate.streak >= 3 else np.inf


def main() -> None:
    """Measure in turns and print the table."""
    torch.set_num_threads(1)
    rows: dict[str, tuple[list[float], list[float]]] = {}
    for turn in range(ROUNDS):
        for seeds in BATCHES:
            seconds, steps = ours(seeds, seed=100 * turn + seeds)
            row = rows.setdefault(f"this book, {seeds} seeds in a batch", ([], []))
            row[0].append(seconds)
            row[1].extend(steps)
        for seed in range(PEER_SEEDS):
            single, taken = peer(PEER_SEEDS * turn + seed)
            row = rows.setdefault("stable-baselines3, one seed at a time", ([], []))
            row[0].append(single)
            row[1].append(taken)
    slowest = max(float(np.median(seconds)) for seconds, _ in rows.values())
    print("| SAC on Pendulum-v1 | CPU s a seed (least–most) | ratio | kept | median steps |")
    print("|---|---:|---:|---:|---:|")
    for name, (spent, taken_by) in rows.items():
        middle = float(np.median(spent))
        spread = f"{middle:.2f} ({min(spent):.2f}–{max(spent):.2f})"
        kept = f"{np.isfinite(taken_by).sum()} of {len(taken_by)}"
        cells = [name, spread, f"{slowest / middle:.1f} ×", kept, f"{np.median(taken_by):,.0f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
