"""Supervised fine-tuning: a transformer learns to speak like a corpus; all seeds in one batch."""

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
from rl_helpers.training.seeds import seed_generators
from rl_helpers.validation import require_at_least, require_positive


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
    """

    n_steps: int = 400
    batch: int = 128
    corpus: int = 20_000
    learning_rate: float = 3e-3
    width: int = 32
    n_heads: int = 2
    n_layers: int = 1
    n_values: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, batch=self.batch, corpus=self.corpus)
        require_positive(learning_rate=self.learning_rate)


@dataclass(frozen=True, eq=False)
class SftRun:
    """What fine-tuning left.

    Args:
        theta: parameters at the end [seeds, P].
        shape: sizes of the transformers.
        losses: mean loss of each step's batch, in nats a response [seeds, steps].
    """

    theta: Float[Tensor, "seeds P"]
    shape: Shape
    losses: Float[Tensor, "seeds steps"]

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
    """-log π(y|x) of given responses, in nats: the tokens' summed, the end token's among them.

    Args:
        model: of all seeds.
        language: whose prompts and responses are given by their numbers.
        prompts, responses: [seeds, batch].

    Source: eq-sft.
    """
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
        log_reference: log-probabilities of the next token that the corpora are drawn from.
        n_seeds: number of seeds, trained in one batch.
        seed: the experiment's seed; with the same number of threads the run repeats bit for bit.

    Source: eq-sft.
    """
    generators = seed_generators(seed, n_seeds)
    shape = language_shape(
        language,
        config.n_values,
        width=config.width,
        n_heads=config.n_heads,
        n_layers=config.n_layers,
    )
    theta = initial_parameters(shape, generators)
    optimizer = Adam([theta], eps=1e-8)
    prompts, responses = sample_corpus(language, log_reference, config.corpus, generators)
    losses = []
    for step in range(config.n_steps):
        at = torch.stack(
            [torch.randint(config.corpus, (config.batch,), generator=g) for g in generators]
        )
        loss = sft_loss(
            Transformer(theta, shape), language, prompts.gather(1, at), responses.gather(1, at)
        ).mean(1)
        loss.sum().backward()
        optimizer.step(config.learning_rate * (1 - step / config.n_steps))
        losses.append(loss.detach())
    return SftRun(theta.detach(), shape, torch.stack(losses, dim=1))


def sample_corpus(
    language: Language,
    log_reference: Float[Tensor, "prompts choices tokens"],
    n: int,
    generators: list[torch.Generator],
) -> tuple[Int[Tensor, "seeds n"], Int[Tensor, "seeds n"]]:
    """Prompts, all equally likely, and a response to each, by their numbers [seeds, n]."""
    log_probs = sequence_log_probs(language, log_reference)
    prompts, responses = [], []
    for generator in generators:
        x = torch.randint(len(language.prompts), (n,), generator=generator)
        y = sample_responses(log_probs, n, generator)  # one for each prompt; the asked one is kept
        prompts.append(x)
        responses.append(y.gather(0, x.unsqueeze(0)).squeeze(0))
    return torch.stack(prompts), torch.stack(responses)
