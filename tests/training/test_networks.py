"""Networks of many seeds: against torch's own layers, seed by seed, and bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from rl_helpers.training.networks import (
    initial_parameters,
    n_parameters,
    network,
    scalar_network,
)
from rl_helpers.training.optim import Adam, clip_gradients
from rl_helpers.training.seeds import gumbel_noise, permutations, seed_generators

SIZES = (3, 8, 5, 2)


def test_number_of_parameters() -> None:
    assert n_parameters(SIZES) == (3 * 8 + 8) + (8 * 5 + 5) + (5 * 2 + 2)


def test_equals_torch_layers_seed_by_seed() -> None:
    theta = initial_parameters(SIZES, seed_generators(0, 4), orthogonal=False).detach()
    x = torch.randn(4, 6, 7, 3, generator=torch.Generator().manual_seed(0))
    outputs = network(theta, SIZES)(x)
    assert outputs.shape == (4, 6, 7, 2)
    for seed in range(4):
        layers: list[nn.Module] = []
        at = 0
        for n_in, n_out in ((3, 8), (8, 5), (5, 2)):
            layer = nn.Linear(n_in, n_out)
            row = theta[seed]
            layer.weight.data = row[at : at + n_in * n_out].view(n_in, n_out).T
            layer.bias.data = row[at + n_in * n_out : at + n_in * n_out + n_out]
            at += n_in * n_out + n_out
            layers += [layer, nn.Tanh()]
        torch.testing.assert_close(outputs[seed], nn.Sequential(*layers[:-1])(x[seed]))


def test_seeds_do_not_mix() -> None:
    theta = initial_parameters(SIZES, seed_generators(0, 3))
    network(theta, SIZES)(torch.ones(3, 4, 3))[1].sum().backward()
    assert theta.grad is not None
    assert theta.grad[[0, 2]].abs().sum() == 0
    assert theta.grad[1].abs().sum() > 0


@pytest.mark.parametrize("sizes", [(3, 8, 2), (8, 3, 2)])
def test_orthogonal_with_its_gains(sizes: tuple[int, ...]) -> None:
    theta = initial_parameters(sizes, seed_generators(0, 5), last_gain=0.01).detach()
    n_in, n_hidden, n_out = sizes
    first = theta[:, : n_in * n_hidden].view(-1, n_in, n_hidden)
    gram = first @ first.mT if n_in < n_hidden else first.mT @ first
    torch.testing.assert_close(gram, 2 * torch.eye(min(n_in, n_hidden)).expand_as(gram))
    at = n_in * n_hidden
    assert (theta[:, at : at + n_hidden] == 0).all()  # biases
    last = theta[:, at + n_hidden : -n_out].view(-1, n_hidden, n_out)
    gram = last.mT @ last
    torch.testing.assert_close(gram, 1e-4 * torch.eye(n_out).expand_as(gram))


def test_default_init_is_within_its_range() -> None:
    theta = initial_parameters((16, 50), seed_generators(0, 10), orthogonal=False)
    assert 0.24 < theta.abs().max() <= 1 / math.sqrt(16)


def test_a_seed_starts_the_same_in_every_batch() -> None:
    few, many = (initial_parameters(SIZES, seed_generators(7, n)) for n in (2, 5))
    torch.testing.assert_close(few, many[:2], rtol=0, atol=0)
    assert not torch.equal(few[0], few[1])


def test_gradients_are_clipped_seed_by_seed() -> None:
    first, second = torch.zeros(3, 1, requires_grad=True), torch.zeros(3, 1, requires_grad=True)
    (first * torch.tensor([[3.0], [0.3], [0.0]])).sum().backward()
    (second * torch.tensor([[4.0], [0.4], [0.0]])).sum().backward()
    norms = clip_gradients([first, second], 1.0)  # over both: 5, 0.5, 0
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.5, 0.0]))
    assert first.grad is not None
    torch.testing.assert_close(first.grad[:, 0], torch.tensor([0.6, 0.3, 0.0]), atol=1e-5, rtol=0)


def test_infinite_norm_leaves_gradients_alone() -> None:
    theta = torch.zeros(1, 2, requires_grad=True)
    (1e6 * theta).sum().backward()
    clip_gradients([theta], math.inf)
    assert theta.grad is not None
    assert theta.grad.tolist() == [[1e6, 1e6]]


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_adam_is_torchs(eps: float) -> None:
    ours, theirs = torch.ones(3, 5, requires_grad=True), torch.ones(3, 5, requires_grad=True)
    adam, reference = Adam([ours], eps), torch.optim.Adam([theirs], lr=0.1, eps=eps)
    scale = torch.tensor([[1e-3], [1.0], [1e3]])
    for step in range(20):
        for theta in (ours, theirs):
            (scale * (theta - step) ** 2).sum().backward()
        adam.step(0.1)
        reference.step()
        reference.zero_grad()
    torch.testing.assert_close(ours, theirs)
    assert ours.grad is None


def test_adam_with_a_rate_and_eps_for_each_seed() -> None:
    rates, eps = torch.tensor([[0.1], [0.2], [0.1]]), torch.tensor([[1e-5], [1e-5], [1.0]])
    theta = torch.zeros(3, 1, requires_grad=True)
    theta.sum().backward()
    Adam([theta], eps).step(rates)
    torch.testing.assert_close(theta, torch.tensor([[-0.1], [-0.2], [-0.05]]), atol=1e-5, rtol=0)


def test_clip_gradients_to_a_norm_for_each_seed() -> None:
    theta = torch.zeros(2, 1, requires_grad=True)
    (4 * theta).sum().backward()
    clip_gradients([theta], torch.tensor([[1.0], [math.inf]]))
    assert theta.grad is not None
    torch.testing.assert_close(theta.grad, torch.tensor([[1.0], [4.0]]))


def test_gumbel_max_samples_the_softmax() -> None:
    probabilities = torch.tensor([0.1, 0.2, 0.7])
    noise = gumbel_noise(seed_generators(0, 2), (40_000, 3))
    actions = (probabilities.log() + noise).argmax(-1)
    for seed in range(2):
        shares = torch.bincount(actions[seed], minlength=3) / 40_000
        errors = (probabilities * (1 - probabilities) / 40_000).sqrt()
        assert ((shares - probabilities).abs() < 4 * errors).all()


def test_permutations() -> None:
    orders = permutations(seed_generators(0, 3), 50)
    torch.testing.assert_close(orders.sort(dim=1).values, torch.arange(50).expand(3, 50))
    assert not torch.equal(orders[0], orders[1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seed_generators(0, 0), "n_seeds is 0; an experiment needs at least 1 seed"),
        (lambda: seed_generators(-1, 2), "seed is -1"),
        (lambda: initial_parameters(SIZES, []), "generators is empty"),
        (lambda: n_parameters((3,)), r"sizes is \(3,\); it must be at least two widths"),
        (lambda: n_parameters((3, 0)), r"sizes is \(3, 0\)"),
        (lambda: network(torch.ones(2, 5), SIZES)(torch.ones(2, 3)), r"theta has shape \(2, 5\)"),
        (lambda: network(torch.ones(2, 89), SIZES)(torch.ones(3, 3)), r"x has shape \(3, 3\)"),
        (lambda: network(torch.ones(2, 89), SIZES)(torch.ones(2, 4)), r"x has shape \(2, 4\)"),
        (lambda: clip_gradients([], 0.0), r"max_norm is 0\.0; it must be positive"),
    ],
)
def test_bad_input(untyped: None, call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("activation", [torch.tanh, torch.relu])
def test_a_scalar_network_is_a_network_with_one_output(activation: Callable[[Any], Any]) -> None:
    sizes = (3, 5, 4, 1)
    theta = initial_parameters(sizes, seed_generators(0, 6)).detach().double().requires_grad_()
    x = torch.randn(6, 2, 7, 3, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    values = scalar_network(theta, sizes, activation)(x)
    expected = network(theta, sizes, activation)(x).squeeze(-1)
    torch.testing.assert_close(values, expected)
    found, wanted = (torch.autograd.grad((y**2).sum(), theta)[0] for y in (values, expected))
    torch.testing.assert_close(found, wanted)


def test_a_scalar_network_has_one_output(untyped: None) -> None:
    theta = initial_parameters((3, 4, 2), seed_generators(0, 1))
    with pytest.raises(ValueError, match="a scalar network has one output"):
        scalar_network(theta, (3, 4, 2))
