"""The networks of soft actor-critic for many seeds at once, and what their policies do."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float
from torch import Tensor

from rl_helpers.planning_as_inference.squashed_gaussian import gaussian_log_prob, log_slope, squash
from rl_helpers.training.networks import initial_parameters, network, scalar_network
from rl_helpers.training.runs import EVALUATION_EPISODES
from rl_helpers.validation import require

MakeEnvironments = Callable[[int], VectorEnv]  # from a number to so many environments
LOG_STD = (-20.0, 2.0)  # smallest and largest log standard deviation, as in the paper's code


class PerSeed(NamedTuple):
    """The settings that may differ from seed to seed, as columns [seeds, 1]."""

    tau: Float[Tensor, "seeds 1"]
    alpha: Float[Tensor, "seeds 1"]  # where learning begins
    learned: Bool[Tensor, "seeds 1"]
    target_entropy: Float[Tensor, "seeds 1"]
    twin: Bool[Tensor, "seeds 1"]
    tanh_correction: Bool[Tensor, "seeds 1"]


class Actions(NamedTuple):
    """Actions of a policy and their log-densities.

    Args:
        actions: in the environment's units [seeds, n, D].
        log_probs: in nats [seeds, n].
    """

    actions: Float[Tensor, "seeds n D"]
    log_probs: Float[Tensor, "seeds n"]


def tanh(x: Tensor) -> Tensor:
    """tanh(x) = 2 / (1 + exp(-2x)) - 1, in a third of the time of torch's own; to 1e-7."""
    return (2 * x).sigmoid_().mul(2).sub_(1)


