"""What to watch in a run of PPO, besides its returns: pure functions of the samples of an update."""

import math

from jaxtyping import Bool, Float
from torch import Tensor

from rl_helpers.arrays import Array, where
from rl_helpers.training.masks import masked_mean, masked_variance
from rl_helpers.validation import require_positive, require_same_shape


def approximate_kl(
    log_probs: Float[Tensor, "*batch T"], old_log_probs: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """Terms ρ - 1 - log ρ, whose mean over the old policy's actions is KL(π_old ‖ π), in nats.

    ρ is the ratio π(a|s) / π_old(a|s). No term is negative, and the mean has the smaller variance
    the closer the policies are.

    Args:
        log_probs: log π(a_t|s_t) [..., T].
        old_log_probs: log π_old(a_t|s_t), of the policy that took the actions [..., T].

    Returns:
        One term for each sample [..., T], to be averaged by `masks.masked_mean`.

    Raises:
        ValueError: shapes that disagree.

    Source: eq-policy-kl; Huang et al. (2022), detail 12.

    >>> import torch
    >>> old, new = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    >>> approximate_kl(new, old).mean()  # log 2 - log(3) / 2
    tensor(0.1438)
    """
    require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs)
    log_ratio = log_probs - old_log_probs
    return log_ratio.expm1() - log_ratio


def clip_fraction(
    ratio: Float[Tensor, "seeds n"],
    live: Bool[Tensor, "seeds n"],
    epsilon: float | Float[Tensor, "_ 1"],
) -> Float[Tensor, " seeds"]:
    """Share of each seed's live samples whose ratio is outside 1 - ε to 1 + ε.

    Args:
        ratio: ρ [seeds, n].
        live: which samples count [seeds, n].
        epsilon: clip range ε, positive; a tensor [seeds, 1] gives each seed its own.

    Raises:
        ValueError: epsilon not positive, shapes that disagree.

    Source: Huang et al. (2022), detail 12.

    >>> import torch
    >>> clip_fraction(torch.tensor([[0.7, 1.1, 1.3, 9.0]]), torch.tensor([[True] * 3 + [False]]), 0.2)
    tensor([0.6667])
    """
    require_positive(epsilon=epsilon)
    require_same_shape(ratio=ratio, live=live)
    return masked_mean(((ratio - 1).abs() > epsilon).to(ratio.dtype), live)


def explained_variance(
    values: Float[Array, " seeds *batch"],
    targets: Float[Array, " seeds *batch"],
    live: Bool[Array, " seeds *batch"],
) -> Float[Array, " seeds"]:
    """Share of the targets' variance that a critic accounts for, 1 - Var(target - V) / Var(target).

    1 if V is the target, up to a constant; 0 for a constant; negative if V does worse.

    Args:
        values: V(s_t) [seeds, ...].
        targets: what the critic is fitted to [seeds, ...].
        live: which samples count [seeds, ...].

    Returns:
        One number for each seed; not a number for a seed whose targets are all the same.

    Raises:
        ValueError: shapes that disagree.

    Source: the coefficient of determination, for errors less their mean; OpenAI Baselines.

    >>> import numpy as np
    >>> targets, live = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), np.ones((2, 3), dtype=bool)
    >>> explained_variance(np.array([[6.0, 7.0, 8.0], [5.0, 5.0, 5.0]]), targets, live)
    array([1., 0.])
    """
    require_same_shape(values=values, targets=targets, live=live)
    total, left = masked_variance(targets, live), masked_variance(targets - values, live)
    return where(total > 0, 1 - left / where(total > 0, total, 1.0), math.nan)
