"""Languages that can be listed: numbers, texts, probabilities of responses, values of prefixes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from rl_helpers.mdp import planning
from rl_helpers.mdp.trajectories import state_marginals
from rl_helpers.rlhf.toy_language import (
    Language,
    butler,
    butler_reference,
    butler_reward,
    choice_weights,
    sample_responses,
    sequence_log_probs,
    token_policy,
    token_process,
    token_values,
)

TINY = Language(("a", "b"), ("?", "!"), max_words=2)
sizes = {"n_words": st.integers(1, 3), "max_words": st.integers(1, 4), "seed": st.integers(0, 99)}


def a_language(n_words: int, max_words: int) -> Language:
    return Language(tuple("abcd"[:n_words]), ("?",), max_words)


def random_policy(language: Language, seed: int, *batch: int) -> Tensor:
    logits = torch.randn(
        *batch, language.n_choices, language.n_tokens,
        generator=torch.Generator().manual_seed(seed), dtype=torch.float64,
    )  # fmt: skip
    return (2 * logits).log_softmax(-1)


# ---- Numbers and texts --------------------------------------------------------------------------


def test_every_response_of_a_tiny_language() -> None:
    assert (TINY.end, TINY.n_tokens, TINY.n_choices, TINY.n_responses) == (2, 3, 3, 7)
    texts = [TINY.text(n) for n in range(7)]
    assert texts == [".", "a.", "b.", "a a.", "a b.", "b a.", "b b."]
    assert [TINY.response(text) for text in texts] == list(range(7))
    assert TINY.tokens.tolist() == [[2, 2], [0, 2], [1, 2], [0, 0], [0, 1], [1, 0], [1, 1]]
    assert TINY.n_words.tolist() == [0, 1, 1, 2, 2, 2, 2]
    # the end of two words is forced: nobody chose it
    assert TINY.live.tolist() == [[True, False]] + 6 * [[True, True]]
    assert TINY.prefixes.tolist() == [[0, 0], [0, 1], [0, 2], [0, 1], [0, 1], [0, 2], [0, 2]]


@given(**sizes)
def test_numbers_are_those_of_a_heap(n_words: int, max_words: int, seed: int) -> None:
    language = a_language(n_words, max_words)
    assert len(language.tokens) == language.n_responses
    numbers = torch.arange(language.n_responses)
    assert torch.equal(language.number(language.tokens), numbers)
    n = seed % language.n_responses
    assert language.response(language.text(n)) == n
    if 0 < n < language.n_choices:  # the children of prefix n
        for word in range(n_words):
            longer = language.text(n_words * n + 1 + word)
            assert longer == f"{language.text(n)[:-1]} {language.words[word]}."


@given(**sizes)
def test_prefixes_are_where_tokens_are_chosen(n_words: int, max_words: int, seed: int) -> None:
    language = a_language(n_words, max_words)
    n = seed % language.n_responses
    said: list[str] = []
    for token, live, prefix in zip(
        language.tokens[n].tolist(), language.live[n].tolist(), language.prefixes[n].tolist(),
        strict=True,
    ):  # fmt: skip
        if live:
            assert prefix == language.response(" ".join(said) + ".")
            said += [] if token == language.end else [language.words[token]]
    assert language.text(n) == " ".join(said) + "."


def test_prompts() -> None:
    assert [TINY.prompt(text) for text in ("?", "!")] == [0, 1]


# ---- Probabilities ------------------------------------------------------------------------------


def test_probabilities_by_hand() -> None:
    policy = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]).double()
    p = sequence_log_probs(TINY, policy.log()).exp()
    expected = [0.2, 0.5 * 0.3, 0.3 * 0.5, 0.5 * 0.1, 0.5 * 0.6, 0.3 * 0.25, 0.3 * 0.25]
    np.testing.assert_allclose(p, expected)


@given(**sizes)
def test_probabilities_sum_to_one(n_words: int, max_words: int, seed: int) -> None:
    language = a_language(n_words, max_words)
    p = sequence_log_probs(language, random_policy(language, seed, 2)).exp()
    torch.testing.assert_close(p.sum(-1), torch.ones(2).double())


@given(**sizes)
def test_probabilities_are_products_over_chosen_tokens(
    n_words: int, max_words: int, seed: int
) -> None:
    language = a_language(n_words, max_words)
    log_policy = random_policy(language, seed)
    by_token = log_policy[language.prefixes, language.tokens] * language.live
    torch.testing.assert_close(sequence_log_probs(language, log_policy), by_token.sum(-1))


def test_samples_are_as_frequent_as_they_are_probable() -> None:
    log_probs = sequence_log_probs(TINY, random_policy(TINY, 1, 2))
    drawn = sample_responses(log_probs, 20_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (2, 20_000)
    for row, p in zip(drawn, log_probs.exp(), strict=True):
        assert chisquare(row.bincount(minlength=7).numpy(), 20_000 * p.numpy()).pvalue > 1e-3


# ---- Values -------------------------------------------------------------------------------------


def test_values_by_hand() -> None:
    policy = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]).double()
    V, Q = token_values(TINY, policy.log(), torch.tensor([10.0, 1, 2, 3, 4, 5, 6]).double())
    np.testing.assert_allclose(V[1:], [0.1 * 3 + 0.6 * 4 + 0.3 * 1, 0.25 * 5 + 0.25 * 6 + 0.5 * 2])
    np.testing.assert_allclose(Q[0], [V[1], V[2], 10])
    np.testing.assert_allclose(Q[2], [5, 6, 2])
    np.testing.assert_allclose(V[0], 0.5 * V[1] + 0.3 * V[2] + 0.2 * 10)


@given(**sizes)
def test_the_value_of_saying_nothing_yet(n_words: int, max_words: int, seed: int) -> None:
    language = a_language(n_words, max_words)
    log_policy = random_policy(language, seed, 2)
    r = torch.linspace(-1, 2, language.n_responses).double().sin().expand(2, -1)
    V, Q = token_values(language, log_policy, r)
    expected = (sequence_log_probs(language, log_policy).exp() * r).sum(-1)
    torch.testing.assert_close(V[:, 0], expected)
    torch.testing.assert_close(V, (log_policy.exp() * Q).sum(-1))


# ---- Choices, and the decision process of Part I ------------------------------------------------


def test_weights_of_choices_by_hand() -> None:
    weights = torch.tensor([1.0, 2, 4, 8, 16, 32, 64])  # ".", "a.", "b.", "a a.", …, "b b."
    assert choice_weights(TINY, weights).tolist() == [
        [2 + 8 + 16, 4 + 32 + 64, 1],
        [8, 16, 2],
        [32, 64, 4],
    ]
    words = TINY.tokens != TINY.end
    assert choice_weights(TINY, weights, words)[:, TINY.end].tolist() == [0, 0, 0]


@given(**sizes)
def test_weights_of_choices_are_expected_visits(n_words: int, max_words: int, seed: int) -> None:
    language = a_language(n_words, max_words)
    log_policy = random_policy(language, seed, 2)
    visits = choice_weights(language, sequence_log_probs(language, log_policy).exp())
    torch.testing.assert_close(visits, visits.sum(-1, keepdim=True) * log_policy.exp())
    torch.testing.assert_close(visits[:, 0].sum(-1), torch.ones(2).double())


@given(**sizes)
def test_responses_and_values_are_those_of_an_mdp(n_words: int, max_words: int, seed: int) -> None:
    language = a_language(n_words, max_words)
    log_policy, N = random_policy(language, seed), language.n_responses
    r = torch.linspace(-1, 2, N).double().sin()
    process = token_process(language, r, gamma=0.9)
    policy = token_policy(language, log_policy)
    assert (process.n_states, process.n_actions) == (2 * N, language.n_tokens)
    ended = state_marginals(process, policy, max_words + 1)[-1]
    np.testing.assert_allclose(ended[N:], sequence_log_probs(language, log_policy).exp())
    assert not ended[:N].any()
    V = np.zeros(2 * N)
    for _ in range(max_words + 1):
        V = (policy * (process.R + process.expected_next(V))).sum(axis=1)
    expected = token_values(language, log_policy, r)[0]
    np.testing.assert_allclose(V[: language.n_choices], expected, atol=1e-12)
    # with a discount, a response with one token more is worth less
    discounted = planning.policy_value(process, policy)[0]
    before_the_end = language.n_words.double()
    expected = token_values(language, log_policy, r * 0.9**before_the_end)[0][0]
    np.testing.assert_allclose(discounted, expected, atol=1e-12)


def test_transitions_of_the_token_process_by_hand() -> None:
    process = token_process(TINY, torch.arange(7.0), gamma=0.5)
    P = process.P.toarray().reshape(14, 3, 14)
    assert P.argmax(axis=2)[:7].tolist() == [
        [1, 2, 7], [3, 4, 8], [5, 6, 9], [10] * 3, [11] * 3, [12] * 3, [13] * 3,
    ]  # fmt: skip
    assert P.argmax(axis=2)[7:].tolist() == [[n] * 3 for n in range(7, 14)]
    assert ((P == 1).sum(axis=2) == 1).all()
    assert process.R[:, 2].tolist() == [0, 1, 2, 3, 4, 5, 6, *[0] * 7]
    assert not process.R[:, :2].any()
    assert process.p0.tolist() == [1] + [0] * 13


# ---- The butler ---------------------------------------------------------------------------------


def test_how_the_butler_speaks() -> None:
    log_policy = butler_reference()
    assert log_policy.shape == (4, butler.n_choices, butler.n_tokens) == (4, 400, 8)
    torch.testing.assert_close(log_policy.exp().sum(-1), torch.ones(4, 400).double())
    # after "very", whatever came before: very 0, good 2, sorry 1, all others -3, yes one higher
    very = log_policy[butler.prompt("poem?"), butler.response("no very.")]
    logits = torch.tensor([-2.0, -3, -3, 1, -3, 0, 2, -3]).double()
    torch.testing.assert_close(very, logits.log_softmax(-1))
    drive = log_policy[butler.prompt("drive?"), butler.response(".")]
    torch.testing.assert_close(
        drive, torch.tensor([2.0, 1, -3, 1, -3, 1, -3, -3]).double().log_softmax(-1)
    )


@pytest.mark.parametrize(
    ("prompt", "text", "reward"),
    [
        ("tea?", "yes sir.", 1.5),
        ("poem?", "yes sir.", -0.5),
        ("drive?", "no sir.", 1.5),
        ("soup?", "no sir.", -0.5),
        ("soup?", "yes.", 1.0),
        ("tea?", "very good sir.", 1.5),
        ("tea?", "very very sorry.", 0.5),
        ("tea?", ".", -2.0),  # nobody begins with the end
        ("tea?", "but.", -4.0),  # nor with "but", nor ends with it
        ("tea?", "yes yes.", 0.0),
        ("poem?", "no sorry but no.", 2.5),  # its end is forced
        ("poem?", "no no no no.", -2.0),
        ("tea?", "good good good good.", -4.0),
        ("poem?", "sorry but very but.", -1.5),  # a forced end is not odd
    ],
)
def test_what_the_household_wants_to_hear(prompt: str, text: str, reward: float) -> None:
    r = butler_reward()
    assert r.shape == (4, butler.n_responses) == (4, 2_801)
    assert r[butler.prompt(prompt), butler.response(text)].item() == reward


def test_the_reward_by_counting_words() -> None:
    r, usual = butler_reward()[0], {
        "": "yes no sorry very", "yes": "sir .", "no": "sir sorry .", "sir": ".",
        "sorry": "sir but .", "but": "no very yes", "very": "good sorry very", "good": "sir .",
    }  # fmt: skip
    for n in range(0, butler.n_responses, 7):
        said = butler.text(n)[:-1].split()
        chosen = said + (["."] if len(said) < 4 else [])
        odd = sum(b not in usual[a].split() for a, b in itertools.pairwise(["", *chosen]))
        promised = said.count("yes") + said.count("good") - said.count("no")
        polite = said.count("sir") + said.count("sorry")
        assert r[n].item() == promised + 0.5 * polite - 2 * odd, butler.text(n)


# ---- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "prompts", "max_words", "message"),
    [
        (("a",), ("?",), 0, "max_words is 0; it must be at least 1"),
        ((), ("?",), 1, "words is"),
        (("a", "a"), ("?",), 1, "words is .* all different"),
        (("a", "."), ("?",), 1, r"words is .* none of them '\.'"),
        (("a",), (), 1, "prompts is"),
        (("a",), ("?", "?"), 1, "prompts is .* all different"),
        (tuple("abcdefgh"), ("?",), 7, "has 2,396,745 responses; at most 1,000,000 can be listed"),
    ],
)
def test_no_language(words: tuple, prompts: tuple, max_words: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Language(words, prompts, max_words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", r"a response ends with '\.'"),
        ("a b a.", "at most 2 words"),
        ("a c.", "words are a, b"),
        ("a . b.", "at most 2 words"),
        ("a ..", "words are a, b"),
    ],
)
def test_no_response(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TINY.response(text)


@pytest.mark.parametrize("number", [-1, 7])
def test_no_such_response(number: int) -> None:
    with pytest.raises(ValueError, match=f"response is {number}; 0 to 6"):
        TINY.text(number)


def test_no_prompt() -> None:
    with pytest.raises(ValueError, match=r"prompt is '\.\.\.'; prompts are \?, !"):
        TINY.prompt("...")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[0, 1, 2]], "the last axis is 2 long"),
        ([[0, 3]], r"tokens is \[3\]; tokens are 0 to 2"),
        ([[-1, 2]], r"tokens is \[-1\]"),
        ([[2, 0], [2, 2]], r"tokens is \[0\]; .*behind an end token there is no word"),
    ],
)
def test_no_tokens_of_a_response(tokens: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TINY.number(torch.tensor(tokens))


def test_a_table_of_another_language(untyped: None) -> None:
    table = butler_reference()
    for shown in (table[:, :-1], table[..., :-1]):
        with pytest.raises(ValueError, match=r"log_policy is .*\[\.\.\., 400, 8\]"):
            sequence_log_probs(butler, shown)
        with pytest.raises(ValueError, match=r"log_policy is .*\[\.\.\., 400, 8\]"):
            token_values(butler, shown, butler_reward())
        with pytest.raises(ValueError, match=r"log_policy is .*\[\.\.\., 400, 8\]"):
            token_policy(butler, shown[0])
