"""REINFORCE, A2C and PPO of one seed, as their papers state them, to compare the batched loops with.

Nothing here is batched over seeds or masked: environments are stepped one by one, a step that was
not taken is not there, advantages are sums written out, and losses, optimisers and clipping are
torch's own. Shared with the batched loops are only the first parameters and the random streams:
one `torch.Generator` a seed, which draws in this order the parameters, then for each iteration the
Gumbel noise of the actions (for at most 64 steps at once) and one permutation for each epoch.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from rl_helpers.policy_gradients.a2c import A2CConfig
from rl_helpers.policy_gradients.reinforce import ReinforceConfig
from rl_helpers.training.networks import initial_parameters

# ---- A small environment ------------------------------------------------------------------------


class Slope(gym.Env):
    """A ball on a round hill, pushed left, not at all, or right; it is lost beyond ±1.

    Rewards differ from step to step and from action to action, so that one in the wrong place is
    noticed.

    Args:
        same_start: begin each episode where the first one began.
    """

    observation_space = gym.spaces.Box(-9.0, 9.0, (2,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, same_start: bool = False) -> None:
        self.same_start = same_start

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        if seed is not None or not self.same_start:
            self.start = self.np_random.uniform(-0.6, 0.6, 2)
        self.x, self.speed = self.start
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, Any]:
        self.speed += 0.4 * (action - 1) + 0.3 * self.x
        self.x += 0.4 * self.speed
        reward = 1.0 - self.x**2 + 0.3 * self.x - 0.2 * abs(action - 1)
        return self._observation(), float(reward), bool(abs(self.x) > 1), False, {}

    def _observation(self) -> np.ndarray:
        return np.array([self.x, self.speed], dtype=np.float32)


SLOPE, SAME_START = "plain/Slope-v0", "plain/SlopeSameStart-v0"
for _name in {SLOPE, SAME_START} - set(gym.registry):  # pytest reads a file twice, for doctests
    gym.register(
        _name,
        Slope,
        max_episode_steps=6,  # short, so that many episodes are truncated
        disable_env_checker=True,
        kwargs={"same_start": _name == SAME_START},
    )


# ---- One seed -----------------------------------------------------------------------------------


class Step(NamedTuple):
    state: Tensor
    action: int
    reward: float
    next_state: Tensor
    terminated: bool
    truncated: bool

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated


Row = Sequence[Step | None]  # what one environment did; None: it only began a new episode


@dataclass
class Record:
    """What one seed leaves, iteration by iteration."""

    steps: list[int] = field(default_factory=list)  # environment steps taken until then
    theta: list[Tensor] = field(default_factory=list)
    policy_losses: list[float] = field(default_factory=list)
    value_losses: list[float] = field(default_factory=list)
    ratios: list[list[float | None]] = field(default_factory=list)
    diagnostics: list[dict[str, float]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def iteration(self, n_steps: int, actor: nn.Sequential, losses: list[list[Tensor]]) -> None:
        self.steps.append((self.steps or [0])[-1] + n_steps)
        self.theta.append(
            torch.cat(
                [
                    x.flatten()
                    for a in actor
                    if isinstance(a, nn.Linear)
                    for x in (a.weight.T, a.bias)
                ]
            )
            .detach()
            .clone()
        )
        policy, value = np.array([[loss.item() for loss in pair] for pair in losses]).mean(0)
        self.policy_losses.append(policy)
        self.value_losses.append(value)

    @property
    def spent(self) -> int:
        return self.steps[-1] if self.steps else 0


class Seed:
    """The random stream, the environments and the networks of one seed of an experiment.

    Args:
        name: of the environment.
        n_envs: how many of it.
        seed, number: the experiment's seed, and which of its seeds this is.
        hidden: widths of the hidden layers.
        orthogonal: which kind of first parameters.
    """

    def __init__(
        self,
        name: str,
        n_envs: int,
        seed: int,
        number: int,
        hidden: Sequence[int],
        orthogonal: bool = True,
    ) -> None:
        stream = np.random.SeedSequence(seed).spawn(number + 1)[number]
        self.generator = torch.Generator().manual_seed(int(stream.generate_state(1, np.uint64)[0]))
        self.envs = [gym.make(name) for _ in range(n_envs)]
        for place, env in enumerate(self.envs, start=number * n_envs):
            env.reset(seed=seed + place)
        n_inputs, n_actions = env.observation_space.shape[0], int(env.action_space.n)  # type: ignore[attr-defined]
        self.n_actions, self.seen = n_actions, Counter[str]()

        def first(n_outputs: int, last_gain: float) -> nn.Sequential:
            sizes = (n_inputs, *hidden, n_outputs)
            theta = initial_parameters(
                sizes, [self.generator], last_gain=last_gain, orthogonal=orthogonal
            )
            return layers(theta[0].detach(), sizes)

        self.actor, self.critic = first(n_actions, 0.01), first(1, 1.0)

    def reset(self) -> None:
        """Begin a new episode everywhere."""
        self.states = [torch.tensor(env.reset()[0]) for env in self.envs]
        self.ended = [False] * len(self.envs)

    @torch.no_grad()
    def clock(self, n_steps: int) -> Iterator[list[Step | None]]:
        """At each tick what every environment did: a step, or after an end only a reset."""
        for t in range(n_steps):
            if t % 64 == 0:
                shape = (min(64, n_steps - t), len(self.envs), self.n_actions)
                noise = -torch.empty(shape).exponential_(generator=self.generator).log()
            yield [self._tick(e, noise[t % 64, e]) for e in range(len(self.envs))]

    def _tick(self, e: int, noise: Tensor) -> Step | None:
        env, state = self.envs[e], self.states[e]
        if self.ended[e]:
            self.states[e], self.ended[e] = torch.tensor(env.reset()[0]), False
            self.seen["dead"] += 1
            return None
        action = int((self.actor(state) + noise).argmax())
        observation, reward, terminated, truncated, _ = env.step(action)
        self.states[e], self.ended[e] = torch.tensor(observation), terminated or truncated
        self.seen["terminated"] += terminated
        self.seen["truncated"] += truncated and not terminated
        return Step(state, action, float(reward), self.states[e], terminated, truncated)

    def rollout(self, n_steps: int) -> list[Row]:
        """So many ticks in every environment, one row each."""
        return list(zip(*self.clock(n_steps), strict=True))

    def episodes(self) -> list[list[Step]]:
        """One whole episode in every environment; all tick on until the longest has ended."""
        self.reset()
        rows: list[list[Step]] = [[] for _ in self.envs]
        for now in self.clock(100_000):
            for row, step in zip(rows, now, strict=True):
                if step is not None and not (row and row[-1].ended):
                    row.append(step)
            if all(row[-1].ended for row in rows):
                break
        return rows

    def value(self, state: Tensor) -> float:
        with torch.no_grad():
            return self.critic(state).item()


def layers(theta: Tensor, sizes: Sequence[int]) -> nn.Sequential:
    """Torch's own layers, with the parameters `theta` [P]."""
    modules: list[nn.Module] = []
    for n_in, n_out in zip(sizes, sizes[1:]):  # noqa: B905, RUF007
        linear = nn.Linear(n_in, n_out)
        weight, bias, theta = theta.split([n_in * n_out, n_out, len(theta) - (n_in + 1) * n_out])
        linear.weight.data, linear.bias.data = weight.view(n_in, n_out).T.clone(), bias.clone()
        modules += [linear, nn.Tanh()]
    return nn.Sequential(*modules[:-1])


