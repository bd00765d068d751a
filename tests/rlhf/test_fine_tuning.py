"""Fine-tuning: its loss by hand, its corpora, what a run leaves, and bad input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from rl_helpers.rlhf.fine_tuning import (
    SftConfig,
    sample_corpus,
    sft_loss,
    sft_shape,
    train_sft,
)
from rl_helpers.rlhf.language_policy import log_policy_everywhere
from rl_helpers.rlhf.tilting import kl
from rl_helpers.rlhf.toy_language import butler, butler_reference, sequence_log_probs
from rl_helpers.training.seeds import seed_generators
from tests.rlhf.test_language_policy import TINY, speaker
from tests.rlhf.test_toy_language import random_policy

SMALL = SftConfig(n_steps=6, batch=5, corpus=20, width=8)


def test_the_loss_is_minus_the_listed_log_probability() -> None:
    model = speaker()
    x = torch.tensor([[0, 1, 1, 0]] * 2)
    y = torch.tensor([[0, 3, TINY.n_responses - 1, 7], [2, 2, 0, 14]])
    log_probs = sequence_log_probs(TINY, log_policy_everywhere(model, TINY))  # [2, 2, 15]
    expected = -log_probs[torch.arange(2)[:, None], x, y]
    torch.testing.assert_close(sft_loss(model, TINY, x, y), expected, rtol=1e-4, atol=1e-5)


def test_a_corpus_has_each_prompt_and_its_responses() -> None:
    log_policy = random_policy(TINY, 3, 2)
    x, y = sample_corpus(TINY, log_policy, 8_000, seed_generators(2, 2))
    assert x.shape == y.shape == (2, 8_000)
    assert not torch.equal(x[0], x[1])
    joint = sequence_log_probs(TINY, log_policy).exp().flatten() / 2
    for seed in range(2):
        counts = (x[seed] * TINY.n_responses + y[seed]).bincount(minlength=len(joint))
        assert chisquare(counts.numpy(), 8_000 * joint.numpy()).pvalue > 1e-3


def test_what_a_run_leaves() -> None:
    run = train_sft(replace(SMALL, keep_every=2, n_values=1), butler, butler_reference(), 3)
    assert run.losses.shape == (3, 6)
    assert run.theta.shape == (3, run.shape.n_parameters)
    assert (run.shape.n_outputs, run.shape.width) == (9, 8)
    assert len(run.kept) == 3
    assert torch.equal(run.kept[-1], run.theta)
    assert not torch.equal(run.kept[0], run.kept[1])
    assert not run.theta.requires_grad
    assert run.model.theta is run.theta
    assert train_sft(SMALL, butler, butler_reference(), 1).kept == ()


def test_it_begins_with_every_token_equally_likely() -> None:
    run = train_sft(SMALL, butler, butler_reference(), 3)
    x, y = sample_corpus(butler, butler_reference(), 1, seed_generators(0, 1))
    first = sft_loss(speaker(butler, 1), butler, x, y)
    assert first.shape == (1, 1)
    # a loss of log 8 for each chosen token, of which there are 1 to 4
    tokens = run.losses[:, 0] * SMALL.batch / torch.log(torch.tensor(8.0))
    torch.testing.assert_close(tokens, tokens.round(), rtol=1e-5, atol=1e-5)
    assert ((tokens >= SMALL.batch) & (tokens <= 4 * SMALL.batch)).all()


def test_runs_repeat_and_seeds_do_not_depend_on_those_beside_them() -> None:
    three, again = (train_sft(SMALL, butler, butler_reference(), 3, seed=4) for _ in range(2))
    assert torch.equal(three.theta, again.theta)
    one = train_sft(SMALL, butler, butler_reference(), 1, seed=4)
    torch.testing.assert_close(one.theta, three.theta[:1], rtol=1e-4, atol=1e-5)
    other = train_sft(SMALL, butler, butler_reference(), 1, seed=5)
    assert not torch.equal(one.theta, other.theta)


def test_it_learns_to_speak_like_the_corpus() -> None:
    config = SftConfig(n_steps=120, batch=64, width=16, learning_rate=1e-2)
    reference = sequence_log_probs(butler, butler_reference())
    run = train_sft(config, butler, butler_reference(), 4)
    spoken = sequence_log_probs(butler, log_policy_everywhere(run.model, butler))
    drift = kl(reference.expand_as(spoken), spoken.double()).mean(-1)
    nothing_learned = sequence_log_probs(butler, torch.full((4, 400, 8), 1 / 8).double().log())
    assert (drift < 0.05 * kl(reference, nothing_learned).mean()).all(), drift


# ---- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_steps": 0}, "n_steps is 0; it must be at least 1"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"corpus": 0}, "corpus is 0; it must be at least 1"),
        ({"keep_every": -1}, "keep_every is -1; it must be at least 0"),
        ({"n_values": -1}, "n_values is -1; it must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive"),
    ],
)
def test_no_such_settings(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SftConfig(**setting)


def test_a_width_that_heads_do_not_divide() -> None:
    with pytest.raises(ValueError, match="width is 9"):
        sft_shape(replace(SMALL, width=9), butler)


@pytest.mark.parametrize("number", [-1, 15])
def test_responses_outside_the_language(number: int) -> None:
    y = torch.tensor([[0, number]] * 2)
    with pytest.raises(ValueError, match=r"responses is .*; this language has 0 to 14"):
        sft_loss(speaker(), TINY, torch.zeros_like(y), y)


def test_prompts_outside_the_language() -> None:
    x = torch.tensor([[0, 2]] * 2)
    with pytest.raises(ValueError, match=r"prompts is .*; this language has 0 to 1"):
        sft_loss(speaker(), TINY, x, torch.zeros_like(x))


def test_unless_it_is_asked_for_the_butler_has_one_block_of_two_heads() -> None:
    shape = sft_shape(SftConfig(), butler)
    assert (shape.width, shape.n_heads, shape.n_layers) == (32, 2, 1)
