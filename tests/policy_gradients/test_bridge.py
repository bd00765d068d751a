"""The bridge: its slope against differences, its estimates against the slope, its climbs."""

from __future__ import annotations

import numpy as np
import pytest

from rl_helpers.mdp import planning
from rl_helpers.policy_gradients import bridge

MDP = bridge.bridge()
THETA = np.array([0.3, -0.7])


def objective(theta: np.ndarray) -> float:
    return planning.objective(MDP, bridge.policy(bridge.probabilities(theta)))


def test_the_objective_by_hand() -> None:
    p, q = bridge.probabilities(THETA)
    np.testing.assert_allclose([p, q], [0.574442517, 0.331812228], rtol=1e-8)
    worth = (1 - p) * 1.0 + p * 0.9 * q * 1.8  # turn away, or cross one step later
    np.testing.assert_allclose(objective(THETA), worth, rtol=1e-12)


def test_slope_against_differences() -> None:
    steps = 1e-6 * np.eye(2)
    slopes = [(objective(THETA + step) - objective(THETA - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(bridge.slope(MDP, THETA), slopes, rtol=1e-6)


@pytest.mark.parametrize("advantages", [False, True])
def test_estimates_are_right_on_average(advantages: bool) -> None:
    rng = np.random.default_rng(0)
    found = np.array(
        [bridge.estimate(MDP, THETA, 500, rng, advantages=advantages) for _ in range(200)]
    )
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - bridge.slope(MDP, THETA)) < 4 * error).all()
    assert (error < 0.003).all()


def test_one_walk_by_hand() -> None:
    """Knobs so large that the walker always crosses: nothing is drawn, and scores are known."""
    theta, p = np.array([40.0, 3.0]), 1 / (1 + np.exp(-3.0))
    rng = np.random.default_rng(3)
    found = np.array([bridge.estimate(MDP, theta, 1, rng) for _ in range(200)])
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-12)
    across = np.isclose(found[:, 1], 0.9 * 1.8 * (1 - p))  # discount, return, score
    assert (across | np.isclose(found[:, 1], 0)).all()  # turning back pays nothing
    assert 0.85 < across.mean() < 1


def test_climb_takes_steps() -> None:
    path = bridge.climb(lambda theta: theta + 1, np.zeros(2), steps=3, step_size=0.5)
    np.testing.assert_allclose(path[:, 0], [0, 0.5, 1.25, 2.375])
    assert path.shape == (4, 2)


def test_climbing_the_exact_slope_reaches_the_corner() -> None:
    path = bridge.climb(lambda theta: bridge.slope(MDP, theta), np.array([0.5, -1.2]), steps=200)
    worth = [objective(theta) for theta in path]
    assert (np.diff(worth) > 0).all()
    assert bridge.probabilities(path)[1:, 0].min() < bridge.probabilities(path[0])[0]
    assert worth[-1] > 0.95 * 0.9 * 1.8


def test_climbs_are_independent_and_kept_apart() -> None:
    runs = bridge.climbs(MDP, THETA, 3, 2, np.random.default_rng(0))
    assert runs.shape == (3, 61, 2)
    np.testing.assert_array_equal(runs[:, 0], [THETA] * 3)
    assert (np.abs(runs[0, -1] - runs[1:, -1]).max(axis=1) > 1e-3).all()
    rng = np.random.default_rng(0)
    first = bridge.climb(lambda theta: bridge.estimate(MDP, theta, 2, rng), THETA)
    np.testing.assert_array_equal(runs[0], first)
    known = bridge.climbs(MDP, THETA, 3, 2, np.random.default_rng(0), advantages=True)
    assert (known[0, -1] != runs[0, -1]).any()


def test_distance_by_hand() -> None:
    """Two runs of two points, in probabilities (0.5, 0.5) and (0.5, 0.8); a path of two points."""
    knob = np.log(4)  # the logit of 0.8
    runs = np.array([[[0, 0], [0, knob]], [[0, 0], [0, 0]]])
    path = np.array([[0, 0], [knob, knob]])
    np.testing.assert_allclose(bridge.distance(runs, path), [0.3 / 2, 0], atol=1e-12)


def test_the_landscape_has_rows_for_the_bridge() -> None:
    J = bridge.landscape(MDP, np.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(J[:, 0], 1)  # who never goes to the bridge does not care
    np.testing.assert_allclose(J[:, 2], 0.9 * 1.8 * np.array([0, 0.5, 1]))


def test_bad_arguments() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="episodes"):
        bridge.estimate(MDP, THETA, 0, rng)
    with pytest.raises(ValueError, match="runs"):
        bridge.climbs(MDP, THETA, 0, 1, rng)
    for bad in ({"steps": 0}, {"step_size": 0.0}, {"start": np.array([np.nan, 0])}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            bridge.climb(lambda theta: theta, **{"start": THETA, **bad})  # type: ignore[arg-type]
