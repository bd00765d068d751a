"""A transformer as the policy of a token process: sample responses, score them, list them all.

A prompt is a row of tokens, a response at most L of them. The first `end + 1` outputs of the
transformer are the logits of the next token; others, such as a value, are left to their users.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl_helpers.rlhf.toy_language import Language
from rl_helpers.rlhf.transformer import Cache, Shape, Transformer
from rl_helpers.training.seeds import gumbel_noise
from rl_helpers.validation import require, require_at_least


class Responses(NamedTuple):
    """Sampled responses of each seed.

    Args:
        tokens: chosen tokens, the end token among them, and end tokens behind it [seeds, batch, L].
        live: which of them were chosen [seeds, batch, L].
        log_probs: log π(token|prompt, tokens before) of those; elsewhere 0 [seeds, batch, L].
    """

    tokens: Int[Tensor, "seeds batch L"]
    live: Bool[Tensor, "seeds batch L"]
    log_probs: Float[Tensor, "seeds batch L"]


def language_shape(language: Language, n_values: int = 0, **sizes: int) -> Shape:
    """Sizes of a transformer that speaks a language: it reads a prompt and the words behind it.

    Tokens of words and the end are the language's own; the prompts' follow them (`prompt_tokens`).

    Args:
        language: the language.
        n_values: outputs besides the logits.
        sizes: width, n_heads, n_layers.
    """
    n_tokens = language.n_tokens
    return Shape(
        n_tokens + len(language.prompts), n_tokens + n_values, language.max_words + 1, **sizes
    )


def prompt_tokens(language: Language, prompts: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch 1"]:
    """What a transformer reads as a prompt: one token.

    Raises:
        ValueError: a number that is no prompt of the language.
    """
    n, (low, high) = len(language.prompts), map(int, prompts.aminmax())
    allowed = f"this language has 0 to {n - 1}"
    require(0 <= low <= high < n, "prompts", f"{low} to {high}", allowed)
    return (language.n_tokens + prompts).unsqueeze(-1)


@torch.no_grad()
def sample(
    model: Transformer,
    prompts: Int[Tensor, "seeds n P"],
    max_tokens: int,
    end: int,
    generators: Sequence[torch.Generator],
    group: int = 1,
) -> Responses:
    """Responses to every prompt, token by token; each is read once.

    Args:
        model: of all seeds.
        prompts: their tokens [seeds, n, P].
        max_tokens: L, most tokens chosen, at least 1; what has not ended then is cut
            off.
        end: the end token.
        generators: one a seed.
        group: G, responses to each prompt, at least 1.

    Returns:
        n G responses a seed, those to one prompt side by side.

    Raises:
        ValueError: sequences longer than the transformer's context.
    """
    require_at_least(1, max_tokens=max_tokens, group=group)
    seeds, batch = prompts.shape[0], prompts.shape[1] * group
    live, read, cache = torch.ones(seeds, batch, dtype=torch.bool), prompts, Cache()
    steps = []
    for step in range(max_tokens):
        outputs, cache = model.extend(read, cache)
        if step == 0:  # from here on, responses to one prompt differ
            outputs, cache = outputs.repeat_interleave(group, dim=1), cache.repeat(group)
        log_policy = outputs[:, :, -1, : end + 1].log_softmax(-1)
        noise = gumbel_noise(generators, log_policy.shape[1:])
        sampled = (log_policy + noise).argmax(-1)  # the Gumbel-max trick
        token = torch.where(live, sampled, end)
        log_prob = log_policy.gather(-1, token.unsqueeze(-1)).squeeze(-1)
        steps.append((token, live, log_prob * live))
        live = live & (token != end)
        read = token.unsqueeze(-1)
    stacked = (torch.stack(part, dim=-1) for part in zip(*steps, strict=True))
    return Responses(*stacked)


def outputs_before(
    model: Transformer, prompts: Int[Tensor, "seeds batch P"], tokens: Int[Tensor, "seeds batch L"]
) -> Float[Tensor, "seeds batch L n_outputs"]:
    """The transformer's outputs where each token of a response is chosen: one position earlier."""
    read = torch.cat([prompts, tokens[..., :-1]], dim=-1)
    return model(read)[:, :, prompts.shape[-1] - 1 :]


def token_log_probs(
    outputs: Float[Tensor, "*batch L n_outputs"],
    tokens: Int[Tensor, "*batch L"],
    live: Bool[Tensor, "*batch L"],
    end: int,
) -> Float[Tensor, "*batch L"]:
    """log π(token|prompt, tokens before) of given tokens, 0 where nothing was chosen.

    Args:
        outputs: as of `outputs_before`.
        tokens: tokens of responses.
        live: which of them were chosen.
        end: the end token.
    """
    log_policy = outputs[..., : end + 1].log_softmax(-1)
    chosen = log_policy.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(~live, 0.0)


def outputs_everywhere(
    model: Transformer, language: Language
) -> Float[Tensor, "seeds prompts choices n_outputs"]:
    """The transformer's outputs at every prefix of every prompt: all that it could ever do."""
    seeds, n = len(model.theta), len(language.prompts)
    read = read_prefixes(model, language, language.max_words - 1)
    return torch.cat([outputs.view(seeds, n, -1, outputs.shape[-1]) for outputs, _ in read], dim=2)


def read_prefixes(
    model: Transformer, language: Language, longest: int
) -> Iterator[tuple[Float[Tensor, "seeds batch 1 n_outputs"], Cache]]:
    """Read all prefixes of every prompt, each once: they grow by one word at a time.

    Args:
        model: of all seeds.
        language: whose prefixes are read.
        longest: words of the longest prefixes.

    Yields:
        For each length from 0 the outputs behind its prefixes, those of a prompt side by side, and
        the cache of what has been read.
    """
    n, W, cache = len(language.prompts), language.end, Cache()
    read, words = prompt_tokens(language, torch.arange(n)), torch.arange(W).unsqueeze(-1)
    for length in range(longest + 1):
        outputs, cache = model.extend(read.expand(len(model.theta), -1, 1), cache)
        yield outputs, cache
        if length < longest:
            cache, read = cache.repeat(W), words.repeat(n * W**length, 1)


def log_policy_everywhere(
    model: Transformer, language: Language
) -> Float[Tensor, "seeds prompts choices tokens"]:
    """log π(token|x, prefix) at every prefix, as the functions of `toy_language` take it."""
    return outputs_everywhere(model, language)[..., : language.n_tokens].log_softmax(-1)
