"""The batched training loops learn what plain loops of one seed learn, seed by seed."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rl_helpers.policy_gradients import a2c, ppo, reinforce
from rl_helpers.policy_gradients.a2c import A2CConfig
from rl_helpers.policy_gradients.ppo import PerSeed, PPOConfig
from rl_helpers.policy_gradients.reinforce import ReinforceConfig
from rl_helpers.training import recorder
from rl_helpers.training.runs import Run
from tests.planting import plant
from tests.policy_gradients import plain_loops
from tests.policy_gradients.plain_loops import SAME_START, SLOPE, Record

# Both sides are float32, and sum the same numbers in another order: each of up to 36 updates, of
# size 0.02 at most, may differ in its last digits (6e-8 of it), and so may what follows from it.
ROUNDING = {"rtol": 1e-5, "atol": 2e-6}
SEED = 3

REINFORCE = ReinforceConfig(
    total_steps=60, n_episodes=5, hidden=(6, 5), gamma=0.8, learning_rate=0.02,
    baseline_learning_rate=0.03, evaluate_every=7,
)  # fmt: skip
A2C = A2CConfig(
    total_steps=168, n_envs=4, n_steps=14, hidden=(6, 5), gamma=0.8, lambda_=0.6, learning_rate=0.02,
    critic_learning_rate=0.03, evaluate_every=56,
)  # fmt: skip
PPO = PPOConfig(
    total_steps=168, n_envs=4, n_steps=14, n_epochs=3, n_minibatches=4, hidden=(6, 5), gamma=0.8,
    lambda_=0.6, learning_rate=0.02, evaluate_every=56,
)  # fmt: skip

CASES: dict[str, Any] = {
    "REINFORCE": REINFORCE,
    "REINFORCE without baseline": replace(REINFORCE, baseline=False),
    "REINFORCE, one episode, no clipping": replace(
        REINFORCE, n_episodes=1, max_grad_norm=math.inf, gamma=1.0
    ),
    "A2C": A2C,
    "A2C with entropy, no clipping": replace(
        A2C, entropy_coefficient=0.2, max_grad_norm=math.inf, lambda_=1.0
    ),
    "A2C, rollouts longer than the noise drawn at once": replace(
        A2C, n_envs=2, n_steps=70, total_steps=280, evaluate_every=140
    ),
    "PPO": PPO,
    "PPO with other coefficients": replace(
        PPO, value_coefficient=0.4, entropy_coefficient=0.2, adam_eps=1e-2, n_epochs=2,
        n_minibatches=7, gamma=0.7, lambda_=0.9,
    ),
    "PPO, nothing annealed, default weights": replace(
        PPO, anneal_epsilon=False, anneal_learning_rate=False, orthogonal_init=False, epsilon=0.1,
        value_clip=0.1,
    ),
    "PPO, nothing clipped or normalised": replace(
        PPO, epsilon=math.inf, max_grad_norm=math.inf, normalise_advantages=False,
    ),
    "PPO, each seed its own settings": replace(
        PPO, epsilon=(0.05, math.inf, 0.2), anneal_learning_rate=(True, False, True),
        adam_eps=(1e-5, 1e-3, 1e-1), max_grad_norm=(0.5, math.inf, 0.05),
        normalise_advantages=(True, True, False), value_clip=(math.inf, 0.05, 0.2),
        orthogonal_init=(False, True, True),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_evaluation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Evaluations take most of the time, and are tested apart."""

    def nothing(name: str, theta: torch.Tensor, sizes: Any, seed: int) -> np.ndarray:
        return np.zeros(theta.shape[:2])

    monkeypatch.setattr(recorder, "evaluate_snapshots", nothing)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(config: Any, n_seeds: int, environment: str) -> Run:
    """The batched loop of these settings; looked up here, so that a mistake may be planted in it."""
    loop: Any = {
        ReinforceConfig: reinforce.train_reinforce,
        A2CConfig: a2c.train_a2c,
        PPOConfig: ppo.train_ppo,
    }[type(config)]
    return loop(config, n_seeds, seed=SEED, environment=environment)


