"""DPO: losses worked by hand, their optima, policies that list and score alike, bad input."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_helpers.rlhf import dpo
from rl_helpers.rlhf.dpo import (
    DpoConfig,
    TablePolicy,
    TransformerPolicy,
    each_prefix,
    implicit_reward,
    listed,
    log_ratios,
    minimise,
    place_and_last_word,
    require_comparisons,
    response_kinds,
    scores,
    train_dpo,
    written_comparisons,
)
from rl_helpers.rlhf.language_policy import language_shape
from rl_helpers.rlhf.preferences import Comparisons, sample_experiments
from rl_helpers.rlhf.tilting import kl, tilt
from rl_helpers.rlhf.toy_language import (
    Language,
    butler,
    butler_reference,
    butler_reward,
    sequence_log_probs,
    token_values,
)
from rl_helpers.rlhf.transformer import initial_parameters
from rl_helpers.training.seeds import seed_generators

language = Language(("yes", "no"), ("tea?", "poem?"), 3)  # 15 responses, 7 prefixes
numbers = st.floats(-5, 5)
dpo_loss: Any = dpo.dpo_loss  # Any: given arguments by stars and by name
ipo_loss: Any = dpo.ipo_loss


def tensors(*values: float) -> Any:
    return tuple(torch.tensor([value], dtype=torch.float64) for value in values)


# ---- Losses ------------------------------------------------------------------------------------

BY_HAND = tensors(-3.3, -1.32, -3.5, -0.72)  # log-ratios 0.2 and -0.6


def test_by_hand() -> None:
    chosen, rejected, old_chosen, old_rejected = BY_HAND
    assert implicit_reward(chosen, old_chosen, 0.5).item() == pytest.approx(0.1)
    assert implicit_reward(rejected, old_rejected, 0.5).item() == pytest.approx(-0.3)
    assert dpo_loss(*BY_HAND, beta=0.5).item() == pytest.approx(0.513015, abs=1e-6)
    # -log of 1/(1 + e^-0.4), and of its complement
    assert dpo_loss(*BY_HAND, beta=0.5, label=0.25).item() == pytest.approx(0.813015, abs=1e-6)
    # the gap is 0.8: (0.8 - 5)^2, (0.8 + 5)^2
    assert ipo_loss(*BY_HAND, cost=0.1).item() == pytest.approx(17.64)
    assert ipo_loss(*BY_HAND, cost=0.1, label=0.25).item() == pytest.approx(0.25 * 17.64 + 25.23)


def test_the_weight_by_hand() -> None:
    chosen, rejected, *old = BY_HAND
    both = torch.stack([chosen, rejected]).requires_grad_()
    (slope,) = torch.autograd.grad(dpo_loss(both[0], both[1], *old, beta=0.5).sum(), both)
    assert slope.flatten().tolist() == pytest.approx([-0.200656, 0.200656], abs=1e-6)


@given(numbers, numbers, numbers, numbers, st.floats(0, 1), st.floats(0.05, 5))
def test_the_first_loses_what_the_second_wins(
    a: float, b: float, c: float, d: float, label: float, price: float
) -> None:
    one, other = tensors(a, b, c, d), tensors(b, a, d, c)
    for loss in (partial(dpo_loss, beta=price), partial(ipo_loss, cost=price)):
        torch.testing.assert_close(loss(*one, label=label), loss(*other, label=1 - label))


@given(numbers, numbers, numbers, numbers, numbers, numbers)
def test_a_constant_of_the_prompt_cancels(
    a: float, b: float, c: float, d: float, shift: float, shift_old: float
) -> None:
    moved = tensors(a + shift, b + shift, c + shift_old, d + shift_old)
    for loss in (partial(dpo_loss, beta=0.7), partial(ipo_loss, cost=0.3)):
        torch.testing.assert_close(loss(*moved), loss(*tensors(a, b, c, d)))


def test_at_the_reference() -> None:
    same = tensors(-3.0, -1.0, -3.0, -1.0)
    assert dpo_loss(*same, beta=0.3).item() == pytest.approx(math.log(2))
    assert ipo_loss(*same, cost=0.5).item() == pytest.approx(1)


def test_each_its_own_price_and_label() -> None:
    four = [value.expand(2, 1) for value in BY_HAND]
    price, label = torch.tensor([[0.5], [2.0]]), torch.tensor([[1.0], [0.3]])
    for loss in (dpo_loss, ipo_loss):
        found = loss(*four, price, label)
        alone = [loss(*BY_HAND, p, q) for p, q in ((0.5, 1.0), (2.0, 0.3))]
        torch.testing.assert_close(found, torch.stack(alone), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("price", [0.0, -1.0, torch.tensor([[0.5], [0.0]])])
def test_prices_are_positive(price: Any) -> None:
    with pytest.raises(ValueError, match="beta"):
        implicit_reward(BY_HAND[0], BY_HAND[2], price)
    with pytest.raises(ValueError, match="beta"):
        dpo_loss(*BY_HAND, beta=price)
    with pytest.raises(ValueError, match="cost"):
        ipo_loss(*BY_HAND, cost=price)


@pytest.mark.parametrize("label", [-0.1, 1.1, torch.tensor([0.5, 1.5])])
def test_labels_are_shares(label: Any) -> None:
    for loss in (dpo_loss, ipo_loss):
        with pytest.raises(ValueError, match="label"):
            loss(*BY_HAND, 0.5, label)


# ---- Comparisons ------------------------------------------------------------------------------


def test_written_comparisons() -> None:
    rows = [("poem?", "no.", "yes."), ("tea?", ".", "yes no yes.")]
    prompts, chosen, rejected = written_comparisons(language, rows)
    assert prompts.tolist() == [1, 0]
    assert [language.text(y) for y in chosen.tolist()] == ["no.", "."]
    assert [language.text(y) for y in rejected.tolist()] == ["yes.", "yes no yes."]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("tea?", "yes.", "yes."), r"same response in 1 of 1 .*'yes\.'"),
        (("tea?", "yes", "no."), "ends with"),
        (("tea?", "yes.", "no"), "ends with"),
        (("tea?", "yes yes yes yes.", "no."), "at most 3"),
        (("tea?", "yes sir.", "no."), "words are"),
        (("soup?", "yes.", "no."), "prompts are"),
    ],
)
def test_comparisons_that_are_none(row: tuple[str, str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        written_comparisons(language, [row])


def test_at_least_one_comparison() -> None:
    with pytest.raises(ValueError, match="rows is empty"):
        written_comparisons(language, [])


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (([2], [0], [1]), "prompts is 2 to 2; this language has 0 to 1"),
        (([-1], [0], [1]), "prompts"),
        (([0], [15], [1]), "chosen is 15 to 15; this language has 0 to 14"),
        (([0], [0], [-1]), "rejected"),
        (([0, 1], [3, 4], [3, 5]), "same response in 1 of 2"),
    ],
)
def test_numbers_outside_the_language(numbers: tuple[list[int], ...], message: str) -> None:
    comparisons = Comparisons(*map(torch.tensor, numbers))
    with pytest.raises(ValueError, match=message):
        require_comparisons(language, comparisons)
    policy = TablePolicy(language, each_prefix(language))
    batched = Comparisons(*(part.unsqueeze(0) for part in comparisons))
    with pytest.raises(ValueError, match=message):
        train_dpo(DpoConfig(), policy, torch.zeros(1, 42), batched, partial(dpo_loss, beta=1.0))


# ---- Policies ---------------------------------------------------------------------------------


def everything(seeds: int) -> tuple[Tensor, Tensor]:
    """Every response to every prompt, of each seed [seeds, prompts * responses]."""
    prompts = torch.arange(2).repeat_interleave(15)
    return prompts.expand(seeds, -1), torch.arange(15).repeat(2).expand(seeds, -1)


@pytest.mark.parametrize("name", ["table", "shared", "transformer"])
def test_a_policy_scores_as_it_lists(name: str) -> None:
    generators = seed_generators(0, 2)
    if name == "transformer":
        shape = language_shape(language, width=8)
        policy: Any = TransformerPolicy(language, shape)
        theta = initial_parameters(shape, generators).detach()
        theta = theta + 0.1 * torch.stack(
            [torch.randn(theta.shape[1], generator=g) for g in generators]
        )
    else:
        states = each_prefix(language) if name == "table" else place_and_last_word(language)
        policy = TablePolicy(language, states)
        theta = torch.stack([torch.randn(policy.n_parameters, generator=g) for g in generators])
    listed = sequence_log_probs(language, policy.everywhere(theta))
    torch.testing.assert_close(listed.exp().sum(-1), torch.ones(2, 2))
    assert not torch.allclose(listed[0], listed[1])
    found = policy.log_probs(theta, *everything(2)).view(2, 2, 15)
    torch.testing.assert_close(found, listed, rtol=1e-4, atol=1e-5)


def test_states_by_place_and_last_word() -> None:
    # prefixes: none; yes, no; yes yes, yes no, no yes, no no
    assert place_and_last_word(language).tolist() == [0, 1, 2, 3, 4, 3, 4]
    assert each_prefix(language).tolist() == list(range(7))
    assert TablePolicy(language, place_and_last_word(language)).n_parameters == 2 * 5 * 3


def test_parameters_make_the_policy_that_they_were_made_of() -> None:
    reference = butler_reference()
    for states in (each_prefix(butler), place_and_last_word(butler)):
        policy = TablePolicy(butler, states)
        theta = policy.parameters(reference)
        assert theta.shape == (policy.n_parameters,)
        torch.testing.assert_close(policy.everywhere(theta.unsqueeze(0))[0], reference)


def test_the_shared_rows_can_express_the_optimum() -> None:
    """The butler's reward adds up over neighbours, so its tilted policy forgets all but the last."""
    log_reference = sequence_log_probs(butler, butler_reference())
    reward, beta = butler_reward(), 0.5
    _, soft = token_values(butler, butler_reference(), (reward / beta).exp())
    best = (butler_reference() + soft.log()).log_softmax(-1)
    policy = TablePolicy(butler, place_and_last_word(butler))
    theta = policy.parameters(best)
    listed = sequence_log_probs(butler, policy.everywhere(theta.unsqueeze(0))[0])
    torch.testing.assert_close(listed, tilt(log_reference, reward, beta))


