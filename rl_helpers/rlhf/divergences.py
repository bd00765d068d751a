"""Three estimators of a KL divergence from samples: pure functions of log-ratios.

Each takes log-ratios log π_θ(y|x) - log π_ref(y|x), in nats, of responses (or of tokens) that π_θ
sampled. As *values* their means estimate KL(π_θ || π_ref). As *losses*, differentiated with the
samples held fixed, each does something else.
"""

from jaxtyping import Float
from torch import Tensor

from rl_helpers.validation import require


def k1(log_ratio: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """log(π_θ/π_ref): its mean is KL(π_θ || π_ref), its samples have both signs.

    As a loss its expected gradient is 0.

    Args:
        log_ratio: log π_θ - log π_ref of samples of π_θ [...].

    Raises:
        ValueError: a log-ratio that is not finite, as where the reference lacks support.

    Source: eq-kl-estimators, eq-kl-gradients; Schulman (2020).
    """
    _require_support(log_ratio)
    return log_ratio


def k2(log_ratio: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """½ log²(π_θ/π_ref): its mean is near the KL divergence only if the policies are near.

    As a loss its expected gradient is that of KL(π_θ || π_ref).

    Args:
        log_ratio: as for `k1`.

    Raises:
        ValueError: as for `k1`.

    Source: eq-kl-estimators, eq-kl-gradients; Schulman (2020).
    """
    _require_support(log_ratio)
    return log_ratio**2 / 2


def k3(log_ratio: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """π_ref/π_θ - 1 + log(π_θ/π_ref): its mean is KL(π_θ || π_ref), and no sample is negative.

    The mean needs π_θ > 0 wherever π_ref > 0: else that of π_ref/π_θ falls short of 1.
    As a loss its expected gradient is that of KL(π_ref || π_θ).

    Args:
        log_ratio: as for `k1`.

    Raises:
        ValueError: as for `k1`.

    Source: eq-kl-estimators, eq-kl-gradients; Schulman (2020).

    >>> import torch
    >>> k3(torch.tensor([0.5, 1.0, 2.0]).log())
    tensor([0.3069, 0.0000, 0.1931])
    """
    _require_support(log_ratio)
    return (-log_ratio).expm1() + log_ratio


def _require_support(log_ratio: Tensor) -> None:
    finite = log_ratio.detach().isfinite()
    require(
        bool(finite.all()), "log_ratio", f"not finite in {int((~finite).sum())} places",
        "the reference must have support wherever the policy does",
    )  # fmt: skip
