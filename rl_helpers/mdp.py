"""Tabular Markov decision processes: the tuple, grid worlds, Gymnasium's tables, trajectories.

Shapes: S states, A actions. A policy is an array [S, A] whose rows sum to 1; `P[s, a, t]` is the
probability of landing in t after taking a in s; `R[s, a]` is the expected reward of taking a in s.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse.linalg import spsolve

Array = np.ndarray
ROUNDING = 1e-9  # how far a distribution's sum may be from 1


@dataclass(frozen=True, eq=False)
class MDP:
    """The tuple (S, A, P, R, gamma), with a distribution of the first state.

    Args:
        P: transition probabilities, dense [S, A, S], or sparse [S*A, S] with row `s * A + a`.
        R: expected rewards [S, A].
        gamma: discount, 0 <= gamma < 1.
        p0: distribution of the first state [S]; uniform by default.

    Raises:
        ValueError: rows of P or p0 that are not distributions, gamma outside [0, 1), shapes that
            disagree, NaN or infinite entries, no state or no action.

    Source: eq-trajectory; Sutton & Barto (2018), chapter 3.
    """

    P: Float[Array, "S A S"] | sparse.csr_array
    R: Float[Array, "S A"]
    gamma: float
    p0: Float[Array, " S"] = None  # type: ignore[assignment]  # uniform by default

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < 1:
            raise ValueError(f"gamma is {self.gamma}; allowed is 0 <= gamma < 1")
        rewards = np.array(self.R, dtype=float)
        if rewards.ndim != 2 or rewards.size == 0:
            raise ValueError(
                f"R has shape {rewards.shape}; it must be [S, A] with at least one state and action"
            )
        if not np.isfinite(rewards).all():
            raise ValueError(
                f"R holds {(~np.isfinite(rewards)).sum()} values that are NaN or infinite"
            )
        states, actions = rewards.shape
        expected: tuple[int, ...]
        if sparse.issparse(self.P):
            transitions, expected = sparse.csr_array(self.P, copy=True), (states * actions, states)
        else:
            transitions, expected = np.array(self.P, dtype=float), (states, actions, states)
        if transitions.shape != expected:
            raise ValueError(
                f"P has shape {transitions.shape}; with R of shape {rewards.shape} it must be {expected}"
            )
        first = np.full(states, 1 / states) if self.p0 is None else np.array(self.p0, dtype=float)
        if first.shape != (states,):
            raise ValueError(
                f"p0 has shape {first.shape}; with R of shape {rewards.shape} it must be {(states,)}"
            )
        distributions("P", transitions)
        distributions("p0", first)
        for name, value in {"P": transitions, "R": rewards, "p0": first}.items():
            (value if isinstance(value, np.ndarray) else value.data).flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def n_states(self) -> int:
        """Number of states S."""
        return self.R.shape[0]

    @property
    def n_actions(self) -> int:
        """Number of actions A."""
        return self.R.shape[1]

    def expected_next(self, V: Float[Array, " S"]) -> Float[Array, "S A"]:
        """E[V(s') | s, a] for every state and action."""
        return (self.P @ V).reshape(self.R.shape)


def distributions(name: str, rows: Any) -> None:
    """Raise `ValueError` unless every row is a distribution: finite, at least 0, summing to 1."""
    entries = rows.data if sparse.issparse(rows) else np.asarray(rows)
    if entries.size == 0:
        raise ValueError(f"{name} is empty")
    if not np.isfinite(entries).all():
        raise ValueError(
            f"{name} holds {(~np.isfinite(entries)).sum()} values that are NaN or infinite"
        )
    if entries.min() < 0:
        raise ValueError(f"{name} holds the negative probability {entries.min():g}")
    sums = np.asarray(rows.sum(axis=-1))
    worst = np.unravel_index(int(np.abs(sums - 1).argmax()), sums.shape)
    if abs(sums[worst] - 1) > ROUNDING:
        row = f"row {[int(i) for i in worst]} of " if worst else ""
        raise ValueError(f"{row}{name} sums to {sums[worst]:.12g}; every row must sum to 1")


def check_policy(mdp: MDP, policy: Float[Array, "S A"], name: str = "policy") -> None:
    """Raise `ValueError` unless `policy` is [S, A] of `mdp` with rows that are distributions."""
    if np.shape(policy) != (mdp.n_states, mdp.n_actions):
        raise ValueError(
            f"{name} has shape {np.shape(policy)}; this MDP needs {(mdp.n_states, mdp.n_actions)}"
        )
    distributions(name, policy)


# -- making MDPs and policies
# -------------------------------------------------------------------------------


def random_mdp(rng: np.random.Generator, n_states: int, n_actions: int, gamma: float = 0.9) -> MDP:
    """A generic MDP: Dirichlet transitions and first state, standard normal rewards. For checks."""
    P = rng.dirichlet(np.ones(n_states), size=(n_states, n_actions))
    return MDP(P, rng.normal(size=(n_states, n_actions)), gamma, rng.dirichlet(np.ones(n_states)))


def random_policy(rng: np.random.Generator, n_states: int, n_actions: int) -> Float[Array, "S A"]:
    """A generic stochastic policy: each row uniform on the simplex."""
    return rng.dirichlet(np.ones(n_actions), size=n_states)


def uniform_policy(mdp: MDP) -> Float[Array, "S A"]:
    """The policy that takes every action with the same probability."""
    return np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)


def deterministic_policy(mdp: MDP, actions: Int[Array, " S"]) -> Float[Array, "S A"]:
    """The policy that takes `actions[s]` in state s, as one-hot rows."""
    chosen = np.asarray(actions)
    if chosen.shape != (mdp.n_states,) or chosen.min() < 0 or chosen.max() >= mdp.n_actions:
        raise ValueError(
            f"actions is {chosen!r}; it must be [S] = [{mdp.n_states}] with entries 0 to {mdp.n_actions - 1}"
        )
    return np.eye(mdp.n_actions)[chosen]


@dataclass(frozen=True, eq=False)
class GridWorld:
    """A grid world: its MDP, and how to draw it.

    Args:
        mdp: the decision process; state s is `cells[s]`.
        layout: the rows of the map: `S` start, `.` free, `#` wall, `G` goal, `X` pit.
        cells: row and column of each state.
    """

    mdp: MDP
    layout: tuple[str, ...]
    cells: tuple[tuple[int, int], ...]

    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))  # (down, right) of the actions up, right, down, left
    actions = ("up", "right", "down", "left")

    def state(self, row: int, column: int) -> int:
        """Number of the state at a row and column, counted from 0 at the top left."""
        if (row, column) not in self.cells:
            raise ValueError(
                f"({row}, {column}) is no state of this grid world: it is a wall or outside the map"
            )
        return self.cells.index((row, column))


