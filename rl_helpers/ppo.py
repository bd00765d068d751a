"""Proximal policy optimisation (PPO) with the clipped objective; all seeds in one batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rl_helpers.losses import (
    categorical_entropy,
    categorical_log_prob,
    clipped_value_loss,
    estimate_advantages,
    importance_ratio,
    masked_mean,
    normalise_advantages,
    ppo_clip,
    value_loss,
)
from rl_helpers.networks import Adam, actor_critic, clip_gradients, permutations, seed_generators
from rl_helpers.rollouts import collect, make_environments
from rl_helpers.runs import (
    Run,
    evaluate_snapshots,
    progress,
    raise_if_diverged,
    require,
    require_at_least,
    require_positive,
    require_unit,
    solved_at,
    stack,
    start_snapshots,
)


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
        require_at_least(1, self, "n_envs", "n_steps", "n_epochs", "n_minibatches")
        samples = self.n_envs * self.n_steps
        allowed = f"it must divide n_envs * n_steps = {samples}"
        require(samples % self.n_minibatches == 0, "n_minibatches", self.n_minibatches, allowed)
        allowed = f"it must be at least n_envs * n_steps = {samples}"
        require(self.evaluate_every >= samples, "evaluate_every", self.evaluate_every, allowed)
        require_at_least(0, self, "entropy_coefficient")
        require_unit(self, "gamma", "lambda_")
        require_positive(self, "learning_rate", "value_coefficient")
        require_positive(self, "epsilon", "adam_eps", "max_grad_norm", "value_clip")


def train_ppo(
    config: PPOConfig, n_seeds: int, seed: int = 0, environment: str = "CartPole-v1"
) -> Run:
    """Train one actor and critic a seed by PPO.

    Each iteration takes `n_steps` in every environment, estimates the advantages once, and then
    passes over the samples `n_epochs` times in `n_minibatches`, ascending
    min(ρ Â, clip(ρ, 1 - ε, 1 + ε) Â) less the value loss.

    Args:
        config: the settings.
        n_seeds: number of seeds, trained in one batch.
        seed: the experiment's seed; with the same number of threads the run repeats bit for bit.
        environment: Gymnasium's name; discrete actions.

    Returns:
        The run; `ratios` are those after the last update before each evaluation.

    Raises:
        ValueError: settings out of range, no seeds, an environment that does not fit.
        FloatingPointError: a loss that is no longer finite; names the seed and its steps.

    Source: eq-ppo-clip; Schulman et al. (2017), algorithm 1; Huang et al. (2022).
    """
    generators = seed_generators(seed, n_seeds)
    clip_range, adam_eps, max_norm, value_clip, normalise, anneal, orthogonal = (
        _per_seed(name, getattr(config, name), n_seeds)
        for name in (
            *("epsilon", "adam_eps", "max_grad_norm", "value_clip"),
            *("normalise_advantages", "anneal_learning_rate", "orthogonal_init"),
        )
    )
    envs = make_environments(environment, n_seeds, config.n_envs, seed)
    nets = actor_critic(envs.n_inputs, config.hidden, envs.n_actions, generators, orthogonal)
    optimizer = Adam([nets.actor, nets.critic], adam_eps)
    clip_values = bool(value_clip.isfinite().any())
    snapshots = start_snapshots(nets.actor, config.total_steps, config.evaluate_every)
    policy_losses, value_losses, returns, ratios, lives = [], [], [], [], []
    spent, rollout = 0, None  # environment steps of one seed
    samples = config.n_envs * config.n_steps
    with progress(config.total_steps, "PPO") as bar:
        while spent < config.total_steps:
            remaining = 1 - spent / config.total_steps
            epsilon = clip_range * (remaining if config.anneal_epsilon else 1.0)
            learning_rate = config.learning_rate * torch.where(anneal, remaining, 1.0)
            rollout = collect(envs, nets.policy, config.n_steps, generators, rollout)
            with torch.no_grad():
                values = nets.values(rollout.observations)
                states = rollout.observations[:, :, :-1].flatten(1, 2)  # [seeds, samples, d]
                actions, live = rollout.actions.flatten(1), rollout.live.flatten(1)
                old_log_probs = categorical_log_prob(nets.policy(states), actions)
                advantages = estimate_advantages(
                    rollout.rewards,
                    values,
                    rollout.terminated,
                    rollout.truncated,
                    config.gamma,
                    config.lambda_,
                )
                old_values, advantages = values[..., :-1].flatten(1), advantages.flatten(1)
            batch = (states, actions, live, old_log_probs, old_values, advantages)

            means = torch.zeros(2, n_seeds)
            for _ in range(config.n_epochs):
                order = permutations(generators, samples)
                for x, a, mask, old_log_prob, old_value, A in _minibatches(
                    batch, order, samples // config.n_minibatches
                ):
                    logits = nets.policy(x)
                    ratio = importance_ratio(categorical_log_prob(logits, a), old_log_prob)
                    weight = torch.where(normalise, normalise_advantages(A, mask), A)
                    policy = masked_mean(-ppo_clip(ratio, weight, epsilon), mask)
                    V = nets.values(x)
                    if not clip_values:
                        value = masked_mean(value_loss(V, old_value + A), mask)
                    else:
                        value = masked_mean(
                            clipped_value_loss(V, old_value, old_value + A, value_clip), mask
                        )
                    loss = policy + config.value_coefficient * value  # [seeds]
                    if config.entropy_coefficient > 0:
                        entropy = masked_mean(categorical_entropy(logits), mask)
                        loss = loss - config.entropy_coefficient * entropy
                    loss.sum().backward()
                    clip_gradients(optimizer.parameters, max_norm)
                    optimizer.step(learning_rate)
                    means += torch.stack([policy, value]).detach()

            spent += samples
            means /= config.n_epochs * config.n_minibatches
            raise_if_diverged("PPO", spent, loss=means.sum(0), theta=nets.actor, critic=nets.critic)
            policy_losses.append(means[0])
            value_losses.append(means[1])
            bar.update(samples)
            if snapshots.keep(spent, nets.actor):
                with torch.no_grad():
                    log_probs = categorical_log_prob(nets.policy(states), actions)
                ratios.append(importance_ratio(log_probs, old_log_probs))
                lives.append(live)
                if config.stop_at is not None:
                    k = snapshots.passed
                    newest = snapshots.theta[:, k - 1 : k]
                    returns.append(evaluate_snapshots(environment, newest, nets.sizes, seed + k))
                    solved = solved_at(snapshots.steps[:k], np.hstack(returns), config.stop_at)
                    if np.isfinite(solved).all():
                        break
    k = snapshots.passed
    if config.stop_at is None:
        returns = [evaluate_snapshots(environment, snapshots.theta, nets.sizes, seed + 1)]
    return Run(
        snapshots.steps[:k],
        np.hstack(returns),
        stack(policy_losses, n_seeds),
        stack(value_losses, n_seeds),
        nets.sizes,
        snapshots.theta[:, :k],
        torch.stack(ratios, 1).numpy(),
        torch.stack(lives, 1).numpy(),
    )


def _per_seed(name: str, value: Any, n_seeds: int) -> Float[Tensor, "_ 1"] | Bool[Tensor, "_ 1"]:
    """A setting as a column that broadcasts over seeds: [1, 1], or [seeds, 1] of a tuple."""
    column = torch.tensor(value).reshape(-1, 1)
    if len(column) not in (1, n_seeds):
        raise ValueError(
            f"{name} holds {len(column)} numbers; with n_seeds {n_seeds} it must be 1 or that many"
        )
    return column


def _minibatches(batch: Sequence[Tensor], order: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
    """The samples of each seed in its own order [seeds, samples], `size` at a time."""
    rows = (order + order.shape[1] * torch.arange(len(order)).unsqueeze(1)).flatten()
    shuffled = [x.flatten(0, 1)[rows].view(x.shape) for x in batch]
    return zip(*(x.split(size, dim=1) for x in shuffled), strict=True)
