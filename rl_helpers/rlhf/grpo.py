"""GRPO: policy gradients that compare the responses of a group, without a critic.

Advantages and losses are pure functions; a `Variant` says which of them an algorithm uses. The loop
trains transformers on questions whose answers can be verified, all seeds in one batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl_helpers.policy_gradients.losses import importance_ratio, value_loss
from rl_helpers.rlhf.arithmetic import END, Questions, accuracy
from rl_helpers.rlhf.divergences import k3
from rl_helpers.rlhf.language_policy import sample, token_log_probs
from rl_helpers.rlhf.transformer import Cache, Transformer
from rl_helpers.training.optim import Adam
from rl_helpers.training.seeds import permutations, seed_generators
from rl_helpers.validation import (
    require,
    require_at_least,
    require_finite,
    require_positive,
    require_same_shape,
)

# Advantages. ------------------------------------------------------------------------------------


def standardised(
    rewards: Float[Tensor, "*batch G"], eps: float = 1e-6, denominator: int = 0
) -> Float[Tensor, "*batch G"]:
    """(r_i - mean) / (sd + ε) within each group; 0 in a group of equal rewards.

    Args:
        rewards: of the G responses of each group, G >= 2.
        eps: ε, at least 0; a group of equal rewards is defined even without it.
        denominator: of the variance: 0 for G, 1 for G - 1.

    Raises:
        ValueError: groups of fewer than two, rewards not finite, eps negative.

    Source: eq-grpo-advantage; Shao et al. (2024), section 4.1.2.

    >>> standardised(torch.tensor([1.0, 0.0, 0.0, 0.0]), eps=0.0)
    tensor([ 1.7321, -0.5774, -0.5774, -0.5774])
    """
    require_at_least(0, eps=eps)
    away = centred(rewards)
    spread = rewards.std(-1, correction=denominator, keepdim=True)
    differ = rewards.amax(-1, keepdim=True) > rewards.amin(-1, keepdim=True)
    safe = torch.where(differ, spread + eps, 1.0)
    return torch.where(differ, away / safe, 0.0)


def centred(rewards: Float[Tensor, "*batch G"]) -> Float[Tensor, "*batch G"]:
    """r_i - mean within each group.

    Args:
        rewards: of the G responses of each group, G >= 2.

    Raises:
        ValueError: groups of fewer than two, rewards not finite.

    Source: eq-grpo-group-bias; Liu et al. (2025).

    >>> centred(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    tensor([ 0.7500, -0.2500, -0.2500, -0.2500])
    """
    require_finite(rewards=rewards.detach())
    G = rewards.shape[-1] if rewards.ndim else 0
    require(G >= 2, "rewards", f"a group of {G}", "at least 2 responses can be compared")
    return rewards - rewards.mean(-1, keepdim=True)


def leave_one_out(rewards: Float[Tensor, "*batch G"]) -> Float[Tensor, "*batch G"]:
    """r_i less the mean of the other rewards of its group.

    Args:
        rewards: as for `centred`.

    Raises:
        ValueError: as for `centred`.

    Source: eq-rloo; Kool et al. (2019); Ahmadian et al. (2024).

    >>> leave_one_out(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    tensor([ 1.0000, -0.3333, -0.3333, -0.3333])
    """
    G = rewards.shape[-1] if rewards.ndim else 0
    return centred(rewards) * (G / max(1, G - 1))


ADVANTAGES = {"standardised": standardised, "centred": centred, "leave-one-out": leave_one_out}

# Losses. ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """What an algorithm of the family does.

    Args:
        advantages: how rewards are compared; "critic": with a learned value instead.
        weights: of a token in the mean over a group of G responses: "response" 1/(G |y_i|),
            "group" 1/(|y_1| + ... + |y_G|), "sum" 1/G.
        ratio: of each "token", or of the "sequence", the geometric mean of its tokens' ratios.
        low, high: how far below and above 1 the ratio is rewarded; positive, infinity: no clip.
        beta: price of the k3 estimate of each token as a term of the loss; 0: none.
    """

    advantages: Literal["standardised", "centred", "leave-one-out", "critic"] = "standardised"
    weights: Literal["response", "group", "sum"] = "response"
    ratio: Literal["token", "sequence"] = "token"
    low: float = 0.2
    high: float = 0.2
    beta: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in {
            "advantages": (*ADVANTAGES, "critic"), "weights": ("response", "group", "sum"),
            "ratio": ("token", "sequence"),
        }.items():  # fmt: skip
            given = getattr(self, name)
            require(given in allowed, name, repr(given), f"allowed are {', '.join(allowed)}")
        require_positive(low=self.low, high=self.high)
        require_at_least(0, beta=self.beta)


GRPO = Variant(beta=0.04)
RLOO = Variant("leave-one-out", "sum", low=math.inf, high=math.inf)
DR_GRPO = Variant("centred", "sum")
DAPO = Variant(weights="group", high=0.28)
GSPO = Variant(ratio="sequence", low=3e-4, high=4e-4)


def sequence_ratio(
    log_probs: Float[Tensor, "*batch L"],
    old_log_probs: Float[Tensor, "*batch L"],
    live: Bool[Tensor, "*batch L"],
) -> Float[Tensor, "*batch L"]:
    """(π(y|x) / π_old(y|x))^(1/|y|), the same at each token of a response.

    Args:
        log_probs: log π of the tokens, in nats [..., L].
        old_log_probs: log π_old of the same tokens; held fixed.
        live: which tokens were chosen.

    Raises:
        ValueError: shapes that disagree, a response without a token.

    Source: Zheng et al. (2025), equation 7.

    >>> new, old = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.5]).log()
    >>> sequence_ratio(new, old, torch.tensor([True, True]))
    tensor([1.4142, 1.4142])
    """
    require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, live=live)
    moved = (log_probs - old_log_probs.detach()).masked_fill(~live, 0.0)
    return (moved.sum(-1, keepdim=True) / _lengths(live, log_probs)).exp().expand_as(log_probs)


def grpo_loss(
    log_probs: Float[Tensor, "*batch G L"],
    old_log_probs: Float[Tensor, "*batch G L"],
    live: Bool[Tensor, "*batch G L"],
    advantages: Float[Tensor, "*batch G _"],
    variant: Variant,
    log_reference: Float[Tensor, "*batch G L"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Loss of each group: minus the clipped objective, plus the price of k3.

    Args:
        log_probs: log π_θ of the chosen tokens, in nats [..., G, L].
        old_log_probs: log π_old of these tokens, of the policy that chose them; fixed.
        live: which tokens were chosen; others do not count.
        advantages: of each response [..., G, 1], or token [..., G, L]; held fixed.
        variant: which weights, ratio, clip range and price.
        log_reference: log π_ref of the same tokens; needed if there is a price.

    Returns:
        One number a group [...].

    Raises:
        ValueError: shapes that disagree, a response without a token, a price without
            a reference.

    Source: eq-grpo-objective; Shao et al. (2024), equations 3 and 4.
    """
    require_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, live=live)
    lengths, A, G = _lengths(live, log_probs), advantages.detach(), live.shape[-2]
    new, old = (x.masked_fill(~live, 0.0) for x in (log_probs, old_log_probs))
    ratio = sequence_ratio(new, old, live)
    if variant.ratio == "token":
        ratio = importance_ratio(new, old)
    clipped = ratio.clamp(1 - variant.low, 1 + variant.high)
    gains = torch.minimum(ratio * A, clipped * A)
    if variant.beta > 0:
        require(log_reference is not None, "log_reference", None, "a price needs it")
        assert log_reference is not None
        log_ratio = (log_probs - log_reference).masked_fill(~live, 0.0)
        gains = gains - variant.beta * k3(log_ratio)
    weights = {
        "response": 1 / (G * lengths),
        "group": 1 / lengths.sum(-2, keepdim=True),
        "sum": torch.full_like(lengths, 1 / G),
    }
    return -(gains * live * weights[variant.weights]).sum((-2, -1))


