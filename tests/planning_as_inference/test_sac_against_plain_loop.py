"""The batched loop of SAC learns what a plain loop of one seed learns, seed by seed."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_helpers.planning_as_inference import sac
from rl_helpers.planning_as_inference.sac import SACConfig, SACRun
from rl_helpers.planning_as_inference.sac_nets import PerSeed
from tests.planning_as_inference import plain_sac
from tests.planning_as_inference.plain_sac import Hill, Record
from tests.planting import plant

# Both sides are float32, and sum the same numbers in another order; each of 60 updates, of size
# 0.01 at most, may differ in its last digits, and so may what follows from it.
ROUNDING = {"rtol": 1e-4, "atol": 2e-5}
SEED = 3

SAC = SACConfig(
    total_steps=72, random_steps=12, batch_size=9, hidden=(8, 6), gamma=0.8, learning_rate=0.01,
    tau=0.1, evaluate_every=12,
)  # fmt: skip
CASES: dict[str, SACConfig] = {
    "SAC": SAC,
    "one critic": replace(SAC, twin=False),
    "fixed temperature": replace(SAC, alpha=0.3),
    "target entropy": replace(SAC, target_entropy=0.5),
    "targets that stay": replace(SAC, tau=0.0),
    "targets that are copies": replace(SAC, tau=1.0),
    "no correction": replace(SAC, tanh_correction=False),
    "a memory that forgets": replace(SAC, capacity=15),
    "each seed its own settings": replace(
        SAC, twin=(True, False, True), alpha=(None, 0.2, None), target_entropy=(None, None, -4.0),
        tau=(0.1, 0.3, 0.0), tanh_correction=(True, True, False),
    ),
}  # fmt: skip


def hills(n: int) -> gym.vector.VectorEnv:
    return SyncVectorEnv([Hill] * n, autoreset_mode=AutoresetMode.DISABLED)


@pytest.fixture(autouse=True)
def _no_evaluation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sac, "evaluate", lambda nets, *rest: np.zeros(len(nets.actor)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(config: SACConfig, n_seeds: int = 3) -> SACRun:
    return sac.train_sac(config, n_seeds, SEED, hills)


@functools.cache
def alone(config: SACConfig, number: int) -> Record:
    """The plain loop of one seed, with this seed's own settings."""
    names = {"tau", "alpha", "target_entropy", "twin", "tanh_correction"}
    given = {name: getattr(config, name) for name in names}
    own: Any = {name: v[number] if isinstance(v, tuple) else v for name, v in given.items()}
    return plain_sac.sac(replace(config, **own), SEED, number)


def assert_every_seed_is_the_plain_loop(run: SACRun, config: SACConfig) -> list[Record]:
    n_seeds = len(run.returns)
    ones = [alone(config, number) for number in range(n_seeds)]
    assert run.steps.tolist() == list(range(12, 73, 12))
    for k, nets in zip(run.steps, run.nets, strict=True):
        found = {"actor": nets.actor, "log_alpha": nets.log_alpha}
        found |= {"first": nets.critics[:n_seeds], "second": nets.critics[n_seeds:]}
        found |= {"slow_first": nets.targets[:n_seeds], "slow_second": nets.targets[n_seeds:]}
        for name, theta in found.items():
            expected = torch.stack([one.theta[name][k - 1] for one in ones])
            near = torch.isclose(theta, expected, **ROUNDING)
            assert near.all(), f"{name} after {k} steps: {(~near).sum()} of {near.numel()} differ"
    return ones


@pytest.mark.parametrize("name", CASES)
def test_every_seed_of_a_batch_is_the_plain_loop(untyped: None, name: str) -> None:
    ones = assert_every_seed_is_the_plain_loop(train(CASES[name]), CASES[name])
    # the comparison covers both kinds of end
    seen = sum((one.seen for one in ones), Counter())
    assert min(seen["terminated"], seen["truncated"]) > 5, seen


def test_a_seed_does_not_depend_on_those_beside_it() -> None:  # with types checked
    one, three = train(SAC, 1), train(SAC, 3)
    torch.testing.assert_close(one.nets[-1].actor[0], three.nets[-1].actor[0], **ROUNDING)


def test_per_seed_settings_are_those_that_a_tuple_may_give() -> None:
    assert set(PerSeed._fields) - {"learned"} == {
        "tau", "alpha", "target_entropy", "twin", "tanh_correction",
    }  # fmt: skip


# ---- The comparison notices mistakes ------------------------------------------------------------

