"""Checks of arguments: each raises a `ValueError` that names argument, value and what is allowed.

Arguments are passed by keyword, so that the message has their name: `require_unit(gamma=gamma)`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

ROUNDING = 1e-9  # how far a distribution's sum may be from 1


def require(condition: bool, name: str, value: object, allowed: str) -> None:
    """Raise `ValueError` naming an argument unless `condition` holds."""
    if not condition:
        raise ValueError(f"{name} is {value}; {allowed}")


def require_at_least(least: int | float, **arguments: int | float) -> None:
    """Raise `ValueError` if a number is smaller than `least`."""
    for name, value in arguments.items():
        require(value >= least, name, value, f"it must be at least {least}")


def require_unit(**arguments: int | float | Tensor) -> None:
    """Raise `ValueError` if a number, or one of a tensor, is outside [0, 1]."""
    for name, value in arguments.items():
        inside = (value >= 0) & (value <= 1)
        inside = inside.all() if isinstance(inside, Tensor) else inside
        require(bool(inside), name, value, f"allowed is 0 <= {name} <= 1")


def require_discount(**arguments: int | float) -> None:
    """Raise `ValueError` if a number is outside [0, 1): a process that goes on must be discounted."""
    for name, value in arguments.items():
        require(0 <= value < 1, name, value, f"allowed is 0 <= {name} < 1")


def require_positive(**arguments: Any) -> None:
    """Raise `ValueError` if a number, or one of a tuple or tensor, is not positive."""
    for name, value in arguments.items():
        positive = (value > 0).all() if isinstance(value, Tensor) else np.all(np.array(value) > 0)
        require(bool(positive), name, value, "it must be positive")


def require_finite(**arguments: Any) -> None:
    """Raise `ValueError` if an array holds NaN or an infinity."""
    for name, value in arguments.items():
        array = np.asarray(value)
        if not np.isfinite(array).all():
            count = (~np.isfinite(array)).sum()
            raise ValueError(f"{name} holds {count} values that are NaN or infinite")


def require_steps(**arguments: Any) -> None:
    """Raise `ValueError` unless arrays or tensors are [..., T] with T >= 1 and finite everywhere."""
    for name, x in arguments.items():
        if x.ndim == 0 or x.shape[-1] == 0:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; it must be [..., T] with T >= 1")
        if not bool((abs(x) < np.inf).all()):  # false for NaN too
            raise ValueError(f"{name} holds values that are NaN or infinite")


def require_same_shape(**arguments: Any) -> None:
    """Raise `ValueError` unless all arrays or tensors have the shape of the first."""
    (name, first), *others = arguments.items()
    for other, value in others:
        if tuple(value.shape) != tuple(first.shape):
            raise ValueError(
                f"{other} has shape {tuple(value.shape)}; {name} has {tuple(first.shape)}, "
                "they must agree"
            )


def require_distributions(**arguments: Any) -> None:
    """Raise `ValueError` unless every row is a distribution: finite, at least 0, summing to 1."""
    for name, rows in arguments.items():
        entries = rows.data if sparse.issparse(rows) else np.asarray(rows)
        if entries.size == 0:
            raise ValueError(f"{name} is empty")
        require_finite(**{name: entries})
        if entries.min() < 0:
            raise ValueError(f"{name} holds the negative probability {entries.min():g}")
        sums = np.asarray(rows.sum(axis=-1))
        worst = np.unravel_index(int(np.abs(sums - 1).argmax()), sums.shape)
        if abs(sums[worst] - 1) > ROUNDING:
            row = f"row {[int(i) for i in worst]} of " if worst else ""
            raise ValueError(f"{row}{name} sums to {sums[worst]:.12g}; every row must sum to 1")


def require_log_distributions(**arguments: Tensor) -> None:
    """Raise `ValueError` unless the exponentials of every row sum to 1, to single precision."""
    for name, rows in arguments.items():
        off = float((rows.detach().exp().sum(-1) - 1).abs().max())
        require(off < 1e-4, name, f"off by {off:.2g}", "probabilities must sum to 1")


def finite_floats(name: str, value: Any) -> NDArray[np.float64]:
    """`value` as a float64 array, or `ValueError`: not numbers, NaN, infinite or none at all.

    Args:
        name: what the message calls the value.
        value: a number, a sequence, a NumPy array or a torch tensor, which may carry gradients.
    """
    array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise ValueError(f"{name} has dtype {array.dtype}; real numbers are needed")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} holds {(~np.isfinite(array)).sum()} values that are NaN or infinite"
        )
    return array.astype(np.float64)
