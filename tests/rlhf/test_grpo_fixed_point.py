"""Where GRPO settles: the closed form by hand and against the slope, the sampled loop against a plain one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_helpers.rlhf import grpo_fixed_point as module
from rl_helpers.rlhf.grpo import DR_GRPO, Variant
from rl_helpers.rlhf.grpo_fixed_point import (
    expected_slope,
    grpo_fixed_point,
    standardised_fixed_point,
    train_tables,
)
from rl_helpers.rlhf.toy_language import Language, sequence_log_probs
from tests.planting import plant

COIN = Language(("heads",), ("?",), 1)  # response 0 is ".", response 1 "heads."
HALF = torch.full((1, 1, 2), 0.5).double().log()
TINY = Language(("a", "b"), ("?", "!"), 2)
UNBIASED = Variant("leave-one-out", "sum", beta=0.5)


def tables(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    reference = torch.tensor(rng.normal(size=(2, 3, 3))).log_softmax(-1)
    return reference, torch.tensor(rng.normal(size=(2, 7)))


def test_half_the_golden_ratio() -> None:
    paid = torch.tensor([[0.0, 1.0]]).double()
    found = grpo_fixed_point(COIN, HALF, paid, 0.5).exp()
    assert found[0, 0].tolist() == pytest.approx([(1 + 5**0.5) / 4, (3 - 5**0.5) / 4])


@given(st.integers(0, 1_000), st.sampled_from([0.1, 0.5, 3.0]))
def test_there_the_expected_slope_is_zero(seed: int, beta: float) -> None:
    reference, reward = tables(seed)
    settled = grpo_fixed_point(TINY, reference, reward, beta)
    torch.testing.assert_close(settled.exp().sum(-1), torch.ones(2, 3).double())
    slope = expected_slope(TINY, settled, reference, reward, beta)
    assert slope.abs().max() < 1e-9
    assert expected_slope(TINY, reference, reference, reward, beta).abs().max() > 1e-4


@given(st.integers(0, 1_000))
def test_each_prompt_may_have_its_own_price(seed: int) -> None:
    reference, reward = tables(seed)
    both = grpo_fixed_point(TINY, reference, reward, torch.tensor([0.3, 2.0], dtype=torch.float64))
    one = grpo_fixed_point(TINY, reference, reward, 0.3)
    other = grpo_fixed_point(TINY, reference, reward, 2.0)
    torch.testing.assert_close(both, torch.stack([one[0], other[1]]), rtol=1e-9, atol=1e-9)


def test_standardised_advantages_settle_where_their_slope_is_zero() -> None:
    reference, reward = tables(0)
    settled = standardised_fixed_point(TINY, reference, reward, 1.0)
    assert expected_slope(TINY, settled, reference, reward, 1.0, True).abs().max() < 1e-9
    assert expected_slope(TINY, settled, reference, reward, 1.0).abs().max() > 1e-4


def test_a_high_price_keeps_the_reference() -> None:
    reference, reward = tables(1)
    near = grpo_fixed_point(TINY, reference, reward, 1e6)
    torch.testing.assert_close(near, reference, rtol=1e-4, atol=1e-4)


def test_sampled_groups_get_there() -> None:
    reference, reward = tables(2)
    end = train_tables(UNBIASED, TINY, reference, reward, n_seeds=4, learning_rate=0.03)
    goal = grpo_fixed_point(TINY, reference, reward, 0.5)
    pi = sequence_log_probs(TINY, end)
    apart = (pi.exp() * (pi - sequence_log_probs(TINY, goal))).sum(-1)
    assert apart.shape == (4, 2)
    assert apart.mean() < 0.02


# ---- The sampled loop, one seed and one response at a time --------------------------------------

SETTINGS = {"group": 9, "n_steps": 6, "learning_rate": 0.1, "seed": 4}
CASES = {"in the loss": (UNBIASED, 0.0), "in the reward": (DR_GRPO, 0.7)}


def plain(variant: Variant, charge: float, number: int) -> torch.Tensor:
    reference, reward = tables(3)
    stream = np.random.SeedSequence(SETTINGS["seed"]).spawn(number + 1)[number]
    generator = torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]))
    theta = reference.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 6)
    for _ in range(6):
        with torch.no_grad():
            chances = sequence_log_probs(TINY, theta.log_softmax(-1)).exp()
        said_by = torch.multinomial(chances, 9, replacement=True, generator=generator)
        total = torch.zeros(())
        for x in range(2):
            said, paid = [], []
            table = theta[x].log_softmax(-1)
            for n in said_by[x].tolist():
                log_ratio = sum(
                    float((table[s, a] - reference[x, s, a]).detach()) for s, a in words(n)
                )
                said.append(words(n))
                paid.append(float(reward[x, n]) - charge * log_ratio)
            for i, y in enumerate(said):
                others = paid[:i] + paid[i + 1 :]
                mean = sum(others) / 8 if variant.advantages == "leave-one-out" else sum(paid) / 9
                for s, a in y:
                    log = reference[x, s, a] - table[s, a]
                    ratio = (table[s, a] - table[s, a].detach()).exp()
                    gain = ratio * (paid[i] - mean)
                    gain = gain - variant.beta * (log.exp() - log - 1)
                    total = total - gain / 9
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
    return theta.detach().log_softmax(-1)


def words(n: int) -> list[tuple[int, int]]:
    """Prefix and token of each choice in response n of two words."""
    if n == 0:
        return [(0, 2)]
    if n <= 2:
        return [(0, n - 1), (n, 2)]
    first, second = divmod(n - 3, 2)
    return [(0, first), (first + 1, second)]


def learned(case: str) -> torch.Tensor:
    variant, charge = CASES[case]
    reference, reward = tables(3)
    return module.train_tables(
        variant, TINY, reference, reward, charge=charge, n_seeds=2, **SETTINGS
    )


def assert_every_seed_is_the_plain_loop(case: str, found: torch.Tensor) -> None:
    expected = torch.stack([plain(*CASES[case], number) for number in range(2)])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_every_seed_of_tables_is_the_plain_loop(case: str) -> None:
    assert_every_seed_is_the_plain_loop(case, learned(case))


@pytest.mark.parametrize(
    ("right", "wrong", "case"),
    [
        ("reward[n, y] - charge *", "reward[n, y] + charge *", "in the reward"),
        ("reward[n, y] - charge * (log_probs.detach() - log_ref).sum(-1)", "reward[n, y]",
         "in the reward"),
        ("(1 - step / n_steps)", "1.0", "in the loss"),
        ("log_probs.detach(), live, A, variant, log_ref", "log_ref, live, A, variant, log_ref",
         "in the reward"),
        ("A = ADVANTAGES[variant.advantages](paid)", "A = paid", "in the loss"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_tables_loop_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, case: str
) -> None:
    plant(monkeypatch, "rlhf/grpo_fixed_point.py", right, wrong)
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(case, learned(case))


REFERENCE, REWARD = tables(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grpo_fixed_point(TINY, REFERENCE, REWARD, 0.0), "beta is 0"),
        (lambda: grpo_fixed_point(TINY, REFERENCE, REWARD, torch.tensor([1.0, -1.0])), "beta is"),
        (lambda: grpo_fixed_point(TINY, REFERENCE, REWARD / 0, 1.0), "reward holds"),
        (lambda: grpo_fixed_point(TINY, REFERENCE - math.inf, REWARD, 1.0), "support"),
        (lambda: standardised_fixed_point(TINY, REFERENCE, REWARD, -1.0), "beta is -1"),
        (lambda: standardised_fixed_point(TINY, REFERENCE, REWARD, 1.0, 0), "n_steps is 0"),
        (lambda: standardised_fixed_point(TINY, REFERENCE, 0 * REWARD, 1.0), "must differ"),
        (lambda: expected_slope(TINY, REFERENCE, REFERENCE, REWARD, 0.0), "beta is 0"),
        (lambda: train_tables(UNBIASED, TINY, REFERENCE, REWARD, group=1), "group is 1"),
        (lambda: train_tables(UNBIASED, TINY, REFERENCE, REWARD, n_steps=0), "n_steps is 0"),
        (lambda: train_tables(UNBIASED, TINY, REFERENCE, REWARD, charge=-1.0), "charge is -1"),
        (lambda: train_tables(UNBIASED, TINY, REFERENCE, REWARD, learning_rate=0.0), "rate is 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(untyped: None, call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
