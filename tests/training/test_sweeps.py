"""Sweeps: whoever runs the tasks, and whatever happens to them, the results are the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import SeedSequence
from threadpoolctl import threadpool_info

from rl_helpers.training import sweeps
from rl_helpers.training.sweeps import TaskFailed, local_cluster, run_tasks, sweep

SETTINGS, N_SEEDS, SEED = (0.5, 2.0), 8, 3


def draw(scale: float, seed: SeedSequence) -> float:
    """The first tasks take longest, so that they end last where others run beside them."""
    time.sleep(0.05 / (1 + seed.spawn_key[0]))
    return scale * np.random.default_rng(seed).normal()


def expected() -> list[list[float]]:
    children = SeedSequence(SEED).spawn(N_SEEDS)
    return [[s * np.random.default_rng(c).normal() for c in children] for s in SETTINGS]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with local_cluster(workers=2) as client:
        yield client


@pytest.mark.parametrize("engine", ["sequential", "threading", "loky"])
def test_every_engine_gives_the_same(engine: str) -> None:
    assert sweep(draw, SETTINGS, N_SEEDS, SEED, engine=engine) == expected()


def test_a_cluster_gives_the_same(cluster: Any) -> None:
    assert sweep(draw, SETTINGS, N_SEEDS, SEED, engine="dask") == expected()


def test_more_settings_and_more_seeds_change_no_result() -> None:
    more = sweep(draw, (0.1, *SETTINGS), N_SEEDS + 2, SEED)
    assert [row[:N_SEEDS] for row in more[1:]] == expected()


def test_a_cluster_has_its_scheduler_and_workers_in_other_processes(cluster: Any) -> None:
    workers = cluster.run(os.getpid)
    pids = {os.getpid(), cluster.run_on_scheduler(os.getpid), *workers.values()}
    assert len(pids) == 4
    addresses = [cluster.scheduler.address, *workers]
    assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)


def test_a_worker_killed_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    plug = tmp_path / "plug"
    plug.touch()

    def pulled(scale: float, seed: SeedSequence) -> float:
        if (scale, seed.spawn_key) == (SETTINGS[1], (2,)) and plug.exists():
            plug.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(scale, seed)

    with local_cluster(workers=2) as client:
        before = client.run(os.getpid)
        assert sweep(pulled, SETTINGS, N_SEEDS, SEED, engine="dask") == expected()
        after = client.run(os.getpid)
    assert not plug.exists()
    assert len(before) == 2
    assert len(after) == 1
    assert after.items() < before.items()
    assert not any(alive(pid) for pid in before.values()), "the cluster is gone when it is closed"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def fails(scale: float, seed: SeedSequence) -> float:
    if scale == 2.0 and seed.spawn_key == (1,):
        raise ZeroDivisionError("nothing to divide by")
    return scale


@pytest.mark.parametrize("engine", ["sequential", "loky"])
def test_a_failure_names_its_setting_and_its_seed(engine: str) -> None:
    said = r"setting 2\.0 with seed 1 failed: ZeroDivisionError: nothing to divide by"
    with pytest.raises(TaskFailed, match=said):
        sweep(fails, SETTINGS, N_SEEDS, SEED, engine=engine)


def test_a_failure_on_a_cluster_names_its_setting_and_its_seed(cluster: Any) -> None:
    with pytest.raises(TaskFailed, match=r"setting 2\.0 with seed 1 failed"):
        sweep(fails, SETTINGS, N_SEEDS, SEED, engine="dask")


def threads(_: None, __: SeedSequence) -> list[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return [torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())]


def test_each_task_has_one_thread() -> None:
    sweeps._one_thread.cache_clear()
    torch.set_num_threads(2)
    for engine in ("sequential", "loky"):
        ((found,),) = sweep(threads, [None], 1, SEED, engine=engine)
        assert set(found) == {1}, engine


def test_results_come_in_the_order_of_the_tasks() -> None:
    squares = run_tasks(lambda x, y: x * y, [(3, 3), (1, 1), (2, 2)], engine="threading")
    assert list(squares) == [9, 1, 4]


def test_a_bar_counts_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    class Bar:
        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            counted.append("closed")

        def update(self) -> None:
            counted.append("task")

    def bar(total: int, label: str, unit: str) -> Bar:
        assert (total, label, unit) == (4, "sequential", "task")
        return Bar()

    monkeypatch.setattr(sweeps, "progress", bar)
    sweep(draw, SETTINGS, 2, SEED)
    assert counted == ["task"] * 4 + ["closed"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"settings": []}, "settings is empty; a sweep needs at least one"),
        ({"n_seeds": 0}, "n_seeds is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"engine": "slurm"}, "engine is 'slurm'; allowed are sequential, threading, loky, dask"),
    ],
)
def test_bad_arguments(change: dict[str, Any], said: str) -> None:
    arguments = {"settings": SETTINGS, "n_seeds": N_SEEDS, "seed": SEED} | change
    with pytest.raises(ValueError, match=said):
        sweep(draw, **arguments)


def test_without_a_cluster_dask_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unconnected(**_: object) -> None:
        raise ValueError("To use Joblib with Dask first create a Dask Client")

    monkeypatch.setattr(sweeps, "Parallel", unconnected)
    monkeypatch.setattr(sweeps, "parallel_config", lambda **_: memoryview(b""))
    with pytest.raises(
        ValueError, match="engine is 'dask', and there is no cluster: To use Joblib"
    ):
        sweep(draw, SETTINGS, N_SEEDS, SEED, engine="dask")


def test_without_dask_a_cluster_names_its_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with (
        pytest.raises(ImportError, match=r"pip install -r requirements-dask\.txt"),
        local_cluster(),
    ):
        pass
    with pytest.raises(ValueError, match="workers is 0"), local_cluster(workers=0):
        pass
