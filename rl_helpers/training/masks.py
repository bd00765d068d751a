"""Means over the steps that count: dead steps of an environment that resets do not."""

from jaxtyping import Bool, Float

from rl_helpers.arrays import Array, column, where
from rl_helpers.validation import require_same_shape


def masked_mean(
    x: Float[Array, " seeds *batch"], live: Bool[Array, " seeds *batch"]
) -> Float[Array, " seeds"]:
    """Mean over each seed's live samples, [seeds]; 0 for a seed that has none.

    Whatever stands at dead samples does not count, not even NaN.

    >>> import numpy as np
    >>> masked_mean(np.array([[1.0, 3.0, 99.0]]), np.array([[True, True, False]]))
    array([2.])
    """
    require_same_shape(x=x, live=live)
    axes = tuple(range(1, x.ndim))
    return where(live, x, 0.0).sum(axes) / live.sum(axes).clip(1)


def masked_variance(
    x: Float[Array, " seeds *batch"], live: Bool[Array, " seeds *batch"]
) -> Float[Array, " seeds"]:
    """Variance of each seed's live samples, [seeds]: the mean square around their mean.

    >>> import numpy as np
    >>> masked_variance(np.array([[1.0, 3.0, 99.0]]), np.array([[True, True, False]]))
    array([1.])
    """
    return masked_mean((x - column(masked_mean(x, live), x)) ** 2, live)


def normalise_advantages(
    advantages: Float[Array, " seeds *batch"], live: Bool[Array, " seeds *batch"]
) -> Float[Array, " seeds *batch"]:
    """Advantages with mean 0 and standard deviation 1 over each seed's live samples.

    A group with no spread, such as a single sample, becomes 0. Dead samples come out as 0.

    Source: Huang et al. (2022), detail 7.

    >>> import numpy as np
    >>> normalise_advantages(np.array([[1.0, 5.0, 99.0]]), np.array([[True, True, False]]))
    array([[-1.,  1.,  0.]])
    """
    mean = masked_mean(advantages, live)
    centred = where(live, advantages - column(mean, advantages), 0.0)
    spread = masked_mean(centred**2, live) ** 0.5
    return centred / column(spread + 1e-8, advantages)
