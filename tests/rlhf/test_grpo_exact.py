"""Expected steps by listing all groups, the sd's weight, and the objective token by token."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rl_helpers.rlhf.grpo import ADVANTAGES, GRPO, Variant, centred, leave_one_out, standardised
from rl_helpers.rlhf.grpo_exact import (
    group_coefficients,
    number_right,
    objective_by_hand,
    sd_weight,
)
from rl_helpers.rlhf.toy_language import Language

LOG_PI = torch.tensor([0.2, 0.3, 0.5]).double().log()
R = torch.tensor([1.0, -2.0, 0.5]).double()


@pytest.mark.parametrize("G", [2, 3, 5])
def test_coefficients_are_the_policy_gradients(G: int) -> None:
    pi = LOG_PI.exp()
    mean = pi @ R
    torch.testing.assert_close(group_coefficients(LOG_PI, R, G, leave_one_out), pi * (R - mean))
    expected = (1 - 1 / G) * pi * (R - mean)
    torch.testing.assert_close(group_coefficients(LOG_PI, R, G, centred), expected)


def test_coefficients_by_a_plain_sum() -> None:
    weights = torch.tensor([1.0, 2.0, 4.0]).double()
    expected = torch.zeros(3).double()
    kept, pi = 0.0, LOG_PI.exp()
    for group in itertools.product(range(3), repeat=3):
        if R[list(group)].max() <= 0:
            continue
        chance = math.prod(float(pi[y]) for y in group)
        kept += chance
        for y, a in zip(group, standardised(R[list(group)]), strict=True):
            expected[y] += chance * float(a * weights[y]) / 3
    found = group_coefficients(
        LOG_PI, R, 3, standardised, weights, lambda r: r.max(1).values > 0
    )  # fmt: skip
    torch.testing.assert_close(found, expected / kept)
    by_function = group_coefficients(
        LOG_PI, R, 3, standardised, lambda y: weights[y], lambda r: r.max(1).values > 0
    )
    torch.testing.assert_close(by_function, found)


@given(st.floats(0.01, 0.99), st.integers(2, 40))
def test_numbers_of_right_answers_are_binomial(p: float, G: int) -> None:
    assert number_right(p, G) == pytest.approx(stats.binom.pmf(range(G + 1), G, p))


@given(st.floats(0.01, 0.99))
def test_groups_of_two_and_three_do_not_reweight(p: float) -> None:
    assert sd_weight(p, 2) == pytest.approx(1.0)
    assert sd_weight(p, 3) == pytest.approx(2**0.5)


def test_large_groups_tend_to_the_arcsine() -> None:
    assert sd_weight(0.2, 4_000) == pytest.approx(1 / math.sqrt(0.16), rel=1e-3)


def test_the_objective_by_hand() -> None:
    language = Language(("a", "b"), ("?",), 2)
    new = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.4, 0.4, 0.2]]).double().log()
    old = torch.tensor([[0.4, 0.3, 0.3], [0.3, 0.3, 0.4], [0.4, 0.4, 0.2]]).double().log()
    a, empty = language.response("a."), language.response(".")
    # ratios: "a." 1.25 and 2; "." 2/3
    A = torch.tensor([1.0, -1.0]).double()
    found = objective_by_hand(language, (new, old, old), [a, empty], A, Variant())
    assert found == pytest.approx(((1.2 + 1.2) / 2 - 0.8) / 2)
    charged = objective_by_hand(language, (new, old, old), [a, empty], A, Variant(beta=1.0))
    k = [x - 1 - math.log(x) for x in (0.8, 0.5, 1.5)]
    assert charged == pytest.approx(found - ((k[0] + k[1]) / 2 + k[2]) / 2)


def test_a_million_groups_can_be_listed_and_no_more() -> None:
    uniform = torch.full((1_001,), 1e-3).double().log()
    step = group_coefficients(uniform[:1_000], torch.arange(1_000).double(), 2, leave_one_out)
    assert step.sum() == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match=r"1001\^2 groups are too many"):
        group_coefficients(uniform, torch.arange(1_001).double(), 2, leave_one_out)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: group_coefficients(LOG_PI, R, 1, centred), "group is 1"),
        (lambda: group_coefficients(LOG_PI, R[:2], 2, centred), "log_probs has shape"),
        (lambda: group_coefficients(LOG_PI, R / 0, 2, centred), "rewards holds"),
        (lambda: group_coefficients(LOG_PI, R, 13, centred), "too many to list"),
        (
            lambda: group_coefficients(LOG_PI, R, 2, centred, None, lambda r: r[:, 0] > 9),
            "some must be used",
        ),
        (lambda: sd_weight(0.0, 2), "p is 0"),
        (lambda: sd_weight(1.0, 2), "p is 1"),
        (lambda: sd_weight(0.5, 1), "group is 1"),
    ],
)
def test_bad_input_is_named(untyped: None, call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_variants_are_named() -> None:
    assert GRPO.beta > 0
    assert set(ADVANTAGES) == {"standardised", "centred", "leave-one-out"}