def test_rows_that_differ_within_a_state() -> None:
    policy = TablePolicy(language, place_and_last_word(language))
    with pytest.raises(ValueError, match="one row for each state"):
        policy.parameters(torch.randn(2, 7, 3).log_softmax(-1))
    first = torch.full((2, 7, 3), -9.0)
    often = policy.states.mode().values  # a state of more than one prefix
    first[..., (policy.states == often).nonzero()[0, 0], :] -= 1
    for off in (first, -first):  # the other rows of its state lie above the first, or below it
        with pytest.raises(ValueError, match="off by 1"):
            policy.parameters(off)


@pytest.mark.parametrize("states", [[0, 1, 2], [0, 1, 2, 3, 4, 3, 6], [1, 2, 3, 4, 5, 6, 7]])
def test_states_that_are_none(untyped: None, states: list[int]) -> None:
    with pytest.raises(ValueError, match="states"):
        TablePolicy(language, torch.tensor(states))


# ---- The loop ---------------------------------------------------------------------------------


def learn(n: int, seeds: int = 3, n_steps: int = 60, **settings: Any) -> tuple[Any, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    reference = (0.5 * torch.randn(2, 7, 3, generator=generator)).log_softmax(-1)
    reward = torch.randn(2, 15, generator=generator)
    policy = TablePolicy(language, each_prefix(language))
    log_reference = sequence_log_probs(language, reference)
    drawn = sample_experiments(log_reference, reward, n, seed_generators(2, seeds))
    theta = policy.parameters(reference).expand(seeds, -1)
    config = DpoConfig(n_steps=n_steps, batch=256, learning_rate=0.1, **settings)
    run = train_dpo(config, policy, theta, drawn, partial(dpo_loss, beta=0.5), seed=4)
    listed = torch.stack([sequence_log_probs(language, policy.everywhere(t)) for t in run.theta])
    best = tilt(log_reference, reward, 0.5).expand(listed.shape)
    return run, kl(listed, best).mean(-1), theta


def test_it_learns() -> None:
    _, far, _ = learn(20_000, n_steps=200)
    assert (far[0] > 0.5).all()
    assert (far[-1] < 0.1 * far[0]).all()


def test_what_is_kept() -> None:
    run, _, theta = learn(40, keep_every=25)
    assert run.steps.tolist() == [0, 25, 50, 60]
    assert torch.equal(run.theta[0], theta)
    assert run.losses.shape == (3, 60)
    assert run.losses[:, 0].tolist() == pytest.approx([math.log(2)] * 3)
    assert not run.theta.requires_grad


def test_a_seed_does_not_depend_on_those_beside_it() -> None:
    for n in (40, 500):  # all at once, and in batches
        one, three = learn(n, 1)[0], learn(n, 3)[0]
        torch.testing.assert_close(one.theta[:, 0], three.theta[:, 0], rtol=1e-4, atol=1e-5)


def test_a_run_repeats() -> None:
    assert torch.equal(learn(500)[0].theta, learn(500)[0].theta)


@pytest.mark.parametrize(
    "wrong", [{"n_steps": 0}, {"batch": 0}, {"keep_every": 0}, {"learning_rate": 0.0}]
)
def test_settings_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DpoConfig(**wrong)


# ---- What training did ------------------------------------------------------------------------


def test_what_is_listed_sums_to_one_in_double_precision() -> None:
    policy = TablePolicy(language, each_prefix(language))
    found = listed(policy, torch.randn(2, 42))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found.exp().sum(-1), torch.ones(2, 2, dtype=torch.float64))


