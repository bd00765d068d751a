"""Comparisons: probabilities and losses by hand, judges that draw as they should, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from rl_helpers.rlhf.preferences import (
    Comparisons,
    judged,
    preference_loss,
    preference_probability,
    require_compared,
    sample_comparisons,
    sample_experiments,
    sample_pairs,
)
from rl_helpers.rlhf.toy_language import butler, butler_reference, butler_reward, sequence_log_probs
from rl_helpers.training.seeds import seed_generators

numbers = st.floats(-20, 20)
THREE = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.0, 0.9]], dtype=torch.float64).log()
REWARD = torch.tensor([[0.0, 1.0, 2.0], [1.0, 5.0, -1.0]], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- One comparison -----------------------------------------------------------------------------


def test_a_gap_of_two_by_hand() -> None:
    torch.testing.assert_close(
        preference_probability(double(1.5), double(-0.5)), double(1 / (1 + math.exp(-2)))
    )
    torch.testing.assert_close(preference_loss(double(2.0)), double(math.log(1 + math.exp(-2))))
    half = preference_loss(double(2.0), double(0.25))
    expected = 0.25 * math.log(1 + math.exp(-2)) + 0.75 * math.log(1 + math.exp(2))
    torch.testing.assert_close(half, double(expected))


def test_large_margins_do_not_overflow() -> None:
    assert preference_loss(double(-1e4)).item() == 1e4
    assert preference_loss(double(1e4)).item() == 0.0


@given(r=numbers, other=numbers, shift=numbers)
def test_only_the_difference_counts_and_the_two_outcomes_are_all(
    r: float, other: float, shift: float
) -> None:
    p = preference_probability(double(r), double(other))
    torch.testing.assert_close(p, preference_probability(double(r + shift), double(other + shift)))
    torch.testing.assert_close(p + preference_probability(double(other), double(r)), double(1.0))


@given(m=numbers, p=st.floats(0, 1))
def test_the_slope_of_the_loss(m: float, p: float) -> None:
    margin = double(m).requires_grad_()
    (slope,) = torch.autograd.grad(preference_loss(margin, double(p)).sum(), margin)
    torch.testing.assert_close(slope, margin.detach().sigmoid() - p)


# ---- Judges -------------------------------------------------------------------------------------


def test_pairs_are_as_frequent_as_they_are_probable() -> None:
    prompts, (one, other) = sample_pairs(THREE, 20_000, generator())
    assert not (one == other).any()
    for x in range(2):
        p = THREE[x].exp()
        joint = (p[:, None] * p).fill_diagonal_(0).flatten()
        counts = (3 * one + other)[prompts == x].bincount(minlength=9)
        assert not counts[joint == 0].any()
        expected = (joint / joint.sum() * counts.sum())[joint > 0]
        assert chisquare(counts[joint > 0].numpy(), expected.numpy()).pvalue > 1e-3
    assert abs(int(prompts.sum()) - 10_000) < 4 * math.sqrt(5_000)


def test_the_better_response_wins_as_often_as_it_should() -> None:
    c = sample_comparisons(THREE, REWARD, 20_000, generator())
    for x, one, other in ((0, 0, 1), (0, 1, 2), (1, 0, 2)):
        won = int(((c.prompts == x) & (c.chosen == one) & (c.rejected == other)).sum())
        lost = int(((c.prompts == x) & (c.chosen == other) & (c.rejected == one)).sum())
        p = preference_probability(REWARD[x, one], REWARD[x, other]).item()
        assert abs(won - p * (won + lost)) < 4 * math.sqrt(p * (1 - p) * (won + lost))
    assert not ((c.prompts == 1) & ((c.chosen == 1) | (c.rejected == 1))).any()


def test_single_precision_policies_are_drawn_from_too() -> None:
    log_policy = sequence_log_probs(butler, butler_reference()).float()
    c = sample_comparisons(log_policy, butler_reward(), 500, generator())
    assert int(torch.maximum(c.chosen, c.rejected).max()) < butler.n_responses
    require_compared(c)


def test_experiments_are_independent_and_repeat() -> None:
    three = sample_experiments(THREE, REWARD, 50, seed_generators(1, 3))
    assert three.prompts.shape == three.chosen.shape == three.rejected.shape == (3, 50)
    assert not torch.equal(three.chosen[0], three.chosen[1])
    own = sample_experiments(THREE.expand(2, -1, -1), REWARD, 50, seed_generators(1, 2))
    for shared, part in zip(three, own, strict=True):
        assert torch.equal(shared[:2], part)


def test_each_seed_may_have_its_own_policy() -> None:
    both = torch.stack([THREE, THREE.flip(-1)])
    c = sample_experiments(both, REWARD, 400, seed_generators(1, 2))
    for seed, often, rare in ((0, 0, 2), (1, 2, 0)):  # at the first prompt
        compared = torch.cat([c.chosen[seed], c.rejected[seed]])[c.prompts[seed].repeat(2) == 0]
        assert compared.bincount()[often] > compared.bincount()[rare]


def test_the_first_comparisons() -> None:
    c = sample_experiments(THREE, REWARD, 20, seed_generators(1, 2))
    for part, whole in zip(c.first(7), c, strict=True):
        assert torch.equal(part, whole[:, :7])


def test_comparisons_of_a_pair_are_counted() -> None:
    x = torch.tensor([[0, 0, 1, 0], [1, 1, 1, 1]])
    chosen = torch.tensor([[2, 1, 2, 2], [0, 0, 2, 0]])
    rejected = torch.tensor([[1, 2, 1, 1], [2, 2, 0, 2]])
    pairs = judged(Comparisons(x, chosen, rejected))
    assert pairs.prompts.tolist() == [[0, 1], [1, 0]]
    assert pairs.first.tolist() == [[1, 1], [0, 0]]
    assert pairs.second.tolist() == [[2, 2], [2, 0]]
    assert pairs.counts.tolist() == [[3, 1], [4, 0]]
    torch.testing.assert_close(pairs.shares, torch.tensor([[1 / 3, 0], [0.75, 0]]).double())


# ---- Bad input ----------------------------------------------------------------------------------


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="n is 0"):
        sample_pairs(THREE, 0, generator())
    with pytest.raises(ValueError, match="one response only"):
        sample_pairs(torch.tensor([[0.0, -math.inf]]), 1, generator())
    with pytest.raises(ValueError, match="reward holds 1 values"):
        sample_comparisons(THREE, torch.where(REWARD == 5, math.inf, REWARD), 1, generator())
    with pytest.raises(ValueError, match="that of 2 seeds; there are 3 generators"):
        sample_experiments(THREE.expand(2, -1, -1), REWARD, 1, seed_generators(0, 3))
    c = sample_comparisons(THREE, REWARD, 5, generator())
    for n in (0, 6):
        with pytest.raises(ValueError, match=f"n is {n}; there are 5 comparisons"):
            c.first(n)
    same = c._replace(rejected=torch.where(torch.arange(5) < 2, c.chosen, c.rejected))
    with pytest.raises(ValueError, match="2 of 5 comparisons are of a response with itself"):
        require_compared(same)
    with pytest.raises(ValueError, match="2 of 5 comparisons are of a response with itself"):
        judged(Comparisons(*(part[None] for part in same)))
