"""Proximal policy optimisation (PPO) with the clipped objective; all seeds in one batch."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl_helpers.policy_gradients.advantages import estimate_advantages
from rl_helpers.policy_gradients.diagnostics import (
    approximate_kl,
    clip_fraction,
    explained_variance,
)
from rl_helpers.policy_gradients.losses import (
    categorical_entropy,
    categorical_log_prob,
    clipped_surrogate,
    clipped_value_loss,
    importance_ratio,
    value_loss,
)
from rl_helpers.training.environments import Rollout, collect, make_environments
from rl_helpers.training.masks import masked_mean, masked_variance, normalise_advantages
from rl_helpers.training.minibatches import minibatches
from rl_helpers.training.networks import ActorCritic, actor_critic
from rl_helpers.training.optim import Adam, clip_gradients
from rl_helpers.training.recorder import Recorder
from rl_helpers.training.runs import Run
from rl_helpers.training.seeds import seed_generators
from rl_helpers.validation import require, require_at_least, require_positive, require_unit


@dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; each implementation detail can be switched off.

    For a setting marked * a tuple gives each seed its own, so that one batch compares many.

    Args:
        total_steps: environment steps of one seed.
        n_envs: environments of one seed.
        n_steps: steps in each environment for one iteration.
        n_epochs: passes over the samples of an iteration.
        n_minibatches: gradient steps in one pass; must divide n_envs * n_steps.
        epsilon*: clip range ε of the ratio, positive; infinity: no clipping.
        hidden: widths of the hidden layers, of actor and critic each.
        gamma: discount, 0 to 1.
        lambda_: λ of the advantage estimates, 0 to 1.
        learning_rate: of actor and critic; positive.
        anneal_learning_rate*: let it fall linearly to zero over total_steps.
        anneal_epsilon: the same for ε.
        adam_eps*: Adam's ε, which is not the clip range; positive.
        max_grad_norm*: largest gradient norm of each seed, actor and critic together; infinity: no
            clipping.
        normalise_advantages*: over each minibatch of each seed.
        value_clip*: clip range of the value loss, in units of the return; infinity: no clipping.
        orthogonal_init*: orthogonal initial weights; otherwise torch's default.
        value_coefficient: weight of the value loss.
        entropy_coefficient: weight of the current states' entropy in the objective, in nats.
        evaluate_every: environment steps between evaluations; at least n_envs * n_steps.
        stop_at: stop once every seed has three evaluations in a row of at least this mean return.
    """

    total_steps: int = 50_000
    n_envs: int = 8
    n_steps: int = 32
    n_epochs: int = 4
    n_minibatches: int = 8
    epsilon: float | tuple[float, ...] = 0.2
    hidden: tuple[int, ...] = (32, 32)
    gamma: float = 0.98
    lambda_: float = 0.95
    learning_rate: float = 2.5e-3
    anneal_learning_rate: bool | tuple[bool, ...] = True
    anneal_epsilon: bool = True
    adam_eps: float | tuple[float, ...] = 1e-5
    max_grad_norm: float | tuple[float, ...] = 0.5
    normalise_advantages: bool | tuple[bool, ...] = True
    value_clip: float | tuple[float, ...] = math.inf
    orthogonal_init: bool | tuple[bool, ...] = True
    value_coefficient: float = 1.0
    entropy_coefficient: float = 0.0
    evaluate_every: int = 2_000
    stop_at: float | None = None

    def __post_init__(self) -> None:
        require_at_least(
            1,
            n_envs=self.n_envs,
            n_steps=self.n_steps,
            n_epochs=self.n_epochs,
            n_minibatches=self.n_minibatches,
        )
        samples = self.n_envs * self.n_steps
        allowed = f"it must divide n_envs * n_steps = {samples}"
        require(samples % self.n_minibatches == 0, "n_minibatches", self.n_minibatches, allowed)
        allowed = f"it must be at least n_envs * n_steps = {samples}"
        require(self.evaluate_every >= samples, "evaluate_every", self.evaluate_every, allowed)
        require_at_least(0, entropy_coefficient=self.entropy_coefficient)
        require_unit(gamma=self.gamma, lambda_=self.lambda_)
        require_positive(learning_rate=self.learning_rate, value_coefficient=self.value_coefficient)
        require_positive(
            epsilon=self.epsilon,
            adam_eps=self.adam_eps,
            max_grad_norm=self.max_grad_norm,
            value_clip=self.value_clip,
        )


