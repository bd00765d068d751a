"""The best policy under a KL price, by listing all responses: tilted reference, value, objective.

Policies are log-probabilities of all responses [..., responses], rewards have the same shape.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rl_helpers.validation import require, require_finite, require_positive


def kl(
    log_p: Float[Tensor, "*batch responses"], log_q: Float[Tensor, "*batch responses"]
) -> Float[Tensor, "*batch"]:
    """KL(p || q) in nats, of log-probabilities of all responses; infinite where q lacks support."""
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)


def log_partition(
    log_reference: Float[Tensor, "*batch responses"],
    reward: Float[Tensor, "*batch responses"],
    beta: float | Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """log Z(x) = log sum_y π_ref(y|x) exp(r(x, y)/β).

    Args:
        log_reference: log π_ref(y|x) of all responses.
        reward: r(x, y) of all responses.
        beta: price of a nat, in units of reward; positive. A tensor gives each row its own.

    Raises:
        ValueError: beta not positive, rewards not finite, a reference that is no distribution.

    Source: eq-partition.
    """
    return _weights(log_reference, reward, beta).logsumexp(-1)


def tilt(
    log_reference: Float[Tensor, "*batch responses"],
    reward: Float[Tensor, "*batch responses"],
    beta: float | Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch responses"]:
    """log π*(y|x): the reference times exp(r/β), divided by Z(x).

    Args:
        log_reference, reward, beta: as for `log_partition`.

    Source: eq-rlhf-optimum.

    >>> three = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    >>> tilt(three.log(), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), 1.0).exp().numpy().round(3)
    array([0.279, 0.379, 0.343])
    """
    return _weights(log_reference, reward, beta).log_softmax(-1)


def rlhf_objective(
    log_policy: Float[Tensor, "*batch responses"],
    log_reference: Float[Tensor, "*batch responses"],
    reward: Float[Tensor, "*batch responses"],
    beta: float | Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """E_π[r(x, y)] - β KL(π(.|x) || π_ref(.|x)) of each prompt.

    Args:
        log_policy: log π(y|x) of all responses.
        log_reference, reward, beta: as for `log_partition`.

    Raises:
        ValueError: as for `log_partition`; or a policy that says what the reference never does.

    Source: eq-rlhf-objective; for one prompt.
    """
    _weights(log_reference, reward, beta)
    drift = kl(log_policy, log_reference)
    require(
        bool(drift.isfinite().all()), "log_reference", "-infinity for a response of the policy",
        "the reference must have support wherever the policy does",
    )  # fmt: skip
    return (log_policy.exp() * reward).sum(-1) - beta * drift


def _weights(log_reference: Tensor, reward: Tensor, beta: float | Tensor) -> Tensor:
    """log(π_ref exp(r/β)) of all responses."""
    require_positive(beta=beta)
    require_finite(reward=reward.detach())
    total = log_reference.detach().exp().sum(-1)
    off = float((total - 1).abs().max())
    require(off < 1e-4, "log_reference", f"off by {off:.2g}", "probabilities must sum to 1")
    price = beta.unsqueeze(-1) if isinstance(beta, Tensor) else beta
    return log_reference + reward / price
