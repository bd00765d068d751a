"""The batched tabular loops learn what plain loops of one seed learn, seed by seed."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from rl_helpers.mdp.gridworld import gridworld
from rl_helpers.planning_as_inference import soft_bandit, soft_planning, soft_q_learning
from tests.planning_as_inference import plain_soft_loops
from tests.planting import plant

WORLD = gridworld(["S...", ".#..", "...."], slip=0.0)
MOVES, N, STEPS = WORLD.mdp.P.argmax(axis=2), 5, 300
ENTERING = np.random.default_rng(1).normal(size=(N, WORLD.mdp.n_states))
UNIFORM = np.full((N, 4), 0.25)
START, SETTINGS = 4, {"gamma": 0.8, "step_size": 0.3, "horizon": 17}
MEANS, PULLS = np.array([1.0, 0.8, 0.3]), 150


def batched(kind: str) -> soft_q_learning.QRun:
    ways: dict[str, Any] = {
        "soft": (
            partial(soft_planning.boltzmann, temperature=0.4),
            partial(soft_planning.soft_maximum, temperature=0.4, reference=UNIFORM),
        ),
        "hard": (
            partial(soft_q_learning.epsilon_greedy, epsilon=0.3),
            soft_q_learning.hard_maximum,
        ),
    }
    act, value = ways[kind]
    return soft_q_learning.q_learning(
        MOVES, ENTERING, START, STEPS, np.random.default_rng(2), act=act, value=value, **SETTINGS
    )


def assert_every_seed_is_the_plain_loop(run: soft_q_learning.QRun, kind: str) -> None:
    luck = np.random.default_rng(2).random((STEPS, N, 1))
    ways: dict[str, Any] = {
        "soft": (plain_soft_loops.boltzmann(0.4), plain_soft_loops.log_mean(0.4)),
        "hard": (plain_soft_loops.epsilon_greedy(0.3), max),
    }
    for i in range(N):
        Q, visits = plain_soft_loops.q_learning(
            MOVES, ENTERING[i], START, list(luck[:, i, 0]), *ways[kind], **SETTINGS
        )
        np.testing.assert_array_equal(run.visits[i], visits)
        np.testing.assert_allclose(run.Q[i], Q, rtol=1e-10, atol=1e-12)


def pulled(alpha: float) -> soft_bandit.BrokenArmRun:
    return soft_bandit.reinforce_broken_arm(
        MEANS, PULLS, N, np.random.default_rng(3), alpha=alpha, step_size=0.2, noise=0.4,
        baseline=0.1,
    )  # fmt: skip


def assert_every_run_is_the_plain_loop(run: soft_bandit.BrokenArmRun, alpha: float) -> None:
    rng = np.random.default_rng(3)
    luck, noises = rng.random((2 * PULLS, N)), 0.4 * rng.normal(size=(2 * PULLS, N))
    for i in range(N):
        arms, rewards = plain_soft_loops.reinforce_broken_arm(
            list(MEANS), PULLS, list(luck[:, i]), list(noises[:, i]), alpha, 0.2, 0.1
        )
        np.testing.assert_allclose(run.arms[i], arms, rtol=1e-9)
        np.testing.assert_allclose(run.rewards[i], rewards, rtol=1e-9)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_q_learning(kind: str) -> None:
    run = batched(kind)
    assert (run.visits.sum(axis=1) == STEPS).all()
    assert_every_seed_is_the_plain_loop(run, kind)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_reinforce_with_entropy(alpha: float) -> None:
    assert_every_run_is_the_plain_loop(pulled(alpha), alpha)


MISTAKES = [
    ("no discount", "soft_q_learning.py", "+ gamma * value", "+ value", "soft"),
    ("the value of the state left", "soft_q_learning.py", "value(Q[each, landed])",
     "value(Q[each, state])", "soft"),
    ("the first seed's reward for all", "soft_q_learning.py", "entering[each, landed]",
     "entering[0, landed]", "hard"),
    ("acts on the first seed's table", "soft_q_learning.py", "act(Q[each, state])",
     "act(Q[0, state])", "hard"),
    ("the first step size is 1", "soft_q_learning.py", "+= step_size * (target", "+= (target", "soft"),
    ("walks never end", "soft_q_learning.py", "if t % horizon == 0:", "if t == 0:", "hard"),
    ("walks end one step late", "soft_q_learning.py", "if t % horizon == 0:",
     "if t % (horizon + 1) == 0:", "hard"),
    ("the start counts as entered", "soft_q_learning.py", "visits[each, landed] += 1",
     "visits[each, state] += 1", "soft"),
    ("the first of ties", "soft_q_learning.py", "best = Q.max(axis=1, keepdims=True) == Q",
     "best = np.eye(Q.shape[1])[Q.argmax(axis=1)]", "hard"),
    ("ties counted twice", "soft_q_learning.py", "best / best.sum(axis=1, keepdims=True)", "best", "hard"),
    ("log of the sum", "soft_planning.py", "return np.log(reference)",
     "return 0 * np.log(reference)", "soft"),
    ("alpha dropped in the policy", "soft_planning.py",
     "z = Q / temperature + log_weights(Q, reference)\n    weights",
     "z = Q + log_weights(Q, reference)\n    weights", "soft"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "right", "wrong", "kind"), [pytest.param(*rest, id=what) for what, *rest in MISTAKES]
)
def test_a_mistake_in_q_learning_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, file: str, right: str, wrong: str, kind: str
) -> None:
    plant(monkeypatch, f"planning_as_inference/{file}", right, wrong)
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(batched(kind), kind)


BANDIT_MISTAKES = {
    "alpha dropped": ("- alpha * np.log", "- np.log"),
    "entropy is punished": ("- alpha * np.log", "+ alpha * np.log"),
    "no baseline": (" - b\n", "\n"),
    "the reward without entropy in the baseline": (
        "b += baseline * signal",
        "b += baseline * (r - b)",
    ),
    "the score without pi": ("softmax_score(pi, arm)", "(softmax_score(pi, arm) + pi)"),
    "the worst arm breaks": ("pi.argmax(axis=0)", "pi.argmin(axis=0)"),
    "it breaks one pull late": ("if t == steps:", "if t == steps + 1:"),
    "the first run's noise for all": ("+ noises[t]", "+ noises[t, 0]"),
    "arms after the step": ("np.exp(bonus(pi.T))", "np.exp(bonus(softmax(z + 0.01).T) + 1e-6)"),
}


@pytest.mark.parametrize(("right", "wrong"), BANDIT_MISTAKES.values(), ids=BANDIT_MISTAKES.keys())
def test_a_mistake_in_the_bandit_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str
) -> None:
    plant(monkeypatch, "planning_as_inference/soft_bandit.py", right, wrong)
    with pytest.raises(AssertionError):
        assert_every_run_is_the_plain_loop(pulled(0.3), 0.3)


def test_recovery_by_hand() -> None:
    rewards = np.array([[1.0, 1.0, 0.0, 0.2, 0.9], [1.0, 1.0, 0.9, 0.0, 0.0]])
    padded = np.concatenate([np.ones((2, 1)), rewards], axis=1)  # three pulls, then three
    run = soft_bandit.BrokenArmRun(padded, padded)
    assert run.recovery(0.9).tolist() == [2, 0]
    assert run.recovery(2.0).tolist() == [3, 3]


def test_soft_q_learning_finds_the_soft_values() -> None:
    """Where every state is visited again and again, up to the constant of the log-mean."""
    rng = np.random.default_rng(0)
    run = soft_q_learning.q_learning(
        MOVES, np.tile(ENTERING[:1], (N, 1)), START, 4_000, rng, gamma=0.5, step_size=1.0,
        act=lambda Q: np.full_like(Q, 0.25),
        value=partial(soft_planning.soft_maximum, temperature=0.4, reference=UNIFORM),
    )  # fmt: skip
    mdp = type(WORLD.mdp)(WORLD.mdp.P, ENTERING[0][MOVES], 0.5)
    plan = soft_planning.soft_policy_iteration(mdp, 0.4, np.full(mdp.R.shape, 0.25))
    found = soft_planning.soft_maximum(run.Q[3], 0.4, np.full(mdp.R.shape, 0.25))
    assert found == pytest.approx(plan.V, abs=1e-8)


def test_bad_input(untyped: None) -> None:
    def learn(**changed: Any) -> None:
        given: dict[str, Any] = {
            "moves": MOVES, "entering": ENTERING, "start": 0, "n_steps": 3,
            "rng": np.random.default_rng(0), "act": lambda Q: np.full_like(Q, 0.25),
            "value": soft_q_learning.hard_maximum,
        }  # fmt: skip
        soft_q_learning.q_learning(**{**given, **changed})

    learn()
    wrong: dict[str, dict[str, Any]] = {
        "n_steps is 0": {"n_steps": 0},
        "horizon is 0": {"horizon": 0},
        "gamma is 1; allowed": {"gamma": 1},
        "step_size is 0; allowed": {"step_size": 0},
        "step_size is 1.1; allowed": {"step_size": 1.1},
        "entering holds": {"entering": np.full_like(ENTERING, np.nan)},
        r"moves is an array of shape \(3, 4\)": {"moves": MOVES[:3]},
        "start is 11; states are 0 to 10": {"start": 11},
        "states are 0 to 10": {"moves": MOVES - 1},
    }
    for match, changed in wrong.items():
        with pytest.raises(ValueError, match=match):
            learn(**changed)
    with pytest.raises(ValueError, match="epsilon is 2"):
        soft_q_learning.epsilon_greedy(np.zeros((1, 2)), 2)
    wrong = {
        "means is": {"means": np.ones(1)},
        "alpha is -1": {"alpha": -1},
        "noise is -1": {"noise": -1},
        "step_size is 0": {"step_size": 0},
        "baseline is 2": {"baseline": 2},
        "steps is 0": {"steps": 0},
        "seeds is 0": {"seeds": 0},
    }
    for match, changed in wrong.items():
        given: dict[str, Any] = {
            "means": MEANS, "steps": 1, "seeds": 1, "rng": np.random.default_rng(0),
            "alpha": 0.1, "step_size": 0.1,
        }  # fmt: skip
        with pytest.raises(ValueError, match=match):
            soft_bandit.reinforce_broken_arm(**{**given, **changed})
