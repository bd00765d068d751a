"""Reward models: features and fits by hand and against SciPy, the transformer's rewards, bad input."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from torch import Tensor

from rl_helpers.rlhf.language_policy import prompt_tokens
from rl_helpers.rlhf.preferences import Comparisons, preference_loss, sample_experiments
from rl_helpers.rlhf.reward_model import (
    RewardConfig,
    bigram_counts,
    butler_features,
    butler_rules,
    centred,
    comparison_loss,
    fisher_information,
    fit_bradley_terry,
    fit_linear_reward,
    linear_reward,
    reward_error,
    reward_shape,
    rewards_everywhere,
    train_reward_model,
    transformer_reward,
)
from rl_helpers.rlhf.toy_language import (
    Language,
    butler,
    butler_reference,
    butler_reward,
    sequence_log_probs,
)
from rl_helpers.rlhf.transformer import Transformer
from rl_helpers.training.seeds import seed_generators
from tests.rlhf.test_toy_language import random_policy
from tests.rlhf.test_transformer import somewhere

TINY = Language(("a", "b"), ("?", "!"), max_words=2)
RULES = torch.tensor([1, 1, -1, 0.5, 0.5, -2, 0], dtype=torch.float64)
LOG_REF = sequence_log_probs(butler, butler_reference())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- Features -----------------------------------------------------------------------------------


def test_bigrams_by_hand() -> None:
    counts = bigram_counts(TINY)  # behind the start, a, b: a, b, the end
    assert counts.shape == (7, 9)
    assert counts[TINY.response(".")].tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert counts[TINY.response("b.")].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert counts[TINY.response("a a.")].tolist() == [1, 0, 0, 1, 0, 0, 0, 0, 0]  # a forced end


def test_the_butlers_rules_by_hand() -> None:
    rules = butler_rules()
    poem, tea = butler.prompt("poem?"), butler.prompt("tea?")
    said = butler.response("no sorry but no.")
    assert rules[poem, said].tolist() == [0, 0, -2, 0, 1, 0, 4]
    assert rules[tea, said].tolist() == [0, 0, 2, 0, 1, 0, 4]
    assert rules[poem, butler.response("yes good sir.")].tolist() == [-1, -1, 0, 1, 0, 1, 3]
    assert rules[tea, butler.response("sir but.")].tolist() == [0, 0, 0, 1, 0, 3, 2]
    torch.testing.assert_close(linear_reward(rules, RULES), butler_reward())


def test_the_true_reward_is_linear_in_the_counts() -> None:
    features = butler_features()
    assert features.shape == (4, 2801, 67)
    flat = features.flatten(0, 1)
    found = torch.linalg.lstsq(flat, butler_reward().flatten(), driver="gelsd").solution
    torch.testing.assert_close(flat @ found, butler_reward().flatten())


# ---- Fits ---------------------------------------------------------------------------------------


def by_scipy(x: Tensor, labels: Tensor, ridge: float, counts: Tensor) -> np.ndarray:
    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        weights = torch.tensor(w, requires_grad=True)
        total = (counts * preference_loss(x @ weights, labels)).sum()
        total = total + ridge / 2 * (weights**2).sum()
        (slope,) = torch.autograd.grad(total, weights)
        return total.item(), slope.numpy()

    start = np.zeros(x.shape[-1])
    return optimize.minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9}).x


@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_fits_are_scipys(ridge: float) -> None:
    x, labels = normal(3, 40, 4), normal(3, 40, seed=1).sigmoid()
    counts = torch.arange(120, dtype=torch.float64).view(3, 40) % 4
    found = fit_bradley_terry(x, labels, ridge, counts)
    for row in range(3):
        expected = by_scipy(x[row], labels[row], ridge, counts[row])
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-6)


def test_three_of_four_by_hand() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    torch.testing.assert_close(fit_bradley_terry(one, double(0.75)), double(math.log(3)))
    # 2 w = 5 σ(-w)
    w = fit_bradley_terry(one, ridge=2.0, counts=5.0)
    torch.testing.assert_close(2 * w, 5 * (-w).sigmoid())


def test_a_circle_is_a_shrug() -> None:
    answers = torch.tensor([[0.0, 0], [1, 0], [0, 1]], dtype=torch.float64)
    differences = answers[[0, 1, 2]] - answers[[1, 2, 0]]
    weights = fit_bradley_terry(differences, double(0.8, 0.8, 0.8))
    torch.testing.assert_close(weights, double(0, 0), atol=1e-9, rtol=0)


@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 50))
def test_scaled_features_have_scaled_weights(scale: float, seed: int) -> None:
    x, labels = normal(20, 3, seed=seed), normal(20, seed=seed + 99).sigmoid()
    one, other = fit_bradley_terry(x, labels), fit_bradley_terry(scale * x, labels)
    torch.testing.assert_close(one, scale * other, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(fit_bradley_terry(-x, 1 - labels), one, rtol=1e-5, atol=1e-8)


def test_a_start_far_away_is_no_trouble() -> None:
    """Nearly certain shares, far from 0: plain Newton steps overshoot there."""
    x = 30 * normal(60, 2)
    w = double(0.3, -0.2)
    torch.testing.assert_close(fit_bradley_terry(x, (x @ w).sigmoid()), w, rtol=1e-4, atol=1e-5)


def test_experiments_are_fitted_each_for_itself() -> None:
    judged = sample_experiments(LOG_REF, butler_reward(), 300, seed_generators(0, 5))
    rules = butler_rules()
    found = fit_linear_reward(rules, judged, 0.1)
    assert found.shape == (5, 7)
    for row in range(5):
        x, y, z = (part[row] for part in judged)
        alone = fit_bradley_terry(rules[x, y] - rules[x, z], ridge=0.1)  # not counted by pairs
        torch.testing.assert_close(found[row], alone, rtol=1e-6, atol=1e-7)
    one = fit_linear_reward(rules, Comparisons(*(part[2] for part in judged)), 0.1)
    torch.testing.assert_close(one, found[2], rtol=1e-6, atol=1e-7)


def test_experiments_are_fitted_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from rl_helpers.rlhf import reward_model

    judged = sample_experiments(LOG_REF, butler_reward(), 100, seed_generators(0, 4))
    whole = fit_linear_reward(butler_features(), judged, 0.1)
    monkeypatch.setattr(reward_model, "AT_ONCE", 1)
    torch.testing.assert_close(
        fit_linear_reward(butler_features(), judged, 0.1), whole, rtol=1e-6, atol=1e-8
    )


def test_many_comparisons_recover_the_reward() -> None:
    judged = sample_experiments(LOG_REF, butler_reward(), 20_000, seed_generators(0, 8))
    weights = fit_linear_reward(butler_rules(), judged)
    assert (weights - RULES).abs().max() < 0.25
    errors = reward_error(linear_reward(butler_rules(), weights), butler_reward(), LOG_REF)
    assert errors.max() < 0.1


def test_information_by_listing_pairs() -> None:
    features, reward = normal(2, 7, 3), normal(2, 7, seed=1)
    log_policy = sequence_log_probs(TINY, random_policy(TINY, 0, 2))
    expected, total = torch.zeros(3, 3, dtype=torch.float64), 0.0
    for x in range(2):
        p = log_policy[x].exp()
        different = 1 - float((p**2).sum())
        for a, b in itertools.permutations(range(7), 2):
            delta, m = features[x, a] - features[x, b], reward[x, a] - reward[x, b]
            weight = float(p[a] * p[b]) / different / 2
            expected += weight * m.sigmoid() * (-m).sigmoid() * torch.outer(delta, delta)
            total += weight
    assert total == pytest.approx(1)
    torch.testing.assert_close(fisher_information(features, reward, log_policy), expected)


def test_errors_by_hand() -> None:
    log_policy = double(0.5, 0.25, 0.25).log().expand(2, 3)
    truth = torch.zeros(2, 3, dtype=torch.float64)
    reward = torch.tensor([[1.0, 3, 3], [7, 7, 7]], dtype=torch.float64)
    torch.testing.assert_close(
        centred(reward, log_policy), torch.tensor([[-1.0, 1, 1], [0, 0, 0]], dtype=torch.float64)
    )
    torch.testing.assert_close(
        reward_error(reward, truth, log_policy), torch.tensor(0.5).sqrt().double()
    )
    both = torch.stack([reward, reward + normal(2, 1)])
    torch.testing.assert_close(reward_error(both, truth, log_policy), double(0.5, 0.5).sqrt())


# ---- The transformer ----------------------------------------------------------------------------


def judge(language: Language = TINY, seeds: int = 3, n_layers: int = 2) -> Transformer:
    return somewhere(reward_shape(language, width=8, n_heads=2, n_layers=n_layers), seeds)


def numbers_of_all(language: Language, seeds: int) -> tuple[Tensor, Tensor]:
    n, m = len(language.prompts), language.n_responses
    x, y = torch.arange(n).repeat_interleave(m), torch.arange(m).repeat(n)
    return x.expand(seeds, -1), y.expand(seeds, -1)


def test_the_shape_has_room_for_a_forced_end() -> None:
    shape = reward_shape(butler, width=16, n_heads=4, n_layers=2)
    assert (shape.n_inputs, shape.n_outputs, shape.context) == (12, 1, 6)
    assert (shape.width, shape.n_heads, shape.n_layers) == (16, 4, 2)


def test_the_reward_is_read_at_the_end_token_and_not_beyond() -> None:
    model = judge()
    for text, words in ((".", []), ("b.", [1]), ("b a.", [1, 0])):
        read = torch.cat(
            [prompt_tokens(TINY, torch.tensor([1])), torch.tensor([[*words, TINY.end]])], 1
        )
        expected = model(read.expand(3, 1, -1))[:, :, -1, 0]
        x, y = torch.tensor([[1]] * 3), torch.tensor([[TINY.response(text)]] * 3)
        torch.testing.assert_close(transformer_reward(model, TINY, x, y), expected)


def test_listing_reads_the_same_rewards() -> None:
    model = judge(butler, seeds=3, n_layers=1)
    x, y = numbers_of_all(butler, 3)
    listed = rewards_everywhere(model, butler)
    assert not listed.requires_grad
    expected = transformer_reward(model, butler, x, y).view(3, 4, butler.n_responses)
    torch.testing.assert_close(listed, expected, rtol=1e-4, atol=1e-4)


def test_the_loss_of_a_comparison() -> None:
    model = judge()
    rewards = rewards_everywhere(model, TINY)
    c = Comparisons(*(torch.tensor([row] * 3) for row in ([0, 1], [3, 5], [6, 0])))
    m = rewards[:, [0, 1], [3, 5]] - rewards[:, [0, 1], [6, 0]]
    torch.testing.assert_close(comparison_loss(model, TINY, c), preference_loss(m))
    labels = torch.tensor([[0.2, 0.9]] * 3)
    torch.testing.assert_close(comparison_loss(model, TINY, c, labels), preference_loss(m, labels))


def test_a_run_repeats_and_a_seed_does_not_depend_on_those_beside_it() -> None:
    judged = sample_experiments(LOG_REF, butler_reward(), 40, seed_generators(0, 3))
    config = RewardConfig(n_steps=5, batch=4, width=8)
    run = train_reward_model(config, butler, judged, 2)
    assert run.losses.shape == (3, 5)
    assert run.theta.shape == (3, run.shape.n_parameters)
    assert not run.theta.requires_grad
    assert run.model.theta is run.theta
    torch.testing.assert_close(run.losses[:, 0], torch.full((3,), math.log(2)))
    again = train_reward_model(config, butler, judged, 2)
    assert torch.equal(run.theta, again.theta)
    one = train_reward_model(config, butler, Comparisons(*(part[:1] for part in judged)), 2)
    torch.testing.assert_close(run.losses[:1], one.losses)
    assert not torch.equal(train_reward_model(config, butler, judged, 3).losses, run.losses)


def test_it_learns() -> None:
    judged = sample_experiments(LOG_REF, butler_reward(), 2_000, seed_generators(0, 4))
    run = train_reward_model(replace(RewardConfig(), n_steps=150, width=16), butler, judged)
    errors = reward_error(rewards_everywhere(run.model, butler).double(), butler_reward(), LOG_REF)
    nothing = reward_error(0 * butler_reward(), butler_reward(), LOG_REF)
    assert (errors < 0.85 * nothing).all(), errors


# ---- Bad input ----------------------------------------------------------------------------------


def test_what_has_no_maximum_is_refused() -> None:
    x = normal(30, 2)
    separable = (x @ double(1, 2) > 0).double()
    with pytest.raises(ValueError, match="ridge is 0; some weights explain"):
        fit_bradley_terry(x, separable)
    assert fit_bradley_terry(x, separable, ridge=0.1).isfinite().all()
    twice = x[:, [0, 0]]
    with pytest.raises(ValueError, match="do not tell all features apart"):
        fit_bradley_terry(twice, x[:, 1].sigmoid())
    with pytest.raises(ValueError, match="do not tell all features apart"):
        fit_bradley_terry(x, x[:, 1].sigmoid(), counts=torch.zeros(30, dtype=torch.float64))
    with pytest.raises(ValueError, match="do not tell all features apart"):  # the second alone
        fit_bradley_terry(torch.stack([x, twice]), x[:, 1].sigmoid().expand(2, -1))
    shared = fit_bradley_terry(twice, x[:, 1].sigmoid(), ridge=0.1)
    torch.testing.assert_close(shared[0], shared[1])


def test_bad_input(untyped: None) -> None:
    x = normal(5, 2)
    with pytest.raises(ValueError, match="differences holds 1 values"):
        fit_bradley_terry(torch.where(x == x.max(), math.nan, x))
    with pytest.raises(ValueError, match="ridge is -1"):
        fit_bradley_terry(x, ridge=-1)
    for labels in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match="labels is outside 0 to 1"):
            fit_bradley_terry(x, labels)
    with pytest.raises(ValueError, match="counts is negative"):
        fit_bradley_terry(x, counts=-1.0)
    same = Comparisons(*(torch.zeros(1, 3, dtype=torch.long),) * 3)
    for fit in (
        lambda: fit_linear_reward(butler_rules(), same),
        lambda: train_reward_model(RewardConfig(), butler, same),
    ):
        with pytest.raises(ValueError, match="3 of 3 comparisons are of a response with itself"):
            fit()
    with pytest.raises(ValueError, match="prompts is"):
        transformer_reward(judge(), TINY, torch.tensor([[2]] * 3), torch.tensor([[0]] * 3))
    for settings in ({"n_steps": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} is 0; it must be at least 1"):
            RewardConfig(**settings)
    with pytest.raises(ValueError, match="learning_rate is 0"):
        RewardConfig(learning_rate=0.0)
