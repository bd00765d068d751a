"""Reward models: a reward is fitted to comparisons, linear in features or by a transformer.

A linear reward is fitted by Newton's method, many experiments at once, in float64. A transformer
reads a prompt, a response and its end token, and its only output *at the end token* is the reward.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rl_helpers.rlhf.language_policy import language_shape, prompt_tokens, read_prefixes
from rl_helpers.rlhf.preferences import (
    Comparisons,
    judged,
    preference_loss,
    require_compared,
)
from rl_helpers.rlhf.toy_language import END, HABIT, TRUTH, Language, butler
from rl_helpers.rlhf.transformer import Shape, Transformer, initial_parameters
from rl_helpers.training.optim import Adam
from rl_helpers.training.seeds import draws, seed_generators
from rl_helpers.validation import require, require_at_least, require_finite, require_positive

MOST_STEPS = 60  # of Newton's method; where there is a maximum it takes about ten
CLOSE = 1e-6  # last change of any margin; the next would be about its square
SEEDS_AT_ONCE = 2  # when all responses are listed: their keys and values fill memory
AT_ONCE = 2**21  # numbers in the differences of experiments that are fitted side by side


# Features of responses. -----------------------------------------------------------------------


def bigram_counts(language: Language) -> Float[Tensor, "responses bigrams"]:
    """How often each token follows each word, or the start, in each response.

    Returns:
        Counts [responses, (W + 1)²], float64; bigram (W + 1) i + j is token j behind word i - 1, or
        behind the start if i = 0. A forced end is not counted.
    """
    tokens, n = language.tokens, language.n_tokens
    start = torch.zeros(len(tokens), 1, dtype=torch.long)
    before = torch.cat([start, tokens[:, :-1] + 1], dim=1).clamp(max=language.end)
    counts = torch.zeros(len(tokens), n * n, dtype=torch.float64)
    return counts.scatter_add_(1, n * before + tokens, language.live.to(torch.float64))


def butler_features() -> Float[Tensor, "prompts responses 67"]:
    """The butler's 64 bigrams, and his words *yes*, *good* and *no* signed by the prompt's truth.

    His true reward is linear in them; so are many others that it cannot be told from.
    """
    bigrams = bigram_counts(butler)
    return torch.cat([bigrams.expand(len(butler.prompts), -1, -1), _promises()], dim=-1)


def butler_rules() -> Float[Tensor, "prompts responses 7"]:
    """Seven features that a judge might list: three signed promises, two courtesies, slips, words.

    *yes*, *good* and *no*, signed by the prompt's truth; *sir* and *sorry*; pairs of neighbours that
    are not the butler's habit; words. His true reward has the weights 1, 1, -1, ½, ½, -2, 0.
    """
    polite = torch.stack([_count(word) for word in ("sir", "sorry")], dim=-1)
    followers = (*butler.words, END)
    odd = [[float(w not in HABIT[last]) for w in followers] for last in ("", *butler.words)]
    slips = bigram_counts(butler) @ torch.tensor(odd, dtype=torch.float64).flatten()
    shared = torch.column_stack([polite, slips, butler.n_words.to(torch.float64)])
    return torch.cat([_promises(), shared.expand(len(butler.prompts), -1, -1)], dim=-1)


def _promises() -> Float[Tensor, "prompts responses 3"]:
    counts = torch.stack([_count(word) for word in ("yes", "good", "no")], dim=-1)
    return torch.tensor(TRUTH, dtype=torch.float64).view(-1, 1, 1) * counts


def _count(word: str) -> Float[Tensor, " responses"]:
    return (butler.tokens == butler.words.index(word)).sum(-1).to(torch.float64)


# A reward that is linear in features. -----------------------------------------------------------


def linear_reward(
    features: Float[Tensor, "prompts responses features"],
    weights: Float[Tensor, "*batch features"],
) -> Float[Tensor, "*batch prompts responses"]:
    """Rewards of all responses, from the weights of each experiment."""
    return torch.einsum("xyf,...f->...xy", features, weights)


def fit_bradley_terry(
    differences: Float[Tensor, "*batch n features"],
    labels: Float[Tensor, "*batch n"] | float = 1.0,
    ridge: float = 0.0,
    counts: Float[Tensor, "*batch n"] | float = 1.0,
) -> Float[Tensor, "*batch features"]:
    """Weights of least `preference_loss`, summed, and ridge/2 times their squares.

    By Newton's method, all experiments of a batch together. A step that changes no
    margin by more than d is shortened to log(1 + d)/d: along a step the loss's third
    derivative is at most d times its second, so that it falls in every step. With a
    ridge the weights are the most probable ones if each is drawn from a normal
    distribution of variance 1/ridge beforehand.

    Args:
        differences: features of the first response less those of the second, float64.
        labels: share of judges who prefer the first, 0 to 1.
        ridge: at least 0.
        counts: how often each comparison was made, at least 0.

    Raises:
        ValueError: differences that are not finite, labels outside 0 to 1, a negative
            ridge or count; without a ridge: features that the comparisons cannot tell
            apart, or comparisons that some weights explain without an error, so that
            larger ones always explain them better.

    Source: eq-rm-loss, eq-rm-gradient; the step: Sun & Tran-Dinh (2019), theorem 2.
    """
    require_finite(differences=differences)
    require_at_least(0, ridge=ridge)
    shares = torch.as_tensor(labels, dtype=differences.dtype)
    require(bool(((shares >= 0) & (shares <= 1)).all()), "labels", "outside 0 to 1",
            "a label is the share of judges who prefer the first")  # fmt: skip
    n = torch.as_tensor(counts, dtype=differences.dtype).expand(differences.shape[:-1])
    allowed = "a comparison is made 0 times or more"
    require(bool((n >= 0).all()), "counts", "negative", allowed)
    penalty = ridge * torch.eye(differences.shape[-1], dtype=differences.dtype)
    if ridge == 0:
        require_told_apart(differences, n)
    weights = differences.new_zeros(*differences.shape[:-2], differences.shape[-1])
    for _ in range(MOST_STEPS):
        p = (differences @ weights.unsqueeze(-1)).squeeze(-1).sigmoid()
        off, curve = n * (p - shares), n * p * (1 - p)
        slope = (off.unsqueeze(-2) @ differences).squeeze(-2) + ridge * weights
        curvature = differences.mT @ (curve.unsqueeze(-1) * differences) + penalty
        factor, failed = torch.linalg.cholesky_ex(curvature)
        if bool(failed.any()):
            break
        step = torch.cholesky_solve(slope.unsqueeze(-1), factor)  # [..., features, 1]
        d = (differences @ step).abs().amax(dim=(-2, -1)).clamp(min=1e-12)
        weights = weights - (d.log1p() / d).unsqueeze(-1) * step.squeeze(-1)
        if float(d.max()) < CLOSE:
            return weights
    raise ValueError(
        f"ridge is {ridge:g}; some weights explain these comparisons without an error, "
        "and larger ones ever better: it must be larger, or the comparisons more"
    )


def require_told_apart(
    differences: Float[Tensor, "*batch n features"], counts: Float[Tensor, "*batch n"]
) -> None:
    """Raise `ValueError` unless every change of the weights changes the margin of some comparison."""
    spread = torch.linalg.eigvalsh(differences.mT @ (counts.unsqueeze(-1) * differences))
    told = bool((spread[..., 0] > 1e-10 * spread[..., -1]).all())
    wanted = "these comparisons do not tell all features apart: it must be positive"
    require(told, "ridge", 0, wanted)


def fit_linear_reward(
    features: Float[Tensor, "prompts responses features"],
    comparisons: Comparisons,
    ridge: float = 0.0,
) -> Float[Tensor, "*batch features"]:
    """Weights of a linear reward for each experiment, from its comparisons [..., n].

    Args:
        features: of all responses, float64.
        comparisons: of one experiment [n] or many [seeds, n].
        ridge: as for `fit_bradley_terry`.

    Raises:
        ValueError: as for `fit_bradley_terry`; or a response that is compared with itself.
    """
    pairs = judged(Comparisons(*(part.reshape(-1, part.shape[-1]) for part in comparisons)))
    side_by_side = max(1, AT_ONCE // (pairs.prompts.shape[-1] * features.shape[-1]))
    weights = [
        fit_bradley_terry(features[x, first] - features[x, second], shares, ridge, counts)
        for x, first, second, counts, shares in zip(
            *(part.split(side_by_side) for part in pairs), strict=True
        )
    ]
    return torch.cat(weights).reshape(*comparisons.prompts.shape[:-1], -1)


def fisher_information(
    features: Float[Tensor, "prompts responses features"],
    reward: Float[Tensor, "prompts responses"],
    log_policy: Float[Tensor, "prompts responses"],
) -> Float[Tensor, "features features"]:
    """E[σ(m) σ(-m) Δ Δᵀ], what one comparison drawn by `sample_pairs` says about the weights.

    Exact, by listing all pairs of responses: Δ is their features' difference, m their reward's.
    """
    total = features.new_zeros(features.shape[-1], features.shape[-1])
    for f, r, p in zip(features, reward, log_policy.exp(), strict=True):
        m = r.unsqueeze(-1) - r
        pairs = p.unsqueeze(-1) * p / (1 - (p**2).sum()) * m.sigmoid() * (-m).sigmoid()
        total += 2 * (f.T @ (pairs.sum(1, keepdim=True) * f) - f.T @ pairs @ f)
    return total / len(features)


# How far a reward is from the true one. ---------------------------------------------------------


def centred(
    reward: Float[Tensor, "*batch prompts responses"],
    log_policy: Float[Tensor, "prompts responses"],
) -> Float[Tensor, "*batch prompts responses"]:
    """A reward less its mean under a policy at each prompt: the constant that comparisons leave open."""
    return reward - (log_policy.exp() * reward).sum(-1, keepdim=True)


def reward_error(
    reward: Float[Tensor, "*batch prompts responses"],
    truth: Float[Tensor, "prompts responses"],
    log_policy: Float[Tensor, "prompts responses"],
) -> Float[Tensor, "*batch"]:
    """Root mean squared error under a policy, after the best constant at each prompt.

    Source: eq-rm-shift, which says why the constant is free.
    """
    off = centred(reward - truth, log_policy)
    return (log_policy.exp() * off**2).sum(-1).mean(-1).sqrt()


# A transformer as the reward. -------------------------------------------------------------------


@dataclass(frozen=True)
class RewardConfig:
    """Settings of a transformer's training on comparisons.

    Args:
        n_steps: steps of Adam.
        batch: comparisons of a step.
        learning_rate: at the first step; it falls to 0 in a straight line. Positive.
        width, n_heads, n_layers: sizes of the transformer.
    """

    n_steps: int = 300
    batch: int = 32
    learning_rate: float = 3e-3
    width: int = 32
    n_heads: int = 2
    n_layers: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, batch=self.batch)
        require_positive(learning_rate=self.learning_rate)


@dataclass(frozen=True, eq=False)
class RewardRun:
    """What training on comparisons left.

    Args:
        theta: parameters at the end [seeds, P].
        shape: sizes of the transformers.
        losses: mean loss of each step's batch, in nats a comparison [seeds, steps].
    """

    theta: Float[Tensor, "seeds P"]
    shape: Shape
    losses: Float[Tensor, "seeds steps"]

    @property
    def model(self) -> Transformer:
        """The transformers at the end."""
        return Transformer(self.theta, self.shape)


def reward_shape(language: Language, **sizes: int) -> Shape:
    """Sizes of a transformer that judges a language: prompt, words and end are read, one number said.

    Args:
        language: the language.
        sizes: width, n_heads, n_layers.
    """
    return replace(language_shape(language, **sizes), n_outputs=1, context=language.max_words + 2)


def transformer_reward(
    model: Transformer,
    language: Language,
    prompts: Int[Tensor, "seeds batch"],
    responses: Int[Tensor, "seeds batch"],
) -> Float[Tensor, "seeds batch"]:
    """Rewards of responses: the output at the end token, chosen or forced.

    Args:
        model: of all seeds, with the shape of `reward_shape`.
        language: whose prompts and responses are given by their numbers.
        prompts, responses: [seeds, batch].
    """
    x = prompt_tokens(language, prompts)
    end = torch.full_like(x, language.end)
    read = torch.cat([x, language.tokens[responses], end], dim=-1)
    at_end = x.shape[-1] + language.n_words[responses]
    return model(read, at_end.unsqueeze(-1)).view(at_end.shape)


def comparison_loss(
    model: Transformer,
    language: Language,
    comparisons: Comparisons,
    labels: Float[Tensor, "seeds batch"] | float = 1.0,
) -> Float[Tensor, "seeds batch"]:
    """Loss of a transformer at each comparison, in nats.

    Args:
        model, language: as for `transformer_reward`.
        comparisons: [seeds, batch].
        labels: share of judges who prefer the first response.

    Source: eq-rm-loss.
    """
    x, chosen, rejected = comparisons
    both = torch.cat([chosen, rejected], dim=1)
    rewards = transformer_reward(model, language, x.repeat(1, 2), both)
    better, worse = rewards.chunk(2, dim=1)
    return preference_loss(better - worse, labels)


def train_reward_model(
    config: RewardConfig, language: Language, comparisons: Comparisons, seed: int = 0
) -> RewardRun:
    """Fit one transformer a seed to its comparisons, by Adam on random batches.

    Args:
        config: the settings.
        language: of the compared responses.
        comparisons: each seed's own [seeds, n].
        seed: the experiment's seed; with the same number of threads the run repeats
            bit for bit.

    Raises:
        ValueError: a response that is compared with itself.

    Source: eq-rm-loss.
    """
    require_compared(comparisons)
    generators = seed_generators(seed, len(comparisons.prompts))
    shape = reward_shape(
        language, width=config.width, n_heads=config.n_heads, n_layers=config.n_layers
    )
    theta = initial_parameters(shape, generators)
    optimizer, n, losses = Adam([theta], eps=1e-8), comparisons.prompts.shape[1], []
    for step in range(config.n_steps):
        at = draws(generators, n, config.batch)
        batch = Comparisons(*(part.gather(1, at) for part in comparisons))
        loss = comparison_loss(Transformer(theta, shape), language, batch).mean(1)
        loss.sum().backward()
        optimizer.step(config.learning_rate * (1 - step / config.n_steps))
        losses.append(loss.detach())
    return RewardRun(theta.detach(), shape, torch.stack(losses, dim=1))


@torch.no_grad()
def rewards_everywhere(
    model: Transformer, language: Language
) -> Float[Tensor, "seeds prompts responses"]:
    """The transformer's rewards of all responses to every prompt.

    Each prefix is read once, and ended.
    """
    few = model.theta.split(SEEDS_AT_ONCE)
    return torch.cat([_listed(Transformer(theta, model.shape), language) for theta in few])


def _listed(model: Transformer, language: Language) -> Float[Tensor, "seeds prompts responses"]:
    seeds, n, found = len(model.theta), len(language.prompts), []
    for outputs, cache in read_prefixes(model, language, language.max_words):
        end = torch.full(outputs.shape[:3], language.end)
        ended, _ = model.extend(end, cache)
        found.append(ended.view(seeds, n, -1))
    return torch.cat(found, dim=2)
