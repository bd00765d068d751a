"""Adam and gradient clipping for many seeds at once: each row of parameters is a seed."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


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
