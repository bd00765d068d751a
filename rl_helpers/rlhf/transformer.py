"""A small causal transformer in plain torch, for many seeds at once; its parameters are one vector a seed.

The architecture is GPT-2's: learned positions, in each block layer norm before attention and before
a hidden layer four times as wide, and a layer norm at the end. Like `training.networks` it acts on
each row of `theta` [seeds, P] alone, so sum the losses of all seeds and each has its own gradient.

It reads tokens one after another: `extend` reads the next tokens of sequences whose earlier ones are
in a cache of keys and values, so that a sampled sequence costs one pass, and all prefixes of a
language are read without reading a shared beginning twice.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import gelu, layer_norm

from rl_helpers.validation import require, require_at_least


@dataclass(frozen=True)
class Shape:
    """Sizes of a transformer.

    Args:
        n_inputs: tokens that it may read, 0 to n_inputs - 1.
        n_outputs: numbers that it returns at each position, such as a logit for each token.
        context: most tokens of a sequence.
        width: of the vector at each position, a multiple of `n_heads`.
        n_heads, n_layers: attention heads of a block, and blocks.

    Raises:
        ValueError: a size below 1, or a width that the heads do not divide.
    """

    n_inputs: int
    n_outputs: int
    context: int
    width: int = 32
    n_heads: int = 2
    n_layers: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, **vars(self))
        require(
            self.width % self.n_heads == 0, "width", self.width,
            f"it must be a multiple of n_heads = {self.n_heads}",
        )  # fmt: skip

    @property
    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor of parameters, in the order in which they stand in theta."""
        d = self.width
        block = [
            ("norm_1", (2, d)), ("qkv", (d, 3 * d)), ("qkv_bias", (3 * d,)),
            ("mix", (d, d)), ("mix_bias", (d,)),
            ("norm_2", (2, d)), ("up", (d, 4 * d)), ("up_bias", (4 * d,)),
            ("down", (4 * d, d)), ("down_bias", (d,)),
        ]  # fmt: skip
        blocks = [
            (f"{name} {layer}", size) for layer in range(self.n_layers) for name, size in block
        ]
        return [
            ("embedding", (self.n_inputs, d)), ("position", (self.context, d)), *blocks,
            ("norm", (2, d)), ("head", (d, self.n_outputs)), ("head_bias", (self.n_outputs,)),
        ]  # fmt: skip

    @property
    def n_parameters(self) -> int:
        """Length P of a seed's vector of parameters."""
        return sum(math.prod(size) for _, size in self.tensors)


def initial_parameters(
    shape: Shape, generators: Sequence[torch.Generator]
) -> Float[Tensor, "seeds P"]:
    """Parameters to start from, ready to be trained.

    Matrices are normal with standard deviation 1/√(rows), embeddings and positions with 1/√width;
    layer norms start as the identity, biases and the head at 0, so that every token has the same
    probability.

    Args:
        shape: sizes of the transformer.
        generators: one a seed.

    Raises:
        ValueError: no generators.
    """
    require(len(generators) > 0, "generators", "empty", "an experiment needs at least 1 seed")
    seeds, parts = len(generators), []
    for name, size in shape.tensors:
        if name.startswith("norm"):
            part = torch.tensor([[1.0], [0.0]]).expand(size).expand(seeds, *size)
        elif "bias" in name or name == "head":
            part = torch.zeros(seeds, *size)
        else:
            n_rows = shape.width if name in ("embedding", "position") else size[0]
            noise = [torch.randn(size, generator=generator) for generator in generators]
            part = torch.stack(noise) / math.sqrt(n_rows)
        parts.append(part.flatten(1))
    return torch.cat(parts, dim=1).requires_grad_()


@dataclass(frozen=True, eq=False)
class Cache:
    """Keys and values of the tokens read so far, a pair for each block [seeds, batch, heads, t, d/heads]."""

    layers: tuple[tuple[Tensor, Tensor], ...] = ()

    @property
    def n_read(self) -> int:
        """How many tokens were read."""
        return self.layers[0][0].shape[3] if self.layers else 0

    def repeat(self, n: int) -> "Cache":
        """Each sequence n times in a row, to be continued in n ways."""
        grown = [
            (k.repeat_interleave(n, dim=1), v.repeat_interleave(n, dim=1)) for k, v in self.layers
        ]
        return Cache(tuple(grown))