def _lengths(live: Bool[Tensor, "*batch L"], like: Tensor) -> Float[Tensor, "*batch 1"]:
    lengths = live.sum(-1, keepdim=True)
    require(bool((lengths > 0).all()), "live", "False throughout a response", "it has a token")
    return lengths.to(like.dtype)


# The loop. --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GrpoConfig:
    """Settings of a run.

    Args:
        n_steps: how often groups are sampled.
        n_prompts: questions of one step, all different.
        group: G, responses to each; at least 2.
        n_updates: gradient steps on them.
        learning_rate: positive; constant.
        variant: the algorithm.
        evaluate_every: gradient steps between kept parameters.
    """

    n_steps: int = 36
    n_prompts: int = 64
    group: int = 8
    n_updates: int = 2
    learning_rate: float = 2e-3
    variant: Variant = Variant()
    evaluate_every: int = 8

    def __post_init__(self) -> None:
        require_at_least(
            1, n_steps=self.n_steps, n_prompts=self.n_prompts, n_updates=self.n_updates,
            evaluate_every=self.evaluate_every,
        )  # fmt: skip
        require_at_least(2, group=self.group)
        require_positive(learning_rate=self.learning_rate)


@dataclass(frozen=True, eq=False)
class GrpoRun:
    """What a run left.

    Args:
        steps: after how many gradient steps parameters were kept [k], 0 the first.
        models: those transformers, each of all seeds.
        rewards: mean reward of each step's responses [seeds, steps].
        silent: share of each step's groups whose rewards are all equal [seeds, steps].
    """

    steps: Int[Tensor, " k"]
    models: tuple[Transformer, ...]
    rewards: Float[Tensor, "seeds steps"]
    silent: Float[Tensor, "seeds steps"]


