"""Forward-backward smoothing of a hidden Markov model, which knows nothing of rewards or actions."""

import numpy as np
from jaxtyping import Float

from rl_helpers.mdp.process import Array
from rl_helpers.validation import require, require_at_least, require_distributions, require_finite


def smooth(
    start: Float[Array, " X"],
    transition: Float[Array, "X X"],
    emission: Float[Array, " X"],
    steps: int,
) -> Float[Array, "T X"]:
    """p(x_t | all observations) of a hidden Markov model that emits one symbol.

    Args:
        start: distribution of x_0 [X].
        transition: p(x_{t+1} | x_t), one row for each x_t [X, X].
        emission: probability of the observed symbol in each state [X].
        steps: number of observations T, at least 1.

    Returns:
        A distribution for each time [T, X].

    Raises:
        ValueError: no step, rows that are no distributions, emissions that are negative
            or not finite.

    Source: Rabiner (1989), section III.

    >>> smooth(np.array([0.5, 0.5]), np.eye(2), np.array([0.9, 0.3]), 2).round(2)
    array([[0.9, 0.1],
           [0.9, 0.1]])
    """
    require_at_least(1, steps=steps)
    require_distributions(start=start, transition=transition)
    require_finite(emission=emission)
    allowed = "no probability is negative"
    require(bool(np.min(emission) >= 0), "emission", emission, allowed)
    forward, backward = [start * emission], [np.ones_like(emission)]
    for _ in range(steps - 1):
        forward.append((forward[-1] @ transition) * emission)
        backward.insert(0, transition @ (emission * backward[0]))
    joint = np.array(forward) * np.array(backward)
    return joint / joint.sum(axis=1, keepdims=True)
