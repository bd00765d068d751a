"""Softmax tables: policies with one logit for each state and action, in steps autograd can follow."""

import torch
from jaxtyping import Float
from torch import Tensor

from rl_helpers.mdp.process import MDP


def chain(theta: Float[Tensor, "S A"], mdp: MDP) -> Float[Tensor, "S S"]:
    """P_pi of the softmax policy: P_pi[s, t] = sum_a pi(a|s) P(t|s, a).

    Args:
        theta: logits [S, A].
        mdp: a process with dense arrays.

    Source: as `process.under_policy`.
    """
    P = torch.tensor(mdp.P, dtype=theta.dtype)
    return torch.einsum("sa,sat->st", theta.softmax(dim=-1), P)


def values(theta: Float[Tensor, "S A"], mdp: MDP) -> Float[Tensor, " S"]:
    """V of the softmax policy, by the linear solve of `planning.policy_value`.

    Args:
        theta: logits [S, A].
        mdp: a process with dense arrays.

    Source: eq-bellman-v.
    """
    R_pi = (theta.softmax(dim=-1) * torch.tensor(mdp.R, dtype=theta.dtype)).sum(dim=-1)
    eye = torch.eye(mdp.n_states, dtype=theta.dtype)
    return torch.linalg.solve(eye - mdp.gamma * chain(theta, mdp), R_pi)


def objective(theta: Float[Tensor, "S A"], mdp: MDP) -> Float[Tensor, ""]:
    """J of the softmax policy, the expected value of the first state, eq-objective."""
    return torch.tensor(mdp.p0, dtype=theta.dtype) @ values(theta, mdp)
