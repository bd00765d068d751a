"""The tilted reference: by hand, as properties, against Part III's planner and a plain loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_helpers.planning_as_inference.soft_planning import soft_value_iteration
from rl_helpers.rlhf.tilting import (
    choice_process,
    favourites,
    kl,
    log_partition,
    moments,
    prefix_probs,
    rlhf_objective,
    soft_token_values,
    tilt,
)
from rl_helpers.rlhf.toy_language import (
    Language,
    butler,
    butler_reference,
    butler_reward,
    sequence_log_probs,
)

THREE = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64).log()
R = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
TINY = Language(words=("a", "b"), prompts=("?",), max_words=2)


@st.composite
def prompts(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Two references, rewards and a policy over a few responses, and a β that is not 1."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    size = (2, draw(st.integers(2, 7)))
    logits = torch.randn(3, *size, generator=generator, dtype=torch.float64)
    beta = draw(st.sampled_from([0.2, 0.7, 3.0]))
    return logits[0].log_softmax(-1), 2 * logits[1], logits[2].log_softmax(-1), beta


def test_three_responses_by_hand() -> None:
    Z = 0.6 + 0.3 * math.e + 0.1 * math.e**2
    assert log_partition(THREE, R, 1.0).item() == pytest.approx(math.log(Z))
    expected = [0.6 / Z, 0.3 * math.e / Z, 0.1 * math.e**2 / Z]
    best = tilt(THREE, R, 1.0)
    assert best.exp().tolist() == pytest.approx(expected)
    earned = expected[1] + 2 * expected[2]
    assert rlhf_objective(best, THREE, R, 1.0).item() == pytest.approx(math.log(Z))
    assert kl(best, THREE).item() == pytest.approx(earned - math.log(Z))
    half = 0.6 + 0.3 * math.e**2 + 0.1 * math.e**4
    assert log_partition(THREE, R, 0.5).item() == pytest.approx(math.log(half))


def test_kl_by_hand() -> None:
    p, q = torch.tensor([0.5, 0.5, 0.0]).log(), torch.tensor([0.25, 0.5, 0.25]).log()
    assert kl(p, q).item() == pytest.approx(0.5 * math.log(2))
    assert kl(q, p).item() == math.inf
    assert kl(p, p).item() == 0.0


@given(prompts())
def test_the_gap_is_beta_times_a_divergence(case) -> None:  # type: ignore[no-untyped-def]
    reference, reward, policy, beta = case
    gap = beta * log_partition(reference, reward, beta) - rlhf_objective(
        policy, reference, reward, beta
    )
    assert gap.numpy() == pytest.approx(beta * kl(policy, tilt(reference, reward, beta)).numpy())


@given(prompts())
def test_a_constant_for_each_prompt_changes_the_value_only(case) -> None:  # type: ignore[no-untyped-def]
    reference, reward, _, beta = case
    shift = torch.tensor([[3.0], [-700.0]], dtype=torch.float64)
    assert tilt(reference, reward + shift, beta).numpy() == pytest.approx(
        tilt(reference, reward, beta).numpy(), abs=1e-9
    )
    more = beta * (
        log_partition(reference, reward + shift, beta) - log_partition(reference, reward, beta)
    )
    assert more.numpy() == pytest.approx(shift[:, 0].numpy())


@given(prompts())
def test_two_tilts_are_one(case) -> None:  # type: ignore[no-untyped-def]
    reference, reward, _, beta = case
    twice = tilt(tilt(reference, reward, beta), reward, 2 * beta)
    assert twice.numpy() == pytest.approx(tilt(reference, reward, beta / 1.5).numpy())


def test_each_row_may_have_its_own_price() -> None:
    prices = torch.tensor([0.5, 2.0], dtype=torch.float64)
    both = tilt(THREE.expand(2, 3), R.expand(2, 3), prices)
    assert torch.equal(both[0], tilt(THREE, R, 0.5))
    assert torch.equal(both[1], tilt(THREE, R, 2.0))


def test_what_the_reference_never_says_stays_unsaid() -> None:
    reference, reward = torch.tensor([0.5, 0.5, 0.0]).log(), torch.tensor([0.0, 1.0, 99.0])
    assert tilt(reference, reward, 0.1).exp()[2].item() == 0.0
    assert log_partition(reference, reward, 0.1).isfinite()
    with pytest.raises(ValueError, match="log_reference is -infinity for a response of the policy"):
        rlhf_objective(torch.full((3,), 1 / 3).log(), reference, reward, 1.0)


@pytest.mark.parametrize("beta", [0.0, -1.0, torch.tensor([1.0, 0.0])])
def test_a_price_is_positive(beta: float | torch.Tensor) -> None:
    two = THREE.expand(2, 3), R.expand(2, 3)
    for refused in (
        lambda: log_partition(*two, beta),
        lambda: tilt(*two, beta),
        lambda: rlhf_objective(two[0], *two, beta),
    ):
        with pytest.raises(ValueError, match=r"beta is .*; it must be positive"):
            refused()


def test_bad_rewards_and_references() -> None:
    with pytest.raises(ValueError, match="reward holds 1 values that are NaN or infinite"):
        tilt(THREE, torch.tensor([0.0, 1.0, math.nan], dtype=torch.float64), 1.0)
    with pytest.raises(ValueError, match=r"log_reference is off by 0\.6; probabilities must sum"):
        tilt(THREE[1:], R[1:], 1.0)


def test_favourites_by_hand() -> None:
    found = favourites(THREE, R)
    assert [y for _, y in found] == [0, 1, 2]
    assert [beta for beta, _ in found] == pytest.approx(
        [math.inf, 1 / math.log(2), 1 / math.log(3)]
    )
    # The middle one is left out: the last one has overtaken the first before.
    skipped = favourites(torch.tensor([0.6, 0.2, 0.2], dtype=torch.float64).log(), R)
    assert [y for _, y in skipped] == [0, 2]
    assert skipped[1][0] == pytest.approx(2 / math.log(3))


def test_favourites_where_something_ties() -> None:
    equal = torch.tensor([0.4, 0.4, 0.2, 0.0], dtype=torch.float64).log()
    reward = torch.tensor([0.0, 1.0, 1.0, 5.0], dtype=torch.float64)
    assert favourites(equal, reward) == [(math.inf, 1)]
    # Two overtake at once: the better one counts, and the other one never is a favourite.
    line = torch.tensor([0.0, -1.0, -2.0], dtype=torch.float64).log_softmax(-1)
    found = favourites(line, R)
    assert [y for _, y in found] == [0, 2]
    assert found[1][0] == pytest.approx(1.0)


@given(prompts())
def test_favourites_are_those_of_the_tilt(case) -> None:  # type: ignore[no-untyped-def]
    reference, reward, _, _ = case
    found = favourites(reference[0], reward[0])
    below = [beta for beta, _ in found] + [0.0]
    assert below == sorted(below, reverse=True)
    for (beta, y), end in zip(found, below[1:], strict=True):
        if beta - end > 1e-6:
            between = 2 * end + 1 if beta == math.inf else (beta + end) / 2
            assert tilt(reference[0], reward[0], between).argmax() == y
    with pytest.raises(ValueError, match="reward holds"):
        favourites(reference[0], torch.full_like(reward[0], math.nan))


def plain_soft_value(words: str, log_reference: torch.Tensor, reward: torch.Tensor) -> float:
    """β log Σ π_ref e^{V/β} of a prefix of the tiny language, by recursion over its text; β = ½."""
    if len(words) == TINY.max_words:
        return reward[TINY.response(" ".join(words) + ".")].item()
    at, total = TINY.response(" ".join(words) + "."), 0.0
    for token, word in enumerate([*TINY.words, ""]):
        value = plain_soft_value(words + word, log_reference, reward) if word else reward[at].item()
        total += math.exp(log_reference[at, token].item() + value / 0.5)
    return 0.5 * math.log(total)


def tiny(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(TINY.n_choices, TINY.n_tokens, generator=generator, dtype=torch.float64)
    reward = torch.randn(TINY.n_responses, generator=generator, dtype=torch.float64)
    return logits.log_softmax(-1), reward


def test_soft_values_by_recursion_over_texts() -> None:
    log_reference, reward = tiny(0)
    V, Q = soft_token_values(TINY, log_reference, reward, 0.5)
    for prefix, words in enumerate(["", "a", "b"]):
        assert V[prefix].item() == pytest.approx(plain_soft_value(words, log_reference, reward))
    assert Q[0].tolist() == pytest.approx([V[1].item(), V[2].item(), reward[0].item()])
    expected = [reward[TINY.response(text)].item() for text in ("a a.", "a b.", "a.")]
    assert Q[1].tolist() == pytest.approx(expected)


def test_the_tilted_sequence_policy_is_the_soft_token_policy() -> None:
    log_reference, reward, beta = butler_reference(), butler_reward(), 0.3
    V, Q = soft_token_values(butler, log_reference, reward, beta)
    by_tokens = log_reference + (Q - V.unsqueeze(-1)) / beta
    assert by_tokens.logsumexp(-1).abs().max() < 1e-12
    sequences = sequence_log_probs(butler, log_reference)
    assert torch.allclose(V[:, 0], beta * log_partition(sequences, reward, beta))
    tilted = tilt(sequences, reward, beta)
    assert torch.allclose(sequence_log_probs(butler, by_tokens), tilted, atol=1e-10)


@pytest.mark.parametrize("beta", [0.2, 1.7])
def test_soft_values_are_those_of_the_planner(beta: float) -> None:
    log_reference, reward = tiny(1)
    process = choice_process(TINY, reward)
    prior = np.vstack([log_reference.exp().numpy(), np.full(3, 1 / 3)])
    plan = soft_value_iteration(process, beta, prior)
    V, Q = soft_token_values(TINY, log_reference, reward, beta)
    assert plan.V[:3] == pytest.approx(V.numpy(), abs=1e-9)
    policy = (log_reference + (Q - V.unsqueeze(-1)) / beta).exp()
    assert plan.policy[:3] == pytest.approx(policy.numpy(), abs=1e-9)


def test_a_choice_process_by_hand() -> None:
    reward = torch.arange(7, dtype=torch.float64)
    process = choice_process(TINY, reward)
    leads_to = process.P.argmax(axis=2)
    assert leads_to.tolist() == [[1, 2, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]
    assert (process.P.max(axis=2) == 1).all()
    # responses: 0 ".", 1 "a.", 2 "b.", 3 "a a.", 4 "a b.", 5 "b a.", 6 "b b."
    assert process.R.tolist() == [[0, 0, 0], [3, 4, 1], [5, 6, 2], [0, 0, 0]]
    assert process.p0.tolist() == [1, 0, 0, 0]
    with pytest.raises(ValueError, match="reward is 6; 7 are needed for this language"):
        choice_process(TINY, reward[1:])


def test_moments_by_hand() -> None:
    mean, variance = moments(THREE, R)
    assert mean.item() == pytest.approx(0.5)
    assert variance.item() == pytest.approx(0.6 * 0.25 + 0.3 * 0.25 + 0.1 * 2.25)


def test_probabilities_of_prefixes_by_hand() -> None:
    p = torch.tensor([[0.1, 0.2, 0.3, 0.05, 0.05, 0.1, 0.2]], dtype=torch.float64)
    assert prefix_probs(TINY, p.log())[0].tolist() == pytest.approx([1.0, 0.3, 0.6])


def test_soft_values_refuse(untyped: None) -> None:
    log_reference, reward = tiny(2)
    with pytest.raises(ValueError, match="beta is 0; it must be positive"):
        soft_token_values(TINY, log_reference, reward, 0)
    with pytest.raises(ValueError, match="reward holds 7 values"):
        soft_token_values(TINY, log_reference, reward * math.inf, 1.0)
    with pytest.raises(ValueError, match=r"log_reference is \(2, 3\); its last axes are \(3, 3\)"):
        soft_token_values(TINY, log_reference[1:], reward, 1.0)
    with pytest.raises(ValueError, match=r"reward is \(6,\); its last axis is 7"):
        soft_token_values(TINY, log_reference, reward[1:], 1.0)
