"""Small decision processes for the tests of mdp and planning."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from rl_helpers.mdp.process import MDP, Array, random_mdp, random_policy

STAY, MOVE = 0, 1  # actions of `two_states`
UP, RIGHT, DOWN, LEFT = range(4)  # actions of a grid world


def two_states(gamma: float = 0.5) -> MDP:
    """State 0: staying pays 1, moving pays 2 and leads to state 1, which is absorbing, pays 0."""
    P = np.zeros((2, 2, 2))
    P[0, STAY, 0] = P[0, MOVE, 1] = P[1, :, 1] = 1.0
    return MDP(P, np.array([[1.0, 2.0], [0.0, 0.0]]), gamma, np.array([1.0, 0.0]))


@st.composite
def models(draw: st.DrawFn, largest: int = 5) -> tuple[MDP, Array, np.random.Generator]:
    """A generic MDP, a generic policy for it, and a generator for whatever else a test needs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    states, actions = draw(st.integers(1, largest)), draw(st.integers(1, 4))
    mdp = random_mdp(rng, states, actions, draw(st.sampled_from([0.0, 0.3, 0.9, 0.97])))
    return mdp, random_policy(rng, states, actions), rng
