"""Measure the bandits against the plain loops that textbooks show: one seed, one step at a time.

Run with `python -m benchmarks.bandits`. Prints one table: CPU time a seed of 500 steps on one
thread, how many times less the batch takes, and the mean regret of both, which must agree within
standard errors. Both are measured in the same run, in turns.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.distributions import Bernoulli, Beta, Categorical

from rl_helpers.policy_gradients.bandits import BanditRun, reinforce_bandit, thompson_sampling

MEANS, STEPS = (0.1, 0.3, 0.5, 0.7, 0.9), 500
ROUNDS, BATCH = 5, 2_000
Loop = Callable[[torch.Tensor, int], list[int]]


def plain_thompson(means: torch.Tensor, steps: int) -> list[int]:
    """Thompson sampling with `torch.distributions`; returns the arms pulled."""
    a, b = torch.ones_like(means), torch.ones_like(means)
    arms = []
    for _ in range(steps):
        arm = int(Beta(a, b).sample().argmax())
        reward = Bernoulli(means[arm]).sample()
        a[arm] += reward
        b[arm] += 1 - reward
        arms.append(arm)
    return arms


def plain_reinforce(means: torch.Tensor, steps: int) -> list[int]:
    """REINFORCE with autograd and `torch.optim.Adam`; returns the arms pulled."""
    logits = torch.zeros_like(means, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.05)
    baseline = 0.0
    arms = []
    for _ in range(steps):
        policy = Categorical(logits=logits)
        arm = policy.sample()
        reward = float(Bernoulli(means[arm]).sample())
        loss = -policy.log_prob(arm) * (reward - baseline)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        baseline += 0.05 * (reward - baseline)
        arms.append(int(arm))
    return arms


def cpu(run: Callable[[], object]) -> float:
    """Seconds of CPU that a call takes."""
    start = time.process_time()
    run()
    return time.process_time() - start


def mean_regret(actions: np.ndarray) -> str:
    """Mean regret after the last step, and its standard error."""
    means = np.array(MEANS)
    regret = (means.max() - means)[actions].sum(axis=1)
    return f"{regret.mean():.2f} ± {regret.std(ddof=1) / np.sqrt(len(regret)):.2f}"


def compare(name: str, plain: Loop, batch: Callable[..., BanditRun], seeds: int, least: int) -> str:
    """One row of the table: `seeds` runs of the plain loop beside batches of `BATCH`."""
    rng = np.random.default_rng(0)
    plain_actions: list[list[int]] = []
    batch_actions: list[np.ndarray] = []
    plain_times, batch_times = [], []

    def plain_round() -> None:
        plain_actions.extend(plain(torch.tensor(MEANS), STEPS) for _ in range(seeds // ROUNDS))

    def batch_round() -> None:
        batch_actions.append(batch(np.array(MEANS), STEPS, BATCH, rng).actions)

    for _ in range(ROUNDS):
        plain_times.append(1000 * cpu(plain_round) / (seeds // ROUNDS))
        batch_times.append(1000 * cpu(batch_round) / BATCH)
    slow, fast = statistics.median(plain_times), statistics.median(batch_times)
    regrets = mean_regret(np.array(plain_actions)), mean_regret(np.concatenate(batch_actions))
    cells = [name, f"{slow:.1f}", f"{fast:.3f}", f"{slow / fast:,.0f} ×", f"{least:,} ×", *regrets]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measure both algorithms and print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    heads = ["", "plain, ms a seed", "batch, ms a seed", "ratio", "at least"]
    heads += ["mean regret, plain", "mean regret, batch"]
    print("| " + " | ".join(heads) + " |")
    print("|---" + "|---:" * (len(heads) - 1) + "|")
    print(compare("Thompson sampling", plain_thompson, thompson_sampling, 100, 200))
    print(compare("REINFORCE", plain_reinforce, reinforce_bandit, 50, 2_000))


if __name__ == "__main__":
    main()
