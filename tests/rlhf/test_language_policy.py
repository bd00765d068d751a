"""A transformer's responses: sampled, scored and listed, three ways that must agree."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from rl_helpers.rlhf.language_policy import (
    language_shape,
    log_policy_everywhere,
    outputs_before,
    outputs_everywhere,
    prompt_tokens,
    sample,
    token_log_probs,
)
from rl_helpers.rlhf.toy_language import Language, butler, sequence_log_probs
from rl_helpers.rlhf.transformer import Transformer
from rl_helpers.training.seeds import seed_generators
from tests.rlhf.test_transformer import somewhere

TINY = Language(("a", "b"), ("?", "!"), max_words=3)


def speaker(language: Language = TINY, seeds: int = 2, n_layers: int = 2) -> Transformer:
    sizes = {"width": 8, "n_heads": 2, "n_layers": n_layers}
    return somewhere(language_shape(language, n_values=1, **sizes), seeds)


def scored(model: Transformer, language: Language) -> Tensor:
    """log π(y|x) of every response, each read on its own [seeds, prompts, responses]."""
    n, m = len(language.prompts), language.n_responses
    numbers = torch.arange(m).repeat(n)
    prompts = prompt_tokens(language, torch.arange(n).repeat_interleave(m))
    tokens, live = language.tokens[numbers], language.live[numbers]
    each = [t.expand(len(model.theta), *t.shape) for t in (prompts, tokens, live)]
    outputs = outputs_before(model, each[0], each[1])
    log_probs = token_log_probs(outputs, each[1], each[2], language.end)
    return log_probs.sum(-1).unflatten(1, (n, m))


# ---- Shapes -------------------------------------------------------------------------------------


def test_what_a_speaker_reads_and_says() -> None:
    shape = language_shape(butler, n_values=2, width=16, n_heads=4, n_layers=3)
    assert (shape.n_inputs, shape.n_outputs, shape.context) == (8 + 4, 8 + 2, 5)
    assert (shape.width, shape.n_heads, shape.n_layers) == (16, 4, 3)
    assert prompt_tokens(butler, torch.tensor([0, 3])).tolist() == [[8], [11]]


def test_outputs_are_those_before_the_token() -> None:
    model = speaker()
    prompts = torch.tensor([[[3], [4]]] * 2)
    tokens = torch.tensor([[[0, 1, 2], [1, 1, 0]]] * 2)
    whole = model(torch.cat([prompts, tokens], dim=-1))
    torch.testing.assert_close(outputs_before(model, prompts, tokens), whole[:, :, :-1])
    longer = torch.cat([prompts, tokens[..., :1]], dim=-1)  # a prompt of two tokens
    torch.testing.assert_close(outputs_before(model, longer, tokens[..., 1:]), whole[:, :, 1:-1])


def test_log_probabilities_by_hand() -> None:
    outputs = torch.tensor([[[0.0, 1.0, 2.0, 99.0], [3.0, 3.0, 3.0, -99.0]]])  # the last is a value
    found = token_log_probs(outputs, torch.tensor([[2, 0]]), torch.tensor([[True, True]]), end=2)
    torch.testing.assert_close(found, torch.tensor([[-0.4076, -1.0986]]), atol=1e-4, rtol=0)
    cut = token_log_probs(outputs, torch.tensor([[2, 2]]), torch.tensor([[True, False]]), end=2)
    assert cut[0, 1] == 0


# ---- Listing ------------------------------------------------------------------------------------


@given(n_words=st.integers(1, 3), max_words=st.integers(1, 3), seeds=st.integers(1, 3))
def test_listing_is_scoring_each_response(n_words: int, max_words: int, seeds: int) -> None:
    language = Language(tuple("abc"[:n_words]), ("?", "!"), max_words)
    model = speaker(language, seeds)
    log_policy = log_policy_everywhere(model, language)
    assert log_policy.shape == (seeds, 2, language.n_choices, language.n_tokens)
    listed = sequence_log_probs(language, log_policy)
    torch.testing.assert_close(listed.exp().sum(-1), torch.ones(seeds, 2))
    torch.testing.assert_close(listed, scored(model, language), rtol=1e-4, atol=1e-4)


def test_listing_the_butler() -> None:
    model = speaker(butler)
    outputs = outputs_everywhere(model, butler)
    assert outputs.shape == (2, 4, 400, 9)
    prefix = butler.response("very good sir.")
    read = torch.tensor([8 + 2, *(butler.words.index(w) for w in ("very", "good", "sir"))])
    expected = model(read.expand(2, 1, 4))[:, 0, -1]
    torch.testing.assert_close(outputs[:, 2, prefix], expected, rtol=1e-4, atol=1e-5)


def test_gradients_pass_through_the_listing() -> None:
    found: list[Tensor] = []
    for scores in (scored, lambda m, y: sequence_log_probs(y, log_policy_everywhere(m, y))):
        theta = speaker().theta.clone().requires_grad_()
        squares = scores(Transformer(theta, speaker().shape), TINY).exp().square()
        found += torch.autograd.grad(squares.sum(), theta)
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-5)


# ---- Sampling -----------------------------------------------------------------------------------


def test_samples_are_as_frequent_as_they_are_probable() -> None:
    model, n = speaker(), 4_000
    prompts = prompt_tokens(TINY, torch.arange(2).repeat(n)).expand(2, -1, -1)
    said = sample(model, prompts, TINY.max_words, TINY.end, seed_generators(5, 2))
    numbers = TINY.number(said.tokens)  # refuses words behind an end
    p = sequence_log_probs(TINY, log_policy_everywhere(model, TINY)).exp()
    for seed in range(2):
        for x in range(2):
            counts = numbers[seed, x::2].bincount(minlength=TINY.n_responses)
            expected = p[seed, x].double() / p[seed, x].double().sum()
            assert chisquare(counts.numpy(), n * expected.numpy()).pvalue > 1e-3


def test_a_sample_knows_its_own_probability() -> None:
    model = speaker()
    prompts = prompt_tokens(TINY, torch.arange(2).repeat(50)).expand(2, -1, -1)
    said = sample(model, prompts, TINY.max_words, TINY.end, seed_generators(5, 2))
    assert torch.equal(said.live, TINY.live[TINY.number(said.tokens)])
    outputs = outputs_before(model, prompts, said.tokens)
    again = token_log_probs(outputs, said.tokens, said.live, TINY.end)
    torch.testing.assert_close(said.log_probs, again, rtol=1e-4, atol=1e-5)
    assert not said.log_probs[~said.live].any()
    assert not said.log_probs.requires_grad


def test_samples_of_a_seed_do_not_depend_on_those_beside_it() -> None:
    model = speaker(seeds=3)
    prompts = prompt_tokens(TINY, torch.arange(2).repeat(9)).expand(3, -1, -1)
    three = sample(model, prompts, 3, TINY.end, seed_generators(1, 3))
    alone = Transformer(model.theta[:1], model.shape)
    one = sample(alone, prompts[:1], 3, TINY.end, seed_generators(1, 1))
    assert torch.equal(one.tokens, three.tokens[:1])


def test_a_group_is_sampled_as_its_prompt_repeated_is() -> None:
    model, prompts = speaker(), prompt_tokens(TINY, torch.tensor([[0, 1, 1], [1, 0, 0]]))
    group = sample(model, prompts, 3, TINY.end, seed_generators(5, 2), group=4)
    each = prompts.repeat_interleave(4, dim=1)
    for one, other in zip(
        group, sample(model, each, 3, TINY.end, seed_generators(5, 2)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_does_not_end_is_cut_off() -> None:
    model = speaker()
    model.weights["bias of head"][:, TINY.end] = -30.0  # parameters of the model: it never ends
    prompts = prompt_tokens(TINY, torch.zeros(2, 6, dtype=torch.long))
    said = sample(model, prompts, 2, TINY.end, seed_generators(0, 2))
    assert said.tokens.shape == (2, 6, 2)
    assert said.live.all()
    assert (said.tokens < TINY.end).all()


# ---- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [-1, 2])
def test_a_prompt_outside_the_language(prompt: int) -> None:
    with pytest.raises(ValueError, match=rf"prompts is .*{prompt}.*; this language has 0 to 1"):
        prompt_tokens(TINY, torch.tensor([0, prompt]))


def test_no_tokens_to_choose() -> None:
    prompts = prompt_tokens(TINY, torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="max_tokens is 0; it must be at least 1"):
        sample(speaker(), prompts, 0, TINY.end, seed_generators(0, 2))


def test_an_empty_group() -> None:
    prompts = prompt_tokens(TINY, torch.zeros(2, 1, dtype=torch.long))
    with pytest.raises(ValueError, match="group is 0; it must be at least 1"):
        sample(speaker(), prompts, 2, TINY.end, seed_generators(0, 2), group=0)


def test_longer_than_the_context() -> None:
    prompts = prompt_tokens(TINY, torch.zeros(2, 9, dtype=torch.long))
    with pytest.raises(ValueError, match="tokens is 5 long; the context is 4 tokens"):
        sample(speaker(), prompts, 5, 99, seed_generators(0, 2))
