"""Small networks for many seeds at once: parameters are one vector a seed, products are batched.

A network has the widths `sizes`, such as (4, 32, 32, 2), and the parameters `theta` [seeds, P]: the
vector θ of the equations, one row a seed. Everything acts on each row alone, so the seeds of an
experiment learn side by side: sum the losses of all seeds, and the gradient of each
row is its own seed's.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rl_helpers.validation import require

TANH_GAIN = math.sqrt(2)  # of the hidden layers: Huang et al. (2022), detail 2


def n_parameters(sizes: Sequence[int]) -> int:
    """Number of parameters P of a network: weights and biases of every layer."""
    return sum(n_in * n_out + n_out for n_in, n_out in _layers(sizes))


def initial_parameters(
    sizes: Sequence[int],
    generators: Sequence[torch.Generator],
    *,
    last_gain: float = 1.0,
    orthogonal: bool = True,
) -> Float[Tensor, "seeds P"]:
    """Parameters to start from, ready to be trained.

    Args:
        sizes: widths of the network, from inputs to outputs.
        generators: one a seed.
        last_gain: factor of the last layer's orthogonal matrix; 0.01 makes a policy start nearly
            uniform.
        orthogonal: orthogonal weights with gain √2 below the last layer, and biases 0; otherwise
            all uniform within ±1/√n_in, torch's default.

    Raises:
        ValueError: no generators, or widths that are fewer than two or not positive.

    Source: Saxe et al. (2014); Huang et al. (2022), detail 2.
    """
    if not generators:
        raise ValueError("generators is empty; an experiment needs at least 1 seed")
    layers = _layers(sizes)
    parts = []
    for depth, (n_in, n_out) in enumerate(layers, start=1):
        if orthogonal:
            gain = last_gain if depth == len(layers) else TANH_GAIN
            tall = (max(n_in, n_out), min(n_in, n_out))
            noise = torch.stack([torch.randn(tall, generator=g) for g in generators])
            Q, R = torch.linalg.qr(noise)
            Q = Q * R.diagonal(dim1=1, dim2=2).sign().unsqueeze(1)  # uniform over all rotations
            weights = gain * (Q if n_in >= n_out else Q.mT)  # [seeds, n_in, n_out]
            biases = torch.zeros(len(generators), n_out)
        else:
            shape = (n_in + 1, n_out)
            noise = torch.stack([torch.rand(shape, generator=g) for g in generators])
            uniform = (2 * noise - 1) / math.sqrt(n_in)
            weights, biases = uniform[:, :-1], uniform[:, -1]
        parts += [weights.flatten(1), biases]
    return torch.cat(parts, dim=1).requires_grad_()


def network(
    theta: Float[Tensor, "seeds P"],
    sizes: Sequence[int],
    activation: Callable[[Tensor], Tensor] = torch.tanh,
) -> Callable[[Tensor], Tensor]:
    """Each seed's network, to be applied to its own inputs: hidden layers, and a linear one at the end.

    Args:
        theta: parameters [seeds, P].
        sizes: widths of the network, from inputs to outputs.
        activation: of the hidden layers.

    Returns:
        A function from inputs [seeds, ..., n_in] to outputs [seeds, ..., n_out]; it raises
        `ValueError` for inputs of another shape.

    Raises:
        ValueError: theta that does not fit sizes.
    """
    layers, seeds = _layers(sizes), len(theta)
    if theta.ndim != 2 or theta.shape[1] != n_parameters(sizes):
        raise ValueError(
            f"theta has shape {tuple(theta.shape)}; sizes {tuple(sizes)} need [seeds, {n_parameters(sizes)}]"
        )
    parts = theta.split([n for n_in, n_out in layers for n in (n_in * n_out, n_out)], dim=1)
    weights = [W.view(seeds, *layer) for W, layer in zip(parts[::2], layers, strict=True)]
    biases = [b.unsqueeze(1) for b in parts[1::2]]

    def apply(x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[0] != seeds or x.shape[-1] != sizes[0]:
            raise ValueError(
                f"x has shape {tuple(x.shape)}; it must be [seeds, ..., n_in] = "
                f"[{seeds}, ..., {sizes[0]}]"
            )
        h = x.reshape(seeds, -1, sizes[0])
        for W, b in zip(weights[:-1], biases[:-1], strict=True):
            h = activation(torch.baddbmm(b, h, W))  # b + h W, [seeds, batch, n_out]
        return torch.baddbmm(biases[-1], h, weights[-1]).view(*x.shape[:-1], sizes[-1])

    return apply


def scalar_network(
    theta: Float[Tensor, "seeds P"],
    sizes: Sequence[int],
    activation: Callable[[Tensor], Tensor] = torch.tanh,
) -> Callable[[Tensor], Tensor]:
    """A network with one output, which its shape leaves out: [seeds, ..., n_in] to [seeds, ...].

    The same numbers as `network`, to rounding. Its last layer is a sum of products, which for many
    seeds takes a fifth of the time of batched products of matrices with one column.

    Args:
        theta, sizes, activation: as for `network`.

    Raises:
        ValueError: as for `network`; or more than one output.
    """
    *below, n_in, n_out = sizes
    require(n_out == 1, "sizes", tuple(sizes), "a scalar network has one output")
    hidden, weights, bias = theta.split([theta.shape[1] - n_in - 1, n_in, 1], dim=1)
    features = network(hidden, (*below, n_in), activation)

    def apply(x: Tensor) -> Tensor:
        h = activation(features(x)).reshape(len(theta), -1, n_in)
        q = (h * weights.unsqueeze(1)).sum(-1) + bias  # [seeds, batch]
        return q.view(x.shape[:-1])

    return apply


@dataclass(frozen=True, eq=False)
class ActorCritic:
    """Each seed's policy and value function: two networks with hidden layers of the same widths.

    Args:
        sizes, value_sizes: widths of the two networks.
        actor, critic: their parameters [seeds, P], [seeds, P'].
    """

    sizes: tuple[int, ...]
    value_sizes: tuple[int, ...]
    actor: Float[Tensor, "seeds P"]
    critic: Float[Tensor, "seeds P_critic"]

    @property
    def policy(self) -> Callable[[Tensor], Tensor]:
        """From observations [seeds, ..., d] to the logits of π(.|s) [seeds, ..., A]."""
        return network(self.actor, self.sizes)

    def values(self, x: Float[Tensor, "seeds *batch d"]) -> Float[Tensor, " seeds *batch"]:
        """V(s), for observations x."""
        return network(self.critic, self.value_sizes)(x).squeeze(-1)


def actor_critic(
    n_inputs: int,
    hidden: Sequence[int],
    n_actions: int,
    generators: Sequence[torch.Generator],
    orthogonal: bool | Bool[Tensor, "_ 1"] = True,
) -> ActorCritic:
    """Networks to start from: the policy nearly uniform, with last gain 0.01.

    Args:
        n_inputs, n_actions: length of an observation, number of actions.
        hidden: widths of the hidden layers.
        generators: one a seed.
        orthogonal: as in `initial_parameters`; a tensor [seeds, 1] decides for each seed, which
            then starts as it does where all are of its kind.
    """
    wanted = torch.as_tensor(orthogonal).flatten().tolist()

    def start(sizes: Sequence[int], last_gain: float) -> Float[Tensor, "seeds P"]:
        if len(wanted) == 1:
            return initial_parameters(sizes, generators, last_gain=last_gain, orthogonal=wanted[0])
        each = [
            initial_parameters(sizes, [generator], last_gain=last_gain, orthogonal=kind).detach()
            for generator, kind in zip(generators, wanted, strict=True)
        ]
        return torch.cat(each).requires_grad_()

    sizes, value_sizes = (n_inputs, *hidden, n_actions), (n_inputs, *hidden, 1)
    return ActorCritic(sizes, value_sizes, start(sizes, 0.01), start(value_sizes, 1.0))


def _layers(sizes: Sequence[int]) -> list[tuple[int, int]]:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes is {tuple(sizes)}; it must be at least two widths, each positive")
    return list(itertools.pairwise(sizes))
