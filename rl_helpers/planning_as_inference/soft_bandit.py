"""REINFORCE with entropy on a bandit whose favourite arm breaks: every seed in one batch.

Shapes: K arms, n seeds; arrays that the loop updates have the arms first, as in
`policy_gradients.bandits`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from rl_helpers.mdp.process import Array
from rl_helpers.planning_as_inference.soft_planning import bonus
from rl_helpers.policy_gradients.bandits import softmax, softmax_score
from rl_helpers.validation import require, require_at_least, require_positive, require_unit


@dataclass(frozen=True)
class BrokenArmRun:
    """What n independent runs of T pulls, and T more after the break, left.

    Args:
        arms: effective number of arms, e to the entropy of the policy, before each pull [n, 2T].
        rewards: expected reward of each pull [n, 2T].
    """

    arms: Float[Array, "n T2"]
    rewards: Float[Array, "n T2"]

    def recovery(self, enough: float) -> Int[Array, " n"]:
        """Pulls after the break until the expected reward is `enough`; T if it never is."""
        good = self.rewards[:, self.rewards.shape[1] // 2 :] >= enough
        return np.where(good.any(axis=1), good.argmax(axis=1), good.shape[1])


def reinforce_broken_arm(
    means: Float[Array, " K"],
    steps: int,
    seeds: int,
    rng: np.random.Generator,
    *,
    alpha: float,
    step_size: float,
    noise: float = 0.5,
    baseline: float = 0.05,
) -> BrokenArmRun:
    """REINFORCE with entropy; after `steps` pulls the likeliest arm pays 0.

    Args:
        means: mean reward of each arm [K].
        steps: pulls before the break, and after it, at least 1.
        seeds: number of runs n, at least 1.
        rng: source of the randomness.
        alpha: temperature of the entropy, at least 0, in units of reward a nat.
        step_size: of the gradient steps, positive.
        noise: standard deviation of the rewards' normal noise, at least 0.
        baseline: weight of the newest signal in the running mean, 0 (none) to 1.

    Raises:
        ValueError: fewer than two arms, numbers out of range.

    Source: eq-maxent-pg in a single state; Williams (1992).
    """
    several = np.ndim(means) == 1 and len(means) > 1
    require(several, "means", means, "it must hold at least two")
    require_at_least(1, steps=steps, seeds=seeds)
    require_at_least(0, alpha=alpha, noise=noise)
    require_positive(step_size=step_size)
    require_unit(baseline=baseline)
    every = np.arange(seeds)
    mu = np.tile(np.asarray(means, dtype=float)[:, None], seeds)
    z, b = np.zeros((len(mu), seeds)), np.zeros(seeds)
    arms, rewards = np.empty((2, 2 * steps, seeds))
    luck = rng.random((2 * steps, seeds))
    noises = noise * rng.normal(size=(2 * steps, seeds))
    for t in range(2 * steps):
        pi = softmax(z)
        if t == steps:
            mu[pi.argmax(axis=0), every] = 0.0
        arms[t], rewards[t] = np.exp(bonus(pi.T)), (pi * mu).sum(axis=0)
        arm = (pi[:-1].cumsum(axis=0) < luck[t]).sum(axis=0)
        r = mu[arm, every] + noises[t]
        signal = r - alpha * np.log(pi[arm, every]) - b
        z += step_size * signal * softmax_score(pi, arm)
        b += baseline * signal
    return BrokenArmRun(arms.T, rewards.T)
