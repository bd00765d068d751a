"""Randomness of many seeds: each has its own generator."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rl_helpers.validation import require_at_least


def seed_generators(seed: int, n_seeds: int) -> list[torch.Generator]:
    """One independent source of randomness for each seed of an experiment.

    The generator of seed i depends on `seed` and i alone, not on how many seeds there are.

    Args:
        seed: the experiment's seed, at least 0.
        n_seeds: number of generators, at least 1.

    Raises:
        ValueError: no seeds, or a negative seed.
    """
    if n_seeds < 1:
        raise ValueError(f"n_seeds is {n_seeds}; an experiment needs at least 1 seed")
    require_at_least(0, seed=seed)
    streams = np.random.SeedSequence(seed).spawn(n_seeds)
    numbers = [int(stream.generate_state(1, np.uint64)[0]) for stream in streams]
    return [torch.Generator().manual_seed(number) for number in numbers]


def gumbel_noise(
    generators: Sequence[torch.Generator], shape: Sequence[int]
) -> Float[Tensor, " seeds *shape"]:
    """Standard Gumbel noise [seeds, *shape], each seed's from its own generator.

    `(logits + noise).argmax(-1)` is a sample of the categorical distribution: the Gumbel-max trick.

    Source: Maddison, Tarlow & Minka (2014).
    """
    waiting = torch.empty(len(generators), *shape)
    for row, generator in zip(waiting, generators, strict=True):
        row.exponential_(generator=generator)
    return waiting.log_().neg_()


def permutations(generators: Sequence[torch.Generator], n: int) -> Tensor:
    """A random order of 0 to n - 1 for each seed [seeds, n]."""
    return torch.stack([torch.randperm(n, generator=generator) for generator in generators])


def draws(generators: Sequence[torch.Generator], n: int, size: int) -> Tensor:
    """Numbers from 0 to n - 1 for each seed, drawn with replacement [seeds, size]."""
    return torch.stack([torch.randint(n, (size,), generator=g) for g in generators])