# what the mistake is, the file, what it says, what it is made to say, the case that notices
MISTAKES = [
    ("terminal states bootstrapped", "sac_losses.py",
     "gamma * (1 - terminated) *", "gamma *", "SAC"),
    ("a truncated episode is terminal", "sac.py",
     "torch.as_tensor(terminated)", "torch.as_tensor(terminated | truncated)", "SAC"),
    ("no entropy in the target", "sac_losses.py",
     "next_q - alpha * next_log_probs", "next_q", "SAC"),
    ("entropy costs in the target", "sac_losses.py",
     "next_q - alpha * next_log_probs", "next_q + alpha * next_log_probs", "SAC"),
    ("the online critics in the target", "sac.py",
     "nets.smaller(nets.targets, batch.next", "nets.smaller(nets.critics, batch.next", "SAC"),
    ("the larger of the twins", "sac_nets.py",
     "torch.minimum(first", "torch.maximum(first", "SAC"),
    ("a twin although there is none", "sac_nets.py",
     "torch.where(self.each.twin, torch.minimum(first, second), first)",
     "torch.minimum(first, second)", "one critic"),
    ("the action of the memory for the actor", "sac.py",
     "q = nets.smaller(nets.critics.detach(), states, actions)",
     "q = nets.smaller(nets.critics.detach(), states, actions.detach())", "SAC"),
    ("the slow critics for the actor", "sac.py",
     "nets.smaller(nets.critics.detach()", "nets.smaller(nets.targets", "SAC"),
    ("the actor trains the critics", "sac.py",
     "nets.smaller(nets.critics.detach()", "nets.smaller(nets.critics", "SAC"),
    ("the actor maximises its loss", "sac_losses.py",
     "return alpha * log_probs - q", "return q - alpha * log_probs", "SAC"),
    ("the temperature's step has the wrong sign", "sac_losses.py",
     "return -log_alpha *", "return log_alpha *", "SAC"),
    ("the target entropy has the wrong sign", "sac_losses.py",
     "log_probs + target_entropy", "log_probs - target_entropy", "SAC"),
    ("a fixed temperature is learned", "sac.py",
     " * each.learned)", ")", "fixed temperature"),
    ("targets do not follow", "sac_losses.py",
     "targets.add_(tau *", "targets.add_(0 * tau *", "SAC"),
    ("tau and 1 - tau swapped", "sac_losses.py",
     "targets.add_(tau *", "targets.add_((1 - tau) *", "SAC"),
    ("taus of the wrong seeds", "sac.py",
     "each.tau.repeat(2, 1)", "each.tau.repeat_interleave(2, 0)", "each seed its own settings"),
    ("log c left out", "squashed_gaussian.py",
     "(scale.log() + log_tanh_slope(u))", "log_tanh_slope(u)", "SAC"),
    ("the slope has the wrong sign", "sac_nets.py",
     "gaussian_log_prob(u, mean, log_std) - stretch", "gaussian_log_prob(u, mean, log_std) + stretch",
     "SAC"),
    ("corrected although it should not be", "sac_nets.py",
     "torch.where(self.each.tanh_correction, log_slope(u, self.scale), 0.0)",
     "log_slope(u, self.scale)", "no correction"),
    ("tanh twice", "squashed_gaussian.py", "scale * u.tanh()", "scale * u.tanh().tanh()", "SAC"),
    ("the noise of s' for s", "sac.py",
     "batch.states, noise.new_action", "batch.states, noise.next_action", "SAC"),
    ("one step more at random", "sac.py",
     "record.steps >= config.random_steps", "record.steps > config.random_steps", "SAC"),
    ("random actions within 0 and c", "sac.py",
     "2 * uniform.unsqueeze(1) - 1", "uniform.unsqueeze(1)", "SAC"),
    ("the next state of a new episode", "sac.py",
     "paid, following.squeeze(1), torch", "paid, states.squeeze(1), torch", "SAC"),
    ("no reset", "sac.py", "if ended.any():\n        following =", "if ended.any():\n        ", "SAC"),
    ("the oldest transitions are kept", "replay.py",
     "self.stored % self.capacity]", "min(self.stored, self.capacity - 1)]", "a memory that forgets"),
    ("batches of the first seed", "replay.py",
     "+ self.first", "", "SAC"),
    ("inputs not scaled", "sac_nets.py",
     "dtype=torch.float32) / self.largest", "dtype=torch.float32)", "SAC"),
    ("critics see unscaled actions", "sac_nets.py",
     "[states, actions / self.scale]", "[states, actions]", "SAC"),
    ("one critic twice", "sac.py",
     "mean(-1).sum(0)", "mean(-1)[0] * 2", "SAC"),
    ("PPO's epsilon for Adam", "sac.py", "ADAM_EPS = 1e-8", "ADAM_EPS = 1e-5", "SAC"),
    ("environments of another seed", "sac.py",
     "envs.reset(seed=seed)", "envs.reset(seed=seed + 1)", "SAC"),
    ("a wider Gaussian", "sac_nets.py",
     "u = mean + log_std.exp() * noise", "u = mean + (2 * log_std).exp() * noise", "SAC"),
    ("the temperature starts at its logarithm", "sac_nets.py",
     "log_alpha = each.alpha.log()", "log_alpha = each.alpha.clone()", "SAC"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "right", "wrong", "case"), [pytest.param(*rest, id=what) for what, *rest in MISTAKES]
)
def test_a_mistake_in_the_loop_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, file: str, right: str, wrong: str, case: str
) -> None:
    plant(monkeypatch, "planning_as_inference/" + file, right, wrong)
    try:
        run = train(CASES[case])
    except FloatingPointError:
        return
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(run, CASES[case])
