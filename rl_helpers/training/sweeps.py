"""Sweeps: one function for many settings and seeds, on one core, on all, or on a cluster.

joblib hands out the tasks, and one word says to whom:

- `"sequential"`: to this process, one after another;
- `"threading"`: to threads of this process, for tasks that wait for processes of their own;
- `"loky"`: to a process on each core of this machine;
- `"dask"`: to the workers of the Dask cluster to which a `distributed.Client` is connected.

A task of a sweep takes its seed from its own number, and has one thread. So its result depends
neither on the engine, nor on the number of workers, nor on who finishes first.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed, parallel_config
from numpy.random import SeedSequence
from threadpoolctl import threadpool_limits

from rl_helpers.training.recorder import progress
from rl_helpers.validation import require, require_at_least

PATIENCE = 300  # seconds for a cluster to start, on a machine that is busy
ENGINES = ("sequential", "threading", "loky", "dask")
Setting = TypeVar("Setting")
Result = TypeVar("Result")


class TaskFailed(RuntimeError):
    """A task of a sweep raised an exception; the message names its setting and its seed."""


def sweep(
    function: Callable[[Setting, SeedSequence], Result],
    settings: Sequence[Setting],
    n_seeds: int,
    seed: int,
    *,
    engine: str = "sequential",
) -> list[list[Result]]:
    """Call a function for each setting and seed; return results [settings][seeds].

    Seed i is the same for all settings, so that they can be compared in pairs, and
    depends on `seed` and i alone: more settings, or more seeds, change no result that
    is there.

    Args:
        function: called as `function(setting, seed)`; the task's randomness is
            `numpy.random.default_rng(seed)`.
        settings: at least one.
        n_seeds: how many seeds each setting gets, at least 1.
        seed: the sweep's own seed, at least 0.
        engine: who runs the tasks.

    Raises:
        TaskFailed: a task raised an exception.
        ValueError: no settings, no seeds, a negative seed, an engine that does not
            exist, or "dask" where no client is connected to a cluster.
    """
    require(len(settings) > 0, "settings", "empty", "a sweep needs at least one")
    require_at_least(1, n_seeds=n_seeds)
    require_at_least(0, seed=seed)
    pairs = product(settings, range(n_seeds))
    tasks = [(function, setting, seed, i) for setting, i in pairs]
    results = list(run_tasks(_run, tasks, engine=engine))
    return [results[k : k + n_seeds] for k in range(0, len(results), n_seeds)]


def run_tasks(
    function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], *, engine: str
) -> Iterator[Result]:
    """Yield `function(*task)` for each task, in the order of the tasks, each once it is there.

    A live kernel shows a progress bar.
    """
    require(engine in ENGINES, "engine", repr(engine), f"allowed are {', '.join(ENGINES)}")
    try:
        with parallel_config(backend=engine, n_jobs=-1):
            results = Parallel(return_as="generator")(delayed(function)(*task) for task in tasks)
    except (ImportError, ValueError) as error:  # of joblib, which looks for the cluster
        raise ValueError(f"engine is {engine!r}, and there is no cluster: {error}") from error
    with progress(len(tasks), engine, "task") as bar:
        for result in results:
            bar.update()
            yield result


@contextmanager
def local_cluster(workers: int = 2) -> Iterator[Any]:
    """A Dask cluster on this machine: scheduler, workers, and a connected client.

    Each is a process of its own, started by the command that starts it on any other
    machine.

    Args:
        workers: how many, each with one thread; at least 1.
    """
    require_at_least(1, workers=workers)
    try:
        from distributed import Client
    except ImportError as error:
        said = "Dask is missing: pip install -r requirements-dask.txt"
        raise ImportError(said) from error
    with TemporaryDirectory() as folder:
        address = str(Path(folder) / "scheduler.json")
        shared = ["--scheduler-file", address, "--no-dashboard"]
        scheduler = ["scheduler", *shared, "--host", "127.0.0.1", "--port", "0"]
        scheduler += ["--idle-timeout", "1 hour"]  # in case nobody is left to end it
        worker = ["worker", *shared, "--host", "127.0.0.1", "--nthreads", "1"]
        worker += ["--no-nanny", "--local-directory", folder]
        worker += ["--death-timeout", str(PATIENCE)]
        processes = [_start(command) for command in [scheduler, *[worker] * workers]]
        try:
            with Client(scheduler_file=address, timeout=PATIENCE) as client:
                client.wait_for_workers(workers, timeout=PATIENCE)
                # What a dead worker took with it is computed again: no need to warn.
                logging.getLogger("distributed.client").setLevel(logging.ERROR)
                yield client
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a process of the cluster, which finds the modules of this one; nobody reads its log."""
    whole, quiet = [sys.executable, "-m", "dask", *command], subprocess.DEVNULL
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(whole, env=env, stdout=quiet, stderr=quiet)


def _run(
    function: Callable[[Setting, SeedSequence], Result], setting: Setting, seed: int, i: int
) -> Result:
    """One task of a sweep, wherever it runs."""
    _one_thread()
    try:
        return function(setting, SeedSequence(seed, spawn_key=(i,)))
    except Exception as error:
        said = f"setting {setting!r} with seed {i} failed: {type(error).__name__}: {error}"
        raise TaskFailed(said) from error


@cache
def _one_thread() -> None:
    """Give this process one thread for arithmetic: workers run side by side, one on each core."""
    torch.set_num_threads(1)
    threadpool_limits(1)
