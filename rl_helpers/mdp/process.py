"""Tabular Markov decision processes and their policies.

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

from rl_helpers.validation import require_discount, require_distributions, require_finite

Array = np.ndarray


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
        require_discount(gamma=self.gamma)
        rewards = np.array(self.R, dtype=float)
        if rewards.ndim != 2 or rewards.size == 0:
            raise ValueError(
                f"R has shape {rewards.shape}; it must be [S, A] with at least one state and action"
            )
        require_finite(R=rewards)
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
        require_distributions(P=transitions, p0=first)
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


def check_policy(mdp: MDP, policy: Float[Array, "S A"], name: str = "policy") -> None:
    """Raise `ValueError` unless `policy` is [S, A] of `mdp` with rows that are distributions."""
    if np.shape(policy) != (mdp.n_states, mdp.n_actions):
        raise ValueError(
            f"{name} has shape {np.shape(policy)}; this MDP needs {(mdp.n_states, mdp.n_actions)}"
        )
    require_distributions(**{name: policy})


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
