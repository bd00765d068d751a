"""One pass over what was sampled, in small parts; all seeds in one batch."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import torch

from rl_helpers.training.seeds import permutations

Samples = TypeVar("Samples", bound=tuple[Any, ...])


def minibatches(
    samples: Samples, n_minibatches: int, generators: Sequence[torch.Generator]
) -> Iterator[Samples]:
    """One pass over the samples of each seed, in a random order of its own.

    Args:
        samples: a named tuple of tensors [seeds, n, ...].
        n_minibatches: into how many parts of equal size.
        generators: one a seed.
    """
    n_seeds, n = samples[0].shape[:2]
    order = permutations(generators, n)
    seeds = torch.arange(n_seeds).unsqueeze(1)
    for places in order.split(n // n_minibatches, dim=1):
        yield type(samples)(*(x[seeds, places] for x in samples))
