"""Best-of-n: by hand, by listing all draws, by drawing; its divergence is bounded."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_helpers.rlhf.best_of_n import best_of_n
from rl_helpers.rlhf.tilting import kl, tilt
from rl_helpers.rlhf.toy_language import sample_responses

THREE = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
R = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int]:
    """References and rewards, which often tie, of two prompts, and a number of draws."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size = (2, draw(st.integers(1, 6)))
    logits = 2 * torch.randn(size, generator=generator, dtype=torch.float64)
    reward = torch.randint(0, draw(st.integers(1, 5)), size, generator=generator).double()
    return logits.log_softmax(-1), reward, draw(st.sampled_from([1, 2, 3, 4]))


def by_listing(log_reference: torch.Tensor, reward: torch.Tensor, n: int) -> list[float]:
    """All n-tuples of draws of one prompt; tied winners share the tuple's probability."""
    p, r = log_reference.exp().tolist(), reward.tolist()
    total = [0.0] * len(p)
    for drawn in itertools.product(range(len(p)), repeat=n):
        winners = [y for y in drawn if r[y] == max(r[z] for z in drawn)]
        for y in winners:
            total[y] += math.prod(p[z] for z in drawn) / len(winners)
    return total


def test_three_responses_by_hand() -> None:
    assert best_of_n(THREE, R, 2).exp().tolist() == pytest.approx([0.36, 0.45, 0.19])
    tied = best_of_n(THREE, torch.tensor([0.0, 1.0, 1.0], dtype=torch.float64), 2)
    assert tied.exp().tolist() == pytest.approx([0.36, 0.48, 0.16])
    assert best_of_n(THREE, torch.zeros(3, dtype=torch.float64), 9).exp().tolist() == pytest.approx(
        [0.6, 0.3, 0.1]
    )


@given(prompts())
def test_all_draws_listed(case) -> None:  # type: ignore[no-untyped-def]
    log_reference, reward, n = case
    found = best_of_n(log_reference, reward, n).exp()
    for row, (p, r) in enumerate(zip(log_reference, reward, strict=True)):
        assert found[row].tolist() == pytest.approx(by_listing(p, r, n), abs=1e-12)


@given(prompts())
def test_the_order_in_which_responses_stand_is_nothing(case) -> None:  # type: ignore[no-untyped-def]
    log_reference, reward, n = case
    backwards = best_of_n(log_reference.flip(-1), reward.flip(-1), n)
    assert backwards.flip(-1).numpy() == pytest.approx(best_of_n(log_reference, reward, n).numpy())


@given(prompts(), st.sampled_from([1, 2, 5, 50, 1_000]))
def test_its_divergence_is_bounded_and_no_tilt_does_worse(case, n: int) -> None:  # type: ignore[no-untyped-def]
    log_reference, reward, _ = case
    best = best_of_n(log_reference, reward, n)
    assert (kl(best, log_reference) <= math.log(n) - (n - 1) / n + 1e-12).all()
    for beta in (0.1, 0.5, 2.0):  # the tilt has the best reward of all at its divergence
        other = tilt(log_reference, reward, beta)
        worth = (best.exp() * reward).sum(-1) - beta * kl(best, log_reference)
        most = (other.exp() * reward).sum(-1) - beta * kl(other, log_reference)
        assert (worth <= most + 1e-12).all()


def test_many_small_atoms_come_close_to_the_bound() -> None:
    K, n = 100_000, 8
    fine = torch.full((K,), 1 / K, dtype=torch.float64).log()
    found = kl(best_of_n(fine, torch.arange(K, dtype=torch.float64), n), fine).item()
    assert found == pytest.approx(math.log(n) - (n - 1) / n, abs=1e-6)


def test_tiny_levels_keep_their_digits() -> None:
    reference = torch.tensor([1 - 1e-18, 1e-18, 0.0], dtype=torch.float64).log()
    found = best_of_n(reference, R, 4).exp()
    assert found[1].item() == pytest.approx(4e-18, rel=1e-12)
    assert found[2].item() == 0.0
    nothing_below = best_of_n(reference.flip(-1), R, 4).exp()
    assert nothing_below.tolist() == pytest.approx([0.0, 0.0, 1.0])
    assert nothing_below.isfinite().all()


def test_against_draws() -> None:
    reference = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64).log()
    reward = torch.tensor([1.0, 0.0, 1.0, 2.0])
    drawn = sample_responses(reference, 60_000, torch.Generator().manual_seed(0)).view(-1, 3)
    kept = drawn.gather(1, reward[drawn].argmax(1, keepdim=True)).squeeze(1)
    shares = np.bincount(kept.numpy(), minlength=4) / len(kept)
    assert best_of_n(reference, reward, 3).exp().numpy() == pytest.approx(shares, abs=0.015)


def test_bad_input(untyped: None) -> None:
    with pytest.raises(ValueError, match="n is 0; it must be at least 1"):
        best_of_n(THREE, R, 0)
    with pytest.raises(ValueError, match="reward holds 1 values that are NaN or infinite"):
        best_of_n(THREE, torch.tensor([0.0, math.inf, 1.0]), 2)
    with pytest.raises(ValueError, match=r"reward has shape \(2,\); log_reference has \(3,\)"):
        best_of_n(THREE, R[1:], 2)
    with pytest.raises(ValueError, match=r"log_reference is off by 0\.6; probabilities must sum"):
        best_of_n(THREE[1:], R[1:], 2)
