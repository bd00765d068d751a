"""Softmax tables: policies with one logit for each state and action, in steps autograd can follow."""

import torch
from jaxtyping import Float
from torch import Tensor

from rl_helpers.mdp import MDP


def values(
    theta: Float[Tensor, "S A"], mdp: MDP
) -> tuple[Float[Tensor, " S"], Float[Tensor, "S S"]]:
    """V of the softmax policy, by the linear solve of `planning.policy_value`, and its chain P_pi.

    Args:
        theta: logits [S, A].
        mdp: a process with dense arrays.

    Source: eq-bellman-v.
    """
    policy = theta.softmax(dim=-1)
    P_pi = torch.einsum("sa,sat->st", policy, torch.tensor(mdp.P, dtype=theta.dtype))
    R_pi = (policy * torch.tensor(mdp.R, dtype=theta.dtype)).sum(dim=-1)
    eye = torch.eye(mdp.n_states, dtype=theta.dtype)
    return torch.linalg.solve(eye - mdp.gamma * P_pi, R_pi), P_pi


def objective(theta: Float[Tensor, "S A"], mdp: MDP) -> Float[Tensor, ""]:
    """J of the softmax policy, the expected value of the first state, eq-objective."""
    return torch.tensor(mdp.p0, dtype=theta.dtype) @ values(theta, mdp)[0]
