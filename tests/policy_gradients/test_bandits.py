"""Bandits: by hand, as properties, and against plain loops and quadrature."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bandits import plain_reinforce, plain_thompson
from rl_helpers.policy_gradients import bandits
from rl_helpers.policy_gradients.bandits import (
    BanditRun,
    bernoulli_kl,
    beta_update,
    lai_robbins,
    reinforce_bandit,
    softmax,
    softmax_score,
    thompson_choice,
    thompson_sampling,
)

MEANS = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
BOTH = pytest.mark.parametrize("algorithm", [thompson_sampling, reinforce_bandit])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- By hand ------------------------------------------------------------------------------------


def test_regret() -> None:
    # Gaps 0.5 and 0. Pulls 0, 1, 0 cost 0.5, 0, 0.5; rewards 1, 0, 1 are -0.25, 0.75, -0.25 off.
    run = BanditRun(np.array([0.25, 0.75]), np.array([[0, 1, 0]]), np.array([[True, False, True]]))
    np.testing.assert_allclose(run.pseudo_regret(), [[0.5, 0.5, 1.0]])
    np.testing.assert_allclose(run.realised_regret(), [[-0.25, 0.5, 0.25]])


def test_stuck() -> None:
    actions = np.array([[1, 0, 0, 0], [0, 2, 2, 2], [2, 0, 1, 0], [1, 1, 1, 1]])
    run = BanditRun(np.array([0.2, 0.4, 0.4]), actions, np.zeros((4, 4), dtype=bool))
    assert run.stuck(last=3).tolist() == [True, False, False, False]  # two arms are best
    assert run.stuck(last=1).tolist() == [True, False, True, False]


def test_beta_update() -> None:
    a, b = np.full((2, 2), 2.0), np.full((2, 2), 3.0)
    beta_update(a, b, np.array([0, 1]), np.array([True, False]))
    assert a.tolist() == [[3, 2], [2, 2]]
    assert b.tolist() == [[3, 3], [3, 4]]


def test_score() -> None:
    # One run with weights 1, 3: pi = (1/4, 3/4). The score of arm 1 is (-1/4, 1 - 3/4).
    pi = softmax(np.array([[0.0], [math.log(3)]]))
    np.testing.assert_allclose(pi, [[0.25], [0.75]])
    np.testing.assert_allclose(softmax_score(pi, np.array([1])), [[-0.25], [0.25]])


def test_divergence() -> None:
    # KL(1/2, 1/4) = log 2 / 2 + log(2/3) / 2 = log(4/3) / 2
    np.testing.assert_allclose(bernoulli_kl(0.5, 0.25), math.log(4 / 3) / 2)
    divergence = bernoulli_kl(np.array([0, 1, 0, 1]), np.array([0.25, 0.25, 0, 1]))
    np.testing.assert_allclose(divergence, [math.log(4 / 3), math.log(4), 0, 0])
    assert bernoulli_kl(0.5, 1.0) == math.inf


def test_lower_bound() -> None:
    # One arm is worse: 1/4 / (log(4/3) / 2). The other best arm costs nothing.
    assert lai_robbins(np.array([0.5, 0.25, 0.5])) == pytest.approx(
        0.25 / (0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    )
    assert lai_robbins(MEANS) == pytest.approx(3.1208, abs=1e-4)
    assert lai_robbins(np.array([0.5, 1.0])) == 0  # the worse arm fails once, and is ruled out
    assert lai_robbins(np.array([0.5, 0.5])) == 0


# ---- Properties ---------------------------------------------------------------------------------


@BOTH
def test_shapes_and_repetition(algorithm: Any) -> None:
    run = algorithm(MEANS, 7, 4, rng(1))
    assert run.actions.shape == run.rewards.shape == run.pseudo_regret().shape == (4, 7)
    assert run.actions.min() >= 0
    assert run.actions.max() < 5
    again = algorithm(MEANS, 7, 4, rng(1))
    assert (run.actions == again.actions).all()
    assert (run.rewards == again.rewards).all()
    assert not (algorithm(MEANS, 7, 4, rng(2)).actions == run.actions).all()


@BOTH
def test_rewards_are_those_of_the_arm_pulled(algorithm: Any) -> None:
    run = algorithm(np.array([0.0, 1.0]), 50, 20, rng())
    assert (run.rewards == (run.actions == 1)).all()
    run = algorithm(MEANS, 200, 200, rng())
    for arm, mean in enumerate(MEANS):
        rewards = run.rewards[run.actions == arm]
        error = math.sqrt(mean * (1 - mean) / len(rewards))
        assert abs(rewards.mean() - mean) < 4 * error


@BOTH
def test_both_regrets_have_one_expectation(algorithm: Any) -> None:
    run = algorithm(MEANS, 100, 2_000, rng(3))
    difference = run.pseudo_regret()[:, -1] - run.realised_regret()[:, -1]
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(2_000)
    assert (np.diff(run.pseudo_regret(), axis=1) >= 0).all()


@BOTH
def test_learns(algorithm: Any) -> None:
    run = algorithm(MEANS, 500, 200, rng())
    uniform = 500 * (0.9 - 0.5)
    assert run.pseudo_regret()[:, -1].mean() < uniform / 4
    assert (run.actions[:, -100:] == 4).mean() > 0.9


@BOTH
def test_the_order_of_the_arms_does_not_matter(algorithm: Any) -> None:
    forward, backward = (algorithm(m, 200, 500, rng(4)) for m in (MEANS, MEANS[::-1].copy()))
    ends = [run.pseudo_regret()[:, -1] for run in (forward, backward)]
    error = math.sqrt(sum(end.var() / len(end) for end in ends))
    assert abs(ends[0].mean() - ends[1].mean()) < 4 * error


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_score_sums_to_zero_and_is_zero_in_expectation(seed: int, arms: int) -> None:
    z = rng(seed).normal(size=(arms, 3))
    pi = softmax(z)
    np.testing.assert_allclose(pi, softmax(z + 100))  # a shift changes nothing
    scores = np.stack([softmax_score(pi, np.full(3, arm)) for arm in range(arms)])
    np.testing.assert_allclose(scores.sum(axis=1), 0, atol=1e-14)
    np.testing.assert_allclose((pi[:, None] * scores).sum(axis=0), 0, atol=1e-14)


@given(st.floats(0, 1), st.floats(0.01, 0.99))
def test_divergence_is_at_least_pinskers_bound(p: float, q: float) -> None:
    assert bernoulli_kl(p, q) >= 2 * (p - q) ** 2 - 1e-12


def test_extreme_settings_stay_in_range() -> None:
    # A tiny prior draws means that are all but 0 or 1; a huge step gives one arm all the weight.
    run = thompson_sampling(MEANS, 50, 50, rng(), prior=(1e-3, 1e-3))
    assert 0 <= run.actions.min() <= run.actions.max() <= 4
    run = reinforce_bandit(MEANS, 50, 50, rng(), step_size=1e6)
    assert 0 <= run.actions.min() <= run.actions.max() <= 4


# ---- Against other hands ------------------------------------------------------------------------


def test_choice_against_quadrature() -> None:
    a, b = np.array([1.0, 3.0, 2.5]), np.array([2.0, 3.0, 0.5])
    arms = scipy.stats.beta(a, b)

    def density(theta: float, arm: int) -> float:
        others = np.delete(arms.cdf(theta), arm)
        return float(arms.pdf(theta)[arm] * others.prod())

    exact = [scipy.integrate.quad(density, 0, 1, args=(arm,))[0] for arm in range(3)]
    assert sum(exact) == pytest.approx(1, abs=1e-6)
    n = 20_000
    arm = thompson_choice(np.tile(a[:, None], n), np.tile(b[:, None], n), rng(5))
    share = np.bincount(arm, minlength=3) / n
    assert (np.abs(share - exact) < 4 * np.sqrt(np.array(exact) / n)).all()


def test_score_against_autograd() -> None:
    z = rng(6).normal(size=(4, 1))
    logits = torch.tensor(z[:, 0], requires_grad=True)
    for arm in range(4):
        torch.log_softmax(logits, dim=0)[arm].backward()
        score = softmax_score(softmax(z), np.array([arm]))[:, 0]
        np.testing.assert_allclose(logits.grad.numpy(), score, atol=1e-14)
        logits.grad = None


@pytest.mark.parametrize("baseline", [0.0, 0.05])
def test_reinforce_against_torchs_adam_step_by_step(baseline: float) -> None:
    # The same random numbers, so the same arms, in 300 steps in which every logit counts.
    steps, seeds = 300, 3
    run = reinforce_bandit(MEANS, steps, seeds, rng(7), step_size=0.1, baseline=baseline)
    threshold, luck = rng(7).random((2, steps, seeds))
    for seed in range(seeds):
        logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.Adam([logits], lr=0.1)
        mean_reward = 0.0
        for t in range(steps):
            log_pi = torch.log_softmax(logits, dim=0)
            below = log_pi.exp()[:-1].cumsum(dim=0) < threshold[t, seed]
            arm = int(below.sum())
            reward = float(luck[t, seed] < MEANS[arm])
            assert (arm, reward) == (run.actions[seed, t], run.rewards[seed, t])
            optimiser.zero_grad()
            (-log_pi[arm] * (reward - mean_reward)).backward()
            optimiser.step()
            mean_reward += baseline * (reward - mean_reward)


@pytest.mark.parametrize(
    ("plain", "batch"), [(plain_thompson, thompson_sampling), (plain_reinforce, reinforce_bandit)]
)
def test_mean_regret_against_the_plain_loops(plain: Any, batch: Any) -> None:
    means, steps = np.array([0.2, 0.5, 0.8]), 40
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        arms = np.array([plain(torch.tensor(means), steps) for _ in range(60)])
    slow = (0.8 - means)[arms].sum(axis=1)
    fast = batch(means, steps, 2_000, rng(8)).pseudo_regret()[:, -1]
    error = math.sqrt(slow.var() / len(slow) + fast.var() / len(fast))
    assert abs(slow.mean() - fast.mean()) < 4 * error
    assert abs(slow.mean() - steps * 0.3) > 4 * error  # a uniform choice is told apart


def test_the_loops_use_what_the_book_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    # The section replaces these two to show what a mistake in them does.
    monkeypatch.setattr(bandits, "thompson_choice", lambda a, b, rng: np.full(a.shape[1], 2))
    assert (thompson_sampling(MEANS, 5, 3, rng()).actions == 2).all()
    monkeypatch.setattr(bandits, "softmax_score", lambda pi, arm: 1e9 * np.eye(5)[:, [3] * 3])
    run = reinforce_bandit(np.ones(5), 50, 3, rng(), step_size=1.0)
    assert (run.actions[:, -10:] == 3).all()


# ---- Bad input ----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("means", "steps", "seeds", "message"),
    [
        ([0.5], 1, 1, "means is .*at least two numbers between 0 and 1"),
        ([0.5, 1.5], 1, 1, "means is .*between 0 and 1"),
        ([0.5, -0.1], 1, 1, "means is .*between 0 and 1"),
        ([0.5, math.nan], 1, 1, "means is .*between 0 and 1"),
        ([[0.5, 0.5]], 1, 1, "means is "),
        ([0.2, 0.5], 0, 1, "steps is 0 .*at least 1"),
        ([0.2, 0.5], 1, 0, "seeds is 0.*at least 1"),
    ],
)
@pytest.mark.usefixtures("untyped")
def test_bad_bandits(algorithm: Any, means: Any, steps: int, seeds: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        algorithm(np.array(means), steps, seeds, rng())


@pytest.mark.parametrize("prior", [(0.0, 1.0), (1.0, -1.0), (1.0, math.nan), (math.inf, 1.0)])
def test_bad_prior(prior: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"prior is .*both parameters must be positive and finite"):
        thompson_sampling(MEANS, 1, 1, rng(), prior=prior)


@pytest.mark.parametrize("step_size", [0.0, -0.1, math.nan, math.inf])
def test_bad_step_size(step_size: float) -> None:
    with pytest.raises(ValueError, match=r"step_size is .*must be positive and finite"):
        reinforce_bandit(MEANS, 1, 1, rng(), step_size=step_size)


@pytest.mark.parametrize("baseline", [-0.1, 1.1, math.nan])
def test_bad_baseline(baseline: float) -> None:
    with pytest.raises(ValueError, match=r"baseline is .*0 <= baseline <= 1"):
        reinforce_bandit(MEANS, 1, 1, rng(), baseline=baseline)


def test_bad_probabilities() -> None:
    with pytest.raises(ValueError, match=r"p is 1\.5; allowed"):
        bernoulli_kl(1.5, 0.5)
    with pytest.raises(ValueError, match="q is nan; allowed"):
        bernoulli_kl(0.5, math.nan)
    with pytest.raises(ValueError, match="means is "):
        lai_robbins(np.array([0.5, 2.0]))


def test_bad_stuck() -> None:
    run = thompson_sampling(MEANS, 3, 2, rng())
    for last in (0, 4):
        with pytest.raises(ValueError, match=f"last is {last}; allowed is 1 <= last <= 3 steps"):
            run.stuck(last)


def test_the_steps_that_are_taken_unless_others_are_asked_for() -> None:
    """They are the ones of the section's first figure."""
    given = reinforce_bandit(MEANS, 60, 3, rng(3), step_size=0.05, baseline=0.05)
    default = reinforce_bandit(MEANS, 60, 3, rng(3))
    other = reinforce_bandit(MEANS, 60, 3, rng(3), baseline=0.1)
    np.testing.assert_array_equal(default.actions, given.actions)
    assert (other.actions != given.actions).any()
