"""Measure PPO on CartPole-v1 beside stable-baselines3: CPU seconds a seed until it is solved.

Run with `make bench`. Solved means: three evaluations in a row, one every 2,000 steps, with a mean
return of at least 475 over 20 episodes. Both sides run on one thread, in turns. The peer trains
one seed at a time with the settings that its zoo lists for CartPole-v1; its evaluations are not
counted, the book's own are.
"""

import time

import numpy as np
import torch

from rl_helpers.policy_gradients.ppo import PPOConfig, train_ppo
from rl_helpers.training.runs import EVALUATION_EPISODES, SOLVED, solved_at

ENVIRONMENT, EVERY = "CartPole-v1", PPOConfig.evaluate_every
PEER_SEEDS, BATCHES, ROUNDS = 2, (16, 32), 3
MOST_STEPS = 100_000  # for the peer, as its zoo trains


def ours(seeds: int, seed: int) -> tuple[float, np.ndarray]:
    """CPU seconds a seed until all are solved, and after how many steps each was."""
    start = time.process_time()
    run = train_ppo(PPOConfig(stop_at=SOLVED), seeds, seed, ENVIRONMENT)
    return (time.process_time() - start) / seeds, solved_at(run.steps, run.returns)


def peer(seed: int) -> tuple[float, float]:
    """CPU seconds of stable-baselines3's PPO until solved, without evaluations, and the steps."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    class Evaluate(BaseCallback):
        """Evaluates every 2,000 steps, and stops the training when solved."""

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
            self.streak = self.streak + 1 if float(np.mean(mean)) >= SOLVED else 0
            self.next += EVERY
            return self.streak < 3

    def falling(start: float):  # type: ignore[no-untyped-def]
        return lambda remaining: start * remaining

    model = PPO(
        "MlpPolicy", make_vec_env(ENVIRONMENT, n_envs=8, seed=seed), seed=seed, device="cpu",
        n_steps=32, batch_size=256, n_epochs=20, gamma=0.98, gae_lambda=0.8, ent_coef=0.0,
        learning_rate=falling(0.001), clip_range=falling(0.2),
    )  # fmt: skip
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
    print("| PPO on CartPole-v1 | CPU s a seed (least–most) | ratio | solved | median steps |")
    print("|---|---:|---:|---:|---:|")
    for name, (spent, taken_by) in rows.items():
        middle = float(np.median(spent))
        spread = f"{middle:.2f} ({min(spent):.2f}–{max(spent):.2f})"
        solved = f"{np.isfinite(taken_by).sum()} of {len(taken_by)}"
        cells = [name, spread, f"{slowest / middle:.1f} ×", solved, f"{np.median(taken_by):,.0f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
