"""Softmax tables whose entropy is paid for, in steps that autograd can follow; and their best."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from rl_helpers.mdp.process import MDP, Array
from rl_helpers.policy_gradients.softmax_tables import chain
from rl_helpers.validation import require_at_least


def values(theta: Float[Tensor, "S A"], mdp: MDP, alpha: float) -> Float[Tensor, " S"]:
    """Soft V of the softmax policy, by one linear solve.

    Args:
        theta: logits [S, A], float64.
        mdp: a process with dense arrays.
        alpha: temperature of the entropy, at least 0.

    Source: eq-maxent-objective, from each state.
    """
    require_at_least(0, alpha=alpha)
    pi, log_pi = theta.softmax(dim=-1), theta.log_softmax(dim=-1)
    paid = (pi * (torch.tensor(mdp.R, dtype=theta.dtype) - alpha * log_pi)).sum(dim=-1)
    eye = torch.eye(mdp.n_states, dtype=theta.dtype)
    return torch.linalg.solve(eye - mdp.gamma * chain(theta, mdp), paid)


def objective(theta: Float[Tensor, "S A"], mdp: MDP, alpha: float) -> Float[Tensor, ""]:
    """J_alpha of the softmax policy, eq-maxent-objective."""
    return torch.tensor(mdp.p0, dtype=theta.dtype) @ values(theta, mdp, alpha)


def best(
    function: Callable[[Float[Tensor, "S A"]], Float[Tensor, ""]], mdp: MDP
) -> tuple[float, Float[Array, "S A"]]:
    """The largest value of a function of a softmax table, by a search that knows nothing of it.

    A quasi-Newton search from the uniform policy, then two Newton steps for the last digits.

    Args:
        function: of logits [S, A], float64, smooth.
        mdp: gives the shape of the table.

    Returns:
        The largest value, and the policy that has it.
    """
    shape = mdp.R.shape

    def loss(x: Array) -> tuple[float, Array]:
        theta = torch.tensor(x, requires_grad=True)
        value = -function(theta.reshape(shape))
        return value.item(), torch.autograd.grad(value, theta)[0].numpy()

    x = minimize(loss, np.zeros(mdp.R.size), jac=True, options={"gtol": 1e-9}).x
    for _ in range(2):
        curvature = torch.autograd.functional.hessian(
            lambda theta: -function(theta.reshape(shape)), torch.tensor(x)
        ).numpy()
        # a shift of all logits of a state changes nothing: the curvature there is 0
        x = x - np.linalg.pinv(curvature, rcond=1e-9) @ loss(x)[1]
    return -loss(x)[0], torch.tensor(x).reshape(shape).softmax(dim=-1).numpy()