@dataclass(frozen=True, eq=False)
class Nets:
    """Each seed's policy, two critics, their slow copies, and temperature.

    Args:
        sizes, critic_sizes: widths of the networks.
        largest: of each observation; 1 where it has no bound [d].
        scale: largest action in each dimension [D].
        each: the settings of each seed.
        actor: parameters of the policy [seeds, P].
        critics, targets: parameters, all first critics before all second ones [2 seeds, P'].
        log_alpha: logarithm of the temperature [seeds, 1].
    """

    sizes: tuple[int, ...]
    critic_sizes: tuple[int, ...]
    largest: Float[Tensor, " d"]
    scale: Float[Tensor, " D"]
    each: PerSeed
    actor: Float[Tensor, "seeds P"]
    critics: Float[Tensor, "critics P2"]
    targets: Float[Tensor, "critics P2"]
    log_alpha: Float[Tensor, "seeds 1"]

    @property
    def alpha(self) -> Float[Tensor, "seeds 1"]:
        """The temperature of each seed, as a number."""
        return self.log_alpha.detach().exp()

    def observe(self, observations: np.ndarray) -> Float[Tensor, "seeds n d"]:
        """Observations of all environments [seeds * n, d], divided by their largest values."""
        x = torch.as_tensor(observations, dtype=torch.float32) / self.largest
        return x.view(len(self.actor), -1, len(self.largest))

    def gaussian(self, states: Float[Tensor, "seeds n d"]) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation [seeds, n, D] of the Gaussian before squashing."""
        mean, log_std = network(self.actor, self.sizes, tanh)(states).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD)

    def act(self, states: Float[Tensor, "seeds n d"], noise: Float[Tensor, "seeds n D"]) -> Actions:
        """Actions c tanh(μ(s) + σ(s) ε) and their log-densities, with gradients."""
        mean, log_std = self.gaussian(states)
        u = mean + log_std.exp() * noise
        stretch = torch.where(self.each.tanh_correction, log_slope(u, self.scale), 0.0)
        return Actions(squash(u, self.scale), gaussian_log_prob(u, mean, log_std) - stretch)

    def both(
        self,
        theta: Float[Tensor, "critics P2"],
        states: Float[Tensor, "seeds n d"],
        actions: Float[Tensor, "seeds n D"],
    ) -> Float[Tensor, "2 seeds n"]:
        """What both critics, with parameters theta, say of each state and action."""
        pairs = torch.cat([states, actions / self.scale], dim=-1)
        q = scalar_network(theta, self.critic_sizes, tanh)(pairs.repeat(2, 1, 1))
        return q.view(2, *states.shape[:2])

    def smaller(
        self,
        theta: Float[Tensor, "critics P2"],
        states: Float[Tensor, "seeds n d"],
        actions: Float[Tensor, "seeds n D"],
    ) -> Float[Tensor, "seeds n"]:
        """The smaller of both; the first for seeds without a twin."""
        first, second = self.both(theta, states, actions)
        return torch.where(self.each.twin, torch.minimum(first, second), first)


def start_nets(
    envs: VectorEnv,
    hidden: Sequence[int],
    each: PerSeed,
    generators: Sequence[torch.Generator],
) -> Nets:
    """Networks to start from: the Gaussian nearly standard, targets equal to the critics.

    Args:
        envs: environments, for their spaces.
        hidden: widths of the hidden layers.
        each: the settings of each seed.
        generators: one a seed.
    """
    spaces: list[Any] = [envs.single_observation_space, envs.single_action_space]
    observed, scale = (torch.as_tensor(space.high, dtype=torch.float32) for space in spaces)
    sizes = (len(observed), *hidden, 2 * len(scale))
    critic_sizes = (len(observed) + len(scale), *hidden, 1)
    actor = initial_parameters(sizes, generators, last_gain=0.01)
    critics = torch.cat([initial_parameters(critic_sizes, generators).detach() for _ in range(2)])
    log_alpha = each.alpha.log()
    return Nets(
        sizes,
        critic_sizes,
        torch.where(observed.isfinite(), observed, 1.0),
        scale,
        each,
        actor,
        critics.requires_grad_(),
        critics.detach().clone(),
        log_alpha.requires_grad_(),
    )


def require_continuous(envs: VectorEnv) -> None:
    """Raise `ValueError` unless SAC can act in these environments.

    Observations must be vectors, actions vectors within bounds -c and c, and the autoreset mode
    DISABLED, so that an episode's last observation is seen.
    """
    actions, observations = envs.single_action_space, envs.single_observation_space
    allowed = "vectors with bounds -c and c are needed, c finite and positive"
    fits = isinstance(actions, gym.spaces.Box) and len(actions.shape) == 1
    if isinstance(actions, gym.spaces.Box):
        c = actions.high
        fits = fits and bool((np.isfinite(c) & (c > 0) & (actions.low == -c)).all())
    require(fits, "the action space", actions, allowed)
    fits = isinstance(observations, gym.spaces.Box) and len(observations.shape) == 1
    require(fits, "the observation space", observations, "vectors are needed")
    mode = envs.metadata.get("autoreset_mode")
    require(mode is AutoresetMode.DISABLED, "the autoreset mode", mode, "DISABLED is needed")


class Rollouts(NamedTuple):
    """What policies did from new first states.

    Args:
        states: observations divided by their largest values [seeds, envs, T+1, d].
        actions: [seeds, envs, T, D].
        log_probs: in nats [seeds, envs, T].
        rewards: 0 after an episode's end [seeds, envs, T].
    """

    states: Float[Tensor, "seeds envs T1 d"]
    actions: Float[Tensor, "seeds envs T D"]
    log_probs: Float[Tensor, "seeds envs T"]
    rewards: Float[Tensor, "seeds envs T"]


@torch.no_grad()
def roll_out(
    nets: Nets,
    environment: MakeEnvironments,
    n_envs: int,
    seed: int,
    generators: Sequence[torch.Generator] | None = None,
    max_steps: int = 100_000,
) -> Rollouts:
    """One episode in each of n_envs environments a seed, from new first states.

    Args:
        nets: the policies.
        environment: makes the environments.
        n_envs: environments of one seed.
        seed: of the first states.
        generators: one a seed, for the policy's noise; without them it takes its median action.
        max_steps: most steps of an episode.
    """
    shape = (len(nets.actor), n_envs)
    envs = environment(math.prod(shape))
    states = nets.observe(envs.reset(seed=seed)[0])
    live, visited, steps = np.ones(math.prod(shape), dtype=bool), [states], []
    noise = torch.zeros(*shape, len(nets.scale))
    for _ in range(max_steps):
        if generators is not None:
            noise = torch.stack([torch.randn(noise.shape[1:], generator=g) for g in generators])
        actions, log_probs = nets.act(states, noise)
        observations, rewards, terminated, truncated, _ = envs.step(actions.flatten(0, 1).numpy())
        states = nets.observe(observations)
        paid = torch.as_tensor(rewards * live, dtype=torch.float32).view(shape)
        visited.append(states)
        steps.append((actions, log_probs, paid))
        ended = terminated | truncated
        live = live & ~ended
        if not live.any():
            break
        if ended.any():  # whoever waits for the others must be stepped, too
            envs.reset(options={"reset_mask": ended})
    envs.close()
    columns = (torch.stack(column, dim=2) for column in zip(*steps, strict=True))
    return Rollouts(torch.stack(visited, dim=2), *columns)


def evaluate(nets: Nets, environment: MakeEnvironments, seed: int) -> Float[np.ndarray, " seeds"]:
    """Mean undiscounted return of each seed's median actions, over 20 episodes."""
    episodes = roll_out(nets, environment, EVALUATION_EPISODES, seed)
    return episodes.rewards.sum(-1).mean(-1).double().numpy()
