"""Soft actor-critic (SAC): maximum-entropy learning with continuous actions; all seeds in one batch."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from jaxtyping import Float, Int
from torch import Tensor

from rl_helpers.planning_as_inference.pendulum import Pendulums
from rl_helpers.planning_as_inference.replay import Replay, Transitions
from rl_helpers.planning_as_inference.sac_losses import (
    actor_loss,
    polyak,
    soft_target,
    temperature_loss,
)
from rl_helpers.planning_as_inference.sac_nets import (
    MakeEnvironments,
    Nets,
    PerSeed,
    evaluate,
    require_continuous,
    start_nets,
)
from rl_helpers.policy_gradients.losses import value_loss
from rl_helpers.training.optim import Adam
from rl_helpers.training.recorder import progress, raise_if_diverged
from rl_helpers.training.runs import solved_at
from rl_helpers.training.seeds import seed_generators
from rl_helpers.validation import require, require_at_least, require_positive, require_unit

CHUNK = 64  # steps whose noise is drawn at once
ADAM_EPS = 1e-8


@dataclass(frozen=True)
class SACConfig:
    """Settings of SAC; what it is made of can be switched off.

    For a setting marked * a tuple gives each seed its own, so that one batch compares many.

    Args:
        total_steps: environment steps of one seed.
        random_steps: so many steps take uniform actions, and nothing is learned; at least
            batch_size.
        batch_size: transitions of an update. There is one update for each further step.
        capacity: transitions that the replay memory keeps.
        hidden: widths of the hidden layers, of actor and critics each.
        gamma: discount, 0 to 1.
        learning_rate: of actor, critics and temperature; positive.
        tau*: share by which the target critics follow after each update, 0 to 1.
        alpha*: the temperature, positive; None: learned, starting from 1.
        target_entropy*: in nats; None: minus the number of the action's dimensions.
        twin*: take the smaller of two critics; otherwise the first.
        tanh_correction*: log-densities of the squashed action; otherwise those of the Gaussian
            before squashing, which is a mistake.
        evaluate_every: environment steps between evaluations.
        stop_at: stop once every seed has three evaluations in a row of at least this mean return.
    """

    total_steps: int = 4_000
    random_steps: int = 300
    batch_size: int = 64
    capacity: int = 100_000
    hidden: tuple[int, ...] = (32, 32)
    gamma: float = 0.98
    learning_rate: float = 3e-3
    tau: float | tuple[float, ...] = 0.01
    alpha: float | tuple[float | None, ...] | None = None
    target_entropy: float | tuple[float | None, ...] | None = None
    twin: bool | tuple[bool, ...] = True
    tanh_correction: bool | tuple[bool, ...] = True
    evaluate_every: int = 250
    stop_at: float | None = None

    def __post_init__(self) -> None:
        require_at_least(1, batch_size=self.batch_size, capacity=self.capacity)
        allowed = f"it must be at least batch_size = {self.batch_size}, for the first batch"
        require(self.random_steps >= self.batch_size, "random_steps", self.random_steps, allowed)
        require(self.capacity >= self.batch_size, "capacity", self.capacity, allowed)
        allowed = f"it must be 1 to total_steps = {self.total_steps}"
        fits = 1 <= self.evaluate_every <= self.total_steps
        require(fits, "evaluate_every", self.evaluate_every, allowed)
        require_unit(gamma=self.gamma)
        for tau in self.tau if isinstance(self.tau, tuple) else (self.tau,):
            require_unit(tau=tau)
        alphas = self.alpha if isinstance(self.alpha, tuple) else (self.alpha,)
        require_positive(learning_rate=self.learning_rate)
        require_positive(alpha=tuple(alpha for alpha in alphas if alpha is not None))


def train_sac(
    config: SACConfig,
    n_seeds: int,
    seed: int = 0,
    environment: MakeEnvironments = Pendulums,
) -> "SACRun":
    """Train one policy, two critics and one temperature a seed by SAC.

    Each step is stored in a replay memory, and followed by one update from a batch of
    it: of the critics towards the soft target, of the policy, of the temperature, and
    of the slow critics.

    Args:
        config: the settings.
        n_seeds: number of seeds, trained in one batch.
        seed: the experiment's seed; with the same number of threads, on the same
            machine, the run repeats bit for bit.
        environment: makes so many environments, Gymnasium's vector environment with
            autoreset disabled; its actions have bounds.

    Raises:
        ValueError: settings out of range, no seeds, an environment that does not fit.
        FloatingPointError: parameters that are no longer finite; names the seed and its
            steps.

    Source: eq-sac-target, eq-sac-critic, eq-sac-actor, eq-temperature, eq-polyak;
    Haarnoja et al. (2018b), algorithm 1.
    """
    generators = seed_generators(seed, n_seeds)
    envs = environment(n_seeds)
    require_continuous(envs)
    each, rate = per_seed(config, n_seeds, envs), config.learning_rate
    nets = start_nets(envs, config.hidden, each, generators)
    actor, critics, temperature = (
        Adam([theta], ADAM_EPS) for theta in (nets.actor, nets.critics, nets.log_alpha)
    )
    memory = Replay(n_seeds, config.capacity, len(nets.largest), len(nets.scale))
    record = Record(config, nets, environment, seed)
    noises = draw_noise(generators, config.batch_size, len(nets.scale))
    states = nets.observe(envs.reset(seed=seed)[0])
    while not record.finished:
        noise, learning = next(noises), record.steps >= config.random_steps
        actions = nets.scale * noise.uniform
        if learning:
            actions = nets.act(states, noise.action).actions
        states = step_and_store(envs, nets, memory, states, actions)
        if learning:
            batch = memory.sample(noise.chance)
            critic_loss(nets, batch, noise.next_action, config.gamma).sum().backward()
            critics.step(rate)
            loss, log_probs = policy_loss(nets, batch.states, noise.new_action)
            loss.sum().backward()
            actor.step(rate)
            dual = temperature_loss(nets.log_alpha, log_probs, each.target_entropy)
            (dual.mean(-1, True) * each.learned).sum().backward()
            temperature.step(rate)
            polyak(nets.targets, nets.critics, each.tau.repeat(2, 1))
        record.step()
    return record.run()


def critic_loss(
    nets: Nets, batch: Transitions, noise: Float[Tensor, "seeds n D"], gamma: float
) -> Float[Tensor, " seeds"]:
    """Half the mean squared distance of both critics from the soft target.

    Args:
        nets: what learns.
        batch: transitions.
        noise: standard normal, for the actions in the next states.
        gamma: discount.

    Source: eq-sac-critic with eq-sac-target.
    """
    with torch.no_grad():
        following, log_probs = nets.act(batch.next_states, noise)
        next_q = nets.smaller(nets.targets, batch.next_states, following)
        rewards, d = batch.rewards, batch.terminated
        y = soft_target(rewards, d, next_q, log_probs, nets.alpha, gamma)
    q = nets.both(nets.critics, batch.states, batch.actions)
    return value_loss(q, y.expand_as(q)).mean(-1).sum(0)


def policy_loss(
    nets: Nets, states: Float[Tensor, "seeds n d"], noise: Float[Tensor, "seeds n D"]
) -> tuple[Float[Tensor, " seeds"], Float[Tensor, "seeds n"]]:
    """The mean of the actor's loss over new actions, and their log-densities.

    Args:
        nets: what learns; critics and temperature count as numbers here.
        states: of the batch.
        noise: standard normal, for the actions.

    Source: eq-sac-actor.
    """
    actions, log_probs = nets.act(states, noise)
    q = nets.smaller(nets.critics.detach(), states, actions)
    return actor_loss(log_probs, q, nets.alpha).mean(-1), log_probs


def step_and_store(
    envs: VectorEnv,
    nets: Nets,
    memory: Replay,
    states: Float[Tensor, "seeds 1 d"],
    actions: Float[Tensor, "seeds 1 D"],
) -> Float[Tensor, "seeds 1 d"]:
    """Take one step in each environment and store it; where an episode has ended, begin another.

    Returns:
        The states to go on from.
    """
    actions = actions.detach().squeeze(1)
    observations, rewards, terminated, truncated, _ = envs.step(actions.numpy())
    following = nets.observe(observations)
    paid = torch.as_tensor(rewards, dtype=torch.float32)
    # only a terminal state is worth nothing: whoever ran out of time might have gone on
    memory.store(
        states.squeeze(1), actions, paid, following.squeeze(1), torch.as_tensor(terminated)
    )
    ended = terminated | truncated
    if ended.any():
        following = nets.observe(envs.reset(options={"reset_mask": ended})[0])
    return following


class Noise(NamedTuple):
    """The random numbers of one step.

    Args:
        uniform: between -1 and 1, for random actions [seeds, 1, D].
        action: standard normal, for the policy's action [seeds, 1, D].
        chance: between 0 and 1, for the batch [seeds, n].
        next_action, new_action: standard normal, for actions in s' and in s [seeds, n, D].
    """

    uniform: Float[Tensor, "seeds 1 D"]
    action: Float[Tensor, "seeds 1 D"]
    chance: Float[Tensor, "seeds n"]
    next_action: Float[Tensor, "seeds n D"]
    new_action: Float[Tensor, "seeds n D"]


def draw_noise(
    generators: Sequence[torch.Generator], batch_size: int, n_actions: int
) -> Iterator[Noise]:
    """Random numbers, step after step, each seed's from its own generator.

    Args:
        generators: one a seed.
        batch_size: transitions of an update.
        n_actions: dimensions of an action.
    """
    while True:
        flat = torch.stack(
            [torch.rand(CHUNK, n_actions + batch_size, generator=g) for g in generators]
        )
        shape = (CHUNK, 1 + 2 * batch_size, n_actions)
        normal = torch.stack([torch.randn(shape, generator=g) for g in generators])
        for t in range(CHUNK):
            uniform, chance = flat[:, t].split([n_actions, batch_size], dim=1)
            action, following, new = normal[:, t].split([1, batch_size, batch_size], dim=1)
            yield Noise(2 * uniform.unsqueeze(1) - 1, action, chance, following, new)


def per_seed(config: SACConfig, n_seeds: int, envs: VectorEnv) -> PerSeed:
    """The settings of each seed, as columns.

    Args:
        config: the settings.
        n_seeds: how many seeds.
        envs: environments, for the dimensions of an action.

    Raises:
        ValueError: a tuple that holds neither 1 nor n_seeds settings.
    """

    def column(name: str, default: float | None = None) -> Tensor:
        given = getattr(config, name)
        values = given if isinstance(given, tuple) else (given,)
        allowed = f"with n_seeds {n_seeds} it must be 1 or that many"
        require(len(values) in (1, n_seeds), f"the length of {name}", len(values), allowed)
        numbers = torch.tensor([default if x is None else x for x in values])
        return numbers.unsqueeze(1).expand(n_seeds, 1)

    n_actions = math.prod(envs.single_action_space.shape or ())
    alpha = column("alpha", math.nan)
    return PerSeed(
        column("tau"),
        alpha.nan_to_num(1.0),
        alpha.isnan(),
        column("target_entropy", -float(n_actions)),
        column("twin"),
        column("tanh_correction"),
    )


@dataclass(frozen=True, eq=False)
class SACRun:
    """What a training run leaves.

    Args:
        steps: environment steps of one seed at each evaluation [k].
        returns: mean undiscounted return of the median actions over 20 episodes [seeds, k].
        nets: the networks at each evaluation.
    """

    steps: Int[np.ndarray, " k"]
    returns: Float[np.ndarray, "seeds k"]
    nets: tuple[Nets, ...]

    @property
    def alpha(self) -> Float[np.ndarray, "seeds k"]:
        """The temperature of each seed at each evaluation."""
        return torch.cat([nets.alpha for nets in self.nets], 1).double().numpy()


class Record:
    """Follows the loop: counts its steps, evaluates its policies, and makes its `SACRun`."""

    def __init__(
        self, config: SACConfig, nets: Nets, environment: MakeEnvironments, seed: int
    ) -> None:
        self.config, self.nets, self.environment, self.seed = config, nets, environment, seed
        self.steps, self.solved = 0, False
        self.returns: list[np.ndarray] = []
        self.kept: list[Nets] = []
        self.bar = progress(config.total_steps, "SAC")

    @property
    def finished(self) -> bool:
        """Whether the steps are spent, or all seeds have solved the task."""
        return self.solved or self.steps >= self.config.total_steps

    def step(self) -> None:
        """Close a step; evaluate if it is time."""
        self.steps += 1
        if self.steps % CHUNK == 0:
            self._raise_if_diverged()
            self.bar.update(self.steps - self.bar.n)
        if self.steps % self.config.evaluate_every == 0:
            self._raise_if_diverged()
            self._evaluate()

    def run(self) -> SACRun:
        """What the run leaves."""
        self.bar.close()
        return SACRun(self._grid(), np.stack(self.returns, axis=1), tuple(self.kept))

    def _grid(self) -> np.ndarray:
        return self.config.evaluate_every * np.arange(1, len(self.kept) + 1)

    def _raise_if_diverged(self) -> None:
        nets = self.nets
        critics = torch.cat(list(nets.critics.chunk(2)), dim=1)
        raise_if_diverged("SAC", self.steps, theta=nets.actor, critics=critics, alpha=nets.alpha)

    def _evaluate(self) -> None:
        nets = self.nets
        copies = {
            name: getattr(nets, name).detach().clone()
            for name in ("actor", "critics", "targets", "log_alpha")
        }
        self.kept.append(replace(nets, **copies))
        first = self.seed + 1_000 * len(self.kept)
        self.returns.append(evaluate(self.kept[-1], self.environment, first))
        if self.config.stop_at is not None:
            solved = solved_at(self._grid(), np.stack(self.returns, 1), self.config.stop_at)
            self.solved = bool(np.isfinite(solved).all())
