"""What GRPO does on average, by listing all groups of a small language."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rl_helpers.rlhf.grpo import Variant
from rl_helpers.rlhf.toy_language import Language
from rl_helpers.validation import require, require_at_least, require_finite, require_same_shape

MOST_GROUPS = 1_000_000


def group_coefficients(
    log_probs: Float[Tensor, " n"],
    rewards: Float[Tensor, " n"],
    group: int,
    advantages: Callable[[Tensor], Tensor],
    weights: Float[Tensor, " n"] | Callable[[Tensor], Tensor] | None = None,
    keep: Callable[[Tensor], Bool[Tensor, " groups"]] | None = None,
) -> Float[Tensor, " n"]:
    """What responses are multiplied by on average: the step is Σ_y c(y) ∇log π(y).

    c(y) is the mean of (1/G) times the sum of the advantages that y gets in a group.

    Args:
        log_probs: log π(y) of all responses [n].
        rewards: of all responses [n].
        group: G, at least 2.
        advantages: from rewards of groups [groups, G] to advantages of that shape.
        weights: what each response's advantage is multiplied by [n], or a function of
            the numbers of the responses [groups, G]; 1 by default.
        keep: from rewards of groups to which of them are used; others are drawn again.

    Raises:
        ValueError: a group below 2, shapes that disagree, rewards not finite, more
            groups than can be listed, none that is kept.

    Source: eq-grpo-group-bias, eq-rloo, eq-grpo-std, eq-grpo-length,
    eq-dynamic-sampling.
    """
    require_at_least(2, group=group)
    require_same_shape(rewards=rewards, log_probs=log_probs)
    require_finite(rewards=rewards)
    n = len(rewards)
    too_many = f"{n}^{group} groups are too many to list"
    require(n**group <= MOST_GROUPS, "group", group, too_many)
    groups = torch.cartesian_prod(*[torch.arange(n)] * group)
    chance = log_probs.detach()[groups].sum(1).exp()
    if keep is not None:
        chance = chance * keep(rewards[groups])
        kept = float(chance.sum())
        require(kept > 0, "keep", "False for all groups", "some must be used")
        chance = chance / kept
    share = chance.unsqueeze(1) * advantages(rewards[groups]) / group
    if weights is not None:
        share = share * (weights(groups) if callable(weights) else weights[groups])
    return torch.zeros_like(rewards).index_add(0, groups.flatten(), share.flatten())


def sd_weight(p: float, group: int) -> float:
    """w_G(p): how much a standardised group makes of ∇p, E[sd(K/G)] / (p (1 - p)).

    Args:
        p: probability of reward 1, else 0; between 0 and 1.
        group: G, at least 2.

    Raises:
        ValueError: p not inside (0, 1), a group below 2.

    Source: eq-grpo-std.

    >>> round(sd_weight(0.05, 2), 9), round(sd_weight(0.05, 8) / sd_weight(0.5, 8), 2)
    (1.0, 1.33)
    """
    require(0 < p < 1, "p", p, "allowed is 0 < p < 1")
    require_at_least(2, group=group)
    return float(number_right(p, group) @ np.sqrt(_spread(group))) / (p * (1 - p))


def number_right(p: float, group: int) -> np.ndarray:
    """Probabilities of 0 to G right answers in a group, if each is right with probability p."""
    chance = np.ones(1)
    for _ in range(group):
        chance = np.convolve(chance, [1 - p, p])
    return chance


def _spread(group: int) -> np.ndarray:
    share = np.arange(group + 1) / group
    return share * (1 - share)


def objective_by_hand(
    language: Language,
    tables: Sequence[Float[Tensor, "choices tokens"]],
    responses: Sequence[int],
    advantages: Float[Tensor, " G"],
    variant: Variant,
) -> float:
    """GRPO's objective of one group as the formula says it, token by token.

    Args:
        language: of the responses.
        tables: log-probabilities of the next token of the new policy, the old one and the reference.
        responses: the group, by number.
        advantages: of each response.
        variant: which weights, ratio, clip range and price.

    Source: eq-grpo-objective, eq-grpo-variants; the same as minus `grpo_loss`.
    """
    new, old, ref = tables
    lengths = [int(language.live[y].sum()) for y in responses]
    total = 0.0
    for y, n, A in zip(responses, lengths, advantages.tolist(), strict=True):
        share = {"response": 1 / (len(lengths) * n), "group": 1 / sum(lengths),
                 "sum": 1 / len(lengths)}[variant.weights]  # fmt: skip
        at = list(zip(language.prefixes[y, :n], language.tokens[y, :n], strict=True))
        ratios = [math.exp(new[a] - old[a]) for a in at]
        if variant.ratio == "sequence":
            ratios = [math.prod(ratios) ** (1 / n)] * n
        for a, rho in zip(at, ratios, strict=True):
            clipped = min(max(rho, 1 - variant.low), 1 + variant.high)
            odds = math.exp(ref[a] - new[a])
            charge = variant.beta * (odds - 1 - math.log(odds))
            total += share * (min(rho * A, clipped * A) - charge)
    return total
