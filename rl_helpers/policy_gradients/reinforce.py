"""REINFORCE with whole episodes, with or without a learned baseline; all seeds in one batch."""

from dataclasses import dataclass

from rl_helpers.policy_gradients.advantages import bootstrapped_returns
from rl_helpers.policy_gradients.losses import (
    categorical_log_prob,
    policy_gradient_loss,
    value_loss,
)
from rl_helpers.training.environments import collect_episodes, make_environments
from rl_helpers.training.masks import masked_mean
from rl_helpers.training.networks import actor_critic
from rl_helpers.training.optim import Adam, clip_gradients
from rl_helpers.training.recorder import Recorder
from rl_helpers.training.runs import Run
from rl_helpers.training.seeds import seed_generators
from rl_helpers.validation import require_at_least, require_positive, require_unit


@dataclass(frozen=True)
class ReinforceConfig:
    """Settings of REINFORCE.

    Args:
        total_steps: environment steps of one seed.
        n_episodes: whole episodes collected for one update.
        baseline: subtract a learned V(s_t) from the return.
        hidden: widths of the hidden layers.
        gamma: discount, 0 to 1.
        learning_rate: of the policy; positive.
        baseline_learning_rate: of the baseline; positive.
        max_grad_norm: largest gradient norm of each seed, policy and baseline apart; infinity: no
            clipping.
        evaluate_every: environment steps between evaluations.
    """

    total_steps: int = 20_000
    n_episodes: int = 4
    baseline: bool = True
    hidden: tuple[int, ...] = (32, 32)
    gamma: float = 0.98
    learning_rate: float = 5e-3
    baseline_learning_rate: float = 1e-2
    max_grad_norm: float = 0.5
    evaluate_every: int = 1_000

    def __post_init__(self) -> None:
        require_at_least(1, n_episodes=self.n_episodes)
        require_unit(gamma=self.gamma)
        require_positive(
            learning_rate=self.learning_rate,
            baseline_learning_rate=self.baseline_learning_rate,
            max_grad_norm=self.max_grad_norm,
        )


def train_reinforce(
    config: ReinforceConfig,
    n_seeds: int,
    seed: int = 0,
    environment: str = "CartPole-v1",
) -> Run:
    """Train one policy a seed by REINFORCE.

    Each iteration plays `n_episodes` whole episodes with the current policy and takes
    one step of Adam along Σ_t ∇log π(a_t|s_t) (G_t - V(s_t)), averaged over all steps;
    without baseline V is 0. The baseline is then fitted to the returns by one step.
    Seeds spend their steps at their own pace, and go on until the slowest is done;
    nothing of that is recorded in `theta` and `returns`. What becomes of one seed
    depends on which others are in its batch, as all draw until the longest episode has
    ended (`collect_episodes`); its distribution does not.

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

    Source: eq-reinforce, eq-baseline; Williams (1992); Sutton & Barto (2018),
        section 13.4.
    """
    generators = seed_generators(seed, n_seeds)
    envs = make_environments(environment, n_seeds, config.n_episodes, seed)
    nets = actor_critic(envs.n_inputs, config.hidden, envs.n_actions, generators)
    optimizers = [
        (Adam([nets.actor], eps=1e-8), config.learning_rate),
        (Adam([nets.critic], eps=1e-8), config.baseline_learning_rate),
    ]
    record = Recorder(
        "REINFORCE", environment, nets, config.total_steps, config.evaluate_every, seed
    )
    while not record.finished:
        episodes = collect_episodes(envs, nets.policy, generators)
        states = episodes.observations  # [seeds, envs, T+1, d]
        values = nets.values(states) * config.baseline
        returns = bootstrapped_returns(
            episodes.rewards,
            values[..., 1:].detach(),  # read only where an episode was truncated
            episodes.terminated,
            episodes.truncated,
            config.gamma,
        )
        logits = nets.policy(states[:, :, :-1])
        log_probs = categorical_log_prob(logits, episodes.actions)
        weights = returns - values[..., :-1]
        policy = masked_mean(policy_gradient_loss(log_probs, weights), episodes.live)
        value = masked_mean(value_loss(values[..., :-1], returns), episodes.live)

        (policy + value).sum().backward()
        for optimizer, learning_rate in optimizers:
            clip_gradients(optimizer.parameters, config.max_grad_norm)
            optimizer.step(learning_rate)
        record.losses(policy, value)
        record.iteration(episodes.live.sum((1, 2)).numpy())
    return record.run(critic=config.baseline)
