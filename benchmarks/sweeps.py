"""Measure what an engine spends on a task, and what a batch of seeds saves against processes.

Run with `python -m benchmarks.sweeps`. The first table is of tasks that do nothing: CPU time a task
in the process that runs the sweep, in Dask's scheduler and in the workers, with tasks handed out
one by one and in the batches that joblib makes. The second is of bandit runs, as one batch and as
one task each. Each row is the median of `ROUNDS` rounds; CPU time depends less than the clock on
what else the machine does.
"""

import statistics
from collections.abc import Callable, Mapping

import numpy as np
import psutil
from joblib import Parallel, delayed, parallel_config
from numpy.random import SeedSequence

from rl_helpers.policy_gradients.bandits import reinforce_bandit
from rl_helpers.training.sweeps import local_cluster, sweep

TASKS, ROUNDS, SEEDS, STEPS = 256, 8, 64, 200
MEANS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])


def nothing(number: int) -> int:
    """A task without work."""
    return number


def play(step_size: float, seed: SeedSequence) -> float:
    """The regret of one run of REINFORCE on a bandit."""
    rng = np.random.default_rng(seed)
    run = reinforce_bandit(MEANS, STEPS, 1, rng, step_size=step_size)
    return float(run.pseudo_regret()[0, -1])


def cpu() -> dict[int, float]:
    """Seconds of CPU time so far, of this process and of each below it."""
    this = psutil.Process()
    times = {process.pid: process.cpu_times() for process in [this, *this.children(recursive=True)]}
    return {pid: spent.user + spent.system for pid, spent in times.items()}


def spent(run: Callable[[], object]) -> Mapping[int, float]:
    """Milliseconds of CPU time that a call takes, by process."""
    before = cpu()
    run()
    after = cpu()
    return {pid: 1000 * (after[pid] - before.get(pid, 0.0)) for pid in after}


def row(name: str, values: list[float]) -> str:
    """One row of a table, of values in milliseconds."""
    return f"| {name} | {statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f}) |"


def overhead(engine: str, scheduler: int | None, batch: int | str) -> None:
    """Print what empty tasks cost; `scheduler` is the number of Dask's process."""
    parts: dict[str, list[float]] = {}

    def empty() -> None:
        with parallel_config(backend=engine, n_jobs=2):
            Parallel(batch_size=batch)(delayed(nothing)(number) for number in range(TASKS))

    empty()  # the workers start, and import what they need
    for _ in range(ROUNDS):
        used = dict(spent(empty))
        sums = {"this process": used.pop(psutil.Process().pid)}
        if scheduler is not None:
            sums["scheduler"] = used.pop(scheduler)
        sums["workers"] = sum(used.values())
        for part, milliseconds in sums.items():
            parts.setdefault(part, []).append(milliseconds / TASKS)
    for part, values in parts.items():
        print(row(f"{engine}, batches {batch}, {part}", values), flush=True)


def main() -> None:
    """Measure, and print both tables."""
    print("| CPU time of an empty task | ms, median (least–most) |\n|---|---:|")
    overhead("loky", None, 1)
    overhead("loky", None, "auto")
    with local_cluster() as client:
        (pid,) = {client.run_on_scheduler(lambda: psutil.Process().pid)}
        overhead("dask", pid, 1)
        overhead("dask", pid, "auto")
    print(f"\n| {SEEDS} seeds of {STEPS} steps | CPU ms a seed |\n|---|---:|")

    def batch() -> None:
        reinforce_bandit(MEANS, STEPS, SEEDS, np.random.default_rng(0), step_size=0.1)

    def tasks() -> None:
        sweep(play, [0.1], SEEDS, 0, engine="loky")

    for name, run in {"one batch": batch, "one task each, loky": tasks}.items():
        run()
        values = [sum(spent(run).values()) / SEEDS for _ in range(ROUNDS)]
        print(row(name, values), flush=True)


if __name__ == "__main__":
    main()
