"""Returns: rewards, summed with discount."""

from jaxtyping import Float

from rl_helpers.arrays import Array, floats_like
from rl_helpers.validation import require_steps, require_unit


def discounted_returns(
    rewards: Float[Array, "*batch T"],
    gamma: float,
) -> Float[Array, "*batch T"]:
    """Returns G_t = r_t + gamma G_{t+1}, with G_T = 0, by one scan from the end.

    Args:
        rewards: r_0 to r_{T-1} [..., T], T >= 1.
        gamma: discount, 0 <= gamma <= 1 (an episode that ends may go undiscounted).

    Returns:
        G_0 to G_{T-1} [..., T].

    Raises:
        ValueError: gamma outside [0, 1], no steps, or rewards that are not finite.

    Source: eq-return-recursion; Sutton & Barto (2018), equation 3.9.

    >>> import numpy as np
    >>> discounted_returns(np.array([1.0, 0.0, 4.0]), 0.5)
    array([2., 2., 4.])
    """
    require_unit(gamma=gamma)
    require_steps(rewards=rewards)
    returns = floats_like("rewards", rewards)
    following = 0.0
    for t in reversed(range(rewards.shape[-1])):
        following = rewards[..., t] + gamma * following
        returns[..., t] = following
    return returns
