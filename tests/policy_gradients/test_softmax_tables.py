"""Softmax tables: against the planner, and the slope against finite differences."""

from __future__ import annotations

import numpy as np
import torch

from rl_helpers.mdp import planning
from rl_helpers.mdp.process import random_mdp, under_policy
from rl_helpers.policy_gradients import softmax_tables


def test_values_are_the_planners() -> None:
    rng = np.random.default_rng(0)
    mdp, theta = random_mdp(rng, 5, 3), torch.tensor(rng.normal(size=(5, 3)))
    policy = theta.softmax(-1).numpy()
    V, P_pi = softmax_tables.values(theta, mdp), softmax_tables.chain(theta, mdp)
    np.testing.assert_allclose(V, planning.policy_value(mdp, policy), rtol=1e-12)
    np.testing.assert_allclose(P_pi, under_policy(mdp, policy)[0], rtol=1e-12)
    J = softmax_tables.objective(theta, mdp)
    np.testing.assert_allclose(J, planning.objective(mdp, policy), rtol=1e-12)


def test_slope_against_differences() -> None:
    rng = np.random.default_rng(1)
    mdp, theta = random_mdp(rng, 4, 2), torch.tensor(rng.normal(size=(4, 2)))
    slope = torch.func.grad(softmax_tables.objective)(theta, mdp)
    for s in range(4):
        for a in range(2):
            step = torch.zeros(4, 2, dtype=theta.dtype)
            step[s, a] = 1e-6
            up, down = (
                softmax_tables.objective(theta + step, mdp),
                softmax_tables.objective(theta - step, mdp),
            )
            np.testing.assert_allclose(slope[s, a], (up - down) / 2e-6, rtol=1e-5, atol=1e-8)
