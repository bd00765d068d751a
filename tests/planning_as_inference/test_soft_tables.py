"""Soft values that autograd can follow, and the search for the best table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rl_helpers.mdp.process import random_mdp
from rl_helpers.planning_as_inference import soft_planning, soft_tables

RNG = np.random.default_rng(0)
SMALL = random_mdp(RNG, 4, 3)


def test_values_are_those_of_soft_planning() -> None:
    theta = torch.tensor(RNG.normal(size=(4, 3)))
    pi = theta.softmax(dim=-1).numpy()
    for alpha in (0.0, 0.7):
        V = soft_planning.soft_policy_value(SMALL, pi, alpha)
        assert soft_tables.values(theta, SMALL, alpha).numpy() == pytest.approx(V, abs=1e-12)
        J = soft_tables.objective(theta, SMALL, alpha).item()
        assert pytest.approx(SMALL.p0 @ V, abs=1e-12) == J


def test_autograd_agrees_with_differences() -> None:
    theta = torch.tensor(RNG.normal(size=(4, 3)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: soft_tables.objective(x, SMALL, 0.7), theta)


def test_the_search_finds_the_plan() -> None:
    plan = soft_planning.soft_policy_iteration(SMALL, 0.7)
    value, policy = soft_tables.best(lambda x: soft_tables.objective(x, SMALL, 0.7), SMALL)
    assert value == pytest.approx(SMALL.p0 @ plan.V, abs=1e-10)
    assert policy == pytest.approx(plan.policy, abs=1e-9)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"alpha is -0\.1; it must be at least 0"):
        soft_tables.values(torch.zeros(4, 3).double(), SMALL, -0.1)
