"""A reward model of one seed as torch's own layers fit it, to compare the batched loop with.

Nothing here is batched: every response is read on its own, from its prompt to its end token and no
further, the transformer is `nn.TransformerEncoder`, the loss is torch's binary cross-entropy.
Shared with the batched loop are only the first parameters and the random stream: one
`torch.Generator`, which draws the parameters and then each step's places among the comparisons.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rl_helpers.rlhf.reward_model import RewardConfig
from rl_helpers.rlhf.transformer import Shape, initial_parameters
from tests.rlhf.plain_sft import PlainTransformer, flattened, texts, torchs_own


def train(
    config: RewardConfig, comparisons: list[tuple[int, int, int]], seed: int, number: int,
    words: tuple[str, ...], prompts: tuple[str, ...], max_words: int,
) -> tuple[PlainTransformer, Tensor, list[float]]:  # fmt: skip
    """The model at the end, its parameters [P], and the loss of each step.

    Args:
        config: the settings.
        comparisons: prompt, chosen and rejected response of this seed, by their numbers.
        seed, number: the experiment's seed, and which of its seeds this is.
        words, prompts, max_words: the language.
    """
    stream = np.random.SeedSequence(seed).spawn(number + 1)[number]
    generator = torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]))
    shape = Shape(
        len(words) + 1 + len(prompts), 1, max_words + 2,
        config.width, config.n_heads, config.n_layers,
    )  # fmt: skip
    model = torchs_own(initial_parameters(shape, [generator])[0], shape)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, config.n_steps)
    said, losses = texts(words, max_words), []
    for _ in range(config.n_steps):
        drawn = torch.randint(len(comparisons), (config.batch,), generator=generator).tolist()
        margins = []
        for x, better, worse in (comparisons[i] for i in drawn):
            r_better, r_worse = (reward(model, x, said[y], words) for y in (better, worse))
            margins.append(r_better - r_worse)
        loss = F.binary_cross_entropy_with_logits(torch.stack(margins), torch.ones(config.batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model, flattened(model), losses


def reward(
    model: PlainTransformer, prompt: int, said: tuple[str, ...], words: tuple[str, ...]
) -> Tensor:
    """What the model says at the end token, the last that it reads."""
    end = len(words)
    read = [end + 1 + prompt, *(words.index(word) for word in said), end]
    return model(torch.tensor([read]))[0, -1, 0]
