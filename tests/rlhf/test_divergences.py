"""Estimators of the KL divergence: by hand, as properties, by enumeration and autograd."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from rl_helpers.policy_gradients.diagnostics import approximate_kl
from rl_helpers.rlhf.divergences import k1, k2, k3

Estimator = Callable[[Tensor], Tensor]
logits = st.lists(st.floats(-3, 3), min_size=4, max_size=4).map(
    lambda row: torch.tensor(row, dtype=torch.double)
)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.double)


def test_by_hand() -> None:
    """Ratios 2 and ½: logarithms ±0.6931, half squares 0.2402, ½ - 1 + 0.6931 and 2 - 1 - 0.6931."""
    log_ratio = double(2.0, 0.5, 1.0).log()
    assert k1(log_ratio).tolist() == pytest.approx([0.693147, -0.693147, 0], abs=1e-6)
    assert k2(log_ratio).tolist() == pytest.approx([0.240227, 0.240227, 0], abs=1e-6)
    assert k3(log_ratio).tolist() == pytest.approx([0.193147, 0.306853, 0], abs=1e-6)


def test_a_small_log_ratio_keeps_its_digits() -> None:
    """exp(-u) - 1 + u = u²/2 - u³/6, of which a plain difference would leave nothing."""
    assert k3(double(1e-7)).item() == pytest.approx(0.5e-14, rel=1e-2)


@given(logits, logits)
def test_means(theta: Tensor, reference: Tensor) -> None:
    p, q = Categorical(logits=theta), Categorical(logits=reference)
    log_ratio = theta.log_softmax(0) - reference.log_softmax(0)
    exact = kl_divergence(p, q).item()
    assert (p.probs * k1(log_ratio)).sum().item() == pytest.approx(exact, abs=1e-12)
    assert (p.probs * k3(log_ratio)).sum().item() == pytest.approx(exact, abs=1e-12)
    assert float(k3(log_ratio).min()) >= 0
    # the same terms that PPO's diagnostics use, with the roles of the policies named
    other = approximate_kl(reference.log_softmax(0), theta.log_softmax(0))
    torch.testing.assert_close(k3(log_ratio), other)


@given(logits, logits)
def test_gradients_as_losses(theta: Tensor, reference: Tensor) -> None:
    def gradient(function: Callable[[Tensor], Tensor]) -> Tensor:
        at = theta.clone().requires_grad_()
        return torch.autograd.grad(function(at), at)[0]

    def loss(k: Estimator) -> Tensor:
        p = theta.softmax(0)  # of the samples: held fixed
        return gradient(lambda at: (p * k(at.log_softmax(0) - reference.log_softmax(0))).sum())

    def divergence(backwards: bool) -> Tensor:
        def kl(at: Tensor) -> Tensor:
            p, q = Categorical(logits=at), Categorical(logits=reference)
            return kl_divergence(q, p) if backwards else kl_divergence(p, q)

        return gradient(kl)

    torch.testing.assert_close(loss(k1), torch.zeros_like(theta), rtol=0, atol=1e-12)
    torch.testing.assert_close(loss(k2), divergence(backwards=False), rtol=0, atol=1e-10)
    torch.testing.assert_close(loss(k3), divergence(backwards=True), rtol=0, atol=1e-10)


@pytest.mark.parametrize("k", [k1, k2, k3])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_reference_without_support_is_refused(k: Estimator, bad: float) -> None:
    with pytest.raises(ValueError, match=r"log_ratio is not finite in 1 places; the reference"):
        k(double(0.0, bad))
