"""The batched loop of reward models learns what a plain loop of one seed learns, seed by seed."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rl_helpers.rlhf import reward_model
from rl_helpers.rlhf.preferences import Comparisons, sample_experiments
from rl_helpers.rlhf.reward_model import RewardConfig, RewardRun, rewards_everywhere
from rl_helpers.rlhf.toy_language import Language, sequence_log_probs
from rl_helpers.rlhf.transformer import Shape, Transformer
from rl_helpers.training.seeds import seed_generators
from tests.planting import plant
from tests.rlhf import plain_reward
from tests.rlhf.plain_sft import texts
from tests.rlhf.test_toy_language import random_policy

# Both sides are float32, and sum the same numbers in another order; each of 20 updates, of size
# 0.01 at most, may differ in its last digits.
ROUNDING = {"rtol": 1e-3, "atol": 2e-4}
SEED, N_SEEDS = 3, 3
SPOKEN = {"words": ("a", "b", "c"), "prompts": ("?", "!"), "max_words": 3}

REWARD = RewardConfig(n_steps=20, batch=6, learning_rate=0.01, width=8, n_heads=2)
CASES: dict[str, RewardConfig] = {
    "reward": REWARD,
    "two blocks": replace(REWARD, n_layers=2),
    "four heads": replace(REWARD, n_heads=4),
}


@functools.cache
def judged() -> Comparisons:
    language = Language(**SPOKEN)
    log_policy = sequence_log_probs(language, random_policy(language, 0, 2))
    reward = torch.randn(log_policy.shape, generator=torch.Generator().manual_seed(1)).double()
    return sample_experiments(log_policy, 2 * reward, 25, seed_generators(SEED + 1, N_SEEDS))


@functools.cache
def alone(config: RewardConfig, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Parameters, losses, and rewards of all responses [prompts, responses] of one seed."""
    own = [tuple(row) for row in torch.stack([part[number] for part in judged()], 1).tolist()]
    model, theta, losses = plain_reward.train(config, own, SEED, number, **SPOKEN)
    said = texts(SPOKEN["words"], SPOKEN["max_words"])
    rewards = [
        [plain_reward.reward(model, x, y, SPOKEN["words"]).item() for y in said] for x in (0, 1)
    ]
    return theta, torch.tensor(losses), torch.tensor(rewards)


def train(config: RewardConfig) -> RewardRun:
    return reward_model.train_reward_model(config, Language(**SPOKEN), judged(), SEED)


def meaningful(theta: Tensor, shape: Shape) -> Tensor:
    """Parameters without those that no margin depends on: biases of keys, and what is added to every
    reward. Their gradients are rounding, and Adam divides by the size of a gradient.
    """
    theta = theta.clone()  # the tensors below are views of it
    weights = Transformer(theta, shape).weights
    for layer in range(shape.n_layers):
        weights[f"bias of qkv {layer}"].unflatten(1, (3, -1))[:, 1] = 0
    weights["bias of head"].zero_()
    weights["norm"][:, 1] = 0
    return theta


def assert_every_seed_is_the_plain_loop(run: RewardRun, config: RewardConfig) -> None:
    thetas, losses, rewards = map(
        torch.stack, zip(*(alone(config, number) for number in range(N_SEEDS)), strict=True)
    )
    torch.testing.assert_close(run.losses, losses, **ROUNDING)
    both = (meaningful(theta, run.shape) for theta in (run.theta, thetas))
    near = torch.isclose(*both, **ROUNDING)
    assert near.all(), f"{(~near).sum()} of {near.numel()} parameters differ"
    found = rewards_everywhere(run.model, Language(**SPOKEN))
    centred = (r - r.mean((1, 2), keepdim=True) for r in (found, rewards))
    torch.testing.assert_close(*centred, **ROUNDING)


@pytest.mark.parametrize("name", CASES)
def test_every_seed_of_a_batch_is_the_plain_loop(untyped: None, name: str) -> None:
    assert_every_seed_is_the_plain_loop(train(CASES[name]), CASES[name])


# ---- The comparison notices mistakes ------------------------------------------------------------

# what the mistake is, the file, what it says, what it is made to say
MISTAKES = [
    ("read at the last word", "reward_model.py",
     "at_end = x.shape[-1] + language.n_words", "at_end = x.shape[-1] - 1 + language.n_words"),
    ("read behind the end", "reward_model.py",
     "x.shape[-1] + language.n_words[responses]",
     "x.shape[-1] + 0 * language.n_words[responses] + language.max_words"),
    ("what is behind the end looked at", "transformer.py",
     "places = places.unsqueeze(2)", "places = 0 * places.unsqueeze(2) + k.shape[-2] - 1"),
    ("the first places kept", "transformer.py", "x.take_along_dim(at, 2)", "x[:, :, : at.shape[2]]"),
    ("a forced end not read", "reward_model.py",
     "end = torch.full_like(x, language.end)", "end = torch.zeros_like(x)"),
    ("the prompt not read", "reward_model.py",
     "torch.cat([x, language.tokens", "torch.cat([0 * x, language.tokens"),
    ("prompts of other comparisons", "reward_model.py", "x.repeat(1, 2)", "x.repeat_interleave(2, 1)"),
    ("chosen and rejected swapped", "reward_model.py",
     "preference_loss(better - worse", "preference_loss(worse - better"),
    ("no sigmoid", "preferences.py",
     "return -label * logsigmoid(margin) - (1 - label) * logsigmoid(-margin)",
     "return (1 - 2 * label) * margin"),
    ("the probability, not its logarithm", "preferences.py",
     "return -label * logsigmoid(margin) -", "return -label * margin.sigmoid() -"),
    ("the sum over a batch", "reward_model.py",
     "language, batch).mean(1)", "language, batch).sum(1)"),
    ("the learning rate does not fall", "reward_model.py",
     "config.learning_rate * (1 - step / config.n_steps)", "config.learning_rate"),
    ("the learning rate falls a step early", "reward_model.py",
     "(1 - step / config.n_steps)", "(1 - (step + 1) / config.n_steps)"),
    ("PPO's epsilon for Adam", "reward_model.py", "eps=1e-8", "eps=1e-3"),
    ("every seed the first one's batches", "reward_model.py",
     "draws(generators, n", "draws(generators[:1] * len(generators), n"),
    ("every seed the first one's comparisons", "reward_model.py",
     "part.gather(1, at)", "part[:1].expand_as(part).gather(1, at)"),
    ("the same end for all lengths in the list", "reward_model.py",
     "ended, _ = model.extend(end, cache)", "ended = outputs[:, :, -1:]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "right", "wrong"), [pytest.param(*rest, id=what) for what, *rest in MISTAKES]
)
@pytest.mark.site  # takes long
def test_a_mistake_in_the_loop_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, file: str, right: str, wrong: str
) -> None:
    plant(monkeypatch, "rlhf/" + file, right, wrong)
    run = train(REWARD)
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(run, REWARD)
