"""Advantage actor-critic (A2C) with generalised advantage estimates; all seeds in one batch."""

from dataclasses import dataclass

from rl_helpers.policy_gradients.advantages import estimate_advantages
from rl_helpers.policy_gradients.losses import (
    categorical_entropy,
    categorical_log_prob,
    policy_gradient_loss,
    value_loss,
)
from rl_helpers.training.environments import collect, make_environments
from rl_helpers.training.masks import masked_mean
from rl_helpers.training.networks import actor_critic
from rl_helpers.training.optim import Adam, clip_gradients
from rl_helpers.training.recorder import Recorder
from rl_helpers.training.runs import Run
from rl_helpers.training.seeds import seed_generators
from rl_helpers.validation import require_at_least, require_positive, require_unit


@dataclass(frozen=True)
class A2CConfig:
    """Settings of A2C.

    Args:
        total_steps: environment steps of one seed.
        n_envs: environments of one seed.
        n_steps: steps in each environment for one update.
        hidden: widths of the hidden layers, of actor and critic each.
        gamma: discount, 0 to 1.
        lambda_: λ of the advantage estimates, 0 to 1.
        learning_rate: of the actor; positive.
        critic_learning_rate: of the critic; positive.
        entropy_coefficient: weight of the current states' entropy in the objective, in nats; at
            least 0.
        max_grad_norm: largest gradient norm of each seed, actor and critic apart; infinity: no
            clipping.
        evaluate_every: environment steps between evaluations.
    """

    total_steps: int = 20_000
    n_envs: int = 8
    n_steps: int = 16
    hidden: tuple[int, ...] = (32, 32)
    gamma: float = 0.98
    lambda_: float = 0.95
    learning_rate: float = 5e-3
    critic_learning_rate: float = 1e-2
    entropy_coefficient: float = 0.0
    max_grad_norm: float = 0.5
    evaluate_every: int = 1_000

    def __post_init__(self) -> None:
        require_at_least(1, n_envs=self.n_envs, n_steps=self.n_steps)
        require_at_least(0, entropy_coefficient=self.entropy_coefficient)
        require_unit(gamma=self.gamma, lambda_=self.lambda_)
        require_positive(
            learning_rate=self.learning_rate,
            critic_learning_rate=self.critic_learning_rate,
            max_grad_norm=self.max_grad_norm,
        )


def train_a2c(
    config: A2CConfig, n_seeds: int, seed: int = 0, environment: str = "CartPole-v1"
) -> Run:
    """Train one actor and critic a seed by A2C.

    Each iteration takes `n_steps` in every environment and then one step of Adam: the
    actor's along Σ_t ∇log π(a_t|s_t) Â_t, the critic's towards V(s_t) + Â_t, held
    fixed.

    Args:
        config: the settings.
        n_seeds: number of seeds, trained in one batch.
        seed: the experiment's seed; with the same number of threads the run repeats bit
            for bit.
        environment: Gymnasium's name; discrete actions.

    Raises:
        ValueError: settings out of range, no seeds, an environment that does not fit.
        FloatingPointError: a loss that is no longer finite; names the seed and its
            steps.

    Source: eq-actor-update, eq-critic-loss, eq-gae; Mnih et al. (2016), without
        asynchrony; Schulman et al. (2016).
    """
    generators = seed_generators(seed, n_seeds)
    envs = make_environments(environment, n_seeds, config.n_envs, seed)
    nets = actor_critic(envs.n_inputs, config.hidden, envs.n_actions, generators)
    optimizers = [
        (Adam([nets.actor], eps=1e-5), config.learning_rate),
        (Adam([nets.critic], eps=1e-5), config.critic_learning_rate),
    ]
    record = Recorder(
        "A2C",
        environment,
        nets,
        config.total_steps,
        config.evaluate_every,
        seed,
    )
    rollout = None
    while not record.finished:
        rollout = collect(envs, nets.policy, config.n_steps, generators, rollout)
        states = rollout.observations  # [seeds, envs, T+1, d]
        values = nets.values(states)
        advantages = estimate_advantages(
            rollout.rewards,
            values.detach(),
            rollout.terminated,
            rollout.truncated,
            config.gamma,
            config.lambda_,
        )
        targets = values[..., :-1].detach() + advantages
        logits = nets.policy(states[:, :, :-1])
        log_probs = categorical_log_prob(logits, rollout.actions)
        policy = masked_mean(policy_gradient_loss(log_probs, advantages), rollout.live)
        entropy = masked_mean(categorical_entropy(logits), rollout.live)
        value = masked_mean(value_loss(values[..., :-1], targets), rollout.live)

        (policy - config.entropy_coefficient * entropy + value).sum().backward()
        for optimizer, learning_rate in optimizers:
            clip_gradients(optimizer.parameters, config.max_grad_norm)
            optimizer.step(learning_rate)
        record.losses(policy, value)
        record.iteration(config.n_envs * config.n_steps)
    return record.run()
