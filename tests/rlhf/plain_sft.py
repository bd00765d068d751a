"""Supervised fine-tuning of one seed as torch's own layers do it, to compare the batched loop with.

Nothing here is batched over seeds, no response has a number, and none is cut to a table: a corpus
is a list of texts, the transformer is `nn.TransformerEncoder`, the loss `F.cross_entropy` over
tokens that are padded with what it ignores. Shared with the batched loop are only the first
parameters and the random stream: one `torch.Generator`, which draws the parameters, the corpus'
prompts, a response to each prompt for each of them, and then each step's places in the corpus.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rl_helpers.rlhf.fine_tuning import SftConfig
from rl_helpers.rlhf.transformer import Shape, initial_parameters

IGNORED = -100  # what F.cross_entropy leaves out


class PlainTransformer(nn.Module):
    """GPT-2's architecture, of torch's layers, for a batch of sequences."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.n_inputs, shape.width)
        self.position = nn.Embedding(shape.context, shape.width)
        block = nn.TransformerEncoderLayer(
            shape.width, shape.n_heads, 4 * shape.width, dropout=0.0, norm_first=True,
            activation="gelu", batch_first=True,
        )  # fmt: skip
        self.blocks = nn.TransformerEncoder(block, shape.n_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.n_outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        T = tokens.shape[1]
        x = self.embedding(tokens) + self.position(torch.arange(T))
        mask = nn.Transformer.generate_square_subsequent_mask(T)
        return self.head(self.norm(self.blocks(x, mask=mask, is_causal=True)))

    def parts(self) -> list[tuple[Tensor, bool]]:
        """Parameters in the order of `Shape.tensors`, and whether they are written transposed."""
        ordered: list[tuple[Tensor, bool]] = [
            (self.embedding.weight, False), (self.position.weight, False),
        ]  # fmt: skip
        for block in self.blocks.layers:
            for norm, linear in (
                (block.norm1, [(block.self_attn.in_proj_weight, block.self_attn.in_proj_bias),
                               (block.self_attn.out_proj.weight, block.self_attn.out_proj.bias)]),
                (block.norm2, [(layer.weight, layer.bias)
                               for layer in (block.linear1, block.linear2)]),
            ):  # fmt: skip
                ordered += [(norm.weight, False), (norm.bias, False)]
                for weight, bias in linear:
                    ordered += [(weight, True), (bias, False)]
        ordered += [(self.norm.weight, False), (self.norm.bias, False)]
        return [*ordered, (self.head.weight, True), (self.head.bias, False)]


def torchs_own(theta: Tensor, shape: Shape) -> PlainTransformer:
    """The layers with the parameters of a seed, theta [P]."""
    model, start = PlainTransformer(shape), 0
    for parameter, transposed in model.parts():
        size = parameter.T.shape if transposed else parameter.shape
        part = theta[start : start + parameter.numel()].detach().view(size)
        with torch.no_grad():
            parameter.copy_(part.T if transposed else part)
        start += parameter.numel()
    assert start == len(theta)
    return model


def flattened(model: PlainTransformer, gradient: bool = False) -> Tensor:
    """The parameters, or their gradients, as a seed's vector [P]."""
    parts = []
    for parameter, transposed in model.parts():
        values = parameter.grad if gradient else parameter.detach()
        assert values is not None
        parts.append((values.T if transposed else values).flatten())
    return torch.cat(parts)


def texts(words: tuple[str, ...], max_words: int) -> list[tuple[str, ...]]:
    """All responses without their ends, the shorter first."""
    levels: list[list[tuple[str, ...]]] = [[()]]
    for _ in range(max_words):
        levels.append([(*said, word) for said in levels[-1] for word in words])
    return [said for level in levels for said in level]


def train(
    config: SftConfig, log_reference: Tensor, seed: int, number: int,
    words: tuple[str, ...], prompts: tuple[str, ...], max_words: int,
) -> tuple[list[Tensor], list[float]]:  # fmt: skip
    """Parameters [P] of one seed after each step, and the loss of each.

    Args:
        config: the settings.
        log_reference: log-probabilities of the next token [prompts, choices, tokens].
        seed, number: the experiment's seed, and which of its seeds this is.
        words, prompts, max_words: the language.
    """
    stream = np.random.SeedSequence(seed).spawn(number + 1)[number]
    generator = torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]))
    longest, W, n_prompts = max_words, len(words), len(prompts)
    shape = Shape(
        W + 1 + n_prompts, W + 1 + config.n_values, longest + 1,
        config.width, config.n_heads, config.n_layers,
    )  # fmt: skip
    model = torchs_own(initial_parameters(shape, [generator])[0], shape)

    said = texts(words, longest)
    place = {response: n for n, response in enumerate(said)}

    def probability(x: int, response: tuple[str, ...]) -> float:
        p = 1.0
        before: tuple[str, ...] = ()
        for word in response:
            p *= float(log_reference[x, place[before], words.index(word)].exp())
            before = (*before, word)
        return p * float(log_reference[x, place[before], W].exp()) if len(before) < longest else p

    table = torch.tensor([[probability(x, y) for y in said] for x in range(n_prompts)]).double()
    asked = torch.randint(n_prompts, (config.corpus,), generator=generator).tolist()
    answers = torch.multinomial(table, config.corpus, replacement=True, generator=generator)
    corpus = [(x, said[answers[x, i]]) for i, x in enumerate(asked)]

    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, config.n_steps)
    after, losses = [], []
    for _ in range(config.n_steps):
        drawn = torch.randint(config.corpus, (config.batch,), generator=generator).tolist()
        read = torch.zeros(config.batch, longest + 1, dtype=torch.long)
        wanted = torch.full((config.batch, longest + 1), IGNORED)
        for row, (x, response) in enumerate(corpus[i] for i in drawn):
            spoken = [words.index(word) for word in response]
            read[row, : len(spoken) + 1] = torch.tensor([W + 1 + x, *spoken])
            ended = [*spoken, W] if len(spoken) < longest else spoken  # else the end is forced
            wanted[row, : len(ended)] = torch.tensor(ended)
        logits = model(read)[:, :, : W + 1]
        loss = F.cross_entropy(
            logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        optimizer.zero_grad()
        (loss / config.batch).backward()
        optimizer.step()
        schedule.step()
        after.append(flattened(model))
        losses.append(loss.item() / config.batch)
    return after, losses
