"""Replay memory: what happened, kept to be learned from many times; one memory a seed, in one table."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rl_helpers.validation import require, require_at_least


class Transitions(NamedTuple):
    """Steps of an environment, for each seed n of them.

    Args:
        states: s [seeds, n, d].
        actions: a [seeds, n, D].
        rewards: r [seeds, n].
        next_states: s', the true next state, at an episode's end too [seeds, n, d].
        terminated: 1 where s' is terminal, otherwise 0 [seeds, n].
    """

    states: Float[Tensor, "seeds n d"]
    actions: Float[Tensor, "seeds n D"]
    rewards: Float[Tensor, "seeds n"]
    next_states: Float[Tensor, "seeds n d"]
    terminated: Float[Tensor, "seeds n"]


class Replay:
    """The last `capacity` transitions of each seed.

    Args:
        n_seeds: how many memories.
        capacity: transitions kept, at least 1; then the oldest are overwritten.
        n_inputs, n_actions: d and D, the lengths of a state and an action.
    """

    def __init__(self, n_seeds: int, capacity: int, n_inputs: int, n_actions: int) -> None:
        require_at_least(1, n_seeds=n_seeds, capacity=capacity)
        self.n_seeds, self.capacity, self.stored = n_seeds, capacity, 0
        self.widths = [n_inputs, n_actions, 1, n_inputs, 1]
        self.table = torch.zeros(n_seeds, capacity, sum(self.widths))
        self.first = capacity * torch.arange(n_seeds).unsqueeze(1)  # row of a seed's first

    def __len__(self) -> int:
        return min(self.stored, self.capacity)

    def store(
        self,
        states: Float[Tensor, "seeds d"],
        actions: Float[Tensor, "seeds D"],
        rewards: Float[Tensor, " seeds"],
        next_states: Float[Tensor, "seeds d"],
        terminated: Bool[Tensor, " seeds"],
    ) -> None:
        """Keep one transition of each seed.

        Args:
            states, actions, rewards, next_states: of the step.
            terminated: whether the next state is terminal. An episode that was only cut short is
                not: its next state has a value.
        """
        parts = states, actions, rewards[:, None], next_states, terminated[:, None]
        self.table[:, self.stored % self.capacity] = torch.cat(parts, dim=1)
        self.stored += 1

    def sample(self, chance: Float[Tensor, "seeds n"]) -> Transitions:
        """n transitions of each seed, uniformly, with replacement.

        Args:
            chance: uniform random numbers in [0, 1), one for each transition.

        Raises:
            ValueError: the memory is empty, or holds fewer than n.
        """
        n, kept = chance.shape[1], len(self)
        require(kept > 0, "the replay memory", "empty", "store transitions before you sample")
        allowed = f"the replay memory holds {kept} of each seed, so it must be 1 to {kept}"
        require(1 <= n <= kept, "the batch size", n, allowed)
        rows = (chance * kept).long().clamp_(max=kept - 1) + self.first
        drawn = self.table.flatten(0, 1)[rows.flatten()].view(self.n_seeds, n, -1)
        states, actions, rewards, next_states, terminated = drawn.split(self.widths, dim=-1)
        return Transitions(
            states, actions, rewards.squeeze(-1), next_states, terminated.squeeze(-1)
        )
