"""RLHF with PPO: token rewards and the controller by hand, settings, what is refused, and learning."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_helpers.rlhf import rlhf_ppo
from rl_helpers.rlhf.fine_tuning import SftConfig, train_sft
from rl_helpers.rlhf.language_policy import language_shape, log_policy_everywhere
from rl_helpers.rlhf.rlhf_ppo import (
    RlhfPPOConfig,
    adapted_beta,
    last_token,
    learning_rate,
    per_seed,
    token_rewards,
    train_rlhf_ppo,
)
from rl_helpers.rlhf.tilting import kl, tilt
from rl_helpers.rlhf.toy_language import Language, sequence_log_probs
from rl_helpers.rlhf.transformer import Transformer, initial_parameters
from rl_helpers.training.seeds import seed_generators

POLICY, REFERENCE = torch.tensor([[0.5, 0.8, 0.9], [0.25, 0.5, 0.9]], dtype=torch.double).log()
ALL, TWO = torch.tensor([True] * 3), torch.tensor([True, True, False])
r = torch.tensor(2.0, dtype=torch.double)


def test_token_rewards_by_hand() -> None:
    """-½ log 2 = -0.3466, -½ log 1.6 = -0.2350, and 2 at the end; the sum is 1.4184."""
    found = token_rewards(POLICY, REFERENCE, ALL, r, 0.5)
    assert found.tolist() == pytest.approx([-0.346574, -0.235002, 2.0], abs=1e-6)
    assert found.sum().item() == pytest.approx(1.418424, abs=1e-6)


def test_nothing_is_charged_or_paid_behind_the_end() -> None:
    reference = REFERENCE.clone()
    reference[2] = -math.inf  # whatever stands there
    found = token_rewards(POLICY, reference, TWO, r, 0.5)
    assert found.tolist() == pytest.approx([-0.346574, 2 - 0.235002, 0.0], abs=1e-6)


def test_each_row_has_its_own_price() -> None:
    policy, reference = POLICY.expand(2, 3), REFERENCE.expand(2, 3)
    beta = torch.tensor([1.0, 2.0], dtype=torch.double)
    nothing = torch.zeros(2, dtype=torch.double)
    found = token_rewards(policy, reference, ALL.expand(2, 3), nothing, beta)
    torch.testing.assert_close(found[1], 2 * found[0])


def test_last_token() -> None:
    live = torch.tensor([[True, False, False], [True, True, False], [True, True, True]])
    assert last_token(live).int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, "beta is 0.0; it must be positive"),
        ({"beta": -0.5}, "beta is -0.5; it must be positive"),
        ({"log_reference": REFERENCE[:2]}, r"log_reference has shape \(2,\); log_probs has \(3,\)"),
        ({"live": TWO[:2]}, r"live has shape \(2,\); log_probs has \(3,\)"),
        ({"reward": r.expand(2)}, r"response has shape \(\); reward has \(2,\)"),
        ({"reward": r * math.nan}, "reward holds 1 values that are NaN or infinite"),
        ({"live": ~ALL}, "live is False at a first token; a response has a token"),
        (
            {"log_reference": REFERENCE - torch.tensor([0, math.inf, 0])},
            "log_reference is not finite for 1 tokens; the reference must have support",
        ),
    ],
)
def test_token_rewards_refuse(untyped: None, change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "log_probs": POLICY,
        "log_reference": REFERENCE,
        "live": ALL,
        "reward": r,
        "beta": 0.5,
    }
    with pytest.raises(ValueError, match=message):
        token_rewards(**{**given, **change})


@given(st.floats(0.1, 10), st.floats(-1, 20), st.floats(0.1, 10), st.floats(0, 4))
def test_beta_follows(beta: float, measured: float, target: float, gain: float) -> None:
    old, found = torch.tensor([beta]), torch.tensor([measured])
    new = adapted_beta(old, found, target, gain)
    assert abs(float(new) / float(old) - 1) <= 0.2 * gain + 1e-5
    assert math.copysign(1, float(new - old)) == math.copysign(1, measured - target) or new == old


def test_beta_by_hand() -> None:
    """5 % above the target, gain 2: up by 10 %. Far below: by the limit, 20 %, twice."""
    beta, found = torch.tensor([2.0, 2.0]), torch.tensor([1.05, 0.1])
    assert adapted_beta(beta, found, 1.0, 2.0).tolist() == pytest.approx([2.2, 1.2])


@pytest.mark.parametrize(("name", "row"), [("beta", (-1.0, 1.0)), ("target_kl", (1.0, 0.0))])
def test_the_controller_refuses(name: str, row: tuple[float, float]) -> None:
    given = {"beta": torch.tensor([1.0]), "target_kl": torch.tensor([1.0])}
    given[name] = torch.tensor(row)[torch.tensor(row) <= 0]
    with pytest.raises(ValueError, match=f"{name} is .*it must be positive"):
        adapted_beta(given["beta"], torch.tensor([1.0]), given["target_kl"], 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_iterations": 0}, "n_iterations is 0; it must be at least 1"),
        ({"n_responses": 0}, "n_responses is 0; it must be at least 1"),
        ({"n_epochs": 0}, "n_epochs is 0; it must be at least 1"),
        ({"n_minibatches": 0}, "n_minibatches is 0; it must be at least 1"),
        ({"evaluate_every": 0}, "evaluate_every is 0; it must be at least 1"),
        ({"n_minibatches": 7}, "n_minibatches is 7; it must divide n_responses = 512"),
        ({"evaluate_every": 7}, "evaluate_every is 7; it must divide n_iterations = 30"),
        ({"beta": 0.0}, "beta is 0.0; it must be positive"),
        ({"beta": (0.5, -0.5)}, r"beta is \(0.5, -0.5\); it must be positive"),
        ({"target_kl": 0.0}, "target_kl is 0.0; it must be positive"),
        ({"kl_gain": -0.1}, "kl_gain is -0.1; it must be at least 0"),
        ({"kl_gain": (1.0, -0.1)}, "kl_gain is -0.1; it must be at least 0"),
        ({"epsilon": 0.0}, "epsilon is 0.0; it must be positive"),
        ({"lambda_": 1.1}, "lambda_ is 1.1; allowed is 0 <= lambda_ <= 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be positive"),
        ({"last_learning_rate": -0.1}, "last_learning_rate is -0.1; allowed is 0"),
        ({"value_coefficient": 0.0}, "value_coefficient is 0.0; it must be positive"),
    ],
)
def test_settings_refuse(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RlhfPPOConfig(**change)


def test_learning_rate() -> None:
    config = RlhfPPOConfig(
        n_iterations=3, evaluate_every=1, learning_rate=2.0, last_learning_rate=0.5
    )
    assert [learning_rate(config, k) for k in range(3)] == pytest.approx([2.0, 1.5, 1.0])
    assert learning_rate(RlhfPPOConfig(n_iterations=1, evaluate_every=1), 0) == pytest.approx(4e-3)


def test_each_seed_has_its_own_settings() -> None:
    config = RlhfPPOConfig(beta=(0.5, 1.0), target_kl=2.0)
    beta, target, gain = per_seed(config, 2)
    assert (beta.tolist(), target.tolist(), gain.tolist()) == ([0.5, 1.0], [2.0, 2.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="beta is 2 numbers; one for each of 3 seeds"):
        per_seed(config, 3)


# ---- Training ------------------------------------------------------------------------------------

language = Language(words=("a", "b"), prompts=("x?", "y?"), max_words=2)
SHORT = RlhfPPOConfig(n_iterations=2, n_responses=8, n_minibatches=2, evaluate_every=2)


def model(n_values: int = 1) -> Transformer:
    shape = language_shape(language, n_values, width=4, n_heads=1)
    return Transformer(initial_parameters(shape, seed_generators(0, 2)), shape)


@pytest.mark.parametrize(
    ("n_values", "reward", "message"),
    [
        (
            0,
            torch.zeros(2, 7),
            "reference is a model with 3 outputs; it must have 3 logits and a v",
        ),
        (1, torch.zeros(2, 6), r"reward is \(2, 6\); it must be \[2, 7\], or that for each seed"),
        (1, torch.zeros(3, 2, 7), r"reward is \(3, 2, 7\); it must be \[2, 7\], or that for each"),
        (1, torch.full((2, 7), math.inf), "reward holds 14 values that are NaN or infinite"),
    ],
)
def test_training_refuses(untyped: None, n_values: int, reward: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_rlhf_ppo(SHORT, language, model(n_values), reward)


def test_training_repeats_and_depends_on_the_seed() -> None:
    reward = torch.linspace(-1, 1, 14).view(2, 7)
    first, again, other = (
        train_rlhf_ppo(SHORT, language, model(), reward, seed) for seed in (0, 0, 1)
    )
    assert torch.equal(first.thetas, again.thetas)
    assert not torch.equal(first.thetas[:, -1], other.thetas[:, -1])
    assert first.steps.tolist() == [0, 2]
    assert first.betas.shape == first.kls.shape == first.rewards.shape == (2, 2)


def test_training_approaches_the_tilted_reference() -> None:
    """Two seeds start a nat away, and three quarters of it are gone in seconds."""
    reference = torch.tensor([[2.0, 0, -1], [0, 1, 0], [1, 0, 2]]).expand(2, 3, 3).log_softmax(-1)
    settings = SftConfig(
        n_steps=60, batch=64, corpus=500, learning_rate=0.02, width=8, n_heads=1, n_values=1
    )
    sft = train_sft(settings, language, reference.double(), n_seeds=2)
    reward = torch.tensor([[-1.0, 1, 2, 0, 0.5, 1, -1], [1.0, -1, 0, 2, 1, -2, 0]])
    config = replace(SHORT, n_iterations=20, n_responses=256, n_minibatches=4, learning_rate=0.02)
    run = train_rlhf_ppo(config, language, sft.model, reward)

    def listed(theta: Tensor) -> Tensor:
        tokens = log_policy_everywhere(Transformer(theta, sft.shape), language)
        return sequence_log_probs(language, tokens).double()

    best = tilt(listed(sft.theta), reward.double().expand(2, 2, 7), 0.5)
    start, end = (kl(listed(run.thetas[:, k]), best).mean(-1) for k in (0, -1))
    assert bool((start > 0.9).all()), start
    assert bool((end < 0.25 * start).all()), (start, end)


def test_the_loop_is_short_enough_to_be_read() -> None:
    import inspect

    lines = inspect.getsource(rlhf_ppo.train_rlhf_ppo).split('"""')[2].strip().splitlines()
    assert len(lines) <= 40
