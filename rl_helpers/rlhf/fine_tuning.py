"""Supervised fine-tuning: a transformer learns to speak like a corpus; all seeds in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rl_helpers.rlhf.language_policy import (
    language_shape,
    outputs_before,
    prompt_tokens,
    token_log_probs,
)
from rl_helpers.rlhf.toy_language import Language, sample_responses, sequence_log_probs
from rl_helpers.rlhf.transformer import Shape, Transformer, initial_parameters
from rl_helpers.training.optim import Adam
from rl_helpers.training.seeds import draws, seed_generators
from rl_helpers.validation import require, require_at_least, require_positive


@dataclass(frozen=True)
class SftConfig:
    """Settings of supervised fine-tuning.

    Args:
        n_steps: steps of Adam.
        batch: responses of a step.
        corpus: responses of each seed's corpus, prompts equally likely.
        learning_rate: at the first step; it falls to 0 in a straight line. Positive.
        width, n_heads, n_layers: sizes of the transformer.
        n_values: outputs besides the logits, for what comes later.
        keep_every: steps between parameters that are kept; at 0 none are but the last.

    Raises:
        ValueError: no steps, no responses, or a learning rate that is not positive.
    """

    n_steps: int = 400
    batch: int = 128
    corpus: int = 20_000
    learning_rate: float = 3e-3
    width: int = 32
    n_heads: int = 2
    n_layers: int = 1
    n_values: int = 0
    keep_every: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, batch=self.batch, corpus=self.corpus)
        require_at_least(0, keep_every=self.keep_every, n_values=self.n_values)
        require_positive(learning_rate=self.learning_rate)


@dataclass(frozen=True, eq=False)
class SftRun:
    """What fine-tuning left.

    Args:
        theta: parameters at the end [seeds, P].
        shape: sizes of the transformers.
        losses: mean loss of each step's batch, in nats a response [seeds, steps].
        kept: parameters after every `keep_every` steps, each [seeds, P].
    """

    theta: Float[Tensor, "seeds P"]
    shape: Shape
    losses: Float[Tensor, "seeds steps"]
    kept: tuple[Float[Tensor, "seeds P"], ...] = ()

    @property
    def model(self) -> Transformer:
        """The transformers at the end."""
        return Transformer(self.theta, self.shape)


def sft_loss(
    model: Transformer,
    language: Language,
    prompts: Int[Tensor, "seeds batch"],
    responses: Int[Tensor, "seeds batch"],
) -> Float[Tensor, "seeds batch"]:
    """-log π(y|x) of given responses, in nats: summed over tokens, not averaged.

    The end token counts, unless it was forced; padding behind it does not.

    Args:
        model: of all seeds.
        language: whose prompts and responses are given by their numbers.
        prompts, responses: [seeds, batch].

    Raises:
        ValueError: numbers that the language does not have.

    Source: eq-sft.
    """
    n, (low, high) = language.n_responses, map(int, responses.aminmax())
    require(0 <= low <= high < n, "responses", f"{low} to {high}",
            f"this language has 0 to {n - 1}")  # fmt: skip
    tokens, live = language.tokens[responses], language.live[responses]
    outputs = outputs_before(model, prompt_tokens(language, prompts), tokens)
    return -token_log_probs(outputs, tokens, live, language.end).sum(-1)


def train_sft(
    config: SftConfig,
    language: Language,
    log_reference: Float[Tensor, "prompts choices tokens"],
    n_seeds: int,
    seed: int = 0,
) -> SftRun:
    """Fit one transformer a seed to a corpus of its own, by Adam on random batches.

    Args:
        config: the settings.
        language: what is spoken.
        log_reference: log-probabilities of the next token in the corpora.
        n_seeds: number of seeds, trained in one batch.
        seed: the experiment's seed; with one thread, on one machine, runs repeat
            exactly.

    Source: eq-sft.
    """
    generators = seed_generators(seed, n_seeds)
    shape = sft_shape(config, language)
    theta = initial_parameters(shape, generators)  # [seeds, P]
    optimizer = Adam([theta], eps=1e-8)
    n, batch = config.corpus, config.batch
    prompts, responses = sample_corpus(language, log_reference, n, generators)
    losses, kept = [], []
    for step in range(config.n_steps):
        at = draws(generators, n, batch)  # places in the corpus [seeds, batch]
        x, y = prompts.gather(1, at), responses.gather(1, at)  # [seeds, batch]
        loss = sft_loss(Transformer(theta, shape), language, x, y).mean(1)
        loss.sum().backward()  # each seed's loss has its own parameters
        optimizer.step(config.learning_rate * (1 - step / config.n_steps))
        losses.append(loss.detach())
        if config.keep_every and (step + 1) % config.keep_every == 0:
            kept.append(theta.detach().clone())
    return SftRun(theta.detach(), shape, torch.stack(losses, dim=1), tuple(kept))


def sft_shape(config: SftConfig, language: Language) -> Shape:
    """Sizes of the transformer that a configuration asks for."""
    sizes = {name: getattr(config, name) for name in ("width", "n_heads", "n_layers")}
    return language_shape(language, config.n_values, **sizes)


def sample_corpus(
    language: Language,
    log_reference: Float[Tensor, "prompts choices tokens"],
    n: int,
    generators: Sequence[torch.Generator],
) -> tuple[Int[Tensor, "seeds n"], Int[Tensor, "seeds n"]]:
    """A corpus for each seed: n prompts, all equally likely, and a response to each.

    Args:
        language: what is spoken.
        log_reference: log-probabilities of the next token.
        n: size of a corpus.
        generators: one a seed.

    Returns:
        Prompts and responses by their numbers, each [seeds, n].
    """
    log_probs = sequence_log_probs(language, log_reference)
    prompts, responses = [], []
    for generator in generators:
        x = torch.randint(len(language.prompts), (n,), generator=generator)
        y = sample_responses(log_probs, n, generator)  # one for each prompt; the asked one is kept
        prompts.append(x)
        responses.append(y.gather(0, x.unsqueeze(0)).squeeze(0))
    return torch.stack(prompts), torch.stack(responses)
