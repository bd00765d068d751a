"""A bridge: a world with two knobs, small enough to see the whole objective and every climb on it.

A walker stands before a bridge. Turning away pays a little and ends the walk. On the bridge,
crossing pays more, and turning back nothing; either ends the walk. A knob for each of the two
places is the logit of going on, so the objective is a landscape over a square.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from rl_helpers.mdp import planning
from rl_helpers.mdp.process import MDP, Array
from rl_helpers.mdp.returns import discounted_returns
from rl_helpers.mdp.trajectories import occupancy, sample_trajectories
from rl_helpers.validation import require_at_least, require_finite, require_positive


def bridge(gamma: float = 0.9) -> MDP:
    """The process: in states 0 and 1 action 0 turns away and action 1 goes on.

    Args:
        gamma: discount, 0 <= gamma < 1.

    Returns:
        An MDP whose walks start in state 0 and have at most two steps that pay.
    """
    P = np.zeros((3, 2, 3))
    P[..., 2] = 1.0
    P[0, 1] = [0.0, 1.0, 0.0]
    R = np.array([[1.0, 0.0], [0.0, 1.8], [0.0, 0.0]])
    return MDP(P, R, gamma, np.array([1.0, 0.0, 0.0]))


def probabilities(theta: Float[Array, "*n 2"]) -> Float[Array, "*n 2"]:
    """Probability of going on in each place, the logistic function of its knob."""
    return 1 / (1 + np.exp(-np.asarray(theta, dtype=float)))


def policy(go_on: Float[Array, " 2"]) -> Float[Array, "3 2"]:
    """The policy that goes on with these probabilities; at the end actions do nothing."""
    p = np.append(go_on, 0.5)
    return np.stack([1 - p, p], axis=1)


def slope(mdp: MDP, theta: Float[Array, " 2"]) -> Float[Array, " 2"]:
    """Exact gradient of the objective: visits times probability times advantage of going on.

    Args:
        mdp: `bridge()`.
        theta: the two knobs.

    Source: eq-pg-theorem, for knobs that are logits.
    """
    pi = policy(probabilities(theta))
    weighted = occupancy(mdp, pi) * planning.advantage(mdp, pi)
    return weighted[:2, 1] / (1 - mdp.gamma)


def estimate(
    mdp: MDP,
    theta: Float[Array, " 2"],
    episodes: int,
    rng: np.random.Generator,
    *,
    advantages: bool = False,
) -> Float[Array, " 2"]:
    """The same gradient, estimated from sampled walks.

    Args:
        mdp: `bridge()`.
        theta: the two knobs.
        episodes: number of walks that are averaged, at least 1.
        rng: source of the randomness.
        advantages: weigh each action by its exact advantage, as a perfect critic would, and not by
            the return that followed it.

    Source: eq-pg-theorem, second form; with advantages, its first form with the baseline V.
    """
    require_at_least(1, episodes=episodes)
    go_on = probabilities(theta)
    pi = policy(go_on)
    states, actions, rewards = sample_trajectories(mdp, pi, episodes, 2, rng)
    states = states[:, :-1]
    weights = discounted_returns(rewards, mdp.gamma)
    if advantages:
        weights = planning.advantage(mdp, pi)[states, actions]
    weights = mdp.gamma ** np.arange(2) * weights * (actions - pi[states, 1])  # times the score
    return np.array([weights[states == place].sum() for place in (0, 1)]) / episodes


def climb(
    gradient: Callable[[Float[Array, " 2"]], Float[Array, " 2"]],
    start: Float[Array, " 2"],
    *,
    steps: int = 60,
    step_size: float = 1.0,
) -> Float[Array, "steps_and_start 2"]:
    """Gradient ascent on the knobs.

    Args:
        gradient: the gradient, or an estimate, at given knobs.
        start: the first knobs.
        steps: number of steps, at least 1.
        step_size: positive.

    Returns:
        The knobs at the start and after each step.
    """
    require_at_least(1, steps=steps)
    require_positive(step_size=step_size)
    require_finite(start=start)
    path = [np.asarray(start, dtype=float)]
    for _ in range(steps):
        path.append(path[-1] + step_size * gradient(path[-1]))
    return np.array(path)


def climbs(
    mdp: MDP,
    start: Float[Array, " 2"],
    runs: int,
    episodes: int,
    rng: np.random.Generator,
    *,
    advantages: bool = False,
) -> Float[Array, "runs steps_and_start 2"]:
    """Independent climbs along estimates: knobs of each run at the start and after each step.

    Args:
        mdp: `bridge()`.
        start: the first knobs.
        runs: number of climbs, at least 1.
        episodes, rng, advantages: as for `estimate`.
    """
    require_at_least(1, runs=runs)

    def sampled(theta: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return estimate(mdp, theta, episodes, rng, advantages=advantages)

    return np.array([climb(sampled, start) for _ in range(runs)])


def distance(runs: Float[Array, "runs n 2"], path: Float[Array, "m 2"]) -> Float[Array, " runs"]:
    """How far each run is from a path, on average: in probability, to the path's nearest point.

    Args:
        runs: knobs of each run, in turn.
        path: knobs along the path.
    """
    apart = probabilities(runs)[:, :, None] - probabilities(path)  # [runs, n, m, 2]
    return np.linalg.norm(apart, axis=-1).min(axis=2).mean(axis=1)


def landscape(mdp: MDP, p: Float[Array, " n"]) -> Float[Array, "n n"]:
    """The objective over the square: rows for going on on the bridge, columns for before it.

    Args:
        mdp: `bridge()`.
        p: the probabilities that both axes step through.
    """
    return np.array([[planning.objective(mdp, policy(np.array([x, y]))) for x in p] for y in p])
