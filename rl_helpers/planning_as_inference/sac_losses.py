"""What the equations of soft actor-critic say, as functions of arrays."""

from jaxtyping import Float
from torch import Tensor

from rl_helpers.arrays import Array, fixed


def soft_target(
    rewards: Float[Array, " *batch"],
    terminated: Float[Array, " *batch"],
    next_q: Float[Array, " *batch"],
    next_log_probs: Float[Array, " *batch"],
    alpha: float | Float[Array, "*_"],
    gamma: float,
) -> Float[Array, " *batch"]:
    """y = r + γ (1 - d) (Q(s', a') - α log π(a'|s')), with an action a' of the current policy.

    Args:
        rewards: r.
        terminated: d, 1 where s' is terminal, otherwise 0.
        next_q: what the target critics say of s' and a', the smaller of two.
        next_log_probs: of a', in nats.
        alpha: temperature, in units of reward a nat.
        gamma: discount.

    Source: eq-sac-target; Haarnoja et al. (2018b), equations 2 and 3 and algorithm 1.

    >>> import numpy as np
    >>> one = np.ones(1)
    >>> soft_target(-0.5 * one, 0 * one, -3.0 * one, 0.7 * one, 0.2, 0.99).round(4)
    array([-3.6086])
    """
    return rewards + gamma * (1 - terminated) * (next_q - alpha * next_log_probs)


def actor_loss(
    log_probs: Float[Array, " *batch"],
    q: Float[Array, " *batch"],
    alpha: float | Float[Array, "*_"],
) -> Float[Array, " *batch"]:
    """α log π(a|s) - Q(s, a), for an action drawn by a formula through which gradients run.

    Args:
        log_probs: of the action, in nats.
        q: its value, the smaller of two critics'.
        alpha: temperature, in units of reward a nat.

    Source: eq-sac-actor; Haarnoja et al. (2018b), equation 9.
    """
    return alpha * log_probs - q


def temperature_loss(
    log_alpha: Float[Array, "*_"],
    log_probs: Float[Array, " *batch"],
    target_entropy: float | Float[Array, "*_"],
) -> Float[Array, " *batch"]:
    """-log α (log π(a|s) + H̄): the slope of its mean in log α is the policy's entropy less H̄.

    Args:
        log_alpha: logarithm of the temperature.
        log_probs: of actions of the current policy, in nats; only their values count.
        target_entropy: H̄, in nats.

    Source: eq-temperature, without its factor α; Haarnoja et al. (2018b), equation 18.
    """
    return -log_alpha * fixed(log_probs + target_entropy)


def polyak(
    targets: Float[Tensor, "*shape"],
    online: Float[Tensor, "*shape"],
    tau: float | Float[Tensor, "*_"],
) -> None:
    """Move target parameters the share τ of the way to the online ones, in place.

    Args:
        targets: parameters that follow.
        online: parameters that learn.
        tau: 0 (stay) to 1 (copy).

    Source: eq-polyak; Haarnoja et al. (2018b), algorithm 1.
    """
    targets.add_(tau * (online.detach() - targets))
