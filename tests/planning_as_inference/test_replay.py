"""Replay memory: what is stored comes back, of each seed its own, uniformly; and bad input."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from rl_helpers.planning_as_inference.replay import Replay


def filled(n: int, capacity: int = 8, seeds: int = 2) -> Replay:
    """Transition k of seed i: state (i, k), reward k, and so on."""
    memory = Replay(seeds, capacity, 2, 1)
    for k in range(n):
        states = torch.tensor([[i, k] for i in range(seeds)]).float()
        k_ = torch.full((seeds, 1), float(k))
        memory.store(states, 10 * k_, k_[:, 0], states + 0.5, k_[:, 0] % 2 == 0)
    return memory


def test_what_is_stored_comes_back() -> None:
    memory = filled(5)
    assert len(memory) == 5
    batch = memory.sample(torch.tensor([[0.0, 0.3, 0.99], [0.5, 0.5, 0.2]]))
    assert batch.states.tolist() == [[[0, 0], [0, 1], [0, 4]], [[1, 2], [1, 2], [1, 1]]]
    assert batch.actions.squeeze(-1).tolist() == [[0, 10, 40], [20, 20, 10]]
    assert batch.rewards.tolist() == [[0, 1, 4], [2, 2, 1]]
    assert torch.equal(batch.next_states, batch.states + 0.5)
    assert batch.terminated.tolist() == [[1, 0, 1], [1, 1, 0]]


def test_the_oldest_are_overwritten() -> None:
    memory = filled(11, capacity=8)
    assert len(memory) == 8
    chance = torch.arange(8).div(8).expand(2, 8)
    assert memory.sample(chance).rewards[1].sort().values.tolist() == list(range(3, 11))


def test_uniformly() -> None:
    memory = filled(7)
    n = 7 * 500
    parts = [
        memory.sample(torch.rand(2, 7, generator=torch.Generator().manual_seed(i)))
        for i in range(n // 7)
    ]
    counts = torch.stack([part.rewards[0] for part in parts]).flatten().long().bincount()
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_a_chance_that_rounds_to_one_stays_inside() -> None:
    memory = filled(3)
    nearly = torch.nextafter(torch.ones(2, 1), torch.zeros(1))
    assert memory.sample(nearly).rewards.tolist() == [[2], [2]]


def test_an_empty_memory() -> None:
    with pytest.raises(ValueError, match="the replay memory is empty"):
        Replay(2, 5, 1, 1).sample(torch.zeros(2, 1))


def test_a_batch_larger_than_the_memory() -> None:
    with pytest.raises(ValueError, match="the batch size is 4; the replay memory holds 3"):
        filled(3).sample(torch.zeros(2, 4))


@pytest.mark.parametrize("given", [(0, 5), (2, 0)])
def test_no_memory(given: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="it must be at least 1"):
        Replay(*given, 1, 1)
