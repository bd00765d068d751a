"""Q-learning and REINFORCE of one seed, written out, to compare the batched loops with.

Shared with the batched loops are only the random numbers: they draw those of all seeds at once, and
a plain loop is given its own seed's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np


def q_learning(
    moves: np.ndarray,
    entering: np.ndarray,
    start: int,
    luck: Sequence[float],
    act: Callable[[list[float]], list[float]],
    value: Callable[[list[float]], float],
    gamma: float,
    step_size: float,
    horizon: int,
) -> tuple[list[list[float]], list[int]]:
    """The table at the end, and how often each state was entered."""
    Q = [[0.0] * moves.shape[1] for _ in moves]
    visits = [0] * len(moves)
    state, since = start, 0
    for number in luck:
        if since == horizon:
            state, since = start, 0
        action, total = 0, 0.0
        for a, probability in enumerate(act(Q[state])):
            total += probability
            if number < total:
                action = a
                break
        landed = int(moves[state][action])
        error = entering[landed] + gamma * value(Q[landed]) - Q[state][action]
        Q[state][action] += step_size * error
        visits[landed] += 1
        state, since = landed, since + 1
    return Q, visits


def boltzmann(alpha: float) -> Callable[[list[float]], list[float]]:
    def act(row: list[float]) -> list[float]:
        weights = [math.exp(q / alpha) for q in row]
        return [w / sum(weights) for w in weights]

    return act


def log_mean(alpha: float) -> Callable[[list[float]], float]:
    return lambda row: alpha * math.log(sum(math.exp(q / alpha) for q in row) / len(row))


def epsilon_greedy(epsilon: float) -> Callable[[list[float]], list[float]]:
    def act(row: list[float]) -> list[float]:
        ties = row.count(max(row))
        return [epsilon / len(row) + ((1 - epsilon) / ties if q == max(row) else 0.0) for q in row]

    return act


def reinforce_broken_arm(
    means: Sequence[float],
    steps: int,
    luck: Sequence[float],
    noises: Sequence[float],
    alpha: float,
    step_size: float,
    weight: float,
) -> tuple[list[float], list[float]]:
    """Effective number of arms, and expected reward, before each pull."""
    mu, z, baseline = list(means), [0.0] * len(means), 0.0
    arms, rewards = [], []
    for t in range(2 * steps):
        total = sum(math.exp(x) for x in z)
        pi = [math.exp(x) / total for x in z]
        if t == steps:
            mu[pi.index(max(pi))] = 0.0
        arms.append(math.exp(-sum(p * math.log(p) for p in pi)))
        rewards.append(sum(p * m for p, m in zip(pi, mu, strict=True)))
        arm, reached = len(pi) - 1, 0.0
        for k, p in enumerate(pi[:-1]):
            reached += p
            if reached >= luck[t]:
                arm = k
                break
        pay = mu[arm] + noises[t] - alpha * math.log(pi[arm])
        for k, p in enumerate(pi):
            z[k] += step_size * (pay - baseline) * ((k == arm) - p)
        baseline = (1 - weight) * baseline + weight * pay
    return arms, rewards
