"""TD errors and advantages, once, as pure functions of arrays, for training loops and checks alike.

Time is the last axis. NumPy arrays and torch tensors are both welcome; the result is of the same
kind.

Three masks tell steps apart. `terminated`: the step entered a terminal state, whose value is 0.
`truncated`: the episode was cut short there, and its last state has a value like any other. `live`:
the step was really taken. An environment that resets on the step after an end (Gymnasium's
NEXT_STEP) makes one *dead* step there, with reward 0 and an action that nobody took; the preceding
step returns the episode's true last observation.
"""

from jaxtyping import Bool, Float

from rl_helpers.arrays import Array, floats_like, where
from rl_helpers.validation import require_same_shape, require_steps, require_unit


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

    >>> import numpy as np
    >>> end = np.array([False, True, False])
    >>> bootstrapped_returns(np.ones(3), np.full(3, 8.0), end, np.zeros(3, dtype=bool), 0.5)
    array([1.5, 1. , 5. ])
    """
    require_unit(gamma=gamma)
    require_steps(rewards=rewards)
    require_same_shape(
        rewards=rewards, next_values=next_values, terminated=terminated, truncated=truncated
    )
    returns = floats_like("rewards", rewards)
    following = next_values[..., -1]
    for t in reversed(range(rewards.shape[-1])):
        # inside an episode the return that follows, at a cut the value, after a terminal step 0
        following = where(truncated[..., t], next_values[..., t], following)
        following = where(terminated[..., t], 0.0, following)
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
    """TD errors δ_t = r_t + gamma V(s_{t+1}) (1 - terminated_t) - V(s_t).

    A terminal state has the value 0. A truncated episode needs nothing more: its last
    state is worth V(s_{t+1}).

    Args:
        rewards: r_t [..., T].
        values: V(s_t) [..., T].
        next_values: V(s_{t+1}) [..., T], of the state that the step led to.
        terminated: whether the step entered a terminal state [..., T].
        gamma: discount, 0 <= gamma <= 1.

    Returns:
        δ_t [..., T]; meaningless at dead steps.

    Raises:
        ValueError: gamma outside [0, 1], shapes that disagree, rewards that are not
            finite.

    Source: eq-td-error; Sutton & Barto (2018), equation 6.5.

    >>> import numpy as np
    >>> ones, last = np.ones(2), np.array([False, True])
    >>> td_errors(ones, np.array([2.0, 4.0]), np.array([4.0, 6.0]), last, 0.5)
    array([ 1., -3.])
    """
    require_unit(gamma=gamma)
    require_steps(rewards=rewards)
    require_same_shape(
        rewards=rewards, values=values, next_values=next_values, terminated=terminated
    )
    return rewards + gamma * where(terminated, 0.0, next_values) - values


def gae(
    deltas: Float[Array, "*batch T"],
    ended: Bool[Array, "*batch T"],
    gamma: float,
    lambda_: float,
) -> Float[Array, "*batch T"]:
    """Generalised advantage estimates Â_t = δ_t + gamma λ Â_{t+1}, by one scan.

    λ = 0 gives the TD error; λ = 1 the return less the value, G_t - V(s_t), where a
    return that was cut short goes on as V of the last state. The sum of eq-gae stops at
    the end of the episode: no TD error of the next one enters.

    Args:
        deltas: TD errors δ_t [..., T].
        ended: whether the step was its episode's last, terminated or truncated
            [..., T].
        gamma: discount, 0 <= gamma <= 1.
        lambda_: λ, 0 <= λ <= 1.

    Returns:
        Â_t [..., T]; meaningless at dead steps.

    Raises:
        ValueError: gamma or lambda_ outside [0, 1], shapes that disagree, deltas that
            are not finite.

    Source: eq-gae; Schulman et al. (2016), equation 16.

    >>> import numpy as np
    >>> gae(np.array([1.0, 2.0, 4.0]), np.zeros(3, dtype=bool), 0.5, 0.5)
    array([1.75, 3.  , 4.  ])
    """
    require_unit(gamma=gamma)
    require_unit(lambda_=lambda_)
    require_steps(deltas=deltas)
    require_same_shape(deltas=deltas, ended=ended)
    advantages = floats_like("deltas", deltas)
    following = 0 * deltas[..., -1]
    for t in reversed(range(deltas.shape[-1])):
        following = where(ended[..., t], 0.0, following)
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

    >>> import numpy as np
    >>> no, last = np.array([False, False]), np.array([False, True])
    >>> estimate_advantages(np.ones(2), np.array([2.0, 4.0, 6.0]), no, last, 0.5, 0.5)
    array([1., 0.])
    """
    deltas = td_errors(rewards, values[..., :-1], values[..., 1:], terminated, gamma)
    return gae(deltas, terminated | truncated, gamma, lambda_)