def gridworld(
    layout: Sequence[str],
    *,
    slip: float = 0.1,
    gamma: float = 0.95,
    goal: float = 1.0,
    pit: float = -1.0,
    step: float = 0.0,
    store_sparse: bool = False,
) -> GridWorld:
    """A grid world with slippery ground.

    An action moves one cell up, right, down or left; with probability `slip` the agent slides
    instead to one of the two sides, each with half of it. A move into a wall or the edge leaves
    the agent where it is. The reward `goal` or `pit` is received on entering such a cell; both are
    absorbing and give nothing afterwards.

    Args:
        layout: rows of equal length over `S` start, `.` free, `#` wall, `G` goal, `X` pit; at
            least one `S`.
        slip: probability of sliding, 0 to 1.
        gamma: discount, 0 <= gamma < 1.
        goal, pit: reward for entering such a cell.
        step: reward of every move made from a cell that is not absorbing.
        store_sparse: keep P as a SciPy sparse array [S*A, S]: memory grows with the number of
            transitions.

    Raises:
        ValueError: rows of unequal length, unknown symbols, no start, slip outside [0, 1], gamma
            outside [0, 1).
    """
    rows = tuple(layout)
    if not rows or len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError(
            f"layout has rows of lengths {[len(row) for row in rows]}; all must be equal and at least 1"
        )
    if unknown := set("".join(rows)) - set("S.#GX"):
        raise ValueError(f"layout holds {sorted(unknown)}; allowed are S . # G X")
    if "S" not in "".join(rows):
        raise ValueError("layout has no start cell 'S'")
    if not 0 <= slip <= 1:
        raise ValueError(f"slip is {slip}; allowed is 0 <= slip <= 1")
    cells = tuple((r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell != "#")
    number = {cell: state for state, cell in enumerate(cells)}
    entering = np.array([{"G": goal, "X": pit}.get(rows[r][c], 0.0) for r, c in cells])
    absorbing = np.array([rows[r][c] in "GX" for r, c in cells])
    # landing[s, d]: where a step in direction d from s ends
    landing = np.array(
        [
            [
                s if absorbing[s] else number.get((r + down, c + right), s)
                for down, right in GridWorld.moves
            ]
            for s, (r, c) in enumerate(cells)
        ]
    )
    states, actions = np.indices(landing.shape)
    data, row, column = [], [], []
    for turn, probability in ((0, 1 - slip), (1, slip / 2), (3, slip / 2)):
        data.append(np.full(landing.size, probability))
        row.append((states * 4 + actions).ravel())
        column.append(landing[states, (actions + turn) % 4].ravel())
    P = sparse.csr_array(  # entries for the same pair of row and column are added up
        (np.concatenate(data), (np.concatenate(row), np.concatenate(column))),
        shape=(4 * len(cells), len(cells)),
    )
    R = (P @ entering).reshape(-1, 4) + step
    R[absorbing] = 0.0
    p0 = np.array([float(rows[r][c] == "S") for r, c in cells])
    if not store_sparse:
        P = P.toarray().reshape(len(cells), 4, len(cells))
    return GridWorld(MDP(P, R, gamma, p0 / p0.sum()), rows, cells)


def from_gymnasium(
    table: Mapping[int, Mapping[int, Sequence[tuple[Any, ...]]]], gamma: float
) -> MDP:
    """The arrays of a Gymnasium toy-text environment.

    Args:
        table: `env.unwrapped.P`: for each state and action a list of (probability, next state,
            reward, terminated). The list may name the same next state several times: probabilities
            add up.
        gamma: discount, 0 <= gamma < 1.

    Returns:
        The MDP; a state that a terminated transition leads to is absorbing and gives nothing. p0
        is uniform: the table does not hold it.
    """
    if not table:
        raise ValueError(
            "table is empty; expected env.unwrapped.P of a Gymnasium toy-text environment"
        )
    n_states, n_actions = len(table), len(table[0])
    P, R = np.zeros((n_states, n_actions, n_states)), np.zeros((n_states, n_actions))
    terminal = set()
    for s, a in itertools.product(range(n_states), range(n_actions)):
        for probability, following, reward, terminated in table[s][a]:
            P[s, a, following] += probability
            R[s, a] += probability * reward
            if terminated:
                terminal.add(following)
    for s in terminal:
        P[s], R[s] = np.eye(n_states)[s], 0.0
    return MDP(P, R, gamma)


# -- trajectories
# -------------------------------------------------------------------------------------------


def rollouts(
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
    _needs_dense(mdp, "rollouts")
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


def trajectories(mdp: MDP, horizon: int) -> tuple[Int[Array, "N {horizon}+1"], Int[Array, "N T"]]:
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


def under_policy(mdp: MDP, policy: Float[Array, "S A"]) -> tuple[Any, Float[Array, " S"]]:
    """The Markov chain that a policy makes of an MDP.

    Returns:
        P_pi [S, S] (sparse when P is), P_pi[s, t] = sum_a pi(a|s) P(t|s, a); and R_pi [S], the
        expected reward.
    """
    check_policy(mdp, policy)
    R_pi = (policy * mdp.R).sum(axis=1)
    if sparse.issparse(mdp.P):
        state = np.repeat(np.arange(mdp.n_states), mdp.n_actions)
        choose = sparse.csr_array(
            (policy.ravel(), (state, np.arange(policy.size))), shape=(mdp.n_states, policy.size)
        )
        return choose @ mdp.P, R_pi
    return np.einsum("sa,sat->st", policy, mdp.P), R_pi


def state_marginals(
    mdp: MDP, policy: Float[Array, "S A"], horizon: int
) -> Float[Array, "{horizon}+1 S"]:
    """P(s_t = s) for t = 0 to T = horizon, one step of the chain at a time."""
    if horizon < 0:
        raise ValueError(f"horizon is {horizon}; it must be at least 0")
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
