"""SAC of one seed, as its paper states it, to compare the batched loop with.

Nothing here is batched over seeds: one environment is stepped, transitions are a list, networks and
optimisers are torch's own, densities are `torch.distributions`'. Shared with the batched loop are
only the first parameters and the random stream: one `torch.Generator`, which draws in this order
the parameters of actor, first and second critic, then for each 64 steps uniform numbers (one for
each dimension of a random action, one for each place in the batch) and normal ones (for the action,
for the actions in next states, for new actions).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import AffineTransform, TanhTransform
from torch.nn import functional as F

from rl_helpers.training.networks import initial_parameters
from tests.policy_gradients.plain_loops import layers


class Hill(gym.Env):
    """A ball on a round hill, pushed by the first action and slowed by the second; lost beyond ±1.

    Observations are within ±2, ±5 and without a bound.
    """

    observation_space = gym.spaces.Box(
        -np.array([2, 5, np.inf], np.float32), np.array([2, 5, np.inf], np.float32)
    )
    action_space = gym.spaces.Box(
        -np.array([1.5, 0.5], np.float32), np.array([1.5, 0.5], np.float32)
    )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        self.x, self.speed = self.np_random.uniform(-0.6, 0.6, 2)
        self.taken = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Any]:
        push, drag = float(action[0]), float(action[1])
        self.speed += 0.4 * push + 0.6 * self.x - 0.5 * drag * self.speed
        self.x += 0.6 * self.speed
        self.taken += 1
        reward = 1.0 - self.x**2 + 0.3 * self.x - 0.2 * push**2 + 0.1 * drag
        return self._observation(), reward, bool(abs(self.x) > 1), self.taken >= 6, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.x, self.speed, self.x * self.speed], dtype=np.float32)


@dataclass
class Record:
    """Parameters of one seed after each step, by what they belong to."""

    theta: dict[str, list[Tensor]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def keep(self, **networks: nn.Module | Tensor) -> None:
        for name, network in networks.items():
            flat = network if isinstance(network, Tensor) else flattened(network)
            self.theta.setdefault(name, []).append(flat.detach().clone())


def flattened(network: nn.Module) -> Tensor:
    linear = [a for a in network.modules() if isinstance(a, nn.Linear)]
    return torch.cat([x.flatten() for a in linear for x in (a.weight.T, a.bias)])


def sac(config: Any, seed: int, number: int) -> Record:
    """Haarnoja et al. (2018b), algorithm 1, on `Hill`.

    Args:
        config: a `SACConfig` whose settings are those of this seed: no tuples.
        seed, number: the experiment's seed, and which of its seeds this is.
    """
    stream = np.random.SeedSequence(seed).spawn(number + 1)[number]
    generator = torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]))
    env, record, B = Hill(), Record(), config.batch_size
    largest, scale = torch.tensor([2.0, 5.0, 1.0]), torch.tensor([1.5, 0.5])

    sizes, critic_sizes = (3, *config.hidden, 4), (5, *config.hidden, 1)
    actor = layers(initial_parameters(sizes, [generator], last_gain=0.01)[0].detach(), sizes)
    critics = [
        layers(initial_parameters(critic_sizes, [generator])[0].detach(), critic_sizes)
        for _ in range(2)
    ]
    slow = deepcopy(critics)
    automatic = config.alpha is None
    log_alpha = torch.tensor([1.0 if automatic else config.alpha]).log().requires_grad_()
    wanted = -2.0 if config.target_entropy is None else config.target_entropy
    optimizers = {
        "actor": torch.optim.Adam(actor.parameters(), config.learning_rate),
        "alpha": torch.optim.Adam([log_alpha], config.learning_rate),
        "critics": torch.optim.Adam(
            [p for critic in critics for p in critic.parameters()], config.learning_rate
        ),
    }

    def act(state: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = actor(state).chunk(2, -1)
        gauss = Normal(mean, log_std.clip(-20, 2).exp())
        u = mean + gauss.stddev * noise
        if not config.tanh_correction:
            return scale * u.tanh(), gauss.log_prob(u).sum(-1)
        squashed = TransformedDistribution(
            gauss, [TanhTransform(cache_size=1), AffineTransform(0.0, scale, cache_size=1)]
        )
        action = squashed.transforms[1](squashed.transforms[0](u))  # remembered, not inverted
        return action, squashed.log_prob(action).sum(-1)

    def q(networks: Sequence[nn.Module], state: Tensor, action: Tensor) -> Tensor:
        pairs = torch.cat([state, action / scale], -1)
        values = [network(pairs).squeeze(-1) for network in networks]
        return torch.min(*values) if config.twin else values[0]

    def descend(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    memory: list[tuple[Tensor, Tensor, float, Tensor, bool]] = []
    state = torch.tensor(env.reset(seed=seed + number)[0]) / largest
    for step in range(config.total_steps):
        if step % 64 == 0:
            uniform = torch.rand(64, 2 + B, generator=generator)
            normal = torch.randn(64, 1 + 2 * B, 2, generator=generator)
        chance, noise = uniform[step % 64, 2:], normal[step % 64]
        if step < config.random_steps:
            action = scale * (2 * uniform[step % 64, :2] - 1)
        else:
            action = act(state, noise[0])[0].detach()
        observation, reward, terminated, truncated, _ = env.step(action.numpy())
        following = torch.tensor(observation) / largest
        memory = [*memory, (state, action, reward, following, terminated)][-config.capacity :]
        state = following
        record.seen.update(terminated=terminated, truncated=truncated and not terminated)
        if terminated or truncated:
            state = torch.tensor(env.reset()[0]) / largest
        if step >= config.random_steps:
            chosen = [memory[place] for place in places(chance, step + 1, len(memory))]
            s, a, r, s2, d = zip(*chosen, strict=True)
            states, actions, next_states = torch.stack(s), torch.stack(a), torch.stack(s2)
            alpha = log_alpha.exp().detach()
            with torch.no_grad():
                a2, log_prob = act(next_states, noise[1 : 1 + B])
                soft = q(slow, next_states, a2) - alpha * log_prob
                y = torch.tensor(r) + config.gamma * soft * (1 - torch.tensor(d).float())
            pairs = torch.cat([states, actions / scale], -1)
            descend(
                "critics", sum(F.mse_loss(critic(pairs).squeeze(-1), y) / 2 for critic in critics)
            )
            a_new, log_prob = act(states, noise[1 + B :])
            descend("actor", (alpha * log_prob - q(critics, states, a_new)).mean())
            if automatic:
                descend("alpha", (log_alpha * (-log_prob - wanted).detach()).mean())
            with torch.no_grad():
                for old, new in zip(slow, critics, strict=True):
                    for p, p_new in zip(old.parameters(), new.parameters(), strict=True):
                        p.copy_((1 - config.tau) * p + config.tau * p_new)
        record.keep(
            actor=actor, first=critics[0], second=critics[1], slow_first=slow[0],
            slow_second=slow[1], log_alpha=log_alpha,
        )  # fmt: skip
    return record


def places(chance: Tensor, stored: int, kept: int) -> list[int]:
    """Which of the kept transitions, the oldest first, a ring of this capacity draws."""
    return [(int(slot) - stored) % kept for slot in (chance * kept).long()]
