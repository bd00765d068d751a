"""GRPO and the lesson before it, of one seed and one answer at a time, to compare the batched loops with.

Answers are lists of tokens, each read by the transformer alone, without padding and without a
cache; losses are sums over them. Shared with the batched loops are the transformer, and the random
stream: one `torch.Generator`, which draws for GRPO an order of the questions in each step, and for
each token exponential numbers; for a lesson the parameters, and in each step the questions, a wrong
label for each, and which labels are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rl_helpers.rlhf.arithmetic import END, Questions
from rl_helpers.rlhf.transformer import Shape, Transformer, initial_parameters


def stream(seed: int, number: int) -> torch.Generator:
    source = np.random.SeedSequence(seed).spawn(number + 1)[number]
    return torch.Generator().manual_seed(int(source.generate_state(1, np.uint64)[0]))


def read(theta: Tensor, shape: Shape, prompt: list[int], said: list[int]) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the token after the prompt and after each one said, and the values."""
    out = Transformer(theta.unsqueeze(0), shape)(torch.tensor([[[*prompt, *said]]]))[0, 0]
    out = out[len(prompt) - 1 :]
    return torch.log_softmax(out[:, : END + 1], 1), out[:, END + 1 :]


def lesson(config: Any, questions: Questions, seed: int, number: int, taught: list[int]) -> Tensor:
    """The parameters at the end [P]."""
    generator = stream(seed, number)
    width = config.width
    signs = 13
    shape = Shape(
        signs, END + 1 + config.n_values, questions.prompts.shape[1] + questions.max_tokens - 1,
        width, config.n_heads, config.n_layers,
    )  # fmt: skip
    theta = initial_parameters(shape, [generator])[0].detach()
    embedded = (signs + shape.context) * width
    theta = torch.cat([theta[:embedded] * math.sqrt(width), theta[embedded:]]).requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, config.n_steps)
    answers = sorted({tuple(row) for row in questions.answers.tolist()})
    for _ in range(config.n_steps):
        which, off = (
            torch.randint(n, (config.batch,), generator=generator).tolist()
            for n in (len(taught), len(answers) - 1)
        )
        luck = torch.rand(config.batch, generator=generator).tolist()
        loss = torch.zeros(())
        for place_of, v, w in zip(which, off, luck, strict=True):
            n = taught[place_of]
            label = tuple(questions.answers[n].tolist())
            if w < config.wrong:
                place = answers.index(label)
                wrong = answers[place + 1 :] + answers[:place]
                label = wrong[v]
            log_policy, _ = read(theta, shape, questions.prompts[n].tolist(), list(label[:-1]))
            loss = loss + F.nll_loss(log_policy, torch.tensor(label), reduction="sum")
        optimizer.zero_grad()
        (loss / config.batch).backward()
        optimizer.step()
        schedule.step()
    return theta.detach()


def grpo(
    config: Any, questions: Questions, shape: Shape, start: Tensor, seed: int, number: int,
    seen: Callable[[str], None] = lambda what: None,
) -> tuple[list[Tensor], list[float], list[float]]:  # fmt: skip
    """Parameters after each gradient step, mean reward and share of silent groups of each step."""
    generator, variant = stream(seed, number), config.variant
    theta = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=config.learning_rate)
    after, means, silent = [], [], []
    for _ in range(config.n_steps):
        order = torch.randperm(len(questions), generator=generator).tolist()
        asked = [order[k] for k in range(config.n_prompts)]
        rows = config.n_prompts * config.group
        luck = [
            -torch.empty(rows, END + 1).exponential_(generator=generator).log()
            for _ in range(questions.max_tokens)
        ]
        groups = []
        for q, n in enumerate(asked):
            prompt, group = questions.prompts[n].tolist(), []
            for i in range(config.group):
                tokens: list[int] = []
                while len(tokens) < questions.max_tokens and END not in tokens:
                    with torch.no_grad():
                        log_policy, _ = read(theta, shape, prompt, tokens)
                    noisy = log_policy[-1] + luck[len(tokens)][q * config.group + i]
                    tokens.append(int(noisy.argmax()))
                seen(f"{len(tokens)} tokens")
                with torch.no_grad():
                    before, _ = read(theta, shape, prompt, tokens[:-1])
                    reference, _ = read(start, shape, prompt, tokens[:-1])
                chosen = range(len(tokens)), tokens
                right = tokens == questions.answers[n].tolist()
                group.append((tokens, before[chosen], reference[chosen], float(right)))
            groups.append((prompt, group))
        rewards = [[answer[3] for answer in group] for _, group in groups]
        means.append(sum(map(sum, rewards)) / rows)
        silent.append(sum(len(set(r)) == 1 for r in rewards) / len(rewards))
        for _ in range(config.n_updates):
            total = torch.zeros(())
            for (prompt, group), r in zip(groups, rewards, strict=True):
                total = total + group_loss(variant, theta, shape, prompt, group, r, seen)
            optimizer.zero_grad()
            (total / config.n_prompts).backward()
            optimizer.step()
            after.append(theta.detach().clone())
    return after, means, silent


def group_loss(
    variant: Any, theta: Tensor, shape: Shape, prompt: list[int],
    group: list[tuple[list[int], Tensor, Tensor, float]], r: list[float],
    seen: Callable[[str], None],
) -> Tensor:  # fmt: skip
    G = len(r)
    mean = sum(r) / G
    spread = math.sqrt(sum((x - mean) ** 2 for x in r) / G)
    everything = sum(len(tokens) for tokens, *_ in group)
    loss, error = torch.zeros(()), torch.zeros(())
    for i, (tokens, before, reference, _) in enumerate(group):
        log_policy, values = read(theta, shape, prompt, tokens[:-1])
        now = log_policy[range(len(tokens)), tokens]
        ratio = (now - before).exp()
        if variant.ratio == "sequence":
            ratio = ratio.prod() ** (1 / len(tokens)) * torch.ones(len(tokens))
        for t in range(len(tokens)):
            if variant.advantages == "critic":
                A = r[i] - float(values[t, 0].detach())
                error = error + (values[t, 0] - r[i]) ** 2 / 2
            elif variant.advantages == "leave-one-out":
                A = r[i] - sum(r[:i] + r[i + 1 :]) / (G - 1)
            elif variant.advantages == "centred":
                A = r[i] - mean
            else:
                A = 0.0 if len(set(r)) == 1 else (r[i] - mean) / (spread + 1e-6)
            most = 1 + variant.high if A > 0 else 1 - variant.low
            over = ratio[t] > most if A > 0 else ratio[t] < most
            seen("clipped" if bool(over) and A != 0 else "free")
            gain = most * A if bool(over) else ratio[t] * A
            if variant.beta > 0:
                log = reference[t] - now[t]
                gain = gain - variant.beta * (log.exp() - log - 1)
            share = {"response": 1 / G / len(tokens), "group": 1 / everything, "sum": 1 / G}
            loss = loss - share[variant.weights] * gain
    return loss + error / everything / 2
