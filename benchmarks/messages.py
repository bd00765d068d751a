"""Measure backward messages on a large sparse process: at most one second of CPU time.

Run with `python -m benchmarks.messages`. Prints one table, in which each row is the fastest of
`ROUNDS` passes on one thread, and fails if the row with a limit exceeds it.
"""

import sys
import time

import numpy as np
from scipy import sparse

from rl_helpers.mdp.process import MDP
from rl_helpers.planning_as_inference.messages import OptimalityModel, backward_messages

ACTIONS, SUCCESSORS, STEPS, ROUNDS = 4, 4, 100, 5
LIMITS = {1_000: None, 10_000: 1.0, 40_000: None}  # states, seconds
WORST_REWARD = -1e6


def random_model(n_states: int, rng: np.random.Generator) -> OptimalityModel:
    """A process with a few random successors of each action, and rewards down to a million."""
    rows = n_states * ACTIONS
    following = rng.integers(n_states, size=rows * SUCCESSORS)
    p = rng.dirichlet(np.ones(SUCCESSORS), size=rows).ravel()
    starts = np.arange(0, rows * SUCCESSORS + 1, SUCCESSORS)
    P = sparse.csr_array((p, following, starts), shape=(rows, n_states))
    R = WORST_REWARD * rng.uniform(size=(n_states, ACTIONS))
    prior = rng.dirichlet(np.ones(ACTIONS), size=n_states)
    return OptimalityModel(MDP(P, R, 0.0), prior, alpha=0.7, horizon=STEPS)


def seconds(model: OptimalityModel) -> float:
    """CPU seconds of the fastest of several passes; every message must be finite."""
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        messages = backward_messages(model)
        taken.append(time.process_time() - start)
        assert np.isfinite(messages.log_states).all()
    return min(taken)


def main() -> None:
    """Measure and print the table; exit with a message if it takes too long."""
    rng, slow = np.random.default_rng(0), []
    print(
        f"| messages of {STEPS} steps, {ACTIONS} actions, {SUCCESSORS} successors | CPU s | at most |"
    )
    print("|---|---:|---:|")
    for n_states, limit in LIMITS.items():
        taken = seconds(random_model(n_states, rng))
        print(f"| {n_states:,} states | {taken:.2f} | {f'{limit:.0f}' if limit else ''} |")
        if limit and taken > limit:
            slow.append(f"{n_states:,} states took {taken:.2f} s of CPU time; at most {limit:g} s")
    if slow:
        sys.exit("\n".join(slow))


if __name__ == "__main__":
    main()
