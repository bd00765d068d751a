"""Trajectories: drawn, enumerated, their probabilities, and how often states are visited."""

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.linalg import spsolve

from rl_helpers.mdp.process import MDP, Array, check_policy, under_policy
from rl_helpers.validation import require_at_least


def sample_trajectories(
    mdp: MDP, policy: Float[Array, "S A"], n: int, horizon: int, rng: np.random.Generator
) -> tuple[Int[Array, "n {horizon}+1"], Int[Array, "n T"], Float[Array, "n T"]]:
    """Simulate n trajectories of T = horizon steps, all in one batch.

    Args:
        mdp: a dense MDP.
        policy: [S, A].
        n: number of trajectories, at least 1.
        horizon: number of steps T, at least 1.
        rng: source of the randomness.

    Returns:
        States [n, T+1], actions [n, T] and rewards r_t = R(s_t, a_t) [n, T].

    Source: eq-trajectory, read as a recipe.
    """
    check_policy(mdp, policy)
    _needs_dense(mdp, "sample_trajectories")
    if n < 1 or horizon < 1:
        raise ValueError(f"n is {n} and horizon is {horizon}; both must be at least 1")
    states, actions = np.empty((n, horizon + 1), dtype=int), np.empty((n, horizon), dtype=int)
    states[:, 0] = _draw(np.broadcast_to(mdp.p0, (n, mdp.n_states)), rng)
    for t in range(horizon):
        actions[:, t] = _draw(policy[states[:, t]], rng)
        states[:, t + 1] = _draw(mdp.P[states[:, t], actions[:, t]], rng)
    return states, actions, mdp.R[states[:, :-1], actions]


def _needs_dense(mdp: MDP, name: str) -> None:
    if sparse.issparse(mdp.P):
        raise ValueError(
            f"{name} got a sparse P of shape {mdp.P.shape}; it needs a dense [S, A, S]"
        )


def _draw(probabilities: Float[Array, "n k"], rng: np.random.Generator) -> Int[Array, " n"]:
    """One category a row, by inverting the cumulative distribution."""
    cumulative = probabilities.cumsum(axis=1)
    thresholds = rng.random((len(probabilities), 1)) * cumulative[:, -1:]
    return (cumulative <= thresholds).sum(axis=1)


def all_trajectories(
    mdp: MDP, horizon: int
) -> tuple[Int[Array, "N {horizon}+1"], Int[Array, "N T"]]:
    """Every trajectory of T = horizon steps, possible or not: N = S^(T+1) A^T.

    Returns:
        States [N, T+1] and actions [N, T].

    Raises:
        ValueError: horizon below 1, or more than 10 million trajectories.
    """
    size = mdp.n_states ** (horizon + 1) * mdp.n_actions**horizon
    if horizon < 1 or size > 10_000_000:
        raise ValueError(
            f"horizon is {horizon}, which makes {size:,} trajectories; allowed are 1 to 10,000,000"
        )
    grid = np.indices([mdp.n_states] * (horizon + 1) + [mdp.n_actions] * horizon).reshape(
        2 * horizon + 1, -1
    )
    return grid[: horizon + 1].T, grid[horizon + 1 :].T


def trajectory_probability(
    mdp: MDP, policy: Float[Array, "S A"], states: Int[Array, "N T1"], actions: Int[Array, "N T"]
) -> Float[Array, " N"]:
    """Probability of each trajectory: p(s_0) times the product of pi(a_t|s_t) P(s_{t+1}|s_t, a_t).

    Source: eq-trajectory.
    """
    check_policy(mdp, policy)
    _needs_dense(mdp, "trajectory_probability")
    now, following = states[:, :-1], states[:, 1:]
    return mdp.p0[states[:, 0]] * np.prod(
        policy[now, actions] * mdp.P[now, actions, following], axis=1
    )


def state_marginals(
    mdp: MDP, policy: Float[Array, "S A"], horizon: int
) -> Float[Array, "{horizon}+1 S"]:
    """P(s_t = s) for t = 0 to T = horizon, one step of the chain at a time."""
    require_at_least(0, horizon=horizon)
    P_pi, _ = under_policy(mdp, policy)
    marginals = [mdp.p0]
    for _ in range(horizon):
        marginals.append(marginals[-1] @ P_pi)
    return np.array(marginals)


def occupancy(mdp: MDP, policy: Float[Array, "S A"]) -> Float[Array, "S A"]:
    """Discounted occupancy d(s, a) = (1 - gamma) sum_t gamma^t P(s_t = s, a_t = a), by one linear
    solve.

    Source: eq-occupancy.
    """
    P_pi, _ = under_policy(mdp, policy)
    if sparse.issparse(P_pi):
        system = sparse.eye_array(mdp.n_states) - mdp.gamma * P_pi.T
        d = spsolve(sparse.csc_array(system), (1 - mdp.gamma) * mdp.p0)
    else:
        d = np.linalg.solve(np.eye(mdp.n_states) - mdp.gamma * P_pi.T, (1 - mdp.gamma) * mdp.p0)
    return d[:, None] * policy
