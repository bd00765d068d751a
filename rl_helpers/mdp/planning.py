"""Solving a known MDP: policy evaluation, value iteration, policy iteration.

The backups below are the right-hand sides of the Bellman equations; every algorithm of Part I is
made of them. All take dense and sparse MDPs alike.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.linalg import spsolve

from rl_helpers.mdp.process import MDP, Array, check_policy, deterministic_policy, under_policy
from rl_helpers.validation import require_at_least, require_finite, require_positive


def action_values(mdp: MDP, V: Float[Array, " S"]) -> Float[Array, "S A"]:
    """One step of reward, then V: R(s, a) + gamma E[V(s') | s, a].

    Args:
        mdp: the decision process.
        V: value of each state [S].

    Returns:
        Q [S, A].

    Source: eq-bellman-v, inside the sum over actions.
    """
    if np.shape(V) != (mdp.n_states,):
        raise ValueError(f"V has shape {np.shape(V)}; this MDP needs {(mdp.n_states,)}")
    return mdp.R + mdp.gamma * mdp.expected_next(V)


def bellman_backup(
    mdp: MDP, policy: Float[Array, "S A"], V: Float[Array, " S"]
) -> Float[Array, " S"]:
    """Right-hand side of the Bellman equation of a policy, eq-bellman-v."""
    check_policy(mdp, policy)
    return (policy * action_values(mdp, V)).sum(axis=1)


def optimality_backup(mdp: MDP, V: Float[Array, " S"]) -> Float[Array, " S"]:
    """Right-hand side of the Bellman optimality equation, eq-bellman-opt-v."""
    return action_values(mdp, V).max(axis=1)


def policy_value(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, " S"]:
    """V of a policy, by solving the linear system (I - gamma P_pi) V = R_pi.

    Source: eq-bellman-v; Sutton & Barto (2018), section 4.1.
    """
    P_pi, R_pi = under_policy(mdp, policy)
    if sparse.issparse(P_pi):
        return spsolve(sparse.csc_array(sparse.eye_array(mdp.n_states) - mdp.gamma * P_pi), R_pi)
    return np.linalg.solve(np.eye(mdp.n_states) - mdp.gamma * P_pi, R_pi)


def policy_action_value(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, "S A"]:
    """Q of a policy [S, A], eq-q."""
    return action_values(mdp, policy_value(mdp, policy))


def advantage(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, "S A"]:
    """A = Q - V of a policy [S, A], eq-advantage."""
    V = policy_value(mdp, policy)
    return action_values(mdp, V) - V[:, None]


def objective(mdp: MDP, policy: Float[Array, "S A"]) -> float:
    """J of a policy: the expected value of the first state, eq-objective."""
    return float(mdp.p0 @ policy_value(mdp, policy))


def greedy(Q: Float[Array, "S A"]) -> Float[Array, "S A"]:
    """The policy that takes an action of largest value, the first of several, as one-hot rows.

    Source: eq-greedy.
    """
    if np.ndim(Q) != 2 or np.size(Q) == 0 or not np.isfinite(Q).all():
        raise ValueError(
            f"Q has shape {np.shape(Q)}; it must be [S, A], not empty, and finite everywhere"
        )
    # Values that differ by rounding alone count as equal, so that ties fall the same way on every
    # machine. Rounding grows with the values: a part in 1e12 of the largest.
    tied = Q.max(axis=1, keepdims=True) - 1e-12 * np.abs(Q).max() <= Q
    return np.eye(Q.shape[1])[tied.argmax(axis=1)]


@dataclass(frozen=True)
class Plan:
    """What a planning algorithm found.

    Args:
        V: value of each state after the last sweep or step [S].
        policy: greedy policy for V [S, A].
        history: V before the first sweep and after each [k+1, S], or None if it was not kept.
        steps: number of sweeps or improvement steps k.
    """

    V: Float[Array, " S"]
    policy: Float[Array, "S A"]
    history: Float[Array, "k S"] | None
    steps: int


def value_iteration(
    mdp: MDP,
    *,
    tol: float = 1e-8,
    V: Float[Array, " S"] | None = None,
    max_sweeps: int = 100_000,
    keep: bool = False,
) -> Plan:
    """Apply the optimality backup until V is within `tol` of V* in every state.

    Stops when the last change times gamma / (1 - gamma) is at most `tol`, which bounds
    the distance to V*: eq-vi-stop.

    Args:
        mdp: the decision process.
        tol: largest distance to V* allowed, positive.
        V: where to start [S]; zero by default.
        max_sweeps: most sweeps allowed.
        keep: keep V after each sweep.

    Raises:
        ValueError: tol not positive, V of the wrong shape or not finite, max_sweeps
            below 1.
        RuntimeError: `max_sweeps` done and V still too far.

    Source: eq-vi-error; Sutton & Barto (2018), section 4.4.
    """
    require_positive(tol=tol)
    require_at_least(1, max_sweeps=max_sweeps)
    V = np.zeros(mdp.n_states) if V is None else np.asarray(V, dtype=float)
    require_finite(V=V)
    history = [V]
    for sweep in range(1, max_sweeps + 1):
        new = optimality_backup(mdp, V)
        change = np.abs(new - V).max()
        V = new
        if keep:
            history.append(V)
        if change * mdp.gamma <= tol * (1 - mdp.gamma):
            policy = greedy(action_values(mdp, V))
            return Plan(V, policy, np.array(history) if keep else None, sweep)
    off = change / (1 - mdp.gamma)
    raise RuntimeError(
        f"value iteration: {max_sweeps} sweeps left V up to {off:.3g} away, tol {tol:g}"
    )


def policy_iteration(
    mdp: MDP, policy: Float[Array, "S A"] | None = None, *, max_steps: int = 1_000
) -> Plan:
    """Evaluate exactly, improve greedily, until the values no longer change.

    Args:
        mdp: the decision process.
        policy: where to start [S, A]; action 0 everywhere by default.
        max_steps: most improvements allowed.

    Returns:
        The plan; `history` holds V of each policy in turn.

    Source: eq-policy-improvement; Sutton & Barto (2018), section 4.3.
    """
    policy = (
        deterministic_policy(mdp, np.zeros(mdp.n_states, dtype=int)) if policy is None else policy
    )
    history = [policy_value(mdp, policy)]
    for step in range(1, max_steps + 1):
        policy = greedy(action_values(mdp, history[-1]))
        history.append(policy_value(mdp, policy))
        if np.abs(history[-1] - history[-2]).max() <= 1e-12 * max(1.0, np.abs(history[-1]).max()):
            return Plan(history[-1], policy, np.array(history), step)
    raise RuntimeError(f"policy iteration: the policy still improves after {max_steps} steps")


def brute_force(mdp: MDP) -> tuple[Float[Array, "N S"], Float[Array, " S"]]:
    """Value of every deterministic policy, and the best value of each state. For checks on tiny
    MDPs.

    Returns:
        Values [N, S] of all N = A^S deterministic policies, and their maximum over policies [S].

    Raises:
        ValueError: more than 100,000 policies.
    """
    count = mdp.n_actions**mdp.n_states
    if count > 100_000:
        raise ValueError(
            f"this MDP has {count:,} deterministic policies; brute force allows 100,000"
        )
    every = itertools.product(range(mdp.n_actions), repeat=mdp.n_states)
    values = np.array(
        [policy_value(mdp, deterministic_policy(mdp, np.array(actions))) for actions in every]
    )
    return values, values.max(axis=0)
