"""Losses of policies and value functions, once, as pure functions of arrays.

Losses are of each sample, to be averaged by `masks.masked_mean` over the steps that count. Training
loops and checks call the same functions.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rl_helpers.arrays import Array, fixed
from rl_helpers.validation import require_positive, require_same_shape


def categorical_log_prob(
    logits: Float[Tensor, "*batch actions"], actions: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Log-probability log π(a|s), in nats, of each action under softmax policies.

    Args:
        logits: [..., A].
        actions: 0 to A-1 [...].

    Raises:
        ValueError: shapes that disagree.
    """
    if actions.shape != logits.shape[:-1]:
        raise ValueError(
            f"actions has shape {tuple(actions.shape)}; with logits of shape "
            f"{tuple(logits.shape)} it must be {tuple(logits.shape[:-1])}"
        )
    return logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)


def categorical_entropy(logits: Float[Tensor, "*batch actions"]) -> Float[Tensor, "*batch"]:
    """Entropy of softmax policies in nats, H = -Σ_a π(a|s) log π(a|s), between 0 and log A."""
    log_probs = logits.log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def policy_gradient_loss(
    log_probs: Float[Tensor, "*batch T"], advantages: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """Loss -log π(a_t|s_t) Â_t, whose descent is the policy gradient's ascent.

    `advantages` are weights, held fixed: the return G_t (eq-reinforce), the return less
    a baseline G_t - b(s_t) (eq-baseline), or an estimate of A(s_t, a_t)
    (eq-actor-update). The factor γ^t of eq-pg-theorem is not included: multiply
    `advantages` by it to follow the theorem.

    Args:
        log_probs: log π(a_t|s_t), in nats [..., T].
        advantages: Â_t [..., T].

    Raises:
        ValueError: shapes that disagree.

    Source: eq-reinforce, eq-baseline, eq-actor-update; Williams (1992).
    """
    require_same_shape(log_probs=log_probs, advantages=advantages)
    return -log_probs * fixed(advantages)


def value_loss(
    values: Float[Array, "*batch T"], targets: Float[Array, "*batch T"]
) -> Float[Array, "*batch T"]:
    """Half the squared error (V(s_t) - target_t)² / 2, with the target held fixed.

    The target is the return G_t (eq-critic-mc), or contains values itself, as r_t + γ V(s_{t+1})
    does; then the gradient through V(s_t) alone is the semi-gradient (eq-critic-loss).

    Args:
        values: V(s_t) [..., T].
        targets: [..., T]; no gradient passes through.

    Raises:
        ValueError: shapes that disagree.

    Source: eq-critic-mc, eq-critic-loss; Sutton & Barto (2018), section 9.3.
    """
    require_same_shape(values=values, targets=targets)
    return (values - fixed(targets)) ** 2 / 2


def clipped_value_loss(
    values: Float[Tensor, "*batch T"],
    old_values: Float[Tensor, "*batch T"],
    targets: Float[Tensor, "*batch T"],
    epsilon: float | Tensor,
) -> Float[Tensor, "*batch T"]:
    """The larger of two value losses: of V, and of V kept within `epsilon` of its old value.

    Once V has moved further than epsilon towards the target, its gradient is zero. Epsilon is in
    the unit of the returns, so that the effect depends on the scale of the rewards.

    Args:
        values: V(s_t) [..., T].
        old_values: V(s_t) when the rollout was collected [..., T]; held fixed.
        targets: [..., T]; held fixed.
        epsilon: clip range, positive; a tensor that broadcasts gives each seed its own.

    Raises:
        ValueError: epsilon not positive, shapes that disagree.

    Source: Huang et al. (2022), detail 9; not in Schulman et al. (2017).
    """
    require_positive(epsilon=epsilon)
    require_same_shape(values=values, old_values=old_values, targets=targets)
    old = fixed(old_values)
    near = old + torch.clamp(values - old, -epsilon, epsilon)  # type: ignore[arg-type]
    return torch.maximum(value_loss(values, targets), value_loss(near, targets))


def importance_ratio(
    log_probs: Float[Tensor, "*batch T"], old_log_probs: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """Ratio ρ_t = π(a_t|s_t) / π_old(a_t|s_t), computed from log-probabilities in nats.

    Args:
        log_probs: log π(a_t|s_t) [..., T].
        old_log_probs: log π_old(a_t|s_t), of the policy that took the actions [..., T]; held fixed.

    Raises:
        ValueError: shapes that disagree.

    Source: eq-ratio; Schulman et al. (2017), section 3.
    """
    require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs)
    return (log_probs - fixed(old_log_probs)).exp()


def surrogate(
    ratio: Float[Tensor, "*batch T"], advantages: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """Surrogate objective ρ_t Â_t of each sample, to be *maximised*; no clipping.

    Its gradient at ρ = 1 is the policy gradient's.

    Source: eq-surrogate; Schulman et al. (2017), equation 6.
    """
    require_same_shape(ratio=ratio, advantages=advantages)
    return ratio * fixed(advantages)


def clipped_surrogate(
    ratio: Float[Tensor, "*batch T"],
    advantages: Float[Tensor, "*batch T"],
    epsilon: float | Tensor,
) -> Float[Tensor, "*batch T"]:
    """Clipped objective min(ρ Â, clip(ρ, 1 - ε, 1 + ε) Â), to be *maximised*.

    A sample's gradient is zero exactly where Â > 0 and ρ > 1 + ε, and where Â < 0 and
    ρ < 1 - ε: there is nothing more to gain. On the other side of the interval the
    minimum keeps the gradient that brings ρ back.

    Args:
        ratio: ρ_t [..., T].
        advantages: Â_t [..., T]; held fixed.
        epsilon: clip range ε, positive; infinity gives the plain surrogate. A tensor
            that broadcasts gives each seed its own.

    Raises:
        ValueError: epsilon not positive, shapes that disagree.

    Source: eq-ppo-clip; Schulman et al. (2017), equation 7.

    >>> ratio, up = torch.tensor([0.5, 1.0, 1.5]), torch.ones(3)
    >>> clipped_surrogate(ratio, up, 0.25)
    tensor([0.5000, 1.0000, 1.2500])
    >>> clipped_surrogate(ratio, -up, 0.25)
    tensor([-0.7500, -1.0000, -1.5000])
    """
    require_positive(epsilon=epsilon)
    require_same_shape(ratio=ratio, advantages=advantages)
    A = fixed(advantages)
    clipped = torch.clamp(ratio, 1 - epsilon, 1 + epsilon)  # type: ignore[arg-type]
    return torch.minimum(ratio * A, clipped * A)


def surrogate_ceiling(
    epsilon: float | Tensor, advantages: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """The most that a sample can contribute: g = (1 + ε) Â for Â >= 0, (1 - ε) Â for Â < 0.

    min(ρ Â, g(ε, Â)) equals `clipped_surrogate`.

    Source: eq-ppo-g; Achiam (2018), Spinning Up, PPO-Clip.

    >>> surrogate_ceiling(0.25, torch.tensor([4.0, -4.0]))
    tensor([ 5., -3.])
    """
    require_positive(epsilon=epsilon)
    A = fixed(advantages)
    return torch.where(A >= 0, (1 + epsilon) * A, (1 - epsilon) * A)