def train_ppo(
    config: PPOConfig, n_seeds: int, seed: int = 0, environment: str = "CartPole-v1"
) -> Run:
    """Train one actor and critic a seed by PPO.

    Each iteration takes `n_steps` in every environment, estimates the advantages once,
    and then passes over the samples `n_epochs` times in `n_minibatches`, ascending
    min(ρ Â, clip(ρ, 1 - ε, 1 + ε) Â) less the value loss.

    Args:
        config: the settings.
        n_seeds: number of seeds, trained in one batch.
        seed: the experiment's seed; with the same number of threads the run repeats bit
            for bit.
        environment: Gymnasium's name; discrete actions.

    Returns:
        The run; `ratios` are those after the last update before each evaluation, and
        its diagnostics are those of that update (`diagnose`).

    Raises:
        ValueError: settings out of range, no seeds, an environment that does not fit.
        FloatingPointError: a loss that is no longer finite; names the seed and its
            steps.

    Source: eq-ppo-clip; Schulman et al. (2017), algorithm 1; Huang et al. (2022).
    """
    generators = seed_generators(seed, n_seeds)
    each = _per_seed(config, n_seeds)
    envs = make_environments(environment, n_seeds, config.n_envs, seed)
    nets = actor_critic(
        envs.n_inputs, config.hidden, envs.n_actions, generators, each.orthogonal_init
    )
    optimizer = Adam([nets.actor, nets.critic], each.adam_eps)
    value_clip = each.value_clip if each.value_clip.isfinite().any() else None
    record = Recorder(
        "PPO",
        environment,
        nets,
        config.total_steps,
        config.evaluate_every,
        seed,
        config.stop_at,
    )
    rollout = None
    while not record.finished:
        epsilon = each.epsilon * (record.remaining if config.anneal_epsilon else 1.0)
        learning_rate = config.learning_rate * torch.where(
            each.anneal_learning_rate, record.remaining, 1.0
        )
        rollout = collect(envs, nets.policy, config.n_steps, generators, rollout)
        samples = old_samples(rollout, nets, config.gamma, config.lambda_)
        for _ in range(config.n_epochs):
            for batch in minibatches(samples, config.n_minibatches, generators):
                policy, value, entropy = ppo_losses(
                    nets, batch, epsilon, value_clip, each.normalise_advantages
                )
                loss = policy + config.value_coefficient * value  # [seeds]
                if config.entropy_coefficient > 0:
                    loss = loss - config.entropy_coefficient * entropy()
                loss.sum().backward()
                clip_gradients(optimizer.parameters, each.max_grad_norm)
                optimizer.step(learning_rate)
                record.losses(policy, value)
        if record.iteration(config.n_envs * config.n_steps):
            record.ratios(new_ratio(nets, samples), samples.live)
            record.diagnostics(**diagnose(nets, samples, epsilon))
    return record.run()


class Samples(NamedTuple):
    """What the old policy did, and what is fixed while the new one learns from it.

    n is the number of samples of a seed: those of a rollout, or of a minibatch.

    Args:
        states: observations [seeds, n, d].
        actions: [seeds, n].
        live: which samples count [seeds, n].
        log_probs: of the actions under the old policy, in nats [seeds, n].
        values: V(s) of the old critic [seeds, n].
        advantages: estimates of A(s, a) [seeds, n].
    """

    states: Float[Tensor, "seeds n d"]
    actions: Int[Tensor, "seeds n"]
    live: Bool[Tensor, "seeds n"]
    log_probs: Float[Tensor, "seeds n"]
    values: Float[Tensor, "seeds n"]
    advantages: Float[Tensor, "seeds n"]


@torch.no_grad()
def old_samples(rollout: Rollout, nets: ActorCritic, gamma: float, lambda_: float) -> Samples:
    """The samples of a rollout, all environments and steps of a seed in one row.

    Args:
        rollout: what the current policy did.
        nets: that policy and its critic.
        gamma, lambda_: of the advantage estimates.
    """
    values = nets.values(rollout.observations)
    advantages = estimate_advantages(
        rollout.rewards, values, rollout.terminated, rollout.truncated, gamma, lambda_
    )
    states = rollout.observations[:, :, :-1].flatten(1, 2)
    actions = rollout.actions.flatten(1)
    log_probs = categorical_log_prob(nets.policy(states), actions)
    old_values = values[..., :-1].flatten(1)
    live = rollout.live.flatten(1)
    return Samples(states, actions, live, log_probs, old_values, advantages.flatten(1))