class Groups(NamedTuple):
    """Responses of the old policy to each question of a step.

    Args:
        prompts: tokens of the questions [seeds, n, P].
        tokens, live, log_probs: of the responses, as in `language_policy.Responses` [seeds, n, G, L].
        rewards: 1 for a right answer, else 0 [seeds, n, G].
    """

    prompts: Int[Tensor, "seeds n P"]
    tokens: Int[Tensor, "seeds n G L"]
    live: Bool[Tensor, "seeds n G L"]
    log_probs: Float[Tensor, "seeds n G L"]
    rewards: Float[Tensor, "seeds n G"]


def train_grpo(
    config: GrpoConfig, questions: Questions, reference: Transformer, seed: int = 0
) -> GrpoRun:
    """Train each seed's reference model on questions with verified answers.

    Args:
        config: the settings.
        questions: what is asked.
        reference: of all seeds; where training starts, and what a price keeps the
            policy close to.
        seed: the experiment's seed; with the same number of threads the run repeats
            bit for bit.

    Raises:
        ValueError: more prompts than questions, a critic without a value.

    Source: eq-grpo-objective; Shao et al. (2024), algorithm 1.
    """
    _require_fit(config, questions, reference)
    generators = seed_generators(seed, len(reference.theta))
    theta = reference.theta.detach().clone().requires_grad_()
    optimizer, kept, seen = Adam([theta], eps=1e-8), [reference], []
    for step in range(config.n_steps):
        asked = permutations(generators, len(questions))[:, : config.n_prompts]
        policy = Transformer(theta.detach(), reference.shape)
        groups = answer(policy, questions, asked, config.group, generators)
        for update in range(step * config.n_updates, (step + 1) * config.n_updates):
            model = Transformer(theta, reference.shape)
            batch_loss(model, reference, groups, config.variant).sum().backward()
            optimizer.step(config.learning_rate)
            if (update + 1) % config.evaluate_every == 0:
                kept.append(Transformer(theta.detach().clone(), reference.shape))
        equal = groups.rewards.amax(-1) == groups.rewards.amin(-1)
        seen.append((groups.rewards.mean((1, 2)), equal.float().mean(-1)))
    steps = config.evaluate_every * torch.arange(len(kept))
    rewards, silent = (torch.stack(x, dim=1) for x in zip(*seen, strict=True))
    return GrpoRun(steps, tuple(kept), rewards, silent)


