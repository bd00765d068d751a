"""The transformer against torch's own layers, its cache, its mask, and bad input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rl_helpers.rlhf.transformer import (
    Cache,
    Shape,
    Transformer,
    attention,
    initial_parameters,
)
from rl_helpers.training.seeds import seed_generators
from tests.rlhf.plain_sft import flattened, torchs_own

SIZES = st.builds(
    lambda heads, d, layers: Shape(6, 4, 7, width=heads * d, n_heads=heads, n_layers=layers),
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 3),
)  # fmt: skip
SHAPE = Shape(n_inputs=6, n_outputs=4, context=7, width=12, n_heads=3, n_layers=2)


def somewhere(shape: Shape, seeds: int = 2, seed: int = 0) -> Transformer:
    """A transformer whose every parameter matters: biases, gains and the head are not 0 or 1."""
    generators = seed_generators(seed, seeds)
    theta = initial_parameters(shape, generators).detach()
    noise = [torch.randn(shape.n_parameters, generator=generator) for generator in generators]
    return Transformer(theta + 0.3 * torch.stack(noise), shape)


def some_tokens(shape: Shape, seeds: int = 2, batch: int = 5, length: int | None = None) -> Tensor:
    size = (seeds, batch, length or shape.context)
    return torch.randint(shape.n_inputs, size, generator=torch.Generator().manual_seed(1))


# ---- Against torch's own layers -----------------------------------------------------------------


@given(shape=SIZES, length=st.integers(1, 7))
def test_it_is_torchs_encoder_with_a_mask(shape: Shape, length: int) -> None:
    model, tokens = somewhere(shape), some_tokens(shape, length=length)
    outputs = model(tokens)
    assert outputs.shape == (2, 5, length, 4)
    for seed in range(2):
        expected = torchs_own(model.theta[seed], shape)(tokens[seed])
        torch.testing.assert_close(outputs[seed], expected, rtol=1e-5, atol=1e-5)


def test_gradients_are_torchs() -> None:
    model, tokens = somewhere(SHAPE), some_tokens(SHAPE)
    theta = model.theta.clone().requires_grad_()
    weights = torch.randn(2, 5, 7, 4, generator=torch.Generator().manual_seed(2))
    (Transformer(theta, SHAPE)(tokens) * weights).sum().backward()
    for seed in range(2):
        plain = torchs_own(model.theta[seed], SHAPE)
        (plain(tokens[seed]) * weights[seed]).sum().backward()
        expected = flattened(plain, gradient=True)
        torch.testing.assert_close(theta.grad[seed], expected, rtol=1e-4, atol=1e-5)


def test_each_seed_has_its_own_transformer() -> None:
    model, tokens = somewhere(SHAPE, seeds=3), some_tokens(SHAPE, seeds=3)
    for seed in range(3):
        alone = Transformer(model.theta[seed : seed + 1], SHAPE)(tokens[seed : seed + 1])
        torch.testing.assert_close(model(tokens)[seed : seed + 1], alone)


# ---- What a position can see --------------------------------------------------------------------


@given(at=st.integers(1, 6))
def test_a_later_token_never_changes_an_earlier_output(at: int) -> None:
    model, tokens = somewhere(SHAPE), some_tokens(SHAPE)
    changed = tokens.clone()
    changed[:, :, at:] = (changed[:, :, at:] + 1) % SHAPE.n_inputs
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :, :at], after[:, :, :at])
    assert ((before[:, :, at:] - after[:, :, at:]).abs().amax((0, 1, 3)) > 1e-3).all()


def test_an_earlier_token_changes_later_outputs() -> None:
    model, tokens = somewhere(SHAPE), some_tokens(SHAPE)
    changed = tokens.clone()
    changed[:, :, 0] = (changed[:, :, 0] + 1) % SHAPE.n_inputs
    assert ((model(tokens) - model(changed)).abs().amax((0, 1, 3)) > 1e-3).all()


def test_the_order_of_earlier_tokens_matters() -> None:
    tokens = torch.tensor([0, 1, 2]).expand(2, 1, 3)
    last = somewhere(SHAPE)(tokens)[:, :, -1], somewhere(SHAPE)(tokens[..., [1, 0, 2]])[:, :, -1]
    assert (last[0] - last[1]).abs().max() > 1e-3


def test_attention_by_hand() -> None:
    q = torch.tensor([[1.0, 0, 0, 0], [2.0, 0, 0, 0]])
    k = torch.tensor([[0.0, 1, 0, 0], [2.0, 1, 0, 0]])
    expected = torch.tensor([[1.0, 0], [0.1192, 0.8808]])  # scores 0 and 2 · 2 / √4 = 2
    torch.testing.assert_close(attention(q, k), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(attention(q[1:], k), expected[1:], atol=1e-4, rtol=0)


def test_attention_of_new_positions_after_old_ones() -> None:
    k = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    q = k.flip(-1)
    torch.testing.assert_close(attention(q[:, 3:], k), attention(q, k)[:, 3:])


def test_attention_of_wanted_places() -> None:
    k = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    q, places = k.flip(-1), torch.tensor([[4, 0], [1, 1], [2, 3]])
    expected = attention(q, k).take_along_dim(places.unsqueeze(-1), 1)
    wanted = attention(q.take_along_dim(places.unsqueeze(-1), 1), k, places)
    torch.testing.assert_close(wanted, expected)


@given(shape=SIZES, n_read=st.integers(0, 4))
def test_outputs_of_wanted_places(shape: Shape, n_read: int) -> None:
    model, tokens = somewhere(shape), some_tokens(shape)
    places = torch.randint(n_read, 7, (2, 5, 2), generator=torch.Generator().manual_seed(0))
    cache = model.extend(tokens[..., :n_read], Cache())[1] if n_read else Cache()
    outputs, after = model.extend(tokens[..., n_read:], cache, places)
    expected = model(tokens).take_along_dim(places.unsqueeze(-1), 2)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    assert after.n_read == 7


# ---- The cache ----------------------------------------------------------------------------------


@given(shape=SIZES, cuts=st.sets(st.integers(1, 6), max_size=6))
def test_reading_in_pieces_is_reading_at_once(shape: Shape, cuts: set[int]) -> None:
    model, tokens = somewhere(shape), some_tokens(shape)
    cache, pieces = Cache(), []
    for piece in tokens.tensor_split(sorted(cuts), dim=-1):
        outputs, cache = model.extend(piece, cache)
        pieces.append(outputs)
    assert cache.n_read == 7
    torch.testing.assert_close(torch.cat(pieces, dim=2), model(tokens), rtol=1e-4, atol=1e-5)


def test_a_repeated_cache_continues_each_sequence() -> None:
    model, tokens = somewhere(SHAPE), some_tokens(SHAPE, length=3)
    _, cache = model.extend(tokens, Cache())
    longer = torch.tensor([0, 4]).repeat(5).view(1, 10, 1).expand(2, -1, -1)
    outputs, grown = model.extend(longer, cache.repeat(2))
    whole = torch.cat([tokens.repeat_interleave(2, dim=1), longer], dim=-1)
    torch.testing.assert_close(outputs, model(whole)[:, :, 3:], rtol=1e-4, atol=1e-5)
    assert (cache.n_read, grown.n_read, Cache().n_read) == (3, 4, 0)


# ---- The first parameters -----------------------------------------------------------------------


def test_it_begins_without_an_opinion() -> None:
    theta = initial_parameters(SHAPE, seed_generators(0, 2))
    assert theta.requires_grad
    assert torch.equal(Transformer(theta, SHAPE)(some_tokens(SHAPE)), torch.zeros(2, 5, 7, 4))
    one = initial_parameters(SHAPE, seed_generators(0, 1))
    assert torch.equal(theta[:1], one)
    assert not torch.equal(theta[0], theta[1])


def test_the_first_matrices_have_the_stated_spread() -> None:
    shape = Shape(200, 3, 100, width=64, n_heads=4)
    weights = Transformer(initial_parameters(shape, seed_generators(0, 2)), shape).weights
    for name, rows in {"embedding": 64, "position": 64, "qkv 0": 64, "down 0": 256}.items():
        assert weights[name].std().item() == pytest.approx(rows**-0.5, rel=0.02)
    assert torch.equal(weights["norm"][:, 0], torch.ones(2, 64))
    for name in ("head", "bias of head", "bias of qkv 0", "bias of down 0"):
        assert not weights[name].any()


def test_the_number_of_parameters_by_hand() -> None:
    d, n_layers = 32, 2
    block = 12 * d * d + 13 * d  # qkv 3, mix 1, up 4, down 4; biases 3 + 1 + 4 + 1; norms 2 · 2
    assert Shape(12, 8, 5, d, 2, n_layers).n_parameters == (
        12 * d + 5 * d + n_layers * block + 2 * d + 8 * d + 8
    )


# ---- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["n_inputs", "n_outputs", "context", "width", "n_heads", "n_layers"]
)
def test_sizes_are_at_least_one(name: str) -> None:
    sizes = {"n_inputs": 3, "n_outputs": 3, "context": 3, name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        Shape(**sizes)


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match="width is 10; it must be a multiple of n_heads = 3"):
        Shape(3, 3, 3, width=10, n_heads=3)


def test_no_seeds() -> None:
    with pytest.raises(ValueError, match="generators is empty"):
        initial_parameters(SHAPE, [])


@pytest.mark.parametrize("size", [(2, SHAPE.n_parameters + 1), (SHAPE.n_parameters,)])
def test_parameters_of_another_shape(untyped: None, size: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"theta is .* needs \[seeds, {SHAPE.n_parameters}\]"):
        Transformer(torch.zeros(size), SHAPE)


@pytest.mark.parametrize("token", [-1, 6])
def test_unknown_tokens(token: int) -> None:
    tokens = some_tokens(SHAPE)
    tokens[1, 2, 3] = token
    with pytest.raises(ValueError, match=r"tokens is .*; this transformer reads 0 to 5"):
        somewhere(SHAPE)(tokens)


def test_more_tokens_than_the_context() -> None:
    model = somewhere(SHAPE)
    _, cache = model.extend(some_tokens(SHAPE, length=6), Cache())
    with pytest.raises(ValueError, match="tokens is 8 long; the context is 7 tokens"):
        model.extend(some_tokens(SHAPE, length=2), cache)