def test_log_ratios() -> None:
    policy = TablePolicy(language, each_prefix(language))
    theta = torch.randn(2, 42, generator=torch.Generator().manual_seed(0))
    pairs = Comparisons(*torch.tensor([[[0, 1], [1, 1]], [[3, 14], [0, 2]], [[9, 0], [7, 1]]]))
    change = listed(policy, theta) - listed(policy, theta[:1])
    for found, side in zip(log_ratios(policy, theta, theta[0], pairs), pairs[1:], strict=True):
        expected = torch.stack([change[i, pairs.prompts[i], side[i]] for i in range(2)])
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        assert found[0].tolist() == [0, 0]


def test_kinds_of_responses_by_hand() -> None:
    # seed 0: 1 beats 2, 2 beats 3 at prompt 0; seed 1: 1 beats 2 at prompt 0, 2 beats 1 at prompt 1
    pairs = Comparisons(*torch.tensor([[[0, 0], [0, 1]], [[1, 2], [1, 2]], [[2, 3], [2, 1]]]))
    kinds = response_kinds(language, pairs)
    assert list(kinds) == ["chosen", "rejected", "both", "unseen"]
    where = {kind: mask.nonzero().tolist() for kind, mask in kinds.items()}
    assert where["chosen"] == [[0, 0, 1], [1, 0, 1], [1, 1, 2]]
    assert where["rejected"] == [[0, 0, 3], [1, 0, 2], [1, 1, 1]]
    assert where["both"] == [[0, 0, 2]]
    assert (torch.stack(list(kinds.values())).sum(0) == 1).all()


def test_scores_have_the_mean_zero_and_are_those_of_a_softmax() -> None:
    policy = TablePolicy(language, each_prefix(language))
    theta = torch.randn(42, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = scores(policy, theta, torch.zeros(15, dtype=torch.long), torch.arange(15))
    probs = listed(policy, theta.unsqueeze(0))[0, 0].exp()
    torch.testing.assert_close(probs @ found, torch.zeros(42, dtype=torch.float64))
    # response 0 ends at once: token 2 of the first row
    row = -theta[:3].softmax(0)
    row[2] += 1
    torch.testing.assert_close(found[0], torch.cat([row, torch.zeros(39, dtype=torch.float64)]))


def test_a_minimum_among_all_policies() -> None:
    goal = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    goal = goal.log_softmax(0)
    start = torch.full((6,), -math.log(6), dtype=torch.float64)
    found = minimise(lambda log_pi: -(goal.exp() * log_pi).sum(), start)
    torch.testing.assert_close(found, goal)
    assert start.tolist() == [-math.log(6)] * 6
