"""What the equations say, once, as pure functions of arrays, for training loops and checks alike.

Time is the last axis. NumPy arrays and torch tensors are both welcome; the result is of the same
kind. Losses are of each sample, to be averaged by `masked_mean` over the steps that count.

Three masks tell steps apart. `terminated`: the step entered a terminal state, whose value is 0.
`truncated`: the episode was cut short there, and its last state has a value like any other. `live`:
the step was really taken. An environment that resets on the step after an end (Gymnasium's
NEXT_STEP) makes one *dead* step there, with reward 0 and an action that nobody took; what comes
before it as the next observation is the true last one of the episode.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Array = Any  # a NumPy array or a torch tensor

# -- returns and advantages ----------------------------------------


def discounted_returns(rewards: Float[Array, "*batch T"], gamma: float) -> Float[Array, "*batch T"]:
    """Return of every step, G_t = r_t + gamma G_{t+1} with G_T = 0, by one scan from the end.

    Args:
        rewards: r_0 to r_{T-1} [..., T], T >= 1.
        gamma: discount, 0 <= gamma <= 1 (an episode that ends may go undiscounted).

    Returns:
        G_0 to G_{T-1} [..., T].

    Raises:
        ValueError: gamma outside [0, 1], no steps, or rewards that are not finite.

    Source: eq-return-recursion; Sutton & Barto (2018), equation 3.9.

    >>> discounted_returns(np.array([1.0, 0.0, 4.0]), 0.5)
    array([2., 2., 4.])
    """
    _unit("gamma", gamma)
    _steps("rewards", rewards)
    returns = _floats_like("rewards", rewards)
    following = 0.0
    for t in reversed(range(rewards.shape[-1])):
        following = rewards[..., t] + gamma * following
        returns[..., t] = following
    return returns


def bootstrapped_returns(
    rewards: Float[Array, "*batch T"],
    next_values: Float[Array, "*batch T"],
    terminated: Bool[Array, "*batch T"],
    truncated: Bool[Array, "*batch T"],
    gamma: float,
) -> Float[Array, "*batch T"]:
    """Return of every step of rollouts that hold several episodes, or parts of them.

    G_t = r_t + gamma G_{t+1} inside an episode; r_t where it terminated; r_t + gamma V(s_{t+1})
    where it was truncated, or where the rollout stops.

    Args:
        rewards: r_0 to r_{T-1} [..., T].
        next_values: V(s_1) to V(s_T) [..., T]; read only where an episode is cut short. Zeros treat
            a cut as an end, which biases every return before it.
        terminated, truncated: how each step ended its episode, if it did [..., T].
        gamma: discount, 0 <= gamma <= 1.

    Returns:
        G_0 to G_{T-1} [..., T]; meaningless at dead steps.

    Raises:
        ValueError: gamma outside [0, 1], shapes that disagree, rewards that are not finite.

    Source: eq-return-recursion, eq-critic-mc; Pardo et al. (2018), on partial-episode bootstrapping.

    >>> end = np.array([False, True, False])
    >>> bootstrapped_returns(np.ones(3), np.full(3, 8.0), end, np.zeros(3, dtype=bool), 0.5)
    array([1.5, 1. , 5. ])
    """
    _unit("gamma", gamma)
    _steps("rewards", rewards)
    _same_shape(
        "rewards", rewards, next_values=next_values, terminated=terminated, truncated=truncated
    )
    returns = _floats_like("rewards", rewards)
    following = next_values[..., -1]
    for t in reversed(range(rewards.shape[-1])):
        # inside an episode the return that follows, at a cut the value, after a terminal step 0
        following = _where(truncated[..., t], next_values[..., t], following)
        following = _where(terminated[..., t], 0.0, following)
        following = rewards[..., t] + gamma * following
        returns[..., t] = following
    return returns


def td_errors(
    rewards: Float[Array, "*batch T"],
    values: Float[Array, "*batch T"],
    next_values: Float[Array, "*batch T"],
    terminated: Bool[Array, "*batch T"],
    gamma: float,
) -> Float[Array, "*batch T"]:
    """TD error of every step, δ_t = r_t + gamma V(s_{t+1}) (1 - terminated_t) - V(s_t).

    A terminal state has the value 0. A truncated episode needs nothing more: its last state is
    worth V(s_{t+1}).

    Args:
        rewards: r_t [..., T].
        values: V(s_t) [..., T].
        next_values: V(s_{t+1}) [..., T], of the state that the step led to.
        terminated: whether the step entered a terminal state [..., T].
        gamma: discount, 0 <= gamma <= 1.

    Returns:
        δ_t [..., T]; meaningless at dead steps.

    Raises:
        ValueError: gamma outside [0, 1], shapes that disagree, rewards that are not finite.

    Source: eq-td-error; Sutton & Barto (2018), equation 6.5.

    >>> ones, last = np.ones(2), np.array([False, True])
    >>> td_errors(ones, np.array([2.0, 4.0]), np.array([4.0, 6.0]), last, 0.5)
    array([ 1., -3.])
    """
    _unit("gamma", gamma)
    _steps("rewards", rewards)
    _same_shape("rewards", rewards, values=values, next_values=next_values, terminated=terminated)
    return rewards + gamma * _where(terminated, 0.0, next_values) - values


def gae(
    deltas: Float[Array, "*batch T"],
    ended: Bool[Array, "*batch T"],
    gamma: float,
    lambda_: float,
) -> Float[Array, "*batch T"]:
    """Generalised advantage estimate, Â_t = δ_t + gamma λ Â_{t+1}, by one scan from the end.

    λ = 0 gives the TD error; λ = 1 the return less the value, G_t - V(s_t), where a return that was
    cut short goes on as V of the last state. The sum of eq-gae stops at the end of the episode: no
    TD error of the next one enters.

    Args:
        deltas: TD errors δ_t [..., T].
        ended: whether the step was its episode's last, terminated or truncated [..., T].
        gamma: discount, 0 <= gamma <= 1.
        lambda_: λ, 0 <= λ <= 1.

    Returns:
        Â_t [..., T]; meaningless at dead steps.

    Raises:
        ValueError: gamma or lambda_ outside [0, 1], shapes that disagree, deltas that are not
            finite.

    Source: eq-gae; Schulman et al. (2016), equation 16.

    >>> gae(np.array([1.0, 2.0, 4.0]), np.zeros(3, dtype=bool), 0.5, 0.5)
    array([1.75, 3.  , 4.  ])
    """
    _unit("gamma", gamma)
    _unit("lambda_", lambda_)
    _steps("deltas", deltas)
    _same_shape("deltas", deltas, ended=ended)
    advantages = _floats_like("deltas", deltas)
    following = 0 * deltas[..., -1]
    for t in reversed(range(deltas.shape[-1])):
        following = _where(ended[..., t], 0.0, following)
        following = deltas[..., t] + gamma * lambda_ * following
        advantages[..., t] = following
    return advantages


def estimate_advantages(
    rewards: Float[Array, "*batch T"],
    values: Float[Array, "*batch T1"],
    terminated: Bool[Array, "*batch T"],
    truncated: Bool[Array, "*batch T"],
    gamma: float,
    lambda_: float,
) -> Float[Array, "*batch T"]:
    """Â_t of a rollout, from its rewards: `td_errors`, then `gae`.

    Args:
        rewards: r_0 to r_{T-1} [..., T].
        values: V(s_0) to V(s_T) [..., T+1].
        terminated, truncated: how each step ended its episode, if it did [..., T].
        gamma: discount, 0 <= gamma <= 1.
        lambda_: λ, 0 <= λ <= 1.

    Returns:
        Â_t [..., T]; meaningless at dead steps.

    Raises:
        ValueError: as for `td_errors` and `gae`.

    Source: eq-td-error, eq-gae; Schulman et al. (2016).

    >>> no, last = np.array([False, False]), np.array([False, True])
    >>> estimate_advantages(np.ones(2), np.array([2.0, 4.0, 6.0]), no, last, 0.5, 0.5)
    array([1., 0.])
    """
    deltas = td_errors(rewards, values[..., :-1], values[..., 1:], terminated, gamma)
    return gae(deltas, terminated | truncated, gamma, lambda_)


def normalise_advantages(
    advantages: Float[Array, " seeds *batch"], live: Bool[Array, " seeds *batch"]
) -> Float[Array, " seeds *batch"]:
    """Advantages with mean 0 and standard deviation 1 over each seed's live samples.

    A group with no spread, such as a single sample, becomes 0. Dead samples come out as 0.

    Source: Huang et al. (2022), detail 7.

    >>> normalise_advantages(np.array([[1.0, 5.0, 99.0]]), np.array([[True, True, False]]))
    array([[-1.,  1.,  0.]])
    """
    mean = masked_mean(advantages, live)
    centred = _where(live, advantages - _column(mean, advantages), 0.0)
    spread = masked_mean(centred**2, live) ** 0.5
    return centred / _column(spread + 1e-8, advantages)


def masked_mean(
    x: Float[Array, " seeds *batch"], live: Bool[Array, " seeds *batch"]
) -> Float[Array, " seeds"]:
    """Mean over each seed's live samples, [seeds]; 0 for a seed that has none.

    Whatever stands at dead samples does not count, not even NaN.

    >>> masked_mean(np.array([[1.0, 3.0, 99.0]]), np.array([[True, True, False]]))
    array([2.])
    """
    _same_shape("x", x, live=live)
    axes = tuple(range(1, x.ndim))
    return _where(live, x, 0.0).sum(axes) / live.sum(axes).clip(1)


# -- policy and value losses, of each sample ----------------------------------------


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

    `advantages` are weights, held fixed: the return G_t (eq-reinforce), the return less a baseline
    G_t - b(s_t) (eq-baseline), or an estimate of A(s_t, a_t) (eq-actor-update). The factor γ^t of
    eq-pg-theorem is not included: multiply `advantages` by it to follow the theorem.

    Args:
        log_probs: log π(a_t|s_t), in nats [..., T].
        advantages: Â_t [..., T].

    Raises:
        ValueError: shapes that disagree.

    Source: eq-reinforce, eq-baseline, eq-actor-update; Williams (1992).
    """
    _same_shape("log_probs", log_probs, advantages=advantages)
    return -log_probs * _fixed(advantages)


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
    _same_shape("values", values, targets=targets)
    return (values - _fixed(targets)) ** 2 / 2


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
    _positive("epsilon", epsilon)
    _same_shape("values", values, old_values=old_values, targets=targets)
    old = _fixed(old_values)
    near = old + torch.clamp(values - old, -epsilon, epsilon)  # type: ignore[arg-type]
    return torch.maximum(value_loss(values, targets), value_loss(near, targets))


