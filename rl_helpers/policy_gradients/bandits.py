"""Bernoulli bandits: Thompson sampling and REINFORCE, every seed of an experiment in one batch.

Shapes: n seeds, T steps, K arms. A seed is one independent run of the algorithm and its rewards.
What the loops update has the arms first, [K, n]: NumPy is fastest along the long last axis.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import rel_entr

from rl_helpers.validation import require_unit

Array = np.ndarray


@dataclass(frozen=True)
class BanditRun:
    """What happened in n independent runs of T steps.

    Args:
        means: mean reward of each arm [K].
        actions: arm pulled [n, T].
        rewards: reward received, 0 or 1 [n, T].
    """

    means: Float[Array, " K"]
    actions: Int[Array, "n T"]
    rewards: Bool[Array, "n T"]

    def pseudo_regret(self) -> Float[Array, "n T"]:
        """Cumulative sum of mu* - mu of the arm pulled: regret without the noise of the rewards.

        Source: eq-regret.
        """
        gaps = self.means.max() - self.means
        return gaps[self.actions].cumsum(axis=1)

    def realised_regret(self) -> Float[Array, "n T"]:
        """Cumulative sum of mu* - r: the same expectation, and the rewards' noise on top."""
        return (self.means.max() - self.rewards).cumsum(axis=1)

    def stuck(self, last: int = 100) -> Bool[Array, " n"]:
        """Whether a run's last pulls were all of one arm that is not a best one."""
        steps = self.actions.shape[1]
        if not 1 <= last <= steps:
            raise ValueError(f"last is {last}; allowed is 1 <= last <= {steps} steps")
        end = self.actions[:, -last:]
        wrong = self.means[end[:, 0]] < self.means.max()
        return wrong & (end == end[:, :1]).all(axis=1)


def beta_update(
    a: Float[Array, "K n"],
    b: Float[Array, "K n"],
    arm: Int[Array, " n"],
    reward: Bool[Array, " n"],
) -> None:
    """Turn each run's prior Beta(a, b) of its arm into the posterior, in place.

    Source: eq-beta-posterior.
    """
    every = np.arange(len(arm))
    a[arm, every] += reward
    b[arm, every] += 1 - reward


def thompson_choice(
    a: Float[Array, "K n"], b: Float[Array, "K n"], rng: np.random.Generator
) -> Int[Array, " n"]:
    """The arm whose mean, drawn from its Beta(a, b) posterior, is the largest.

    Source: eq-thompson; Thompson (1933).
    """
    return rng.beta(a, b).argmax(axis=0)


def thompson_sampling(
    means: Float[Array, " K"],
    steps: int,
    seeds: int,
    rng: np.random.Generator,
    *,
    prior: tuple[float, float] = (1.0, 1.0),
) -> BanditRun:
    """Pull the arm that looks best in a draw from the posterior; then update its posterior.

    Args:
        means: mean reward of each arm [K], each between 0 and 1.
        steps: number of pulls T, at least 1.
        seeds: number of runs n, at least 1.
        rng: source of the randomness.
        prior: parameters (a, b) of each arm's Beta prior, both positive.

    Raises:
        ValueError: means outside [0, 1] or fewer than two arms, steps or seeds below 1, prior not
            positive and finite.

    Source: eq-beta-posterior and eq-thompson; Thompson (1933).
    """
    mu = _check(means, steps, seeds)
    if not all(0 < x < math.inf for x in prior):
        raise ValueError(f"prior is {prior}; both parameters must be positive and finite")
    a, b = (np.full((len(mu), seeds), x, dtype=float) for x in prior)
    actions, rewards = np.empty((steps, seeds), dtype=int), np.empty((steps, seeds), dtype=bool)
    luck = rng.random((steps, seeds))
    for t in range(steps):
        arm = thompson_choice(a, b, rng)
        reward = luck[t] < mu[arm]
        beta_update(a, b, arm, reward)
        actions[t], rewards[t] = arm, reward
    return BanditRun(mu, actions.T, rewards.T)


def softmax(z: Float[Array, "K n"]) -> Float[Array, "K n"]:
    """Probability of each arm, proportional to exp(z)."""
    weights = np.exp(z - z.max(axis=0))
    return weights / weights.sum(axis=0)


