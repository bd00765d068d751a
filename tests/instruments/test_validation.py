"""Checks of arguments: what passes, and a message with the argument, its value and what is allowed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from rl_helpers import validation
from rl_helpers.validation import (
    ROUNDING,
    finite_floats,
    require,
    require_at_least,
    require_discount,
    require_distributions,
    require_finite,
    require_log_distributions,
    require_positive,
    require_same_shape,
    require_steps,
    require_unit,
)

Call = Callable[[], Any]
HALVES, CUBE = np.full((3, 2), 0.5), np.full((4, 3, 2), 0.5)
STEPS = np.arange(12.0).reshape(3, 4)


def with_one(array: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    """A copy with one element changed, in the midst of good ones."""
    other = array.copy()
    other[at] = value
    return other


ALLOWED: list[tuple[str, Call]] = [
    ("require", lambda: require(True, "x", 1, "anything goes")),
    ("require_at_least", lambda: require_at_least(2, n=2, m=3, x=2.5)),
    ("require_unit", lambda: require_unit(gamma=0, lambda_=1, slip=0.5)),
    ("require_unit", lambda: require_unit(label=torch.tensor([[0.0], [1.0]]))),
    ("require_discount", lambda: require_discount(gamma=0, other=1 - 1e-12)),
    ("require_log_distributions", lambda: require_log_distributions(
        sure=torch.tensor([0.0, -math.inf]), rows=torch.tensor([[0.25, 0.75], [0.5, 0.50005]]).log()
    )),
    ("require_positive", lambda: require_positive(
        rate=1e-300, norm=math.inf, each=(0.1, math.inf), column=torch.tensor([[0.1], [math.inf]])
    )),
    ("require_finite", lambda: require_finite(x=1.0, many=[1, 2], array=STEPS)),
    ("finite_floats", lambda: finite_floats("x", torch.tensor([1, 2]))),
    ("require_steps", lambda: require_steps(
        one=np.ones(1), batch=STEPS, tensor=torch.ones(2, 3), whole=np.ones(3, dtype=int)
    )),
    ("require_same_shape", lambda: require_same_shape(a=STEPS, b=torch.zeros(3, 4), c=STEPS > 1)),
    ("require_same_shape", lambda: require_same_shape(alone=STEPS)),
    ("require_distributions", lambda: require_distributions(
        p=np.array([0.25, 0.75]), policy=HALVES, P=np.full((2, 3, 4), 0.25), sure=np.eye(3),
        thin=sparse.csr_array(np.eye(3)),
    )),
    # sums are rounded: 1 is missed by a little less than is allowed
    ("require_distributions", lambda: require_distributions(
        p=np.array([0.5, 0.5 + 0.9 * ROUNDING]), q=np.array([0.5, 0.5 - 0.9 * ROUNDING])
    )),
]  # fmt: skip


@pytest.mark.parametrize(("name", "call"), ALLOWED)
def test_what_is_allowed_passes(name: str, call: Call) -> None:
    call()


# each is preceded by good arguments: all of them are looked at, and the bad one is named
REFUSED: list[tuple[str, Call, str]] = [
    ("require", lambda: require(False, "n", 3, "it must divide 8"), "n is 3; it must divide 8"),
    ("require_at_least", lambda: require_at_least(1, m=1, n=0), "n is 0; it must be at least 1"),
    ("require_at_least", lambda: require_at_least(0, x=-0.5), "x is -0.5; it must be at least 0"),
    ("require_at_least", lambda: require_at_least(0, x=math.nan), "x is nan; it must be at least 0"),
    ("require_unit", lambda: require_unit(gamma=0.5, lambda_=1.5),
     "lambda_ is 1.5; allowed is 0 <= lambda_ <= 1"),
    ("require_unit", lambda: require_unit(label=torch.tensor([0.5, 1.5])),
     "label is tensor([0.5000, 1.5000]); allowed is 0 <= label <= 1"),
    ("require_unit", lambda: require_unit(slip=-0.1), "slip is -0.1; allowed is 0 <= slip <= 1"),
    ("require_unit", lambda: require_unit(slip=math.nan), "slip is nan; allowed is 0 <= slip <= 1"),
    ("require_log_distributions", lambda: require_log_distributions(
        a=torch.tensor([0.5, 0.5]).log(), b=torch.tensor([[0.5, 0.5], [0.5, 0.2]]).log()),
     "b is off by 0.3; probabilities must sum to 1"),
    ("require_log_distributions", lambda: require_log_distributions(b=torch.tensor([0.5, 0.7]).log()),
     "b is off by 0.2; probabilities must sum to 1"),
    ("require_discount", lambda: require_discount(other=0.5, gamma=1),
     "gamma is 1; allowed is 0 <= gamma < 1"),
    ("require_discount", lambda: require_discount(gamma=-0.1),
     "gamma is -0.1; allowed is 0 <= gamma < 1"),
    ("require_discount", lambda: require_discount(gamma=math.nan),
     "gamma is nan; allowed is 0 <= gamma < 1"),
    ("require_positive", lambda: require_positive(a=1, rate=0), "rate is 0; it must be positive"),
    ("require_positive", lambda: require_positive(rate=-1.0), "rate is -1.0; it must be positive"),
    ("require_positive", lambda: require_positive(rate=math.nan), "rate is nan; it must be positive"),
    ("require_positive", lambda: require_positive(each=(0.1, 0.0, 0.2)),
     "each is (0.1, 0.0, 0.2); it must be positive"),
    ("require_positive", lambda: require_positive(each=torch.tensor([0.5, -1.0, 2.0])),
     "each is tensor([ 0.5000, -1.0000,  2.0000]); it must be positive"),
    ("require_finite", lambda: require_finite(good=STEPS, x=with_one(STEPS, (1, 2), np.nan)),
     "x holds 1 values that are NaN or infinite"),
    ("require_finite", lambda: require_finite(x=[math.inf, 1.0, -math.inf]),
     "x holds 2 values that are NaN or infinite"),
    ("finite_floats", lambda: finite_floats("x", []), "x is empty"),
    ("finite_floats", lambda: finite_floats("x", ["1"]), "x has dtype <U1; real numbers are needed"),
    ("finite_floats", lambda: finite_floats("x", [1j]),
     "x has dtype complex128; real numbers are needed"),
    ("finite_floats", lambda: finite_floats("x", with_one(STEPS, (2, 3), np.nan)),
     "x holds 1 values that are NaN or infinite"),
    ("require_steps", lambda: require_steps(good=STEPS, rewards=np.float64(1)),
     "rewards has shape (); it must be [..., T] with T >= 1"),
    ("require_steps", lambda: require_steps(rewards=np.ones((3, 0))),
     "rewards has shape (3, 0); it must be [..., T] with T >= 1"),
    ("require_steps", lambda: require_steps(rewards=torch.ones(2, 0)),
     "rewards has shape (2, 0); it must be [..., T] with T >= 1"),
    *[
        ("require_steps", lambda bad=bad, kind=kind: require_steps(
            rewards=kind(with_one(STEPS, (2, 1), bad))
        ), "rewards holds values that are NaN or infinite")
        for bad in (math.nan, math.inf, -math.inf) for kind in (np.asarray, torch.as_tensor)
    ],
    ("require_same_shape", lambda: require_same_shape(x=STEPS, y=STEPS, live=STEPS[:2]),
     "live has shape (2, 4); x has (3, 4), they must agree"),
    ("require_same_shape", lambda: require_same_shape(x=STEPS, y=torch.ones(4, 3)),
     "y has shape (4, 3); x has (3, 4), they must agree"),
    ("require_same_shape", lambda: require_same_shape(x=STEPS, y=STEPS[:1]),
     "y has shape (1, 4); x has (3, 4), they must agree"),
    ("require_distributions", lambda: require_distributions(p=np.ones((0, 2))), "p is empty"),
    ("require_distributions", lambda: require_distributions(good=HALVES, pi=with_one(HALVES, (1, 0), 0.6)),
     "row [1] of pi sums to 1.1; every row must sum to 1"),
    ("require_distributions", lambda: require_distributions(P=with_one(CUBE, (2, 1, 0), 0.4)),
     "row [2, 1] of P sums to 0.9; every row must sum to 1"),
    ("require_distributions", lambda: require_distributions(p=np.array([0.5, 0.4])),
     "p sums to 0.9; every row must sum to 1"),
    ("require_distributions", lambda: require_distributions(p=np.array([0.5, 0.5 + 3 * ROUNDING])),
     "p sums to 1.000000003; every row must sum to 1"),
    ("require_distributions", lambda: require_distributions(P=sparse.csr_array([[1.0, 0.0], [0.5, 0.25]])),
     "row [1] of P sums to 0.75; every row must sum to 1"),
    ("require_distributions", lambda: require_distributions(pi=np.array([[0.5, 0.5], [1.25, -0.25]])),
     "pi holds the negative probability -0.25"),
    ("require_distributions", lambda: require_distributions(P=sparse.csr_array([[1.25, -0.25]])),
     "P holds the negative probability -0.25"),
    ("require_distributions", lambda: require_distributions(pi=with_one(HALVES, (0, 1), np.nan)),
     "pi holds 1 values that are NaN or infinite"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "call", "message"), REFUSED)
def test_what_is_refused_is_named(name: str, call: Call, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert str(caught.value) == message


def test_floats_carry_no_gradient() -> None:
    array = finite_floats("x", torch.tensor([[1.0, 2.0]], requires_grad=True))
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array, [[1.0, 2.0]])


def test_every_check_is_tested() -> None:
    here: list[Any] = inspect.getmembers(validation, inspect.isfunction)
    checks = {name for name, function in here if function.__module__ == validation.__name__}
    assert checks == {name for name, _ in ALLOWED} == {name for name, *_ in REFUSED}