# ---- What the algorithms weigh their gradients with ---------------------------------------------


def returns_of(episode: Sequence[Step], gamma: float, last_value: float) -> list[float]:
    """Discounted sum of the rewards to come; a truncated episode goes on as its last state's value."""
    rewards = [step.reward for step in episode]
    if not episode[-1].terminated:
        rewards.append(last_value)
    return [
        sum(gamma**k * reward for k, reward in enumerate(rewards[t:])) for t in range(len(episode))
    ]


def advantages_of(row: Row, seed: Seed, gamma: float, lambda_: float) -> list[float]:
    """Equation 16 of Schulman et al. (2016): Σ (γλ)^k δ_{t+k}, to the end of the episode."""
    found = []
    for t in range(len(row)):
        total = 0.0
        for k, step in enumerate(row[t:]):
            if step is None:
                break
            after = 0.0 if step.terminated else seed.value(step.next_state)
            delta = step.reward + gamma * after - seed.value(step.state)
            total += (gamma * lambda_) ** k * delta
            if step.ended:
                break
        found.append(total)
    return found


def log_probs_of(actor: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
    return -F.cross_entropy(actor(states), actions, reduction="none")


def entropy_of(actor: nn.Module, states: Tensor) -> Tensor:
    return torch.distributions.Categorical(logits=actor(states)).entropy().mean()


def adam(network: Sequence[nn.Module], learning_rate: float, eps: float) -> torch.optim.Adam:
    return torch.optim.Adam([p for n in network for p in n.parameters()], learning_rate, eps=eps)


def descend(optimizer: torch.optim.Adam, loss: Tensor, max_grad_norm: float) -> None:
    optimizer.zero_grad()
    loss.backward()
    clip_grad_norm_(optimizer.param_groups[0]["params"], max_grad_norm)
    optimizer.step()


# ---- The algorithms -----------------------------------------------------------------------------


def reinforce(config: ReinforceConfig, name: str, seed: int, number: int) -> Record:
    """Williams (1992), with a learned value as baseline."""
    one = Seed(name, config.n_episodes, seed, number, config.hidden)
    policy = adam([one.actor], config.learning_rate, 1e-8)
    baseline = adam([one.critic], config.baseline_learning_rate, 1e-8)
    record = Record(seen=one.seen)
    while record.spent < config.total_steps:
        episodes = one.episodes()
        steps = [step for episode in episodes for step in episode]
        returns = []
        for episode in episodes:
            last = one.value(episode[-1].next_state) if config.baseline else 0.0
            returns += returns_of(episode, config.gamma, last)
        states = torch.stack([step.state for step in steps])
        actions, G = torch.tensor([step.action for step in steps]), torch.tensor(returns)

        weights = G - one.critic(states).squeeze(-1).detach() if config.baseline else G
        policy_loss = -(log_probs_of(one.actor, states, actions) * weights).mean()
        value_loss = F.mse_loss(one.critic(states).squeeze(-1), G) / 2
        descend(policy, policy_loss, config.max_grad_norm)
        if config.baseline:
            descend(baseline, value_loss, config.max_grad_norm)
        record.iteration(len(steps), one.actor, [[policy_loss, value_loss]])
    return record


def a2c(config: A2CConfig, name: str, seed: int, number: int) -> Record:
    """Mnih et al. (2016) without asynchrony, with the advantages of Schulman et al. (2016)."""
    one = Seed(name, config.n_envs, seed, number, config.hidden)
    actor = adam([one.actor], config.learning_rate, 1e-5)
    critic = adam([one.critic], config.critic_learning_rate, 1e-5)
    record = Record(seen=one.seen)
    one.reset()
    while record.spent < config.total_steps:
        rows = one.rollout(config.n_steps)
        weighed = [(row, advantages_of(row, one, config.gamma, config.lambda_)) for row in rows]
        taken = [(step, A) for row, As in weighed for step, A in zip(row, As, strict=True) if step]
        states = torch.stack([step.state for step, _ in taken])
        actions = torch.tensor([step.action for step, _ in taken])
        advantages = torch.tensor([A for _, A in taken])
        targets = one.critic(states).squeeze(-1).detach() + advantages

        policy_loss = -(log_probs_of(one.actor, states, actions) * advantages).mean()
        value_loss = F.mse_loss(one.critic(states).squeeze(-1), targets) / 2
        bonus = config.entropy_coefficient * entropy_of(one.actor, states)
        descend(actor, policy_loss - bonus, config.max_grad_norm)
        descend(critic, value_loss, config.max_grad_norm)
        record.iteration(config.n_envs * config.n_steps, one.actor, [[policy_loss, value_loss]])
    return record


class Sample(NamedTuple):
    state: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor


def ppo(config: Any, name: str, seed: int, number: int) -> Record:
    """Schulman et al. (2017), algorithm 1, with the details of Huang et al. (2022).

    Args:
        config: a `PPOConfig` whose settings are those of this seed: no tuples.
        name, seed, number: as for `Seed`.
    """
    one = Seed(name, config.n_envs, seed, number, config.hidden, config.orthogonal_init)
    optimizer = adam([one.actor, one.critic], config.learning_rate, config.adam_eps)
    record, n = Record(seen=one.seen), config.n_envs * config.n_steps
    one.reset()
    while record.spent < config.total_steps:
        left = 1 - record.spent / config.total_steps
        epsilon = config.epsilon * (left if config.anneal_epsilon else 1)
        optimizer.param_groups[0]["lr"] = config.learning_rate * (
            left if config.anneal_learning_rate else 1
        )
        samples: dict[int, Sample] = {}  # by their place in the rollout; resets are left out
        for e, row in enumerate(one.rollout(config.n_steps)):
            advantages = advantages_of(row, one, config.gamma, config.lambda_)
            for t, (step, advantage) in enumerate(zip(row, advantages, strict=True)):
                if step is not None:
                    action = torch.tensor(step.action)
                    log_prob = one.actor(step.state).log_softmax(-1)[action].detach()
                    value = torch.tensor(one.value(step.state))
                    place = e * config.n_steps + t
                    samples[place] = Sample(
                        step.state, action, log_prob, value, torch.tensor(advantage)
                    )
        losses = []
        for _ in range(config.n_epochs):
            order = torch.randperm(n, generator=one.generator).tolist()
            size = n // config.n_minibatches
            for start in range(0, n, size):
                chosen = [samples[i] for i in order[start : start + size] if i in samples]
                states, actions, old, old_values, A = map(torch.stack, zip(*chosen, strict=True))
                targets = old_values + A
                if config.normalise_advantages:
                    A = (A - A.mean()) / (A.std(correction=0) + 1e-8)
                ratio = (log_probs_of(one.actor, states, actions) - old).exp()
                clipped = ratio.clip(1 - epsilon, 1 + epsilon)
                policy_loss = -torch.min(ratio * A, clipped * A).mean()
                values = one.critic(states).squeeze(-1)
                near = old_values + (values - old_values).clip(
                    -config.value_clip, config.value_clip
                )
                value_loss = torch.max((values - targets) ** 2, (near - targets) ** 2).mean() / 2
                bonus = config.entropy_coefficient * entropy_of(one.actor, states)
                loss = policy_loss + config.value_coefficient * value_loss - bonus
                descend(optimizer, loss, config.max_grad_norm)
                losses.append([policy_loss, value_loss])
        record.iteration(n, one.actor, losses)
        with torch.no_grad():
            record.ratios.append([
                (one.actor(x.state).log_softmax(-1)[x.action] - x.log_prob).exp().item()
                if (x := samples.get(i)) else None
                for i in range(n)
            ])  # fmt: skip
            record.diagnostics.append(diagnostics(one, list(samples.values()), epsilon))
    return record


def diagnostics(one: Seed, samples: list[Sample], epsilon: float) -> dict[str, float]:
    """The numbers to watch, of one iteration after its last update, by their definitions."""
    log_probs = [one.actor(x.state).log_softmax(-1).double() for x in samples]
    ratios = [
        float((p[x.action] - x.log_prob).exp()) for p, x in zip(log_probs, samples, strict=True)
    ]
    targets = [float(x.value + x.advantage) for x in samples]
    errors = [target - float(x.value) for target, x in zip(targets, samples, strict=True)]
    return {
        "kl": statistics.fmean(rho - 1 - math.log(rho) for rho in ratios),
        "clip_fraction": statistics.fmean(not 1 - epsilon <= rho <= 1 + epsilon for rho in ratios),
        "entropy": statistics.fmean(float(-(p.exp() * p).sum()) for p in log_probs),
        "explained_variance": 1 - statistics.pvariance(errors) / statistics.pvariance(targets),
        "target_spread": statistics.pstdev(targets),
    }