@torch.no_grad()
def answer(
    policy: Transformer,
    questions: Questions,
    asked: Int[Tensor, "seeds n"],
    group: int,
    generators: Sequence[torch.Generator],
) -> Groups:
    """Sample a group of answers to each question, and verify them."""
    prompts = questions.prompts[asked]  # [seeds, n, P]
    y = sample(policy, prompts, questions.max_tokens, END, generators, group)
    tokens, live, log_probs = (x.unflatten(1, (-1, group)) for x in y)
    right = questions.is_right(asked.unsqueeze(-1).expand(-1, -1, group), tokens)
    return Groups(prompts, tokens, live, log_probs, right.to(log_probs.dtype))


def batch_loss(
    model: Transformer, reference: Transformer, groups: Groups, variant: Variant
) -> Float[Tensor, " seeds"]:
    """Mean loss of each seed's groups; a critic's loss is added with weight ½."""
    outputs = group_outputs(model, groups.prompts, groups.tokens)
    log_probs = token_log_probs(outputs, groups.tokens, groups.live, END)
    log_reference, fit = None, torch.zeros(())
    if variant.advantages == "critic":
        values = outputs[..., -1]
        rewards = groups.rewards.unsqueeze(-1).expand_as(values)
        advantages = rewards - values.detach()
        errors = value_loss(values, rewards) * groups.live
        fit = errors.sum((-2, -1)) / groups.live.sum((-2, -1))
    else:
        advantages = ADVANTAGES[variant.advantages](groups.rewards).unsqueeze(-1)
    if variant.beta > 0:
        with torch.no_grad():
            said = group_outputs(reference, groups.prompts, groups.tokens)
        log_reference = token_log_probs(said, groups.tokens, groups.live, END)
    fixed = groups.log_probs, groups.live, advantages
    policy = grpo_loss(log_probs, *fixed, variant, log_reference)
    return (policy + fit / 2).mean(-1)


def group_outputs(
    model: Transformer, prompts: Int[Tensor, "seeds n P"], tokens: Int[Tensor, "seeds n G L"]
) -> Float[Tensor, "seeds n G L n_outputs"]:
    """The transformer's outputs where each token is chosen; a group's question is read once."""
    G = tokens.shape[2]
    first, cache = model.extend(prompts, Cache())
    later, _ = model.extend(tokens[..., :-1].flatten(1, 2), cache.repeat(G))
    start = first[:, :, None, -1:].expand(-1, -1, G, -1, -1)
    return torch.cat([start, later.unflatten(1, (-1, G))], dim=3)


def accuracies(
    run: GrpoRun, questions: Questions
) -> tuple[Float[Tensor, "seeds k n"], Float[Tensor, "seeds k n"]]:
    """`arithmetic.accuracy` of all kept transformers: sampled and greedy, of every question."""
    found = [accuracy(model, questions) for model in run.models]
    sampled, greedy = (torch.stack(x, dim=1) for x in zip(*found, strict=True))
    return sampled.double(), greedy.double()


def _require_fit(config: GrpoConfig, questions: Questions, reference: Transformer) -> None:
    n = len(questions)
    require(config.n_prompts <= n, "n_prompts", config.n_prompts, f"there are {n} questions")
    values = reference.shape.n_outputs - END - 1
    allowed = values >= 1 if config.variant.advantages == "critic" else values >= 0
    require(allowed, "reference", f"a model with {values} values", "a critic needs one")
