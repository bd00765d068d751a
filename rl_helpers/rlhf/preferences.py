"""Comparisons of two responses: the Bradley–Terry model and its loss."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

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


def sample_comparisons(
    log_policy: Float[Tensor, "prompts responses"],
    reward: Float[Tensor, "prompts responses"],
    n: int,
    generator: torch.Generator,
) -> Comparisons:
    """Draw n comparisons: a prompt, two different responses of the policy, and which of them is preferred.

    Two responses that happen to be equal are drawn anew; prompts are all equally likely.

    Args:
        log_policy: log-probabilities of all responses to each prompt.
        reward: reward of all responses, which decides as Bradley and Terry say.
        n: number of comparisons, at least 1.
        generator: of the draws.

    Raises:
        ValueError: n below 1, rewards not finite, a policy that has a single response.

    Source: eq-bradley-terry.
    """
    require_at_least(1, n=n)
    require_finite(reward=reward)
    probs = log_policy.exp()
    require(
        bool((probs.max(-1).values < 1 - 1e-6).all()), "log_policy", "one response only",
        "two different responses must be possible",
    )  # fmt: skip
    prompts = torch.randint(len(probs), (n,), generator=generator)
    pair = torch.zeros(2, n, dtype=torch.long)
    while bool((equal := pair[0] == pair[1]).any()):
        again = probs[prompts[equal]]
        pair[:, equal] = torch.multinomial(again, 2, replacement=True, generator=generator).T
    r = reward[prompts, pair]  # [2, n]
    first = torch.rand(n, generator=generator) < preference_probability(r[0], r[1])
    return Comparisons(
        prompts, torch.where(first, pair[0], pair[1]), torch.where(first, pair[1], pair[0])
    )
