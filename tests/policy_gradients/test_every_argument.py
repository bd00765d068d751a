"""Every argument that is checked is checked by itself: one bad one among good ones is named."""

from __future__ import annotations

import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from rl_helpers.mdp import trajectories
from rl_helpers.mdp.planning import bellman_backup, policy_value
from rl_helpers.mdp.process import MDP, random_mdp, under_policy, uniform_policy
from rl_helpers.mdp.returns import discounted_returns
from rl_helpers.policy_gradients import advantages, diagnostics, losses
from rl_helpers.policy_gradients.a2c import A2CConfig
from rl_helpers.policy_gradients.ppo import PPOConfig
from rl_helpers.policy_gradients.reinforce import ReinforceConfig
from rl_helpers.training import masks

CONFIGS = [A2CConfig, PPOConfig, ReinforceConfig]
COUNTS = {"n_envs", "n_steps", "n_epochs", "n_minibatches", "n_episodes"}
UNITS = {"gamma", "lambda_"}
# Checked when training begins, with what else they depend on, or allowed to be anything.
ELSEWHERE = {"total_steps", "evaluate_every", "hidden", "stop_at"}


def bad_settings() -> Iterator[tuple[Callable[..., Any], str, Any]]:
    for config in CONFIGS:
        for field in fields(config):
            name, default = field.name, field.default
            if name in ELSEWHERE or isinstance(default, bool):
                continue
            if name in COUNTS:
                bad: list[Any] = [0, -1]
            elif name in UNITS:
                bad = [-0.01, 1.01, math.nan]
            elif name == "entropy_coefficient":
                bad = [-0.01, math.nan]
            else:
                bad = [0.0, -0.1, math.nan]
            yield from ((config, name, value) for value in bad)


@pytest.mark.parametrize(("config", "name", "value"), list(bad_settings()))
def test_a_bad_setting_is_named(
    untyped: None, config: Callable[..., Any], name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {re.escape(str(value))}; "):
        config(**{name: value})


@pytest.mark.parametrize("config", CONFIGS)
def test_the_ends_of_what_is_allowed(config: Any) -> None:
    names = {field.name for field in fields(config)}
    for ends in (dict.fromkeys(UNITS, 0.0), dict.fromkeys(UNITS, 1.0)):
        config(**{name: end for name, end in ends.items() if name in names})
    config(**dict.fromkeys(COUNTS & names, 1))


STEPS = np.linspace(0.1, 0.7, 3)
OFF = np.zeros(3, dtype=bool)
X, LIVE = torch.full((2, 3), 0.5), torch.ones(2, 3, dtype=torch.bool)

# functions of arrays that must agree in shape
AGREEING: list[tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]] = [
    (advantages.td_errors,
     {"rewards": STEPS, "values": STEPS, "next_values": STEPS, "terminated": OFF}, {"gamma": 0.9}),
    (advantages.gae, {"deltas": STEPS, "ended": OFF}, {"gamma": 0.9, "lambda_": 0.9}),
    (advantages.bootstrapped_returns,
     {"rewards": STEPS, "next_values": STEPS, "terminated": OFF, "truncated": OFF}, {"gamma": 0.9}),
    (losses.policy_gradient_loss, {"log_probs": X, "advantages": X}, {}),
    (losses.value_loss, {"values": X, "targets": X}, {}),
    (losses.clipped_value_loss, {"values": X, "old_values": X, "targets": X}, {"epsilon": 0.2}),
    (losses.importance_ratio, {"log_probs": X, "old_log_probs": X}, {}),
    (losses.surrogate, {"ratio": X, "advantages": X}, {}),
    (losses.clipped_surrogate, {"ratio": X, "advantages": X}, {"epsilon": 0.2}),
    (diagnostics.approximate_kl, {"log_probs": X, "old_log_probs": X}, {}),
    (diagnostics.clip_fraction, {"ratio": X, "live": LIVE}, {"epsilon": 0.2}),
    (diagnostics.explained_variance, {"values": X, "targets": X, "live": LIVE}, {}),
    (masks.masked_mean, {"x": X, "live": LIVE}, {}),
    (masks.masked_variance, {"x": X, "live": LIVE}, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "arrays", "others", "name"),
    [(*case, name) for case in AGREEING for name in case[1]],
)
def test_an_array_of_another_shape_is_named(
    untyped: None, function: Callable[..., Any], arrays: dict[str, Any], others: dict[str, Any],
    name: str,
) -> None:  # fmt: skip
    assert set(inspect.signature(function).parameters) == {*arrays, *others}
    function(**arrays, **others)
    short = {**arrays, name: arrays[name][..., :2]}
    first = next(iter(arrays))
    said = rf"{name} has shape \(.*2,?\)" if name != first else rf"{first} has \(.*2,?\)"
    with pytest.raises(ValueError, match=said):
        function(**short, **others)


MODEL = random_mdp(np.random.default_rng(0), 3, 2)
WALK = np.zeros((1, 3), dtype=int), np.zeros((1, 2), dtype=int)
EVEN = uniform_policy(MODEL)
NEGATIVE = EVEN + np.array([[1, -1], [0, 0], [0, 0]])  # a probability below 0
OF_A_POLICY: dict[str, Callable[[MDP, Any], Any]] = {
    "trajectory_probability": lambda m, p: trajectories.trajectory_probability(m, p, *WALK),
    "sample_trajectories": lambda m, p: trajectories.sample_trajectories(
        m, p, 2, 2, np.random.default_rng(0)
    ),
    "state_marginals": lambda m, p: trajectories.state_marginals(m, p, 2),
    "occupancy": trajectories.occupancy,
    "under_policy": under_policy,
    "policy_value": policy_value,
    "bellman_backup": lambda m, p: bellman_backup(m, p, np.zeros(3)),
}


@pytest.mark.parametrize(
    ("function", "bad"),
    list(itertools.product(OF_A_POLICY, [EVEN / 2, EVEN[:2], NEGATIVE])),
)
def test_what_is_no_policy_is_refused(untyped: None, function: str, bad: Any) -> None:
    OF_A_POLICY[function](MODEL, EVEN)
    with pytest.raises(ValueError, match="policy"):
        OF_A_POLICY[function](MODEL, bad)


@pytest.mark.parametrize("function", ["trajectory_probability", "sample_trajectories"])
def test_what_needs_dense_arrays_says_so(untyped: None, function: str) -> None:
    flat = sparse.csr_array(np.asarray(MODEL.P).reshape(6, 3))
    with pytest.raises(ValueError, match=rf"^{function} got a sparse P of shape \(6, 3\)"):
        OF_A_POLICY[function](MDP(flat, MODEL.R, MODEL.gamma), EVEN)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_reward_that_is_not_finite_is_refused(untyped: None, value: float, at: int) -> None:
    rewards = STEPS.copy()
    rewards[at] = value
    calls: dict[str, Callable[[], Any]] = {
        "returns": lambda: discounted_returns(rewards, 0.9),
        "errors": lambda: advantages.td_errors(rewards, STEPS, STEPS, OFF, 0.9),
        "bootstrapped": lambda: advantages.bootstrapped_returns(rewards, STEPS, OFF, OFF, 0.9),
        "advantages": lambda: advantages.gae(rewards, OFF, 0.9, 0.9),
    }
    for call in calls.values():
        with pytest.raises(ValueError, match="holds values that are NaN or infinite"):
            call()
