"""Measure PPO on CartPole-v1 beside stable-baselines3: CPU seconds a seed until it is solved.

Run with `make bench`. Solved means: three evaluations in a row, one every 2,000 steps, with a mean
return of at least 475 over 20 episodes. Both sides run on one thread, in turns. The peer trains
one seed at a time with the settings that its zoo lists for CartPole-v1; its evaluations are not
counted, the book's own are.
"""

import time

import numpy as np

from benchmarks.side_by_side import compare, train_until
from rl_helpers.policy_gradients.ppo import PPOConfig, train_ppo
from rl_helpers.training.runs import SOLVED, solved_at

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
    from stable_baselines3.common.env_util import make_vec_env

    def falling(start: float):  # type: ignore[no-untyped-def]
        return lambda remaining: start * remaining

    model = PPO(
        "MlpPolicy", make_vec_env(ENVIRONMENT, n_envs=8, seed=seed), seed=seed, device="cpu",
        n_steps=32, batch_size=256, n_epochs=20, gamma=0.98, gae_lambda=0.8, ent_coef=0.0,
        learning_rate=falling(0.001), clip_range=falling(0.2),
    )  # fmt: skip
    return train_until(model, ENVIRONMENT, SOLVED, every=EVERY, most_steps=MOST_STEPS, seed=seed)


if __name__ == "__main__":
    compare(
        "PPO on CartPole-v1", "solved", ours, peer,
        batches=BATCHES, peer_seeds=PEER_SEEDS, rounds=ROUNDS,
    )  # fmt: skip