@functools.cache
def alone(config: Any, number: int, environment: str) -> Record:
    """The plain loop of one seed, with this seed's own settings."""
    if not isinstance(config, PPOConfig):
        plain = plain_loops.a2c if isinstance(config, A2CConfig) else plain_loops.reinforce
        return plain(config, environment, SEED, number)
    given = {name: getattr(config, name) for name in PerSeed._fields}
    own = {name: v[number] if isinstance(v, tuple) else v for name, v in given.items()}
    return plain_loops.ppo(replace(config, **own), environment, SEED, number)


def assert_a_seed_is_the_plain_loop(run: Run, number: int, one: Record) -> None:
    near = ROUNDING
    # a snapshot is the policy after the first iteration by which the seed had taken so many steps
    first = np.searchsorted(one.steps, run.steps)
    theta = torch.stack([one.theta[i] for i in first])
    torch.testing.assert_close(run.theta[number], theta, **near, msg=lambda m: f"theta: {m}")
    n = len(one.steps)
    for name in ("policy_losses", "value_losses"):
        losses = getattr(run, name)[number]
        if losses.size:  # REINFORCE without baseline has no value losses
            np.testing.assert_allclose(losses[:n], getattr(one, name), **near, err_msg=name)
    if run.ratios is None:
        return
    for ratios, live, plain in zip(
        run.ratios[number], run.ratios_live[number], one.ratios, strict=True
    ):
        assert live.tolist() == [ratio is not None for ratio in plain]
        np.testing.assert_allclose(ratios[live], [r for r in plain if r is not None], **near)
    assert run.diagnostics.keys() == one.diagnostics[0].keys()
    for name, values in run.diagnostics.items():
        plain = [each[name] for each in one.diagnostics]
        np.testing.assert_allclose(values[number], plain, rtol=1e-4, atol=1e-5, err_msg=name)


def assert_every_seed_is_the_plain_loop(run: Run, config: Any, environment: str) -> list[Record]:
    ones = [alone(config, number, environment) for number in range(len(run.theta))]
    for number, one in enumerate(ones):
        assert_a_seed_is_the_plain_loop(run, number, one)
    return ones


def compare(config: Any, n_seeds: int = 3, environment: str = SLOPE) -> list[Record]:
    """Train, and compare each seed with the plain loop; what the plain loops left."""
    run = train(config, n_seeds, environment)
    return assert_every_seed_is_the_plain_loop(run, config, environment)


def settings(name: str) -> tuple[Any, int, str]:
    """Config, seeds and environment of a case.

    While the longest episode of a batch of REINFORCE goes on, all environments do, and draw first
    states: a batch of several seeds is compared where first states are not random.
    """
    config = CASES[name]
    return config, 3, SAME_START if isinstance(config, ReinforceConfig) else SLOPE


@pytest.mark.parametrize("name", CASES)
def test_every_seed_of_a_batch_is_the_plain_loop(name: str) -> None:
    ones = compare(*settings(name))
    for one in ones:
        assert len(one.steps) >= 2
    # the comparison covers both kinds of end, and dead steps after them
    seen = sum((one.seen for one in ones), Counter())
    one_episode = getattr(CASES[name], "n_episodes", None) == 1  # dead while other seeds go on
    kinds = ["terminated", "truncated"] + ([] if one_episode else ["dead"])
    assert min(seen[kind] for kind in kinds) > 5, seen


@pytest.mark.parametrize("baseline", [True, False])
def test_reinforce_with_random_first_states(baseline: bool) -> None:
    compare(replace(REINFORCE, baseline=baseline), n_seeds=1)


@pytest.mark.parametrize(
    ("config", "environment"), [(A2C, SLOPE), (PPO, SLOPE), (REINFORCE, SAME_START)]
)
def test_a_seed_does_not_depend_on_those_beside_it(config: Any, environment: str) -> None:
    """Where environments draw their own first states; CartPole-v1's draw from one stream."""
    one, three = (train(config, n, environment) for n in (1, 3))
    k = min(one.theta.shape[1], three.theta.shape[1])
    torch.testing.assert_close(one.theta[0, :k], three.theta[0, :k], **ROUNDING)


