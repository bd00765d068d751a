"""Gymnasium's Pendulum-v1 as arrays: any number of pendulums in one step."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float

from rl_helpers.validation import require_at_least

Array = np.ndarray
GRAVITY, MASS, LENGTH, SECONDS = 10.0, 1.0, 1.0, 0.05  # m/s², kg, m, and s a step
MAX_TORQUE, MAX_SPEED = 2.0, 8.0  # N m, rad/s
TIME_LIMIT = 200  # steps of an episode


def swing(
    angle: Float[Array, " n"], speed: Float[Array, " n"], torque: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    """One step of n pendulums.

    Args:
        angle: in rad, 0 upright [n].
        speed: angular velocity in rad/s [n].
        torque: in N m [n]; what exceeds the largest torque is cut off.

    Returns:
        The next angle, the next speed, and the reward [n] each: minus the squared angle, taken
        between -π and π, minus a tenth of the squared speed and a thousandth of the squared torque.

    Source: `PendulumEnv.step` of Gymnasium (Towers et al., 2024).
    """
    torque = torque.clip(-MAX_TORQUE, MAX_TORQUE)
    lean = (angle + np.pi) % (2 * np.pi) - np.pi
    reward = -(lean**2 + 0.1 * speed**2 + 0.001 * torque**2)
    pull = 3 * GRAVITY / (2 * LENGTH) * np.sin(angle)
    speed = speed + (pull + 3 / (MASS * LENGTH**2) * torque) * SECONDS
    speed = speed.clip(-MAX_SPEED, MAX_SPEED)
    return angle + speed * SECONDS, speed, reward


class Pendulums(VectorEnv):
    """n pendulums that swing independently, with the spaces and first states of Pendulum-v1.

    Like n copies of Gymnasium's own with autoreset disabled: whoever steps them resets those
    whose episode has ended, by the option `reset_mask`. Each has its own random stream.

    Args:
        num_envs: how many, at least 1.
        time_limit: steps after which an episode is truncated, at least 1.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(self, num_envs: int, time_limit: int = TIME_LIMIT) -> None:
        require_at_least(1, num_envs=num_envs, time_limit=time_limit)
        self.num_envs, self.time_limit = num_envs, time_limit
        high = np.array([1, 1, MAX_SPEED], dtype=np.float32)
        self.single_observation_space = gym.spaces.Box(-high, high)
        self.single_action_space = gym.spaces.Box(-MAX_TORQUE, MAX_TORQUE, (1,))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.angle, self.speed = np.zeros((2, num_envs))
        self.steps = np.zeros(num_envs, dtype=int)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[Array, "n 3"], dict[str, Any]]:
        """Begin new episodes: angles within ±π rad, speeds within ±1 rad/s, uniformly.

        Args:
            seed: of the first pendulum's stream; the next one's is seed + 1. None: go on.
            options: `reset_mask` [n], which of them; all by default.
        """
        if seed is not None or not hasattr(self, "streams"):
            sequence = np.random.SeedSequence(seed).entropy
            self.streams = [np.random.default_rng(sequence + i) for i in range(self.num_envs)]  # type: ignore[operator]
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        high = np.array([np.pi, 1.0])
        for i in mask.nonzero()[0]:
            self.angle[i], self.speed[i] = self.streams[i].uniform(-high, high)
        self.steps[mask] = 0
        return self.observations, {}

    def step(
        self, actions: Float[Array, "n 1"]
    ) -> tuple[
        Float[Array, "n 3"],
        Float[Array, " n"],
        Bool[Array, " n"],
        Bool[Array, " n"],
        dict[str, Any],
    ]:
        """Apply the torques; episodes never terminate, and are truncated at the time limit."""
        self.angle, self.speed, rewards = swing(self.angle, self.speed, actions[:, 0])
        self.steps += 1
        terminated = np.zeros(self.num_envs, dtype=bool)
        return self.observations, rewards, terminated, self.steps >= self.time_limit, {}

    @property
    def observations(self) -> Float[Array, "n 3"]:
        """Cosine and sine of the angle, and the speed in rad/s."""
        seen = [np.cos(self.angle), np.sin(self.angle), self.speed]
        return np.stack(seen, axis=1).astype(np.float32)
