"""Tabular Q-learning, hard or soft, in worlds that differ by seed: all seeds in one batch of arrays.

How to act and what a state is worth are functions of action values, rows [seeds, A]: those of
`soft_planning` make it soft Q-learning, the ones below Q-learning.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from rl_helpers.mdp.process import Array
from rl_helpers.validation import (
    require,
    require_at_least,
    require_discount,
    require_finite,
    require_unit,
)


@dataclass(frozen=True)
class QRun:
    """What n independent runs of T steps left.

    Args:
        Q: action values at the end [n, S, A].
        visits: how often each state was entered [n, S]; the first state of a walk is not.
    """

    Q: Float[Array, "n S A"]
    visits: Int[Array, "n S"]


def epsilon_greedy(Q: Float[Array, "n A"], epsilon: float) -> Float[Array, "n A"]:
    """Any action with probability epsilon, else one of largest value, ties shared evenly.

    Args:
        Q: action values, a row for each state [n, A].
        epsilon: probability of not looking at them, 0 to 1.

    Source: Watkins & Dayan (1992) leave the choice open; Sutton & Barto (2018), section 2.2.

    >>> epsilon_greedy(np.array([[1.0, 1.0, 0.0, 0.0]]), 0.2)
    array([[0.45, 0.45, 0.05, 0.05]])
    """
    require_unit(epsilon=epsilon)
    best = Q.max(axis=1, keepdims=True) == Q
    return (1 - epsilon) * best / best.sum(axis=1, keepdims=True) + epsilon / Q.shape[1]


def hard_maximum(Q: Float[Array, "n A"]) -> Float[Array, " n"]:
    """V(s) = max_a Q(s, a), eq-bellman-opt-q."""
    return Q.max(axis=1)


def require_states(n_states: int, **states: Int[Array, "..."]) -> None:
    """Raise `ValueError` unless all are numbers of states."""
    for name, numbers in states.items():
        inside = (numbers >= 0) & (numbers < n_states)
        require(bool(inside.all()), name, numbers, f"states are 0 to {n_states - 1}")


def q_learning(
    moves: Int[Array, "S A"],
    entering: Float[Array, "n S"],
    start: int,
    n_steps: int,
    rng: np.random.Generator,
    *,
    act: Callable[[Float[Array, "n A"]], Float[Array, "n A"]],
    value: Callable[[Float[Array, "n A"]], Float[Array, " n"]],
    gamma: float = 0.95,
    step_size: float = 0.5,
    horizon: int = 60,
) -> QRun:
    """Walk, and after each step move Q(s, a) towards r + gamma V(s').

    Walks of `horizon` steps begin at `start`; their end is a time limit, after which
    the last state still has its value.

    Args:
        moves: the state that each action leads to [S, A].
        entering: for each seed the reward for entering a state [n, S].
        start: where walks begin.
        n_steps: number of steps T of each seed, at least 1.
        rng: source of the randomness: one number for each step and seed.
        act: probabilities of the actions [n, A] for rows of action values [n, A].
        value: value [n] of states with these rows of action values.
        gamma: discount, 0 <= gamma < 1.
        step_size: of each update, above 0 to 1.
        horizon: steps of a walk, at least 1.

    Raises:
        ValueError: moves to or a start at no state, rewards of another shape or not
            finite, numbers out of range.

    Source: Watkins & Dayan (1992); with the soft maximum, eq-soft-bellman-q and
    eq-soft-bellman-v;
        Fox et al. (2016); Haarnoja et al. (2017), section 3.
    """
    n_seeds, n_states = entering.shape
    require_finite(entering=entering)
    require_at_least(1, n_steps=n_steps, horizon=horizon)
    require_discount(gamma=gamma)
    require(0 < step_size <= 1, "step_size", step_size, "allowed is 0 < step_size <= 1")
    require(
        len(moves) == n_states,
        "moves",
        f"an array of shape {moves.shape}",
        f"with rewards for entering {n_states} states it must be [{n_states}, A]",
    )
    require_states(n_states, moves=moves, start=np.array(start))
    each = np.arange(n_seeds)
    Q = np.zeros((n_seeds, *moves.shape))
    visits = np.zeros((n_seeds, n_states), dtype=int)
    luck = rng.random((n_steps, n_seeds, 1))
    for t in range(n_steps):
        if t % horizon == 0:
            state = np.full(n_seeds, start)
        below = act(Q[each, state]).cumsum(axis=1)[:, :-1]
        action = (below <= luck[t]).sum(axis=1)
        landed = moves[state, action]
        target = entering[each, landed] + gamma * value(Q[each, landed])
        Q[each, state, action] += step_size * (target - Q[each, state, action])
        visits[each, landed] += 1
        state = landed
    return QRun(Q, visits)