@dataclass(frozen=True, eq=False)
class Transformer:
    """Each seed's transformer, to be applied to its own sequences.

    Args:
        theta: parameters [seeds, P].
        shape: the sizes.

    Raises:
        ValueError: theta that does not fit the sizes.
    """

    theta: Float[Tensor, "seeds P"]
    shape: Shape

    def __post_init__(self) -> None:
        P = self.shape.n_parameters
        require(
            self.theta.ndim == 2 and self.theta.shape[1] == P, "theta", tuple(self.theta.shape),
            f"{self.shape} needs [seeds, {P}]",
        )  # fmt: skip
        object.__setattr__(self, "_weights", dict(self._split()))

    def _split(self) -> Iterator[tuple[str, Tensor]]:
        sizes = [math.prod(size) for _, size in self.shape.tensors]
        for (name, size), part in zip(self.shape.tensors, self.theta.split(sizes, 1), strict=True):
            yield name, part.view(len(part), *size)

    def __call__(
        self, tokens: Int[Tensor, "seeds batch T"]
    ) -> Float[Tensor, "seeds batch T n_outputs"]:
        """Outputs at each position, from the tokens up to it."""
        return self.extend(tokens, Cache())[0]

    def extend(
        self, tokens: Int[Tensor, "seeds batch T"], cache: Cache
    ) -> tuple[Float[Tensor, "seeds batch T n_outputs"], Cache]:
        """Read the next tokens of sequences that a cache has the beginning of.

        Args:
            tokens: next tokens [seeds, batch, T].
            cache: of the tokens before them; empty at first.

        Returns:
            The outputs at their positions [seeds, batch, T, n_outputs], and the cache with them.

        Raises:
            ValueError: tokens that the transformer does not know, or more than its context.
        """
        seeds, batch, T = tokens.shape
        shape, w, start = self.shape, self._weights, cache.n_read  # type: ignore[attr-defined]
        known = bool(((tokens >= 0) & (tokens < shape.n_inputs)).all())
        require(known, "tokens", f"{int(tokens.min())} to {int(tokens.max())}",
                f"this transformer reads 0 to {shape.n_inputs - 1}")  # fmt: skip
        require(start + T <= shape.context, "tokens", f"{start + T} long",
                f"the context is {shape.context} tokens")  # fmt: skip
        rows = torch.arange(seeds).view(-1, 1, 1)
        x = w["embedding"][rows, tokens] + w["position"][:, None, start : start + T]
        x = x.view(seeds, batch * T, shape.width)
        caches = []
        for layer in range(shape.n_layers):
            h = _norm(x, w[f"norm_1 {layer}"])
            h = torch.baddbmm(w[f"qkv_bias {layer}"].unsqueeze(1), h, w[f"qkv {layer}"])
            q, k, v = h.view(seeds, batch, T, 3, shape.n_heads, -1).permute(3, 0, 1, 4, 2, 5)
            if cache.layers:
                earlier = cache.layers[layer]
                k, v = torch.cat([earlier[0], k], dim=3), torch.cat([earlier[1], v], dim=3)
            caches.append((k, v))
            h = (attention(q, k) @ v).transpose(2, 3).reshape(seeds, batch * T, shape.width)
            x = x + torch.baddbmm(w[f"mix_bias {layer}"].unsqueeze(1), h, w[f"mix {layer}"])
            h = _norm(x, w[f"norm_2 {layer}"])
            h = torch.baddbmm(w[f"up_bias {layer}"].unsqueeze(1), h, w[f"up {layer}"])
            h = gelu(h, approximate="tanh")
            x = x + torch.baddbmm(w[f"down_bias {layer}"].unsqueeze(1), h, w[f"down {layer}"])
        out = torch.baddbmm(w["head_bias"].unsqueeze(1), _norm(x, w["norm"]), w["head"])
        return out.view(seeds, batch, T, shape.n_outputs), Cache(tuple(caches))


def attention(
    q: Float[Tensor, "*batch T d"], k: Float[Tensor, "*batch T_all d"]
) -> Float[Tensor, "*batch T T_all"]:
    """How much each of the last T positions attends to every position up to its own; rows sum to 1.

    Source: Vaswani et al. (2017), equation 1, with the mask of a decoder.
    """
    T, T_all = q.shape[-2], k.shape[-2]
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if T > 1:
        later = torch.ones(T, T_all, dtype=torch.bool).triu(T_all - T + 1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(-1)


def _norm(x: Float[Tensor, "seeds n d"], weights: Float[Tensor, "seeds 2 d"]) -> Tensor:
    gain, bias = weights.unsqueeze(2).unbind(1)
    return torch.addcmul(bias, layer_norm(x, x.shape[-1:]), gain)