def softmax_score(pi: Float[Array, "K n"], arm: Int[Array, " n"]) -> Float[Array, "K n"]:
    """Gradient of log pi(arm) in the logits: 1 at the arm, minus the probability of each arm.

    Source: eq-softmax-score.
    """
    return (np.arange(len(pi))[:, None] == arm) - pi


def reinforce_bandit(
    means: Float[Array, " K"],
    steps: int,
    seeds: int,
    rng: np.random.Generator,
    *,
    step_size: float = 0.05,
    baseline: float = 0.05,
) -> BanditRun:
    """REINFORCE on one logit an arm: Adam, and a running mean reward as baseline.

    Args:
        means: mean reward of each arm [K], each between 0 and 1.
        steps: number of pulls T, at least 1.
        seeds: number of runs n, at least 1.
        rng: source of the randomness.
        step_size: Adam's step size, positive.
        baseline: weight of the newest reward in the running mean, 0 (none) to 1.

    Raises:
        ValueError: means outside [0, 1] or fewer than two arms, steps or seeds below 1,
            step_size not positive and finite, baseline outside [0, 1].

    Source: eq-softmax-score; Williams (1992); Kingma & Ba (2015) for Adam.
    """
    mu = _check(means, steps, seeds)
    if not 0 < step_size < math.inf:
        raise ValueError(f"step_size is {step_size}; it must be positive and finite")
    require_unit(baseline=baseline)
    z, m, v = np.zeros((3, len(mu), seeds))  # logits, and Adam's two running moments
    mean_reward = np.zeros(seeds)
    actions = np.empty((steps, seeds), dtype=int)
    rewards = np.empty((steps, seeds), dtype=bool)
    threshold, luck = rng.random((2, steps, seeds))
    for t in range(steps):
        pi = softmax(z)
        # the first arm whose summed probability reaches the threshold, or else the last
        arm = (pi[:-1].cumsum(axis=0) < threshold[t]).sum(axis=0)
        reward = luck[t] < mu[arm]
        signal = reward - mean_reward
        gradient = signal * softmax_score(pi, arm)
        m += 0.1 * (gradient - m)
        v += 0.001 * (gradient**2 - v)
        m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        z += step_size * m_hat / (np.sqrt(v_hat) + 1e-8)
        mean_reward += baseline * signal
        actions[t], rewards[t] = arm, reward
    return BanditRun(mu, actions.T, rewards.T)


def bernoulli_kl(p: Array | float, q: Array | float) -> Float[Array, "..."]:
    """KL divergence of Bernoulli(p) from Bernoulli(q) in nats; infinite where only q is 0 or 1.

    Raises:
        ValueError: p or q outside [0, 1].
    """
    p, q = np.asarray(p, dtype=float), np.asarray(q, dtype=float)
    for name, x in {"p": p, "q": q}.items():
        if not ((x >= 0) & (x <= 1)).all():
            raise ValueError(f"{name} is {x}; allowed are numbers between 0 and 1")
    return np.asarray(rel_entr(p, q) + rel_entr(1 - p, 1 - q))


def lai_robbins(means: Float[Array, " K"]) -> float:
    """Sum over the other arms of gap / KL(mu_k, mu*): the least slope of regret against log T.

    The bound is about the limit of large T, and about algorithms whose regret grows more slowly
    than any power of T whatever the means.

    Raises:
        ValueError: means outside [0, 1] or fewer than two arms.

    Source: Lai & Robbins (1985).
    """
    mu = _check(means, 1, 1)
    others = mu[mu < mu.max()]
    return float(((mu.max() - others) / bernoulli_kl(others, np.full_like(others, mu.max()))).sum())


def _check(means: Float[Array, " K"], steps: int, seeds: int) -> Float[Array, " K"]:
    mu = np.asarray(means, dtype=float)
    if mu.ndim != 1 or len(mu) < 2 or not ((mu >= 0) & (mu <= 1)).all():
        raise ValueError(f"means is {means}; it must hold at least two numbers between 0 and 1")
    if steps < 1 or seeds < 1:
        raise ValueError(f"steps is {steps} and seeds is {seeds}; both must be at least 1")
    return mu
