"""Where the learning rates of the sections' CartPole runs stand in a grid, at a seed of no section.

Run with `python -m benchmarks.learning_rates`; about six minutes. The settings are those of the
sections, but for the experiment's seed and the rate. Each rate trains 64 seeds in one batch; its
figure is the mean return over all evaluations of a run, with one standard error over the seeds,
and how far it is behind the best rate, seed by seed. The rate of the critic, or of the baseline,
stays as it is in A2C and REINFORCE; in PPO one rate is for both.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rl_helpers.policy_gradients.a2c import A2CConfig, train_a2c
from rl_helpers.policy_gradients.ppo import PPOConfig, train_ppo
from rl_helpers.policy_gradients.reinforce import ReinforceConfig, train_reinforce
from rl_helpers.training.runs import Run

RATES = (0.00125, 0.0025, 0.005, 0.01, 0.02)
SEED, SEEDS = 100, 64

equal: dict[str, Any] = {"total_steps": 6_144, "evaluate_every": 2_048}
SETTINGS: dict[str, tuple[Callable[..., Run], Any]] = {
    "REINFORCE, its section": (
        train_reinforce,
        ReinforceConfig(total_steps=6_000, n_episodes=2, evaluate_every=1_500),
    ),
    "A2C, its section": (
        train_a2c,
        A2CConfig(total_steps=16_000, evaluate_every=2_000, learning_rate=2.5e-3),
    ),
    "PPO, its section": (
        train_ppo,
        PPOConfig(total_steps=16_384, evaluate_every=2_048, learning_rate=5e-3),
    ),
    "REINFORCE, PPO's section": (train_reinforce, ReinforceConfig(**equal, learning_rate=1e-2)),
    "A2C, PPO's section": (train_a2c, A2CConfig(**equal, learning_rate=5e-3)),
}


def main() -> None:
    """Train all, and print the table."""
    torch.set_num_threads(1)
    print(f"| {SEEDS} seeds, seed {SEED} | rate | mean return | behind the best | |")
    print("|---|---:|---:|---:|---|")
    for name, (train, config) in SETTINGS.items():
        means = {
            rate: train(replace(config, learning_rate=rate), SEEDS, SEED).returns.mean(axis=1)
            for rate in RATES
        }
        best = max(means, key=lambda rate: float(means[rate].mean()))
        for rate, mean in means.items():
            behind = means[best] - mean
            errors = [x.std(ddof=1) / np.sqrt(SEEDS) for x in (mean, behind)]
            gap = "" if rate == best else f"{behind.mean():.1f} ± {errors[1]:.1f}"
            used = "used" if rate == config.learning_rate else ""
            cells = [name, f"{rate:g}", f"{mean.mean():.1f} ± {errors[0]:.1f}", gap, used]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
