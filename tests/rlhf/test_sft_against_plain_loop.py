"""The batched loop of fine-tuning learns what a plain loop of one seed learns, seed by seed."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rl_helpers.rlhf import fine_tuning, toy_language
from rl_helpers.rlhf.fine_tuning import SftConfig, SftRun
from rl_helpers.rlhf.transformer import Shape, Transformer
from tests.planting import plant
from tests.rlhf import plain_sft
from tests.rlhf.test_toy_language import random_policy

# Both sides are float32, and sum the same numbers in another order; each of 24 updates, of size
# 0.01 at most, may differ in its last digits.
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}
SEED, N_SEEDS = 3, 3
SPOKEN = {"words": ("a", "b", "c"), "prompts": ("?", "!"), "max_words": 3}
REFERENCE = random_policy(toy_language.Language(**SPOKEN), 0, 2)

SFT = SftConfig(
    n_steps=24, batch=7, corpus=30, learning_rate=0.01, width=8, n_heads=2, keep_every=1
)
CASES: dict[str, SftConfig] = {
    "SFT": SFT,
    "two blocks": replace(SFT, n_layers=2),
    "four heads": replace(SFT, n_heads=4),
    "values beside the logits": replace(SFT, n_values=2),
}


@functools.cache
def alone(config: SftConfig, number: int) -> tuple[list[Tensor], list[float]]:
    return plain_sft.train(config, REFERENCE, SEED, number, **SPOKEN)


def train(config: SftConfig) -> SftRun:
    language = toy_language.Language(**SPOKEN)
    return fine_tuning.train_sft(config, language, REFERENCE, N_SEEDS, SEED)


def meaningful(theta: Tensor, shape: Shape) -> Tensor:
    """Parameters without the biases of keys, which add the same to all scores of a query: softmax
    does not see them, their gradients are rounding, and Adam divides by the size of a gradient.
    """
    theta = theta.clone()  # the tensors below are views of it
    for layer in range(shape.n_layers):
        Transformer(theta, shape).weights[f"bias of qkv {layer}"].unflatten(1, (3, -1))[:, 1] = 0
    return theta


def assert_every_seed_is_the_plain_loop(run: SftRun, config: SftConfig) -> None:
    ones = [alone(config, number) for number in range(N_SEEDS)]
    losses = torch.tensor([losses for _, losses in ones])
    torch.testing.assert_close(run.losses, losses, **ROUNDING)
    assert len(run.kept) == config.n_steps
    for step, theta in enumerate(run.kept):
        expected = torch.stack([after[step] for after, _ in ones])
        both = (meaningful(each, run.shape) for each in (theta, expected))
        near = torch.isclose(*both, **ROUNDING)
        assert near.all(), f"step {step}: {(~near).sum()} of {near.numel()} parameters differ"


@pytest.mark.parametrize("name", CASES)
def test_every_seed_of_a_batch_is_the_plain_loop(untyped: None, name: str) -> None:
    assert_every_seed_is_the_plain_loop(train(CASES[name]), CASES[name])


# ---- The comparison notices mistakes ------------------------------------------------------------

# what the mistake is, the file, what it says, what it is made to say, the case that notices
MISTAKES = [
    ("attention without a mask", "transformer.py",
     "scores = scores.masked_fill(later, -math.inf)", "pass", "SFT"),
    ("a token does not attend to itself", "transformer.py",
     "> places.unsqueeze(-1)", ">= places.clamp(min=1).unsqueeze(-1)", "SFT"),
    ("scores not divided", "transformer.py",
     "q @ k.mT / math.sqrt(q.shape[-1])", "q @ k.mT", "SFT"),
    ("divided by the width's root", "transformer.py",
     "math.sqrt(q.shape[-1])", "math.sqrt(2 * q.shape[-1])", "SFT"),
    ("queries and keys swapped", "transformer.py",
     "attention(q, k, places) @ v", "attention(k, q, places) @ v", "SFT"),
    ("heads and places mixed up", "transformer.py",
     "(3, self.shape.n_heads, -1)).permute(3, 0, 1, 4, 2, 5)",
     "(3, -1, self.shape.n_heads)).permute(3, 0, 1, 5, 2, 4)", "SFT"),
    ("heads stacked in another order", "transformer.py",
     "seen.transpose(2, 3).flatten(3)", "seen.permute(0, 1, 3, 4, 2).flatten(3)", "four heads"),
    ("positions off by one", "transformer.py",
     '["position"][:, n_read:end]', '["position"].roll(1, 1)[:, n_read:end]', "SFT"),
    ("no positions", "transformer.py",
     "[rows, tokens] + places.unsqueeze(1)", "[rows, tokens] + 0 * places.unsqueeze(1)", "SFT"),
    ("embeddings of the first seed", "transformer.py",
     "rows = torch.arange(len(tokens))", "rows = 0 * torch.arange(len(tokens))", "SFT"),
    ("no norm before attention", "transformer.py",
     'self._norm(f"norm_1 {layer}", x)', "x", "SFT"),
    ("the norm of attention before the hidden layer", "transformer.py",
     'self._norm(f"norm_2 {layer}", x)', 'self._norm(f"norm_1 {layer}", x)', "SFT"),
    ("no norm at the end", "transformer.py", 'self._norm("norm", x)', "x", "SFT"),
    ("attention replaces what was there", "transformer.py",
     'x = x + self._affine(f"mix {layer}", seen)', 'x = self._affine(f"mix {layer}", seen)', "SFT"),
    ("the hidden layer replaces what was there", "transformer.py",
     'return x + self._affine(f"down {layer}", hidden)', 'return self._affine(f"down {layer}", hidden)',
     "SFT"),
    ("another curve in the hidden layer", "transformer.py",
     'gelu(hidden)', "gelu(hidden).relu()", "SFT"),
    ("the first block twice", "transformer.py",
     "self.block(layer, x, past,", "self.block(0, x, past,", "two blocks"),
    ("biases left out", "transformer.py",
     "torch.baddbmm(bias.unsqueeze(1), flat, matrix)", "torch.bmm(flat, matrix)", "SFT"),
    ("a token sees itself before it is chosen", "language_policy.py",
     "torch.cat([prompts, tokens[..., :-1]], dim=-1)", "torch.cat([prompts, tokens], dim=-1)[..., 1:]",
     "SFT"),
    ("the prompt is not read", "language_policy.py",
     "torch.cat([prompts, tokens[..., :-1]]", "torch.cat([0 * prompts, tokens[..., :-1]]", "SFT"),
    ("padding counted", "language_policy.py", "chosen.masked_fill(~live, 0.0)", "chosen", "SFT"),
    ("values among the logits", "language_policy.py",
     "log_policy = outputs[..., : end + 1].log_softmax(-1)\n    chosen",
     "log_policy = outputs.log_softmax(-1)\n    chosen", "values beside the logits"),
    ("prompts are words", "language_policy.py",
     "(language.n_tokens + prompts).unsqueeze(-1)", "prompts.unsqueeze(-1)", "SFT"),
    ("the end token left out", "toy_language.py",
     "torch.arange(self.max_words) <= self.n_words", "torch.arange(self.max_words) < self.n_words",
     "SFT"),
    ("an end after the longest word counted", "toy_language.py",
     "reach = (reach.unsqueeze(-1) + here[..., :W]).flatten(-2)",
     "reach = (reach.unsqueeze(-1) + here[..., :W] + here[..., W:]).flatten(-2)", "SFT"),
    ("means of tokens", "fine_tuning.py",
     "live, language.end).sum(-1)", "live, language.end).sum(-1) / live.sum(-1)", "SFT"),
    ("the sign", "fine_tuning.py", "return -token_log_probs", "return token_log_probs", "SFT"),
    ("the learning rate does not fall", "fine_tuning.py",
     "config.learning_rate * (1 - step / config.n_steps)", "config.learning_rate", "SFT"),
    ("the learning rate falls a step early", "fine_tuning.py",
     "(1 - step / config.n_steps)", "(1 - (step + 1) / config.n_steps)", "SFT"),
    ("the sum over a batch", "fine_tuning.py", "x, y).mean(1)", "x, y).sum(1)", "SFT"),
    ("prompts of other responses", "fine_tuning.py",
     "prompts.gather(1, at)", "prompts.gather(1, at.flip(1))", "SFT"),
    ("the response to the first prompt", "fine_tuning.py",
     "y.gather(0, x.unsqueeze(0)).squeeze(0)", "y[0]", "SFT"),
    ("PPO's epsilon for Adam", "fine_tuning.py", "eps=1e-8", "eps=1e-5", "SFT"),
    ("every seed the first one's batches", "fine_tuning.py",
     "draws(generators, n", "draws(generators[:1] * len(generators), n",
     "SFT"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "right", "wrong", "case"), [pytest.param(*rest, id=what) for what, *rest in MISTAKES]
)
@pytest.mark.site  # takes long
def test_a_mistake_in_the_loop_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, file: str, right: str, wrong: str, case: str
) -> None:
    plant(monkeypatch, "rlhf/" + file, right, wrong)
    run = train(CASES[case])
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(run, CASES[case])
