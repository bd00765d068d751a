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

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

TANH_GAIN = math.sqrt(2)  # of the hidden layers: Huang et al. (2022), detail 2


def seed_generators(seed: int, n_seeds: int) -> list[torch.Generator]:
    """One independent source of randomness for each seed of an experiment.

    The generator of seed i depends on `seed` and i alone, not on how many seeds there are.

    Args:
        seed: the experiment's seed, at least 0.
        n_seeds: number of generators, at least 1.

    Raises:
        ValueError: no seeds, or a negative seed.
    """
    if n_seeds < 1:
        raise ValueError(f"n_seeds is {n_seeds}; an experiment needs at least 1 seed")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be at least 0")
    streams = np.random.SeedSequence(seed).spawn(n_seeds)
    numbers = [int(stream.generate_state(1, np.uint64)[0]) for stream in streams]
    return [torch.Generator().manual_seed(number) for number in numbers]


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


def network(theta: Float[Tensor, "seeds P"], sizes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Each seed's network, to be applied to its own inputs: tanh layers, and a linear one at the end.

    Args:
        theta: parameters [seeds, P].
        sizes: widths of the network, from inputs to outputs.

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
            h = torch.baddbmm(b, h, W).tanh()  # b + h W, [seeds, batch, n_out]
        return torch.baddbmm(biases[-1], h, weights[-1]).view(*x.shape[:-1], sizes[-1])

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
        orthogonal: as in `initial_parameters`; a tensor [seeds, 1] decides for each seed.
    """

    def start(sizes: Sequence[int], last_gain: float) -> Float[Tensor, "seeds P"]:
        kinds = [
            initial_parameters(sizes, generators, last_gain=last_gain, orthogonal=kind).detach()
            for kind in (True, False)
            if bool((wanted == kind).any())
        ]
        return torch.where(wanted, kinds[0], kinds[-1]).requires_grad_()

    wanted = torch.as_tensor(orthogonal)
    sizes, value_sizes = (n_inputs, *hidden, n_actions), (n_inputs, *hidden, 1)
    return ActorCritic(sizes, value_sizes, start(sizes, 0.01), start(value_sizes, 1.0))


def clip_gradients(
    parameters: Sequence[Float[Tensor, "seeds _"]], max_norm: float | Float[Tensor, "_ 1"]
) -> Tensor:
    """Shrink each seed's gradient, over all `parameters` together, to a norm of at most `max_norm`.

    Args:
        parameters: tensors [seeds, P] with gradients; changed in place.
        max_norm: largest norm allowed, positive; infinity leaves all gradients alone. A tensor
            [seeds, 1] gives each seed its own.

    Returns:
        The norms before [seeds].

    Raises:
        ValueError: max_norm not positive.

    Source: Huang et al. (2022), detail 11.
    """
    if not (bool((max_norm > 0).all()) if isinstance(max_norm, Tensor) else max_norm > 0):
        raise ValueError(f"max_norm is {max_norm}; it must be positive (infinity: no clipping)")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([g.norm(dim=1) for g in gradients]).norm(dim=0)
    shrink = (max_norm / (norms.unsqueeze(1) + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(shrink)
    return norms


class Adam:
    """Adam, which acts on each parameter alone, with a learning rate and an ε for each seed.

    Does what `torch.optim.Adam` does with its own ε and one learning rate for all.

    Args:
        parameters: tensors [seeds, P] to be trained.
        eps: Adam's ε, positive; a tensor [seeds, 1] gives each seed its own.

    Source: Kingma & Ba (2015), algorithm 1, with β₁ = 0.9 and β₂ = 0.999.
    """

    def __init__(
        self, parameters: Sequence[Float[Tensor, "seeds _"]], eps: float | Float[Tensor, "_ 1"]
    ) -> None:
        self.parameters, self.eps, self.n_steps = parameters, eps, 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def step(self, learning_rate: float | Float[Tensor, "_ 1"]) -> None:
        """Take one step against the gradients, and clear them."""
        self.n_steps += 1
        first, second = 1 - 0.9**self.n_steps, 1 - 0.999**self.n_steps
        for p, (m, v) in zip(self.parameters, self.moments, strict=True):
            g = p.grad
            assert g is not None
            m.lerp_(g, 0.1)
            v.mul_(0.999).addcmul_(g, g, value=0.001)
            p.sub_(m / ((v / second).sqrt_() + self.eps) * (learning_rate / first))
            p.grad = None


def gumbel_noise(
    generators: Sequence[torch.Generator], shape: Sequence[int]
) -> Float[Tensor, " seeds *shape"]:
    """Standard Gumbel noise [seeds, *shape], each seed's from its own generator.

    `(logits + noise).argmax(-1)` is a sample of the categorical distribution: the Gumbel-max trick.

    Source: Maddison, Tarlow & Minka (2014).
    """
    waiting = torch.empty(len(generators), *shape)
    for row, generator in zip(waiting, generators, strict=True):
        row.exponential_(generator=generator)
    return waiting.log_().neg_()


def permutations(generators: Sequence[torch.Generator], n: int) -> Tensor:
    """A random order of 0 to n - 1 for each seed [seeds, n]."""
    return torch.stack([torch.randperm(n, generator=generator) for generator in generators])


def _layers(sizes: Sequence[int]) -> list[tuple[int, int]]:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes is {tuple(sizes)}; it must be at least two widths, each positive")
    return list(itertools.pairwise(sizes))
