"""Measure SAC on Pendulum-v1 beside stable-baselines3: CPU seconds a seed until a return is kept.

Run with `make bench`. Kept means: three evaluations in a row, one every 250 steps, with a mean
return of at least -200 over 20 episodes. Both sides run on one thread, in turns. The peer trains
one seed at a time with the settings that its zoo lists for Pendulum-v1; its evaluations are not
counted, the book's own are.
"""

import time

import numpy as np

from benchmarks.side_by_side import compare, train_until
from rl_helpers.planning_as_inference.sac import SACConfig, train_sac
from rl_helpers.training.runs import solved_at

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

    model = SAC("MlpPolicy", ENVIRONMENT, learning_rate=1e-3, seed=seed, device="cpu")
    return train_until(model, ENVIRONMENT, KEPT, every=EVERY, most_steps=MOST_STEPS, seed=seed)


if __name__ == "__main__":
    compare(
        "SAC on Pendulum-v1", "kept", ours, peer,
        batches=BATCHES, peer_seeds=PEER_SEEDS, rounds=ROUNDS,
    )  # fmt: skip