def ppo_losses(
    nets: ActorCritic,
    batch: Samples,
    epsilon: float | Float[Tensor, "_ 1"],
    value_clip: float | Float[Tensor, "_ 1"] | None = None,
    normalise: Bool[Tensor, "_ 1"] | None = None,
) -> tuple[Float[Tensor, " seeds"], Float[Tensor, " seeds"], Callable[[], Tensor]]:
    """Policy and value loss of each seed over a minibatch; its entropy if called.

    All three are means over the samples that count.

    Args:
        nets: policy and critic that learn.
        batch: samples of the old policy.
        epsilon: clip range of the ratio.
        value_clip: clip range of the value loss; None: no clipping.
        normalise: which seeds normalise the minibatch's advantages; all by default.

    Returns:
        Policy loss, value loss [seeds]; and a function that computes the mean entropy,
        as most runs do not use it.

    Source: eq-ppo-clip, eq-critic-loss; Schulman et al. (2017), equations 7 and 9.
    """
    logits = nets.policy(batch.states)
    log_probs = categorical_log_prob(logits, batch.actions)
    ratio = importance_ratio(log_probs, batch.log_probs)
    weights = normalise_advantages(batch.advantages, batch.live)
    if normalise is not None:
        weights = torch.where(normalise, weights, batch.advantages)
    policy = masked_mean(-clipped_surrogate(ratio, weights, epsilon), batch.live)
    values, targets = nets.values(batch.states), batch.values + batch.advantages
    if value_clip is None:
        value = value_loss(values, targets)
    else:
        value = clipped_value_loss(values, batch.values, targets, value_clip)
    return (
        policy,
        masked_mean(value, batch.live),
        lambda: masked_mean(categorical_entropy(logits), batch.live),
    )


@torch.no_grad()
def new_ratio(nets: ActorCritic, samples: Samples) -> Float[Tensor, "seeds n"]:
    """The importance ratio of each sample after the last update."""
    log_probs = categorical_log_prob(nets.policy(samples.states), samples.actions)
    return importance_ratio(log_probs, samples.log_probs)


@torch.no_grad()
def diagnose(
    nets: ActorCritic, samples: Samples, epsilon: float | Float[Tensor, "_ 1"]
) -> dict[str, Float[Tensor, " seeds"]]:
    """What to watch in a run: means over an iteration, after its last update.

    Args:
        nets: the policy after the update.
        samples: those of the iteration, with the values of the critic before the
            update.
        epsilon: the clip range of the iteration.

    Returns:
        For each seed `kl`, an estimate of KL(old || new), and the policy's
        `entropy`, both in nats; `clip_fraction`, the share of ratios outside the
        interval; `explained_variance` of the targets by the old critic; and
        `target_spread`, the targets' standard deviation.

    Source: eq-policy-kl; Huang et al. (2022), detail 12.
    """
    logits = nets.policy(samples.states)
    log_probs = categorical_log_prob(logits, samples.actions)
    ratio = importance_ratio(log_probs, samples.log_probs)
    targets = samples.values + samples.advantages
    return {
        "kl": masked_mean(approximate_kl(log_probs, samples.log_probs), samples.live),
        "clip_fraction": clip_fraction(ratio, samples.live, epsilon),
        "entropy": masked_mean(categorical_entropy(logits), samples.live),
        "explained_variance": explained_variance(samples.values, targets, samples.live),
        "target_spread": masked_variance(targets, samples.live) ** 0.5,
    }


class PerSeed(NamedTuple):
    """The settings that may differ from seed to seed, as columns [1, 1] or [seeds, 1]."""

    epsilon: Float[Tensor, "_ 1"]
    adam_eps: Float[Tensor, "_ 1"]
    max_grad_norm: Float[Tensor, "_ 1"]
    value_clip: Float[Tensor, "_ 1"]
    normalise_advantages: Bool[Tensor, "_ 1"]
    anneal_learning_rate: Bool[Tensor, "_ 1"]
    orthogonal_init: Bool[Tensor, "_ 1"]


def _per_seed(config: PPOConfig, n_seeds: int) -> PerSeed:
    columns = []
    for name in PerSeed._fields:
        column = torch.tensor(getattr(config, name)).reshape(-1, 1)
        if len(column) not in (1, n_seeds):
            raise ValueError(
                f"{name} holds {len(column)} numbers; "
                f"with n_seeds {n_seeds} it must be 1 or that many"
            )
        columns.append(column)
    return PerSeed(*columns)
