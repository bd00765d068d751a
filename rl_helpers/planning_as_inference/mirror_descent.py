"""Repeated steps that pay for leaving a policy: a reference that moves, one that stays, samples.

A step maximises E_{a ~ pi}[Q(s, a)] - beta * KL(pi || reference) in every state; `boltzmann` is its
solution. Mirror descent takes the last policy as the next reference.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from rl_helpers.mdp.planning import action_values, objective, policy_action_value
from rl_helpers.mdp.process import MDP, Array, check_policy, uniform_policy
from rl_helpers.planning_as_inference.soft_planning import boltzmann, soft_policy_value
from rl_helpers.validation import (
    require,
    require_at_least,
    require_distributions,
    require_finite,
    require_positive,
    require_same_shape,
)

# From the last action values and the sum of all so far, each [N*S, A], to a policy of that shape.
Rule = Callable[[Float[Array, "NS A"], Float[Array, "NS A"]], Float[Array, "NS A"]]


def mirror_descent(
    mdp: MDP, beta: float, n_steps: int, policy: Float[Array, "S A"] | None = None
) -> Float[Array, "k S A"]:
    """KL-regularised steps, each with the last policy as its reference.

    Args:
        mdp: the decision process.
        beta: price of a nat, positive, in units of reward.
        n_steps: how many steps, at least 1.
        policy: where to start [S, A]; uniform by default.

    Returns:
        The policies, the first included [n_steps + 1, S, A].

    Raises:
        ValueError: beta not positive, no step, a policy that is none.

    Source: eq-mirror-descent; Geist et al. (2019); Tomar et al. (2020).
    """
    require_positive(beta=beta)
    require_at_least(1, n_steps=n_steps)
    policies = [uniform_policy(mdp) if policy is None else policy]
    check_policy(mdp, policies[0])
    for _ in range(n_steps):
        Q = policy_action_value(mdp, policies[-1])
        policies.append(boltzmann(Q, beta, policies[-1]))
    return np.array(policies)


def fixed_reference(
    mdp: MDP, beta: float, n_steps: int, reference: Float[Array, "S A"] | None = None
) -> Float[Array, "k S A"]:
    """KL-regularised policy iteration: the reference stays.

    Args:
        mdp: the decision process.
        beta: price of a nat, positive, in units of reward.
        n_steps: how many steps, at least 1.
        reference: policy to stay close to, and to start from [S, A]; uniform by
            default.

    Returns:
        The policies, the first included [n_steps + 1, S, A]; they tend to the one of
        eq-kl-boltzmann.

    Raises:
        ValueError: beta not positive, no step, a reference that is no policy.

    Source: eq-kl-boltzmann.
    """
    require_positive(beta=beta)
    require_at_least(1, n_steps=n_steps)
    reference = uniform_policy(mdp) if reference is None else reference
    check_policy(mdp, reference, "reference")
    policies = [reference]
    for _ in range(n_steps):
        Q = action_values(mdp, soft_policy_value(mdp, policies[-1], beta, reference))
        policies.append(boltzmann(Q, beta, reference))
    return np.array(policies)


def forward_kl_step(
    policy: Float[Array, "S A"], Q: Float[Array, "S A"], beta: float
) -> Float[Array, "S A"]:
    """The policy that maximises E[Q] - beta * KL(old || new): beta * old / (multiplier - Q).

    The multiplier of each state, above its largest Q, makes the row sum to one; it is bisected.

    Args:
        policy: the old one [S, A], nowhere 0: actions that it never takes have no price.
        Q: action values, or advantages, which give the same policy [S, A].
        beta: price of a nat, positive, in units of reward.

    Raises:
        ValueError: beta not positive, Q not finite or of another shape, a policy that is none, or
            that never takes some action.

    Source: eq-trpo-step.

    >>> forward_kl_step(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]), 0.5).round(3)
    array([[0.809, 0.191]])
    """
    require_positive(beta=beta)
    require_finite(Q=Q)
    require_same_shape(Q=Q, policy=policy)
    require_distributions(policy=policy)
    for s, a in np.argwhere(policy == 0):
        raise ValueError(f"policy[{s}, {a}] is 0; every action needs some probability")
    # At the true multiplier no probability is above 1; at `high` none is above the old one.
    low, high = (Q + beta * policy).max(axis=1), Q.max(axis=1) + beta
    for _ in range(100):
        middle = (low + high) / 2
        too_low = (beta * policy / (middle[:, None] - Q)).sum(axis=1) > 1
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    new = beta * policy / (high[:, None] - Q)
    return new / new.sum(axis=1, keepdims=True)


def sampled_action_values(
    mdp: MDP, policies: Float[Array, "N S A"], horizon: int, rng: np.random.Generator
) -> Float[Array, "N S A"]:
    """One sampled return from every state and action, for each of N policies.

    Args:
        mdp: the decision process, dense.
        policies: which act after the first action [N, S, A].
        horizon: steps of a walk, at least 1; what follows them counts as nothing.
        rng: source of randomness; all walks are independent.

    Raises:
        ValueError: policies of another shape or that are none, a sparse MDP, no step.

    Source: eq-q, from one walk each.
    """
    require(isinstance(mdp.P, np.ndarray), "P", "sparse", "walks need dense arrays")
    require_at_least(1, horizon=horizon)
    require(
        policies.ndim == 3 and policies.shape[1:] == mdp.R.shape,
        "policies",
        f"an array of shape {policies.shape}",
        f"it must be [N, {mdp.n_states}, {mdp.n_actions}]",
    )
    require_distributions(policies=policies)
    walker, s, a = (index.ravel() for index in np.indices(policies.shape))
    total = np.zeros(len(s))
    for t in range(horizon):
        total += mdp.gamma**t * mdp.R[s, a]
        s = _draw(mdp.P[s, a], rng)
        a = _draw(policies[walker, s], rng)
    return total.reshape(policies.shape)


def _draw(rows: Float[Array, "n m"], rng: np.random.Generator) -> Int[Array, " n"]:
    """One index from each row, a distribution."""
    return (rows.cumsum(axis=1)[:, :-1] < rng.random((len(rows), 1))).sum(axis=1)


def improve_from_samples(
    mdp: MDP,
    rule: Rule,
    n_steps: int,
    n_seeds: int,
    rng: np.random.Generator,
    *,
    walks: int = 1,
    horizon: int = 30,
) -> Float[Array, "N k"]:
    """Policy iteration on sampled action values, for many seeds side by side.

    Args:
        mdp: the decision process, dense.
        rule: makes a policy of the last estimate of Q and of the sum of all so far.
        n_steps: improvements, at least 1.
        n_seeds: independent runs, at least 1.
        rng: source of randomness.
        walks: sampled returns for each state and action at each step, at least 1.
        horizon: steps of a walk, at least 1.

    Returns:
        The exact objective J of every policy, the first, uniform one included
            [n_seeds, n_steps + 1].

    Raises:
        ValueError: a count below 1, and what `sampled_action_values` raises.

    Source: eq-mirror-descent, where the rule is `boltzmann` of the sum; Vieillard et
    al. (2020).
    """
    require_at_least(1, n_steps=n_steps, n_seeds=n_seeds, walks=walks)
    shape = n_seeds, mdp.n_states, mdp.n_actions
    policies, total = np.full(shape, 1 / mdp.n_actions), np.zeros(shape)
    history = [[objective(mdp, policy) for policy in policies]]
    for _ in range(n_steps):
        draws = [
            sampled_action_values(mdp, policies, horizon, rng) for _ in range(walks)
        ]  # fmt: skip
        last = np.mean(draws, axis=0)
        total += last
        rows = rule(last.reshape(-1, mdp.n_actions), total.reshape(-1, mdp.n_actions))
        policies = rows.reshape(shape)
        history.append([objective(mdp, policy) for policy in policies])
    return np.array(history).T
