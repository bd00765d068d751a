"""Advantages and losses of GRPO and its variants by hand; sampling; what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_helpers.policy_gradients.losses import clipped_surrogate, importance_ratio
from rl_helpers.rlhf import grpo
from rl_helpers.rlhf.arithmetic import END, LessonConfig, addition, train_lesson
from rl_helpers.rlhf.divergences import k3
from rl_helpers.rlhf.grpo import (
    GrpoConfig,
    Variant,
    accuracies,
    centred,
    grpo_loss,
    leave_one_out,
    sequence_ratio,
    standardised,
    train_grpo,
)
from rl_helpers.rlhf.language_policy import outputs_before, sample
from rl_helpers.rlhf.transformer import Transformer
from rl_helpers.training.seeds import seed_generators

FOUR = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
rewards = st.lists(st.floats(-5, 5), min_size=2, max_size=9)


def test_advantages_by_hand() -> None:
    third = 1 / 3
    assert centred(FOUR).tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])
    assert standardised(FOUR, eps=0.0).tolist() == pytest.approx(
        [3**0.5, -(third**0.5), -(third**0.5), -(third**0.5)]
    )
    assert standardised(FOUR, 0.0, denominator=1).tolist() == pytest.approx([1.5] + 3 * [-0.5])
    assert standardised(FOUR, eps=0.25).tolist()[0] == pytest.approx(0.75 / (0.1875**0.5 + 0.25))
    assert leave_one_out(FOUR).tolist() == pytest.approx([1, -third, -third, -third])


@given(rewards, st.randoms(use_true_random=False))
def test_a_group_has_no_order(given_rewards: list[float], random: Any) -> None:
    r = torch.tensor(given_rewards, dtype=torch.float64)
    order = torch.tensor(random.sample(range(len(r)), len(r)))
    for compare in grpo.ADVANTAGES.values():
        torch.testing.assert_close(compare(r[order]), compare(r)[order], rtol=1e-6, atol=1e-8)


@given(rewards, st.floats(-3, 3), st.floats(0.1, 4))
def test_a_constant_drops_out_and_a_factor_is_kept_or_divided_out(
    given_rewards: list[float], shift: float, factor: float
) -> None:
    r = torch.tensor(given_rewards, dtype=torch.float64)
    for compare in (centred, leave_one_out):
        torch.testing.assert_close(compare(factor * r + shift), factor * compare(r))
        assert compare(r).sum().abs() < 1e-9
    if r.std() > 1e-3:
        one, other = (standardised(x, eps=0.0) for x in (r, factor * r + shift))
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
        assert float(one.square().mean()) == pytest.approx(1.0)


@given(st.floats(-1e3, 1e3), st.integers(2, 12), st.sampled_from([torch.float32, torch.float64]))
def test_equal_rewards_have_no_advantage(reward: float, G: int, dtype: torch.dtype) -> None:
    r = torch.full((3, G), reward, dtype=dtype)
    assert torch.equal(standardised(r, eps=0.0), torch.zeros_like(r))


@given(rewards)
def test_leave_one_out_compares_with_the_others(given_rewards: list[float]) -> None:
    r = torch.tensor(given_rewards, dtype=torch.float64)
    others = [r[torch.arange(len(r)) != i].mean() for i in range(len(r))]
    torch.testing.assert_close(leave_one_out(r), r - torch.stack(others))


def test_each_group_is_compared_with_itself() -> None:
    r = torch.tensor([[0.0, 1.0], [10.0, 14.0]])
    assert centred(r).tolist() == [[-0.5, 0.5], [-2.0, 2.0]]


# Two responses, of 2 tokens and 1, and their log-ratios.
LIVE = torch.tensor([[True, True], [True, False]])
OLD = torch.tensor([[0.5, 0.5], [0.5, 1.0]]).log().double()
NEW = torch.tensor([[0.8, 0.5], [0.3, 1.0]]).log().double()  # ratios 1.6, 1; 0.6
A = torch.tensor([[1.0], [-1.0]]).double()


@pytest.mark.parametrize(
    ("variant", "objective"),
    [
        # min(1.6, 1.2) + 1 over 2 tokens; max(-0.6, -0.8) is -0.8 for the minimum
        (Variant(), ((1.2 + 1.0) / 2 - 0.8) / 2),
        (Variant(weights="group"), (1.2 + 1.0 - 0.8) / 3),
        (Variant(weights="sum"), (1.2 + 1.0 - 0.8) / 2),
        (Variant(weights="sum", low=math.inf, high=math.inf), (1.6 + 1.0 - 0.6) / 2),
        (Variant(low=0.5, high=0.4), ((1.4 + 1.0) / 2 - 0.6) / 2),
        (Variant(ratio="sequence", low=0.5, high=0.5), (1.6**0.5 - 0.6) / 2),
        (Variant(ratio="sequence"), (1.2 - 0.8) / 2),
    ],
)
def test_losses_by_hand(variant: Variant, objective: float) -> None:
    assert float(grpo_loss(NEW, OLD, LIVE, A, variant)) == pytest.approx(-objective)


def test_the_price_by_hand() -> None:
    ref = torch.tensor([[0.4, 0.5], [0.6, 1.0]]).log().double()
    loss = grpo_loss(NEW, OLD, LIVE, A, Variant(beta=0.5), ref)
    charges = [0.5 - 1 - math.log(0.5), 0.0, 2 - 1 - math.log(2)]
    extra = 0.5 * ((charges[0] + charges[1]) / 2 + charges[2]) / 2
    assert float(loss) == pytest.approx(-((1.2 + 1.0) / 2 - 0.8) / 2 + extra)


def test_a_symmetric_clip_is_ppos() -> None:
    new, old = (torch.randn(5, 4, 3, dtype=torch.float64) for _ in range(2))
    live = torch.ones(5, 4, 3, dtype=torch.bool)
    advantages = torch.randn(5, 4, 1, dtype=torch.float64)
    ratio = importance_ratio(new, old)
    each = clipped_surrogate(ratio, advantages.expand_as(ratio), 0.2).mean((1, 2))
    torch.testing.assert_close(grpo_loss(new, old, live, advantages, Variant()), -each)


def test_the_gradient_of_the_price_is_that_of_k3() -> None:
    log_probs = NEW.clone().requires_grad_()
    ref = OLD - 0.3
    still = torch.zeros_like(A)
    grpo_loss(log_probs, NEW, LIVE, still, Variant(weights="sum", beta=2.0), ref).backward()
    other = NEW.clone().requires_grad_()
    (2.0 * (k3(other - ref) * LIVE).sum() / 2).backward()
    torch.testing.assert_close(log_probs.grad, other.grad)


@given(st.floats(-3, 3))
def test_dead_tokens_do_not_count(junk: float) -> None:
    spoiled = [x.masked_fill(~LIVE, junk) for x in (NEW, OLD)]
    for variant in (grpo.GRPO, grpo.GSPO, grpo.DAPO, grpo.RLOO):
        ref = OLD.masked_fill(~LIVE, -junk)
        one = grpo_loss(NEW, OLD, LIVE, A, variant, OLD)
        torch.testing.assert_close(grpo_loss(spoiled[0], spoiled[1], LIVE, A, variant, ref), one)


def test_sequence_ratios_are_geometric_means() -> None:
    found = sequence_ratio(NEW, OLD, LIVE)
    torch.testing.assert_close(found[:, 0], torch.tensor([1.6**0.5, 0.6]).double())


def pupil(n_seeds: int = 2, n_values: int = 1) -> Transformer:
    config = LessonConfig(n_steps=20, width=8, n_heads=2, n_values=n_values)
    return train_lesson(config, addition(2), n_seeds)


def test_a_group_s_question_is_read_once_for_all() -> None:
    model, questions = pupil(), addition(2)
    prompts = questions.prompts[torch.tensor([[0, 4, 8], [1, 2, 3]])]
    tokens = sample(model, prompts, questions.max_tokens, END, seed_generators(5, 2), 3).tokens
    outputs = grpo.group_outputs(model, prompts, tokens.unflatten(1, (3, 3)))
    whole = outputs_before(model, prompts.repeat_interleave(3, dim=1), tokens)
    torch.testing.assert_close(outputs.flatten(1, 2), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["standardised", "centred", "leave-one-out", "critic"])
def test_it_learns(kind: str) -> None:
    questions = addition(2)
    config = GrpoConfig(n_steps=20, n_prompts=9, variant=Variant(kind))
    begin = train_lesson(LessonConfig(n_steps=40), questions, 2)
    run = train_grpo(config, questions, begin, seed=1)
    sampled, greedy = accuracies(run, questions)
    assert sampled.shape == greedy.shape == (2, 6, 9)
    assert (sampled[:, -1].mean(1) > sampled[:, 0].mean(1) + 0.3).all()
    assert run.rewards.shape == run.silent.shape == (2, 20)
    assert run.steps.tolist() == [0, 8, 16, 24, 32, 40]


def test_runs_repeat() -> None:
    config = GrpoConfig(n_steps=2, n_prompts=4)
    runs = [train_grpo(config, addition(2), pupil()) for _ in range(2)]
    assert torch.equal(*(run.models[-1].theta for run in runs))


def loss(**changed: Tensor | None) -> Tensor:
    arguments = {"log_probs": NEW, "old_log_probs": OLD, "live": LIVE, "advantages": A}
    return grpo_loss(**{**arguments, "variant": Variant(), **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: standardised(torch.tensor([1.0])), "a group of 1"),
        (lambda: centred(torch.zeros(3, 0)), "a group of 0"),
        (lambda: leave_one_out(torch.tensor(1.0)), "a group of 0"),
        (lambda: leave_one_out(torch.tensor([[1.0]])), "a group of 1"),
        (lambda: centred(torch.tensor([1.0, math.nan])), "rewards holds 1 values"),
        (lambda: standardised(torch.tensor([1.0, math.inf])), "rewards holds 1 values"),
        (lambda: standardised(FOUR, eps=-1.0), "eps is -1"),
        (lambda: Variant("mean"), "advantages is 'mean'"),
        (lambda: Variant(weights="token"), "weights is 'token'"),
        (lambda: Variant(ratio="group"), "ratio is 'group'"),
        (lambda: Variant(low=0.0), "low is 0"),
        (lambda: Variant(high=-0.1), "high is -0.1"),
        (lambda: Variant(beta=-0.1), "beta is -0.1"),
        (lambda: loss(old_log_probs=OLD[:1]), "old_log_probs has shape"),
        (lambda: loss(live=torch.zeros_like(LIVE)), "False throughout a response"),
        (lambda: loss(variant=Variant(beta=0.1)), "a price needs it"),
        (lambda: sequence_ratio(NEW, OLD, torch.zeros_like(LIVE)), "False throughout"),
        (lambda: sequence_ratio(NEW, OLD[:1], LIVE), "old_log_probs has shape"),
        (lambda: GrpoConfig(group=1), "group is 1"),
        (lambda: GrpoConfig(n_steps=0), "n_steps is 0"),
        (lambda: GrpoConfig(n_prompts=0), "n_prompts is 0"),
        (lambda: GrpoConfig(n_updates=0), "n_updates is 0"),
        (lambda: GrpoConfig(evaluate_every=0), "evaluate_every is 0"),
        (lambda: GrpoConfig(learning_rate=0.0), "learning_rate is 0"),
        (lambda: train_grpo(GrpoConfig(), addition(2), pupil(1)), "there are 9 questions"),
        (
            lambda: train_grpo(
                GrpoConfig(n_prompts=2, variant=Variant("critic")), addition(2), pupil(1, 0)
            ),
            "a critic needs one",
        ),
    ],
)
def test_bad_input_is_named(untyped: None, call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_without_a_critic_no_value_is_needed() -> None:
    run = train_grpo(GrpoConfig(n_steps=1, n_prompts=2), addition(2), pupil(1, 0))
    assert len(run.models) == 1
