"""RLHF with PPO of one seed, as the papers state it, to compare the batched loop with.

Nothing here is batched: responses are lists of tokens, each read by the transformer alone, without
padding and without a cache; advantages are the double sum that defines them. Shared with the
batched loop are the transformer, and the random stream: one `torch.Generator`, which draws in each
iteration the prompts, for each token exponential numbers, and for each epoch an order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_helpers.rlhf.toy_language import Language
from rl_helpers.rlhf.transformer import Shape, Transformer


@dataclass
class Record:
    """What one seed did in each iteration."""

    thetas: list[Tensor] = field(default_factory=list)
    betas: list[float] = field(default_factory=list)
    kls: list[float] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


def rlhf(
    config: Any, language: Language, shape: Shape, start: Tensor, reward: Tensor, seed: int, number: int
) -> Record:  # fmt: skip
    """Ziegler et al. (2019), section 2, on a language that is listed.

    Args:
        config: a `RlhfPPOConfig` whose settings are those of this seed: no tuples.
        language: what is spoken.
        shape, start: the reference, and where training starts [P].
        reward: [prompts, responses], of this seed.
        seed, number: the experiment's seed, and which of its seeds this is.
    """
    stream = np.random.SeedSequence(seed).spawn(number + 1)[number]
    generator = torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]))
    theta = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], eps=1e-8)
    n, end, beta, record = config.n_responses, len(language.words), config.beta, Record()

    def read(parameters: Tensor, prompt: int, words: list[int]) -> tuple[Tensor, Tensor]:
        tokens = torch.tensor([[[end + 1 + prompt, *words]]])
        out = Transformer(parameters.unsqueeze(0), shape)(tokens)[0, 0]
        return torch.log_softmax(out[:, :-1], dim=1), out[:, -1]

    for iteration in range(config.n_iterations):
        prompts = torch.randint(len(language.prompts), (n,), generator=generator).tolist()
        luck = [
            -torch.empty(n, end + 1).exponential_(generator=generator).log()
            for _ in range(language.max_words)
        ]
        responses, divergences, paid = [], [], []
        for i, prompt in enumerate(prompts):
            said: list[int] = []
            while len(said) < language.max_words and end not in said:
                log_policy = read(theta.detach(), prompt, said)[0][-1]
                said.append(int((log_policy + luck[len(said)][i]).argmax()))
            text = " ".join(language.words[token] for token in said if token != end) + "."
            score = float(reward[prompt, language.response(text)])
            at = torch.arange(len(said))
            log_policy, values = read(theta.detach(), prompt, said[:-1])
            old = log_policy[at, said]
            log_ratio = old - read(start, prompt, said[:-1])[0][at, said]
            gains = [-beta * float(u) for u in log_ratio]
            gains[-1] += score
            V = [*values.tolist(), 0.0]
            deltas = [gains[t] + V[t + 1] - V[t] for t in range(len(said))]
            advantages = torch.tensor(
                [
                    sum(config.lambda_**k * delta for k, delta in enumerate(deltas[t:]))
                    for t in range(len(said))
                ]
            )
            responses.append((prompt, said, old, advantages, values + advantages))
            divergences.append(float(log_ratio.sum()))
            paid.append(score)
            record.lengths.append(len(said))
        record.betas.append(beta)
        record.kls.append(sum(divergences) / n)
        record.rewards.append(sum(paid) / n)
        share = config.last_learning_rate
        phase = math.cos(math.pi * iteration / (config.n_iterations - 1))
        optimizer.param_groups[0]["lr"] = config.learning_rate * (
            share + (1 - share) * (0.5 + 0.5 * phase)
        )
        for _ in range(config.n_epochs):
            order = torch.randperm(n, generator=generator).tolist()
            size = n // config.n_minibatches
            for first in range(0, n, size):
                loss, tokens = torch.zeros(()), 0
                for i in order[first : first + size]:
                    prompt, said, old, advantages, targets = responses[i]
                    log_policy, values = read(theta, prompt, said[:-1])
                    rho = torch.exp(log_policy[torch.arange(len(said)), said] - old)
                    low, high = 1 - config.epsilon, 1 + config.epsilon
                    gain = torch.min(rho * advantages, rho.clip(low, high) * advantages)
                    error = 0.5 * (values - targets).square()
                    loss = loss + (config.value_coefficient * error - gain).sum()
                    tokens += len(said)
                optimizer.zero_grad()
                (loss / tokens).backward()
                optimizer.step()
        error = min(0.2, max(-0.2, (record.kls[-1] - config.target_kl) / config.target_kl))
        beta = beta * (1 + config.kl_gain * error)
        record.thetas.append(theta.detach().clone())
    return record
