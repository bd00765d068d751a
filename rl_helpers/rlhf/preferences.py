"""Comparisons of two responses: the Bradley–Terry model, its loss, and judges who decide by it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from rl_helpers.validation import require, require_at_least, require_finite


def preference_probability(
    chosen: Float[Tensor, "*batch"], rejected: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """P(y⁺ ≻ y⁻) = σ(r(y⁺) - r(y⁻)), for the rewards of two responses.

    Source: eq-bradley-terry; Bradley & Terry (1952).

    >>> preference_probability(torch.tensor([2.0]), torch.tensor([0.0]))
    tensor([0.8808])
    """
    return (chosen - rejected).sigmoid()


def preference_loss(
    margin: Float[Tensor, "*batch"], label: Float[Tensor, "*batch"] | float = 1.0
) -> Float[Tensor, "*batch"]:
    """-p log σ(m) - (1 - p) log σ(-m): negative log-likelihood of a comparison.

    Args:
        margin: m, reward of the first response less that of the second.
        label: p, share of judges who prefer the first, 0 to 1.

    Source: eq-rm-loss.

    >>> preference_loss(torch.tensor([2.0]))
    tensor([0.1269])
    """
    return -label * logsigmoid(margin) - (1 - label) * logsigmoid(-margin)


class Comparisons(NamedTuple):
    """Compared responses of one experiment or many.

    Args:
        prompts, chosen, rejected: numbers of the prompt and of the two responses [..., n].
    """

    prompts: Int[Tensor, "*batch n"]
    chosen: Int[Tensor, "*batch n"]
    rejected: Int[Tensor, "*batch n"]

    def first(self, n: int) -> "Comparisons":
        """The first n of each experiment: what would be known if they had stopped there.

        Raises:
            ValueError: n below 1 or more than there are.
        """
        most = self.prompts.shape[-1]
        require(1 <= n <= most, "n", n, f"there are {most} comparisons, at least 1 is needed")
        return Comparisons(*(part[..., :n] for part in self))


class Judged(NamedTuple):
    """Pairs of responses, each once, with what was judged of them; experiments [seeds, pairs].

    Args:
        prompts, first, second: numbers of the prompt and of the responses, first < second.
        counts: how often each pair was compared; 0 where an experiment has fewer pairs than others.
        shares: share of its comparisons that the first response won.
    """

    prompts: Int[Tensor, "*batch pairs"]
    first: Int[Tensor, "*batch pairs"]
    second: Int[Tensor, "*batch pairs"]
    counts: Float[Tensor, "*batch pairs"]
    shares: Float[Tensor, "*batch pairs"]


def judged(comparisons: Comparisons) -> Judged:
    """Count the comparisons of each pair: all that the loss depends on.

    Args:
        comparisons: of experiments [seeds, n].

    Raises:
        ValueError: a response that is compared with itself.
    """
    require_compared(comparisons)
    rows = []
    for x, chosen, rejected in zip(*comparisons, strict=True):
        low, high = torch.minimum(chosen, rejected), torch.maximum(chosen, rejected)
        base = int(high.max()) + 1
        pairs, at = torch.unique((x * base + low) * base + high, return_inverse=True)
        counts = torch.bincount(at).to(torch.float64)
        won = torch.bincount(at, (chosen == low).to(torch.float64))
        x, low, high = pairs // base**2, pairs // base % base, pairs % base
        rows.append((x, low, high, counts, won / counts))
    parts = (pad_sequence(list(part), batch_first=True) for part in zip(*rows, strict=True))
    return Judged(*parts)


def require_compared(comparisons: Comparisons) -> None:
    """Raise `ValueError` if a response is compared with itself: that says nothing about any reward."""
    equal = comparisons.chosen == comparisons.rejected
    if bool(equal.any()):
        raise ValueError(
            f"{int(equal.sum())} of {equal.numel()} comparisons are of a response with itself; "
            "two different responses must be compared"
        )


def sample_pairs(
    log_policy: Float[Tensor, "prompts responses"], n: int, generator: torch.Generator
) -> tuple[Int[Tensor, " n"], Int[Tensor, "2 n"]]:
    """Draw n prompts, all equally likely, and for each two different responses of the policy.

    Two responses that happen to be equal are both drawn anew.

    Args:
        log_policy: log-probabilities of all responses to each prompt.
        n: number of pairs, at least 1.
        generator: of the draws.

    Returns:
        Numbers of the prompts [n] and of the pairs [2, n].

    Raises:
        ValueError: n below 1, or a policy that has a single response to a prompt.
    """
    require_at_least(1, n=n)
    probs = log_policy.to(torch.float64).exp()
    require(
        bool((probs.max(-1).values < 1 - 1e-6).all()), "log_policy", "one response only",
        "two different responses must be possible",
    )  # fmt: skip
    prompts = torch.randint(len(probs), (n,), generator=generator)
    # One staircase for all prompts: that of prompt x rises from x to x + 1.
    stairs = probs.cumsum(-1)
    stairs = (stairs / stairs[:, -1:] + torch.arange(len(probs)).unsqueeze(-1)).flatten()
    pairs = torch.zeros(2, n, dtype=torch.long)
    while bool((equal := pairs[0] == pairs[1]).any()):
        x = prompts[equal].expand(2, -1)
        height = x + torch.rand(x.shape, generator=generator, dtype=torch.float64)
        response = torch.searchsorted(stairs, height, right=True) - x * probs.shape[1]
        pairs[:, equal] = response.clamp(max=probs.shape[1] - 1)
    return prompts, pairs


def sample_comparisons(
    log_policy: Float[Tensor, "prompts responses"],
    reward: Float[Tensor, "prompts responses"],
    n: int,
    generator: torch.Generator,
) -> Comparisons:
    """Draw n comparisons: a prompt, two different responses of the policy, and which is preferred.

    Args:
        log_policy, n, generator: as for `sample_pairs`.
        reward: reward of all responses, which decides as Bradley and Terry say.

    Raises:
        ValueError: as for `sample_pairs`; rewards that are not finite.

    Source: eq-bradley-terry.
    """
    require_finite(reward=reward)
    prompts, (one, other) = sample_pairs(log_policy, n, generator)
    chance = preference_probability(reward[prompts, one], reward[prompts, other])
    won = torch.rand(n, generator=generator) < chance
    return Comparisons(prompts, torch.where(won, one, other), torch.where(won, other, one))


def sample_experiments(
    log_policy: Float[Tensor, "*seeds prompts responses"],
    reward: Float[Tensor, "prompts responses"],
    n: int,
    generators: Sequence[torch.Generator],
) -> Comparisons:
    """n comparisons of each seed [seeds, n], as `sample_comparisons` draws them.

    Args:
        log_policy: one for all seeds, or each its own [seeds, prompts, responses].
        reward, n: as for `sample_comparisons`.
        generators: one a seed.

    Raises:
        ValueError: as for `sample_comparisons`; policies of another number of seeds.
    """
    seeds = len(generators)
    policies = log_policy.expand(seeds, -1, -1) if log_policy.ndim == 2 else log_policy
    require(
        len(policies) == seeds, "log_policy", f"that of {len(policies)} seeds",
        f"there are {seeds} generators",
    )  # fmt: skip
    drawn = [
        sample_comparisons(policy, reward, n, generator)
        for policy, generator in zip(policies, generators, strict=True)
    ]
    return Comparisons(*(torch.stack(part) for part in zip(*drawn, strict=True)))