# -- PPO ----------------------------------------


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
    _same_shape("log_probs", log_probs, old_log_probs=old_log_probs)
    return (log_probs - _fixed(old_log_probs)).exp()


def surrogate(
    ratio: Float[Tensor, "*batch T"], advantages: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """Surrogate objective ρ_t Â_t of each sample, to be *maximised*; no clipping.

    Its gradient at ρ = 1 is the policy gradient's.

    Source: eq-surrogate; Schulman et al. (2017), equation 6.
    """
    _same_shape("ratio", ratio, advantages=advantages)
    return ratio * _fixed(advantages)


def ppo_clip(
    ratio: Float[Tensor, "*batch T"],
    advantages: Float[Tensor, "*batch T"],
    epsilon: float | Tensor,
) -> Float[Tensor, "*batch T"]:
    """Clipped objective min(ρ Â, clip(ρ, 1 - ε, 1 + ε) Â) of each sample, to be *maximised*.

    The gradient is zero exactly where Â > 0 and ρ > 1 + ε, or Â < 0 and ρ < 1 - ε: there is nothing
    more to gain. On the other side of the interval the minimum keeps the gradient that brings ρ
    back.

    Args:
        ratio: ρ_t [..., T].
        advantages: Â_t [..., T]; held fixed.
        epsilon: clip range ε, positive; infinity gives the plain surrogate. A tensor that
            broadcasts gives each seed its own.

    Raises:
        ValueError: epsilon not positive, shapes that disagree.

    Source: eq-ppo-clip; Schulman et al. (2017), equation 7.

    >>> ratio, up = torch.tensor([0.5, 1.0, 1.5]), torch.ones(3)
    >>> ppo_clip(ratio, up, 0.25)
    tensor([0.5000, 1.0000, 1.2500])
    >>> ppo_clip(ratio, -up, 0.25)
    tensor([-0.7500, -1.0000, -1.5000])
    """
    _positive("epsilon", epsilon)
    _same_shape("ratio", ratio, advantages=advantages)
    A = _fixed(advantages)
    clipped = torch.clamp(ratio, 1 - epsilon, 1 + epsilon)  # type: ignore[arg-type]
    return torch.minimum(ratio * A, clipped * A)


def ppo_g(
    epsilon: float | Tensor, advantages: Float[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """The most that a sample can contribute: g = (1 + ε) Â for Â >= 0, (1 - ε) Â for Â < 0.

    min(ρ Â, g(ε, Â)) equals `ppo_clip`.

    Source: eq-ppo-g; Achiam (2018), Spinning Up, PPO-Clip.

    >>> ppo_g(0.25, torch.tensor([4.0, -4.0]))
    tensor([ 5., -3.])
    """
    _positive("epsilon", epsilon)
    A = _fixed(advantages)
    return torch.where(A >= 0, (1 + epsilon) * A, (1 - epsilon) * A)


# -- what they share ----------------------------------------


def _unit(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}; allowed is 0 <= {name} <= 1")


def _positive(name: str, value: float | Tensor) -> None:
    if not (value > 0 if isinstance(value, float | int) else bool((value > 0).all())):
        raise ValueError(f"{name} is {value}; it must be positive")


def _steps(name: str, x: Array) -> None:
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; it must be [..., T] with T >= 1")
    if not bool((abs(x) < np.inf).all()):  # false for NaN too
        raise ValueError(f"{name} holds values that are NaN or infinite")


def _same_shape(name: str, x: Array, **others: Array) -> None:
    for other, value in others.items():
        if tuple(value.shape) != tuple(x.shape):
            raise ValueError(
                f"{other} has shape {tuple(value.shape)}; {name} has {tuple(x.shape)}, they must agree"
            )


def _floats_like(name: str, array: Array) -> Array:
    if isinstance(array, np.ndarray):
        return np.empty(array.shape)
    if not array.is_floating_point():
        raise ValueError(f"{name} is a tensor of {array.dtype}; it must be floating point")
    return array.new_empty(array.shape)


def _where(condition: Array, x: Array, y: Array) -> Array:
    where: Any = torch.where if isinstance(condition, Tensor) else np.where
    return where(condition, x, y)


def _fixed(x: Array) -> Array:
    """`x` without gradient: a number, as far as optimisation is concerned."""
    return x.detach() if isinstance(x, Tensor) else x


def _column(per_seed: Array, x: Array) -> Array:
    """Numbers [seeds], shaped to broadcast against x [seeds, ...]."""
    return per_seed.reshape((-1,) + (1,) * (x.ndim - 1))
