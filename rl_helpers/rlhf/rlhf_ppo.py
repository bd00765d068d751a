"""RLHF with PPO: a transformer learns from rewards of whole responses; all seeds in one batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl_helpers.policy_gradients.advantages import estimate_advantages
from rl_helpers.policy_gradients.losses import clipped_surrogate, importance_ratio, value_loss
from rl_helpers.rlhf.language_policy import (
    outputs_before,
    prompt_tokens,
    sample,
    token_log_probs,
)
from rl_helpers.rlhf.toy_language import Language
from rl_helpers.rlhf.transformer import Transformer
from rl_helpers.training.masks import masked_mean
from rl_helpers.training.minibatches import minibatches
from rl_helpers.training.optim import Adam
from rl_helpers.training.seeds import draws, seed_generators
from rl_helpers.validation import (
    require,
    require_at_least,
    require_finite,
    require_positive,
    require_same_shape,
    require_unit,
)


@dataclass(frozen=True)
class RlhfPPOConfig:
    """Settings of RLHF with PPO.

    For a setting marked * a tuple gives each seed its own, so that one batch compares many.

    Args:
        n_iterations: how often new responses are sampled.
        n_responses: responses of one iteration.
        n_epochs: passes over them.
        n_minibatches: gradient steps in one pass; must divide n_responses.
        beta*: price β of a nat of KL divergence, at first; positive.
        target_kl*: divergence that β is adapted to, in nats a response; positive.
        kl_gain*: how fast β follows, at least 0; 0: β stays as it is.
        epsilon: clip range ε of the ratio, positive.
        lambda_: λ of the advantage estimates, 0 to 1.
        learning_rate: at the first iteration; it falls along a cosine. Positive.
        last_learning_rate: share of it that is left at the end, 0 to 1.
        value_coefficient: weight of the value loss; positive.
        evaluate_every: iterations between kept parameters; must divide n_iterations.
    """

    n_iterations: int = 30
    n_responses: int = 512
    n_epochs: int = 2
    n_minibatches: int = 8
    beta: float | tuple[float, ...] = 0.5
    target_kl: float | tuple[float, ...] = 1.0
    kl_gain: float | tuple[float, ...] = 0.0
    epsilon: float = 0.1
    lambda_: float = 0.95
    learning_rate: float = 4e-3
    last_learning_rate: float = 0.03
    value_coefficient: float = 0.1
    evaluate_every: int = 3

    def __post_init__(self) -> None:
        require_at_least(
            1, n_iterations=self.n_iterations, n_responses=self.n_responses, n_epochs=self.n_epochs,
            n_minibatches=self.n_minibatches, evaluate_every=self.evaluate_every,
        )  # fmt: skip
        allowed = f"it must divide n_responses = {self.n_responses}"
        require(
            self.n_responses % self.n_minibatches == 0, "n_minibatches", self.n_minibatches, allowed
        )
        allowed = f"it must divide n_iterations = {self.n_iterations}"
        require(
            self.n_iterations % self.evaluate_every == 0, "evaluate_every", self.evaluate_every, allowed
        )  # fmt: skip
        require_positive(
            beta=self.beta, target_kl=self.target_kl, epsilon=self.epsilon,
            learning_rate=self.learning_rate, value_coefficient=self.value_coefficient,
        )  # fmt: skip
        gains = self.kl_gain if isinstance(self.kl_gain, tuple) else (self.kl_gain,)
        require_at_least(0, kl_gain=min(gains))
        require_unit(lambda_=self.lambda_, last_learning_rate=self.last_learning_rate)


@dataclass(frozen=True, eq=False)
class RlhfRun:
    """What a run left.

    Args:
        steps: after how many iterations parameters were kept [k], 0 the first.
        thetas: those parameters [seeds, k, P].
        betas: β of each iteration [seeds, iterations].
        kls: mean log-ratio of each iteration's responses, in nats [seeds, iterations].
        rewards: mean reward of each iteration's responses [seeds, iterations].
    """

    steps: Int[Tensor, " k"]
    thetas: Float[Tensor, "seeds k P"]
    betas: Float[Tensor, "seeds iterations"]
    kls: Float[Tensor, "seeds iterations"]
    rewards: Float[Tensor, "seeds iterations"]


def token_rewards(
    log_probs: Float[Tensor, "*batch L"],
    log_reference: Float[Tensor, "*batch L"],
    live: Bool[Tensor, "*batch L"],
    reward: Float[Tensor, "*batch"],
    beta: float | Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch L"]:
    """-β log(π_θ/π_ref) of every chosen token, and the reward at the last of them.

    Args:
        log_probs: log π_θ of the tokens, in nats [..., L].
        log_reference: log π_ref of the same tokens [..., L].
        live: which tokens were chosen [..., L]; the last of them is the end token,
            unless that was forced. Elsewhere the token reward is 0.
        reward: r(x, y) of the response [...].
        beta: price of a nat; positive.

    Raises:
        ValueError: beta not positive, shapes that disagree, rewards that are not
            finite, a response without a token, a token that the reference never says.

    Source: eq-kl-reward; Ziegler et al. (2019), section 2.

    >>> policy, reference = torch.tensor([[0.5, 0.8, 0.9], [0.25, 0.5, 0.9]]).log()
    >>> live, reward = torch.tensor([True] * 3), torch.tensor(2.0)
    >>> token_rewards(policy, reference, live, reward, 0.5)
    tensor([-0.3466, -0.2350,  2.0000])
    """
    require_positive(beta=beta)
    require_same_shape(log_probs=log_probs, log_reference=log_reference, live=live)
    require_same_shape(reward=reward, response=live[..., 0])
    require_finite(reward=reward)
    require(
        bool(live[..., 0].all()), "live", "False at a first token",
        "a response has a token",
    )  # fmt: skip
    said = log_reference.isfinite() | ~live
    require(
        bool(said.all()), "log_reference",
        f"not finite for {int((~said).sum())} tokens",
        "the reference must have support wherever the policy does",
    )  # fmt: skip
    price = beta.unsqueeze(-1) if isinstance(beta, Tensor) else beta
    charges = torch.where(live, -price * (log_probs - log_reference), 0.0)
    return charges + reward.unsqueeze(-1) * last_token(live)


def last_token(live: Bool[Tensor, "*batch L"]) -> Bool[Tensor, "*batch L"]:
    """Which token of each response is the last that was chosen."""
    return live & ~torch.cat([live[..., 1:], torch.zeros_like(live[..., :1])], dim=-1)


def adapted_beta(
    beta: Float[Tensor, "*batch"],
    kl: Float[Tensor, "*batch"],
    target_kl: Float[Tensor, "*#batch"] | float,
    gain: Float[Tensor, "*#batch"] | float,
) -> Float[Tensor, "*batch"]:
    """The next β: higher if the divergence was above its target, lower if below.

    β (1 + gain · clip(KL / target - 1, -0.2, 0.2)).

    Args:
        beta: price of a nat; positive.
        kl: divergence that was measured, in nats.
        target_kl: divergence that is wanted; positive.
        gain: how fast β follows, at least 0.

    Raises:
        ValueError: beta or target_kl not positive.

    Source: Ziegler et al. (2019), section 2.2.

    >>> measured = torch.tensor([0.1, 2.0, 2.2])
    >>> adapted_beta(torch.tensor([1.0, 1.0, 1.0]), measured, 2.0, 0.5)
    tensor([0.9000, 1.0000, 1.0500])
    """
    require_positive(beta=beta, target_kl=target_kl)
    return beta * (1 + gain * (kl / target_kl - 1).clip(-0.2, 0.2))


def train_rlhf_ppo(
    config: RlhfPPOConfig,
    language: Language,
    reference: Transformer,
    reward: Float[Tensor, "*seeds prompts responses"],
    seed: int = 0,
) -> RlhfRun:
    """Train each seed's reference model by PPO, with the KL charge in the reward.

    Args:
        config: the settings.
        language: what is spoken; prompts are all equally likely.
        reference: of all seeds, with one output besides the logits, the value; where
            training starts, and what the policy is kept close to.
        reward: r(x, y) of all responses, shared [prompts, responses] or each seed's.
        seed: the experiment's seed; with the same number of threads the run repeats
            bit for bit.

    Raises:
        ValueError: settings that are not one for each seed, a reference without a
            value, rewards of another shape or not finite.

    Source: eq-kl-reward, eq-ppo-clip; Ziegler et al. (2019), Ouyang et al. (2022).
    """
    n_seeds = len(reference.theta)
    require_fit(language, reference, reward)
    generators, rewards = seed_generators(seed, n_seeds), reward.expand(n_seeds, -1, -1)
    beta, target, gain = per_seed(config, n_seeds)
    theta = reference.theta.detach().clone().requires_grad_()
    optimizer, kept, seen = Adam([theta], eps=1e-8), [theta.detach().clone()], []
    for step in range(config.n_iterations):
        policy = Transformer(theta, reference.shape)
        samples, drift, paid = respond(
            config, language, policy, reference, rewards, beta, generators
        )
        seen.append((beta, drift, paid))
        for _ in range(config.n_epochs):
            for batch in minibatches(samples, config.n_minibatches, generators):
                model = Transformer(theta, reference.shape)
                actor, critic = rlhf_losses(model, language.end, batch, config.epsilon)
                (actor + config.value_coefficient * critic).sum().backward()
                optimizer.step(learning_rate(config, step))
        beta = adapted_beta(beta, drift, target, gain)
        if (step + 1) % config.evaluate_every == 0:
            kept.append(theta.detach().clone())
    steps = config.evaluate_every * torch.arange(len(kept))
    betas, kls, rewards = (torch.stack(x, dim=1) for x in zip(*seen, strict=True))
    return RlhfRun(steps, torch.stack(kept, dim=1), betas, kls, rewards)


class Samples(NamedTuple):
    """Responses of the old policy, and what is fixed while the new one learns from them.

    Args:
        prompts: their tokens [seeds, n, 1].
        tokens, live: as of `language_policy.Responses` [seeds, n, L].
        log_probs: log π_old of the tokens [seeds, n, L].
        advantages: of the tokens [seeds, n, L].
        targets: what the value is fitted to [seeds, n, L].
    """

    prompts: Int[Tensor, "seeds n 1"]
    tokens: Int[Tensor, "seeds n L"]
    live: Bool[Tensor, "seeds n L"]
    log_probs: Float[Tensor, "seeds n L"]
    advantages: Float[Tensor, "seeds n L"]
    targets: Float[Tensor, "seeds n L"]


@torch.no_grad()
def respond(
    config: RlhfPPOConfig,
    language: Language,
    policy: Transformer,
    reference: Transformer,
    rewards: Float[Tensor, "seeds prompts responses"],
    beta: Float[Tensor, " seeds"],
    generators: Sequence[torch.Generator],
) -> tuple[Samples, Float[Tensor, " seeds"], Float[Tensor, " seeds"]]:
    """Sample responses, score them, charge their tokens, and estimate advantages.

    Returns:
        The samples; and each seed's mean log-ratio of a response, and mean reward.

    Source: eq-kl-reward, eq-gae.
    """
    end = language.end
    x = draws(generators, len(language.prompts), config.n_responses)
    prompts = prompt_tokens(language, x)
    y = sample(policy, prompts, language.max_words, end, generators)
    values = outputs_before(policy, prompts, y.tokens)[..., -1]
    outputs = outputs_before(reference, prompts, y.tokens)
    log_reference = token_log_probs(outputs, y.tokens, y.live, end)
    paid = rewards[torch.arange(len(x)).unsqueeze(1), x, language.number(y.tokens)]
    price, ended = beta.unsqueeze(1), last_token(y.live)
    charged = token_rewards(y.log_probs, log_reference, y.live, paid, price)
    after = torch.cat([values, torch.zeros_like(values[..., :1])], dim=-1)
    cut = torch.zeros_like(ended)
    advantages = estimate_advantages(charged, after, ended, cut, 1.0, config.lambda_)
    drift = (y.log_probs - log_reference).sum(-1).mean(-1)
    targets = values + advantages
    samples = Samples(prompts, y.tokens, y.live, y.log_probs, advantages, targets)
    return samples, drift, paid.mean(-1)


def rlhf_losses(
    model: Transformer, end: int, batch: Samples, epsilon: float
) -> tuple[Float[Tensor, " seeds"], Float[Tensor, " seeds"]]:
    """PPO's loss of the policy and of the value: means over the chosen tokens.

    Args:
        model: of all seeds, that learns.
        end: the end token.
        batch: samples of the old policy, of a minibatch.
        epsilon: clip range of the ratio.

    Source: eq-ppo-clip, eq-critic-loss.
    """
    outputs = outputs_before(model, batch.prompts, batch.tokens)
    log_probs = token_log_probs(outputs, batch.tokens, batch.live, end)
    ratio = importance_ratio(log_probs, batch.log_probs)
    gain = clipped_surrogate(ratio, batch.advantages, epsilon)
    error = value_loss(outputs[..., -1], batch.targets)
    return masked_mean(-gain, batch.live), masked_mean(error, batch.live)


def learning_rate(config: RlhfPPOConfig, step: int) -> float:
    """The learning rate of an iteration: half a cosine, from all of it to the share that is left."""
    last = config.last_learning_rate
    turn = math.cos(math.pi * step / max(1, config.n_iterations - 1))
    return config.learning_rate * (last + (1 - last) * (1 + turn) / 2)


def per_seed(
    config: RlhfPPOConfig, n_seeds: int
) -> tuple[Float[Tensor, " seeds"], Float[Tensor, " seeds"], Float[Tensor, " seeds"]]:
    """β, its target and its gain, of every seed."""
    columns = []
    for name in ("beta", "target_kl", "kl_gain"):
        given = getattr(config, name)
        values = given if isinstance(given, tuple) else (given,) * n_seeds
        require(
            len(values) == n_seeds,
            name,
            f"{len(values)} numbers",
            f"one for each of {n_seeds} seeds",
        )
        columns.append(torch.tensor(values, dtype=torch.float32))
    return columns[0], columns[1], columns[2]


def require_fit(language: Language, reference: Transformer, reward: Tensor) -> None:
    """Raise `ValueError` unless the reference has a value, and the rewards are of the language."""
    n_outputs = reference.shape.n_outputs
    require(
        n_outputs == language.n_tokens + 1, "reference", f"a model with {n_outputs} outputs",
        f"it must have {language.n_tokens} logits and a value",
    )  # fmt: skip
    n, m = len(language.prompts), language.n_responses
    fits = reward.shape in ((n, m), (len(reference.theta), n, m))
    require(fits, "reward", tuple(reward.shape), f"it must be [{n}, {m}], or that for each seed")
    require_finite(reward=reward)
