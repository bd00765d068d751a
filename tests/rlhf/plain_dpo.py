"""DPO of one seed, as its paper states it, to compare the batched loop with.

Nothing here is batched or padded: comparisons are read one after another, responses word by word,
and log-probabilities are added up as the words are said. The optimiser is torch's own. Shared with
the batched loop are the parameters to start from, the transformer, which has tests of its own, and
the random stream: a `torch.Generator` that draws the places of each batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rl_helpers.rlhf.dpo import DpoConfig
from rl_helpers.rlhf.toy_language import Language
from rl_helpers.rlhf.transformer import Shape, Transformer
from rl_helpers.training.seeds import seed_generators

# log-probabilities of the next token, after a prompt and the words said so far
Speaker = Callable[[Tensor, int, list[int]], Tensor]


def table_speaker(language: Language, sharing: bool) -> Speaker:
    """A dictionary of rows: by prefix, or by place and last word."""
    rows: dict[tuple[int, ...], int] = {}
    W = len(language.words)

    def grow(prefix: list[int]) -> None:
        rows.setdefault((len(prefix), *prefix[-1:]) if sharing else tuple(prefix), len(rows))

    level: list[list[int]] = [[]]
    for _ in range(language.max_words):
        for prefix in level:
            grow(prefix)
        level = [[*prefix, word] for prefix in level for word in range(W)]

    def speak(theta: Tensor, prompt: int, prefix: list[int]) -> Tensor:
        key = (len(prefix), *prefix[-1:]) if sharing else tuple(prefix)
        first = (prompt * len(rows) + rows[key]) * (W + 1)
        return torch.log_softmax(theta[first : first + W + 1], dim=0)

    return speak


def transformer_speaker(language: Language, shape: Shape) -> Speaker:
    def speak(theta: Tensor, prompt: int, prefix: list[int]) -> Tensor:
        read = torch.tensor([[[len(language.words) + 1 + prompt, *prefix]]])
        logits = Transformer(theta.unsqueeze(0), shape)(read)[0, 0, -1, : len(language.words) + 1]
        return torch.log_softmax(logits, dim=0)

    return speak


def log_prob(speak: Speaker, language: Language, theta: Tensor, prompt: int, text: str) -> Tensor:
    """Of a written response: each of its words, and the end unless it is forced."""
    total, prefix = torch.tensor(0.0), list[int]()
    for said in text.removesuffix(".").split():
        word = language.words.index(said)
        total = total + speak(theta, prompt, prefix)[word]
        prefix.append(word)
    if len(prefix) < language.max_words:
        total = total + speak(theta, prompt, prefix)[len(language.words)]
    return total


def dpo_term(h: Tensor, beta: float, label: float) -> Tensor:
    p = 1 / (1 + torch.exp(-beta * h))
    return -label * torch.log(p) - (1 - label) * torch.log(1 - p)


def ipo_term(h: Tensor, cost: float, label: float) -> Tensor:
    return label * (h - 0.5 / cost) ** 2 + (1 - label) * (h + 0.5 / cost) ** 2


def train(
    config: DpoConfig,
    language: Language,
    speak: Speaker,
    theta: Tensor,
    comparisons: list[tuple[int, int, int]],
    term: Callable[[Tensor], Tensor],
    seed: int,
    number: int,
) -> tuple[list[Tensor], list[float]]:
    """Parameters after each step, the first ones included, and the loss of each step."""
    generator = seed_generators(seed, number + 1)[number]
    reference = theta.clone()
    theta = theta.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=config.learning_rate)
    falling = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / config.n_steps)
    path, losses = [theta.detach().clone()], []
    for _ in range(config.n_steps):
        batch = comparisons
        if len(comparisons) > config.batch:
            places = torch.randint(len(comparisons), (config.batch,), generator=generator)
            batch = [comparisons[k] for k in places.tolist()]
        loss = torch.tensor(0.0)
        for prompt, chosen, rejected in batch:
            h = torch.tensor(0.0)
            for sign, response in ((1, chosen), (-1, rejected)):
                text = language.text(response)
                old = log_prob(speak, language, reference, prompt, text).item()
                h = h + sign * (log_prob(speak, language, theta, prompt, text) - old)
            loss = loss + term(h) / len(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
        path.append(theta.detach().clone())
        losses.append(loss.item())
        assert math.isfinite(losses[-1])
    return path, losses
