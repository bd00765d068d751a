"""Collection from vectorised Gymnasium environments, for all seeds of an experiment in one batch.

One vector environment holds n_envs environments for each of the seeds. A policy is a function from
observations [seeds, envs, d] to logits [seeds, envs, A]. Time is the last axis of all that is
collected, so that the functions of `losses` apply as they are.

Gymnasium's vector environments reset on the step *after* an episode's end (NEXT_STEP): that step is
dead, with reward 0 and an action that nobody took. `live` is False there. In exchange, the
observation that follows a live step is always the true next one, at an episode's end too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl_helpers.training.seeds import gumbel_noise
from rl_helpers.validation import require_at_least

Policy = Callable[[Tensor], Tensor]  # observations [seeds, envs, d] to logits [seeds, envs, A]
CHUNK = 64  # steps whose noise is drawn at once


@dataclass(frozen=True, eq=False)
class Environments:
    """A vector environment whose first n_envs environments are seed 0's, the next n_envs seed 1's.

    Args:
        vector: Gymnasium's vector environment.
        n_seeds, n_envs: number of seeds, and of environments a seed.
        n_inputs: length d of an observation.
        n_actions: number of actions A.
    """

    vector: VectorEnv
    n_seeds: int
    n_envs: int
    n_inputs: int
    n_actions: int


def make_environments(
    name: str, n_seeds: int, n_envs: int, seed: int, **options: Any
) -> Environments:
    """Make a vector environment for all seeds, and reset it.

    Where Gymnasium has a vectorised version of the environment (as for CartPole-v1) it is used;
    other environments are stepped one after another.

    Args:
        name: Gymnasium's name of the environment.
        n_seeds: number of seeds, at least 1.
        n_envs: environments a seed, at least 1.
        seed: of the random first states. All seeds draw theirs from one stream: what happens to one
            depends on the others in its batch, though its distribution does not.
        options: passed on to the environment.

    Raises:
        ValueError: no seeds or environments, continuous actions, observations that are not
            vectors, or an environment that does not reset on the next step.
    """
    if n_seeds < 1 or n_envs < 1:
        raise ValueError(f"n_seeds is {n_seeds} and n_envs is {n_envs}; both must be at least 1")
    vectorised = gym.spec(name).vector_entry_point is not None
    vector = gym.make_vec(
        name,
        num_envs=n_seeds * n_envs,
        vectorization_mode="vector_entry_point" if vectorised else "sync",
        **options,
    )
    actions, observations = vector.single_action_space, vector.single_observation_space
    if not isinstance(actions, gym.spaces.Discrete):
        raise ValueError(f"{name} has the actions {actions}; discrete actions are needed")
    if not isinstance(observations, gym.spaces.Box) or len(observations.shape) != 1:
        raise ValueError(f"{name} has the observations {observations}; vectors are needed")
    if vector.metadata.get("autoreset_mode") is not AutoresetMode.NEXT_STEP:
        raise ValueError(
            f"{name} has autoreset mode {vector.metadata.get('autoreset_mode')}; NEXT_STEP is needed"
        )
    vector.reset(seed=seed)
    return Environments(vector, n_seeds, n_envs, observations.shape[0], int(actions.n))


@dataclass(frozen=True, eq=False)
class Rollout:
    """What was collected: T steps in every environment.

    Args:
        observations: s_0 to s_T [seeds, envs, T+1, d].
        actions: a_t [seeds, envs, T].
        rewards: r_t, 0 at dead steps [seeds, envs, T].
        terminated: the step entered a terminal state [seeds, envs, T].
        truncated: the episode was cut short after the step [seeds, envs, T].
        live: the step was really taken [seeds, envs, T]; average over these only.
    """

    observations: Float[Tensor, "seeds envs T1 d"]
    actions: Int[Tensor, "seeds envs T"]
    rewards: Float[Tensor, "seeds envs T"]
    terminated: Bool[Tensor, "seeds envs T"]
    truncated: Bool[Tensor, "seeds envs T"]
    live: Bool[Tensor, "seeds envs T"]

    @property
    def ended(self) -> Bool[Tensor, "seeds envs T"]:
        """The step was its episode's last."""
        return self.terminated | self.truncated


def collect(
    envs: Environments,
    policy: Policy,
    n_steps: int,
    generators: Sequence[torch.Generator],
    after: Rollout | None = None,
) -> Rollout:
    """Take n_steps in every environment, sampling actions.

    Args:
        envs: the environments.
        policy: from observations [seeds, envs, d] to logits [seeds, envs, A].
        n_steps: number of steps T, at least 1, dead ones included.
        generators: one a seed.
        after: the rollout to go on from; the environments are reset if there is none.

    Raises:
        ValueError: no steps, generators that are not one a seed, logits of the wrong shape, rewards
            that are NaN or infinite.
    """
    require_at_least(1, n_steps=n_steps)
    if after is None:
        return _collect(envs, policy, n_steps, generators, *_reset(envs), until_ended=False)
    first = after.observations[:, :, -1].flatten(0, 1).numpy()
    dead = after.ended[:, :, -1].flatten().numpy()
    return _collect(envs, policy, n_steps, generators, first, ~dead, until_ended=False)


