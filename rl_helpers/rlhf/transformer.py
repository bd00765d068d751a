"""A small causal transformer in plain torch, for many seeds at once; its parameters are one vector a seed.

The architecture is GPT-2's, with the exact GELU, which is quicker: learned positions, in each block
layer norm before attention and before a hidden layer four times as wide, and a layer norm at the
end. Like `training.networks` it acts on each row of `theta` [seeds, P] alone, so sum the losses of
all seeds and each has its own gradient.

It reads tokens one after another: `extend` reads the next tokens of sequences whose earlier ones are
in a cache of keys and values, so that a sampled sequence costs one pass, and all prefixes of a
language are read without reading a shared beginning twice. Where few outputs are wanted, the last
block works at their `places` alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

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

    @cached_property
    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor of parameters, in the order in which they stand in theta."""
        d = self.width
        block = [
            ("norm_1", (2, d)), ("qkv", (d, 3 * d)), ("bias of qkv", (3 * d,)),
            ("mix", (d, d)), ("bias of mix", (d,)),
            ("norm_2", (2, d)), ("up", (d, 4 * d)), ("bias of up", (4 * d,)),
            ("down", (4 * d, d)), ("bias of down", (d,)),
        ]  # fmt: skip
        blocks = [
            (f"{name} {layer}", size) for layer in range(self.n_layers) for name, size in block
        ]
        return [
            ("embedding", (self.n_inputs, d)), ("position", (self.context, d)), *blocks,
            ("norm", (2, d)), ("head", (d, self.n_outputs)), ("bias of head", (self.n_outputs,)),
        ]  # fmt: skip

    @cached_property
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

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The tensors of parameters by name, each [seeds, *size]."""
        sizes = [math.prod(size) for _, size in self.shape.tensors]
        parts = zip(self.shape.tensors, self.theta.split(sizes, 1), strict=True)
        return {name: part.view(len(part), *size) for (name, size), part in parts}

    def __call__(
        self,
        tokens: Int[Tensor, "seeds batch T"],
        places: Int[Tensor, "seeds batch n"] | None = None,
    ) -> Float[Tensor, "seeds batch n n_outputs"]:
        """Outputs at each position, or at the wanted places, from the tokens up to it."""
        return self.extend(tokens, Cache(), places)[0]

    def extend(
        self,
        tokens: Int[Tensor, "seeds batch T"],
        cache: Cache,
        places: Int[Tensor, "seeds batch n"] | None = None,
    ) -> tuple[Float[Tensor, "seeds batch n n_outputs"], Cache]:
        """Read the next tokens of sequences that a cache has the beginning of.

        Args:
            tokens: next tokens [seeds, batch, T].
            cache: of the tokens before them; empty at first.
            places: positions of these tokens whose outputs are wanted, counted from the beginning of
                the sequence [seeds, batch, n]; without them all T are.

        Returns:
            The outputs at their positions [seeds, batch, n, n_outputs], and the cache with them.

        Raises:
            ValueError: tokens that the transformer does not know, or more than its context.
        """
        x = self.embed(tokens, cache.n_read)  # [seeds, batch, T, width]
        read = []
        for layer in range(self.shape.n_layers):
            past = cache.layers[layer] if cache.layers else None
            last = layer == self.shape.n_layers - 1  # no block looks at what it adds
            x, keys_and_values = self.block(layer, x, past, places if last else None)
            read.append(keys_and_values)
        return self._affine("head", self._norm("norm", x)), Cache(tuple(read))

    def embed(
        self, tokens: Int[Tensor, "seeds batch T"], n_read: int = 0
    ) -> Float[Tensor, "seeds batch T width"]:
        """Where a sequence begins in the transformer: a vector for the token, plus one for its place.

        Args:
            tokens: next tokens.
            n_read: how many tokens there are before them.

        Raises:
            ValueError: tokens that the transformer does not know, or more than its context.
        """
        low, high = map(int, tokens.aminmax())
        require(0 <= low <= high < self.shape.n_inputs, "tokens", f"{low} to {high}",
                f"this transformer reads 0 to {self.shape.n_inputs - 1}")  # fmt: skip
        end = n_read + tokens.shape[-1]
        require(end <= self.shape.context, "tokens", f"{end} long",
                f"the context is {self.shape.context} tokens")  # fmt: skip
        rows = torch.arange(len(tokens)).view(-1, 1, 1)
        places = self.weights["position"][:, n_read:end]
        return self.weights["embedding"][rows, tokens] + places.unsqueeze(1)

    def block(
        self,
        layer: int,
        x: Float[Tensor, "seeds batch T width"],
        past: tuple[Tensor, Tensor] | None = None,
        places: Int[Tensor, "seeds batch n"] | None = None,
    ) -> tuple[Float[Tensor, "seeds batch n width"], tuple[Tensor, Tensor]]:
        """One block: each position looks back, then works alone; both are added to x.

        Args:
            layer: which block, from 0.
            x: vectors at the next T positions.
            past: keys and values of the positions before them.
            places: the positions that look back, all T or these.

        Returns:
            Their new vectors, and keys and values of all positions so far.
        """
        q, k, v = self.heads(layer, x)  # each [seeds, batch, heads, T, width / heads]
        if past is not None:
            k, v = torch.cat([past[0], k], dim=-2), torch.cat([past[1], v], dim=-2)
        if places is not None:  # the others are only looked at
            at = places.unsqueeze(-1) - (k.shape[-2] - q.shape[-2])
            x, q = x.take_along_dim(at, 2), q.take_along_dim(at.unsqueeze(2), 3)
            places = places.unsqueeze(2)  # for each head
        seen = attention(q, k, places) @ v  # for each head, a mean of what positions say
        seen = seen.transpose(2, 3).flatten(3)  # heads side by side
        x = x + self._affine(f"mix {layer}", seen)
        hidden = self._affine(f"up {layer}", self._norm(f"norm_2 {layer}", x))
        hidden = gelu(hidden)  # [seeds, batch, T, 4 width]
        return x + self._affine(f"down {layer}", hidden), (k, v)

    def heads(
        self, layer: int, x: Float[Tensor, "seeds batch T width"]
    ) -> Float[Tensor, "3 seeds batch heads T d"]:
        """Queries, keys and values of each head: three affine maps of the same vectors."""
        qkv = self._affine(f"qkv {layer}", self._norm(f"norm_1 {layer}", x))
        qkv = qkv.unflatten(-1, (3, self.shape.n_heads, -1)).permute(3, 0, 1, 4, 2, 5)
        return qkv.contiguous()  # once, in place of once a product

    def _affine(self, name: str, x: Float[Tensor, "seeds batch T n"]) -> Tensor:
        matrix, bias = self.weights[name], self.weights[f"bias of {name}"]
        flat = x.flatten(1, 2)  # bmm takes a single axis of rows
        return torch.baddbmm(bias.unsqueeze(1), flat, matrix).view(*x.shape[:-1], -1)

    def _norm(self, name: str, x: Float[Tensor, "seeds batch T d"]) -> Tensor:
        gain, bias = self.weights[name][:, :, None, None].unbind(1)
        return torch.addcmul(bias, layer_norm(x, x.shape[-1:]), gain)


def attention(
    q: Float[Tensor, "*batch T d"],
    k: Float[Tensor, "*batch T_all d"],
    places: Int[Tensor, "*_ T"] | None = None,
) -> Float[Tensor, "*batch T T_all"]:
    """How much each of the last T positions, or T places, attends to those up to it.

    Rows sum to 1.

    Source: Vaswani et al. (2017), equation 1, with the mask of a decoder.

    >>> q = k = torch.ones(2, 4)
    >>> attention(q, k)
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    T, T_all = q.shape[-2], k.shape[-2]
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if places is None and T > 1:  # after a single one, the last, nothing comes
        places = torch.arange(T_all - T, T_all)
    if places is not None:
        later = torch.arange(T_all) > places.unsqueeze(-1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(-1)