# ---- The comparison notices mistakes ------------------------------------------------------------

# what the mistake is, the file, what it says, what it is made to say, the case that notices
MISTAKES = [
    # REINFORCE
    ("no discount", "policy_gradients/reinforce.py",
     "config.gamma,\n        )", "1.0,\n        )", "REINFORCE"),
    ("returns instead of returns less the baseline", "policy_gradients/reinforce.py",
     "weights = returns - values[..., :-1]", "weights = returns", "REINFORCE"),
    ("the baseline of the next state", "policy_gradients/reinforce.py",
     "weights = returns - values[..., :-1]", "weights = returns - values[..., 1:]", "REINFORCE"),
    ("a baseline although there is none", "policy_gradients/reinforce.py",
     " * config.baseline\n", "\n", "REINFORCE without baseline"),
    ("steps after the end count in the policy loss", "policy_gradients/reinforce.py",
     "weights), episodes.live)", "weights), episodes.live | True)", "REINFORCE"),
    ("steps after the end count in the value loss", "policy_gradients/reinforce.py",
     "returns), episodes.live)", "returns), episodes.live | True)", "REINFORCE"),
    ("a truncated episode is worth nothing more", "policy_gradients/reinforce.py",
     "values[..., 1:].detach(),", "0 * values[..., 1:].detach(),", "REINFORCE"),
    ("terminated and truncated swapped", "policy_gradients/reinforce.py",
     "episodes.terminated,\n            episodes.truncated,",
     "episodes.truncated,\n            episodes.terminated,", "REINFORCE"),
    ("the policy's rate for the baseline", "policy_gradients/reinforce.py",
     "eps=1e-8), config.baseline_learning_rate)", "eps=1e-8), config.learning_rate)", "REINFORCE"),
    ("A2C's epsilon for Adam", "policy_gradients/reinforce.py",
     "(Adam([nets.actor], eps=1e-8)", "(Adam([nets.actor], eps=1e-5)", "REINFORCE"),
    ("one norm for policy and baseline", "policy_gradients/reinforce.py",
     "clip_gradients(optimizer.parameters,", "clip_gradients([nets.actor, nets.critic],", "REINFORCE"),
    ("steps after the end count as steps", "policy_gradients/reinforce.py",
     "record.iteration(episodes.live.sum((1, 2)).numpy())",
     "record.iteration(int(episodes.live[0].numel()))", "REINFORCE"),
    ("one episode less", "policy_gradients/reinforce.py",
     "n_seeds, config.n_episodes, seed)", "n_seeds, config.n_episodes - 1, seed)", "REINFORCE"),
    ("the gradient of the weights", "policy_gradients/losses.py",
     "return -log_probs * fixed(advantages)", "return -log_probs * advantages", "REINFORCE"),
    # A2C
    ("gamma and lambda swapped", "policy_gradients/a2c.py",
     "config.gamma,\n            config.lambda_,", "config.lambda_,\n            config.gamma,", "A2C"),
    ("a truncated episode is terminal", "policy_gradients/a2c.py",
     "rollout.terminated,", "rollout.terminated | rollout.truncated,", "A2C"),
    ("episodes run into each other where truncated", "policy_gradients/a2c.py",
     "rollout.truncated,", "0 * rollout.truncated > 0,", "A2C"),
    ("targets without the value", "policy_gradients/a2c.py",
     "values[..., :-1].detach() + advantages", "advantages", "A2C"),
    ("targets of the next state", "policy_gradients/a2c.py",
     "values[..., :-1].detach() + advantages", "values[..., 1:].detach() + advantages", "A2C"),
    ("targets as weights", "policy_gradients/a2c.py",
     "policy_gradient_loss(log_probs, advantages)", "policy_gradient_loss(log_probs, targets)", "A2C"),
    ("logits of the next state", "policy_gradients/a2c.py",
     "nets.policy(states[:, :, :-1])", "nets.policy(states[:, :, 1:])", "A2C"),
    ("entropy is punished", "policy_gradients/a2c.py",
     "policy - config.entropy", "policy + config.entropy", "A2C with entropy, no clipping"),
    ("the entropy of dead steps", "policy_gradients/a2c.py",
     "categorical_entropy(logits), rollout.live)",
     "categorical_entropy(logits), rollout.live | True)", "A2C with entropy, no clipping"),
    ("every rollout begins with a reset", "policy_gradients/a2c.py",
     "config.n_steps, generators, rollout)", "config.n_steps, generators)", "A2C"),
    ("REINFORCE's epsilon for Adam", "policy_gradients/a2c.py",
     "(Adam([nets.critic], eps=1e-5)", "(Adam([nets.critic], eps=1e-8)", "A2C"),
    ("one rate for both", "policy_gradients/a2c.py",
     "config.critic_learning_rate)", "config.learning_rate)", "A2C"),
    ("another seed for the first states", "policy_gradients/a2c.py",
     "config.n_envs, seed)", "config.n_envs, seed + 1)", "A2C"),
    ("steps of one environment counted", "policy_gradients/a2c.py",
     "record.iteration(config.n_envs * config.n_steps)", "record.iteration(config.n_steps)", "A2C"),
    # PPO
    ("the clip range is not annealed", "policy_gradients/ppo.py",
     "(record.remaining if config.anneal_epsilon else 1.0)", "1.0", "PPO"),
    ("the clip range is annealed without being asked", "policy_gradients/ppo.py",
     "(record.remaining if config.anneal_epsilon else 1.0)", "record.remaining",
     "PPO, nothing annealed, default weights"),
    ("the learning rate is not annealed", "policy_gradients/ppo.py",
     "each.anneal_learning_rate, record.remaining, 1.0", "each.anneal_learning_rate, 1.0, 1.0", "PPO"),
    ("the wrong seeds anneal", "policy_gradients/ppo.py",
     "each.anneal_learning_rate, record.remaining, 1.0", "each.anneal_learning_rate, 1.0, record.remaining",
     "PPO, each seed its own settings"),
    ("annealed one iteration ahead", "training/recorder.py",
     "return 1 - int(self.spent.min()) / self.total_steps",
     "return 1 - (int(self.spent.min()) + 1) / self.total_steps", "PPO"),
    ("gamma and lambda swapped", "policy_gradients/ppo.py",
     "nets, config.gamma, config.lambda_)", "nets, config.lambda_, config.gamma)", "PPO"),
    ("old samples of every epoch's policy", "policy_gradients/ppo.py",
     "for _ in range(config.n_epochs):",
     "for _ in range(config.n_epochs):\n            "
     "samples = old_samples(rollout, nets, config.gamma, config.lambda_)", "PPO"),
    ("old log-probabilities recomputed", "policy_gradients/ppo.py",
     "importance_ratio(log_probs, batch.log_probs)",
     "importance_ratio(log_probs, log_probs.detach())", "PPO"),
    ("one epoch more", "policy_gradients/ppo.py",
     "range(config.n_epochs)", "range(config.n_epochs + 1)", "PPO"),
    ("a new order for each minibatch", "policy_gradients/ppo.py",
     "for batch in minibatches(samples, config.n_minibatches, generators):",
     "for batch in (next(minibatches(samples, config.n_minibatches, generators))"
     " for _ in range(config.n_minibatches)):", "PPO"),
    ("minibatches overlap", "training/minibatches.py",
     "order.split(n // n_minibatches, dim=1)",
     "(order[:, k : k + n // n_minibatches] for k in range(n_minibatches))", "PPO"),
    ("all seeds learn from the first one's samples", "training/minibatches.py",
     "torch.arange(n_seeds)", "torch.zeros(n_seeds, dtype=torch.long)", "PPO"),
    ("all seeds share one order", "training/minibatches.py",
     "order = permutations(generators, n)", "order = permutations(generators, n)[:1].expand(n_seeds, n)",
     "PPO"),
    ("advantages are not normalised", "policy_gradients/ppo.py",
     "weights = normalise_advantages(batch.advantages, batch.live)", "weights = batch.advantages", "PPO"),
    ("the wrong seeds normalise", "policy_gradients/ppo.py",
     "torch.where(normalise, weights, batch.advantages)",
     "torch.where(normalise, batch.advantages, weights)", "PPO, each seed its own settings"),
    ("normalised over all seeds", "training/masks.py",
     "mean = masked_mean(advantages, live)", "mean = masked_mean(advantages, live) * 0 + "
     "masked_mean(advantages.reshape(1, -1), live.reshape(1, -1))", "PPO"),
    ("the sample's standard deviation", "training/masks.py",
     "masked_mean(centred**2, live) ** 0.5",
     "(masked_mean(centred**2, live) * live.sum(1) / (live.sum(1) - 1)) ** 0.5", "PPO"),
    ("normalised advantages in the targets", "policy_gradients/ppo.py",
     "batch.values + batch.advantages", "batch.values + weights", "PPO"),
    ("targets from the new values", "policy_gradients/ppo.py",
     "batch.values + batch.advantages", "nets.values(batch.states).detach() + batch.advantages", "PPO"),
    ("the ratio's clip range for the values", "policy_gradients/ppo.py",
     "batch.values, targets, value_clip)", "batch.values, targets, epsilon)",
     "PPO, each seed its own settings"),
    ("values are not clipped", "policy_gradients/ppo.py",
     "if value_clip is None:", "if True:", "PPO, nothing annealed, default weights"),
    ("the smaller value loss", "policy_gradients/losses.py",
     "torch.maximum(value_loss(values", "torch.minimum(value_loss(values",
     "PPO, nothing annealed, default weights"),
    ("the larger surrogate", "policy_gradients/losses.py",
     "torch.minimum(ratio * A, clipped * A)", "torch.maximum(ratio * A, clipped * A)", "PPO"),
    ("clipped on both sides", "policy_gradients/losses.py",
     "torch.minimum(ratio * A, clipped * A)", "clipped * A", "PPO"),
    ("clipped above only", "policy_gradients/losses.py",
     "torch.clamp(ratio, 1 - epsilon, 1 + epsilon)", "torch.clamp(ratio, 0 * epsilon, 1 + epsilon)", "PPO"),
    ("the surrogate is made small", "policy_gradients/ppo.py",
     "masked_mean(-clipped_surrogate(", "masked_mean(clipped_surrogate(", "PPO"),
    ("dead samples count in the policy loss", "policy_gradients/ppo.py",
     "weights, epsilon), batch.live)", "weights, epsilon), batch.live | True)", "PPO"),
    ("dead samples count in the value loss", "policy_gradients/ppo.py",
     "masked_mean(value, batch.live)", "masked_mean(value, batch.live | True)", "PPO"),
    ("value coefficient 1", "policy_gradients/ppo.py",
     "config.value_coefficient * value  #", "value  #", "PPO with other coefficients"),
    ("entropy is punished", "policy_gradients/ppo.py",
     "loss - config.entropy", "loss + config.entropy", "PPO with other coefficients"),
    ("actor and critic clipped apart", "policy_gradients/ppo.py",
     "clip_gradients(optimizer.parameters, each.max_grad_norm)",
     "[clip_gradients([p], each.max_grad_norm) for p in optimizer.parameters]", "PPO"),
    ("Adam's epsilon for all", "policy_gradients/ppo.py",
     "nets.critic], each.adam_eps)", "nets.critic], 1e-5)", "PPO with other coefficients"),
    ("ratios of the last minibatch's policy", "policy_gradients/ppo.py",
     "record.ratios(new_ratio(nets, samples)",
     "record.ratios(new_ratio(nets, old_samples(rollout, nets, 1.0, 1.0))", "PPO"),
    ("the divergence the other way round", "policy_gradients/ppo.py",
     "approximate_kl(log_probs, samples.log_probs)", "approximate_kl(samples.log_probs, log_probs)",
     "PPO"),
    ("dead samples count in the divergence", "policy_gradients/ppo.py",
     "samples.log_probs), samples.live)", "samples.log_probs), samples.live | True)", "PPO"),
    ("the first clip range for the clip fraction", "policy_gradients/ppo.py",
     "diagnose(nets, samples, epsilon)", "diagnose(nets, samples, each.epsilon)", "PPO"),
    ("the entropy of dead samples", "policy_gradients/ppo.py",
     "categorical_entropy(logits), samples.live)", "categorical_entropy(logits), samples.live | True)",
     "PPO"),
    ("advantages explained instead of targets", "policy_gradients/ppo.py",
     "targets = samples.values + samples.advantages\n", "targets = samples.advantages\n", "PPO"),
    ("what the new critic explains", "policy_gradients/ppo.py",
     "explained_variance(samples.values,", "explained_variance(nets.values(samples.states),", "PPO"),
    ("the error's size for its variance", "policy_gradients/diagnostics.py",
     "masked_variance(targets - values, live)", "masked_mean((targets - values) ** 2, live)", "PPO"),
    # what they share
    ("dead steps are live", "training/environments.py",
     "live = ~(terminated | truncated)", "live = live | True", "A2C"),
    ("dead at the border of two rollouts", "training/environments.py",
     "first, ~dead, until", "first, ~dead | True, until", "A2C"),
    ("the same noise at each step", "training/environments.py",
     "noise[:, t % CHUNK]", "noise[:, 0]", "A2C"),
    ("no noise drawn after the first chunk", "training/environments.py",
     "if t % CHUNK == 0:", "if t == 0:", "A2C, rollouts longer than the noise drawn at once"),
    ("a trace through the end of an episode", "policy_gradients/advantages.py",
     "following = where(ended[..., t], 0.0, following)", "pass", "PPO"),
    ("V(s_t) for V(s_{t+1})", "policy_gradients/advantages.py",
     "rewards, values[..., :-1], values[..., 1:]", "rewards, values[..., :-1], values[..., :-1]", "PPO"),
    ("no correction of Adam's bias", "training/optim.py",
     "first, second = 1 - 0.9**self.n_steps, 1 - 0.999**self.n_steps", "first, second = 1.0, 1.0", "A2C"),
    ("one norm for all seeds", "training/optim.py",
     "for g in gradients]).norm(dim=0)", "for g in gradients]).norm().expand(len(gradients[0]))", "PPO"),
    ("the policy before the last update", "training/recorder.py",
     "taken[:, None] >= self.steps", "taken[:, None] > self.steps", "PPO"),
    ("the last policy instead of the first", "training/recorder.py",
     "& ~self.kept", "", "REINFORCE"),
    ("losses of the last update only", "training/recorder.py",
     "self._sums += torch.stack([policy, value]).detach()",
     "self._sums = torch.stack([policy, value]).detach()", "PPO"),
    ("a policy far from uniform", "training/networks.py",
     "start(sizes, 0.01)", "start(sizes, 1.0)", "PPO"),
    ("the wrong seeds start orthogonal", "training/networks.py",
     "zip(generators, wanted, strict=True)", "zip(generators, wanted[::-1], strict=True)",
     "PPO, each seed its own settings"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "right", "wrong", "case"),
    [
        pytest.param(*rest, id=f"{rest[-1].split()[0].strip(',')}: {what}")
        for what, *rest in MISTAKES
    ],
)
def test_a_mistake_in_a_loop_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, file: str, right: str, wrong: str, case: str
) -> None:
    config, n_seeds, environment = settings(case)
    plant(monkeypatch, file, right, wrong)
    run = train(config, n_seeds, environment)
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(run, config, environment)