def collect_episodes(
    envs: Environments,
    policy: Policy,
    generators: Sequence[torch.Generator] | None = None,
    max_steps: int = 100_000,
) -> Rollout:
    """Reset, and take one whole episode in every environment.

    T is the length of the longest episode of all seeds; after its own end an environment goes on,
    but its steps are not live.

    What a seed does next therefore depends on the others in its batch: until the longest episode
    ends, its generator goes on drawing noise, and environments that reset go on drawing first
    states. Its distribution does not depend on them.

    Args:
        envs: the environments.
        policy: from observations [seeds, envs, d] to logits [seeds, envs, A].
        generators: one a seed; without them the policy is greedy (an action of largest logit).
        max_steps: most steps allowed.

    Raises:
        ValueError: as for `collect`.
        RuntimeError: an episode that does not end within `max_steps`.
    """
    rollout = _collect(envs, policy, max_steps, generators, *_reset(envs), until_ended=True)
    if not bool(rollout.ended.any(-1).all()):
        raise RuntimeError(f"an episode did not end within max_steps = {max_steps:,} steps")
    return rollout


def episode_returns(episodes: Rollout) -> Float[Tensor, "seeds envs"]:
    """Undiscounted return of every episode of `collect_episodes`."""
    return episodes.rewards.sum(-1)


def evaluate(envs: Environments, policy: Policy) -> Float[Tensor, "seeds envs"]:
    """Undiscounted returns of the greedy policy, one new episode in every environment."""
    return episode_returns(collect_episodes(envs, policy))


@dataclass(frozen=True, eq=False)
class Episode:
    """One recorded episode of L steps.

    Args:
        states: observations s_0 to s_L [L+1, d].
        actions: a_0 to a_{L-1} [L].
        rewards: r_0 to r_{L-1} [L].
        terminated: whether it ended in a terminal state; otherwise it was truncated.
    """

    states: Float[np.ndarray, "L1 d"]
    actions: Int[np.ndarray, " L"]
    rewards: Float[np.ndarray, " L"]
    terminated: bool


def record_episode(name: str, policy: Policy, seed: int, **options: Any) -> Episode:
    """Record one episode of a greedy policy, to be drawn or replayed.

    Args:
        name: Gymnasium's name of the environment.
        policy: of one seed, from observations [1, 1, d] to logits [1, 1, A].
        seed: of the first state.
        options: passed on to the environment.
    """
    envs = make_environments(name, 1, 1, seed, **options)
    rollout = collect_episodes(envs, policy)
    envs.vector.close()
    return Episode(
        rollout.observations[0, 0].numpy(),
        rollout.actions[0, 0].numpy(),
        rollout.rewards[0, 0].numpy(),
        bool(rollout.terminated[0, 0, -1]),
    )


def _reset(envs: Environments) -> tuple[Any, Any]:
    observations, _ = envs.vector.reset()  # no seed: the next random first states
    return observations, np.ones(len(observations), dtype=bool)


@torch.no_grad()
def _collect(
    envs: Environments,
    policy: Policy,
    n_steps: int,
    generators: Sequence[torch.Generator] | None,
    observation: Any,
    live: Any,
    *,
    until_ended: bool,
) -> Rollout:
    """The loop of `collect` and `collect_episodes`; arrays over time are lists until the end."""
    shape = (envs.n_seeds, envs.n_envs)
    if generators is not None and len(generators) != envs.n_seeds:
        raise ValueError(f"generators holds {len(generators)}; {envs.n_seeds} seeds need one each")
    observations, steps, running = [observation], [], live
    for t in range(n_steps):
        logits = policy(torch.as_tensor(observation, dtype=torch.float32).view(*shape, -1))
        if logits.shape != (*shape, envs.n_actions):
            raise ValueError(
                f"policy returned logits of shape {tuple(logits.shape)}; "
                f"it must be [seeds, envs, A] = {(*shape, envs.n_actions)}"
            )
        if generators is not None:
            if t % CHUNK == 0:
                noise = gumbel_noise(
                    generators, (min(CHUNK, n_steps - t), envs.n_envs, envs.n_actions)
                )
            logits = logits + noise[:, t % CHUNK]
        action = logits.argmax(-1).flatten().numpy()
        observation, reward, terminated, truncated, _ = envs.vector.step(action)
        steps.append((action, reward, terminated, truncated, live))
        observations.append(observation)
        live = ~(terminated | truncated)
        if until_ended:  # no second episode
            running = live = running & live
            if not running.any():
                break
    actions, rewards, terminated, truncated, lives = (
        torch.as_tensor(np.stack(field, axis=-1)).view(*shape, -1)
        for field in zip(*steps, strict=True)
    )
    if not bool(rewards.isfinite().all()):
        seed, env, t = (~rewards.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"the reward of seed {seed}, environment {env}, step {t} is {rewards[seed, env, t]}; "
            "rewards must be finite"
        )
    return Rollout(
        torch.as_tensor(np.stack(observations, axis=1), dtype=torch.float32).view(
            *shape, len(observations), -1
        ),
        actions,
        rewards.float() * lives,
        terminated & lives,
        truncated & lives,
        lives,
    )
