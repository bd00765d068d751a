"""GAE and the losses of PPO and SAC beside stable-baselines3's: the same samples, the same numbers.

`make bench` runs this before it measures; the ordinary tests have hand-worked numbers instead,
and need no peer.
"""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.logger import configure

from rl_helpers.planning_as_inference import sac_losses
from rl_helpers.planning_as_inference.squashed_gaussian import squashed_log_prob
from rl_helpers.policy_gradients import losses
from rl_helpers.policy_gradients.advantages import gae, td_errors


@pytest.mark.parametrize(("gamma", "lambda_"), [(0.9, 0.0), (0.98, 0.8), (0.99, 0.95), (1.0, 1.0)])
def test_gae(gamma: float, lambda_: float) -> None:
    """Random rollouts in which episodes terminate and are truncated.

    Theirs resets within the step, and has γ V(s_{t+1}) in the reward where an episode was truncated
    (`OnPolicyAlgorithm.collect_rollouts`).
    """
    rng = np.random.default_rng(0)
    envs, steps = 5, 40
    rewards, values, true_next = rng.normal(size=(3, envs, steps))
    terminated, truncated = rng.random((2, envs, steps)) < 0.1
    truncated &= ~terminated
    ended = terminated | truncated
    # without an end, the next value is that of the next row; the last row has one of its own
    last = rng.normal(size=envs)
    following = np.append(values[:, 1:], last[:, None], axis=1)
    next_values = np.where(ended, true_next, following)
    deltas = td_errors(rewards, values, next_values, terminated, gamma)
    ours = gae(deltas, ended, gamma, lambda_)

    space = Discrete(2)  # of observations and actions, which do not enter
    buffer = RolloutBuffer(steps, space, space, "cpu", lambda_, gamma, envs)
    paid = rewards + gamma * np.where(truncated, next_values, 0.0)
    buffer.rewards[:], buffer.values[:] = paid.T, values.T
    buffer.episode_starts[1:] = ended.T[:-1]
    buffer.compute_returns_and_advantage(torch.tensor(last), ended[:, -1])

    np.testing.assert_allclose(ours.T, buffer.advantages, rtol=1e-5, atol=1e-5)
    assert ended.any(axis=1).all(), "each rollout holds an end"


@pytest.mark.parametrize("epsilon", [0.02, 0.2])
def test_clipped_loss_and_gradients(epsilon: float) -> None:
    """One gradient step of theirs, on a rollout of CartPole, at a policy that has moved since."""
    samples, seed = 512, 3
    model = PPO(
        "MlpPolicy", "CartPole-v1", n_steps=samples, batch_size=samples, n_epochs=1, seed=seed,
        clip_range=epsilon, normalize_advantage=False, vf_coef=1.0, ent_coef=0.01,
        max_grad_norm=math.inf, learning_rate=0.0, device="cpu",
    )  # fmt: skip
    model.learn(samples)  # collects the rollout; a learning rate of 0 leaves the policy alone
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.set_logger(configure(None, []))
    model.train()
    theirs = [parameter.grad.clone() for parameter in model.policy.parameters()]
    said = model.logger.name_to_value

    batch = next(model.rollout_buffer.get())
    values, log_probs, entropy = model.policy.evaluate_actions(
        batch.observations, batch.actions.flatten()
    )
    ratio = losses.importance_ratio(log_probs, batch.old_log_prob)
    policy = -losses.clipped_surrogate(ratio, batch.advantages, epsilon).mean()
    value = 2 * losses.value_loss(values.flatten(), batch.returns).mean()  # theirs is not halved
    model.policy.zero_grad()
    (policy + value - 0.01 * entropy.mean()).backward()

    assert policy.item() == pytest.approx(said["train/policy_gradient_loss"], rel=1e-5, abs=1e-6)
    assert value.item() == pytest.approx(said["train/value_loss"], rel=1e-5)
    outside = ((ratio - 1).abs() > epsilon).float().mean().item()
    assert outside == pytest.approx(said["train/clip_fraction"])
    assert 0.1 < outside < 0.99, "some samples are outside the interval, some inside"
    for ours, other in zip(model.policy.parameters(), theirs, strict=True):
        torch.testing.assert_close(ours.grad, other, rtol=1e-4, atol=1e-5)


def test_sac_losses_gradients_and_targets() -> None:
    """One update of theirs on random steps of Pendulum-v1, some of them called terminal.

    Their actions lie between -1 and 1 when densities are taken, so c is 1 here.
    """
    samples, seed = 256, 4
    model = SAC(
        "MlpPolicy", "Pendulum-v1", seed=seed, device="cpu", learning_rate=0.0, tau=0.1,
        learning_starts=samples, batch_size=samples, ent_coef="auto_0.3",
        policy_kwargs={"net_arch": [32, 32]},
    )  # fmt: skip
    model.learn(samples)  # random steps only; a learning rate of 0 leaves all parameters alone
    rng = np.random.default_rng(seed)
    model.replay_buffer.dones[:samples] = rng.random((samples, 1)) < 0.3
    model.replay_buffer.timeouts[:samples] = False
    torch.manual_seed(seed)
    with torch.no_grad():  # away from their start, and the slow critics from the others
        for parameter in [*model.actor.parameters(), *model.critic.parameters()]:
            parameter += 0.2 * torch.randn_like(parameter)
    before = [parameter.clone() for parameter in model.critic_target.parameters()]
    model.set_logger(configure(None, []))

    np.random.seed(seed)  # noqa: NPY002  theirs draws the batch from it
    torch.manual_seed(seed)
    model.train(1, samples)
    actor_gradients = [parameter.grad.clone() for parameter in model.actor.parameters()]
    temperature_gradient = model.log_ent_coef.grad.clone()
    said = model.logger.name_to_value

    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    batch = model.replay_buffer.sample(samples)
    actions, log_probs = model.actor.action_log_prob(batch.observations)
    with torch.no_grad():
        following, next_log_probs = model.actor.action_log_prob(batch.next_observations)
        now = [parameter.clone() for parameter in model.critic_target.parameters()]
        for parameter, old in zip(model.critic_target.parameters(), before, strict=True):
            parameter.copy_(old)  # what their target was computed with
        next_q = torch.minimum(*model.critic_target(batch.next_observations, following)).flatten()
        for old, online, new in zip(before, model.critic.parameters(), now, strict=True):
            sac_losses.polyak(old, online, 0.1)
            torch.testing.assert_close(old, new)

    alpha = model.log_ent_coef.detach().exp()
    assert alpha.item() == pytest.approx(0.3)
    y = sac_losses.soft_target(
        batch.rewards.flatten(), batch.dones.flatten(), next_q, next_log_probs, alpha, 0.99
    )
    assert 0.1 < batch.dones.mean() < 0.5
    both = [
        losses.value_loss(q.flatten(), y) for q in model.critic(batch.observations, batch.actions)
    ]
    assert sum(both).mean().item() == pytest.approx(said["train/critic_loss"], rel=1e-5)

    q = torch.minimum(*model.critic(batch.observations, actions)).flatten()
    loss = sac_losses.actor_loss(log_probs, q, alpha).mean()
    assert loss.item() == pytest.approx(said["train/actor_loss"], rel=1e-5)
    gradients = torch.autograd.grad(loss, list(model.actor.parameters()))
    for ours, other in zip(gradients, actor_gradients, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)

    dual = sac_losses.temperature_loss(model.log_ent_coef, log_probs, -1.0).mean()
    assert dual.item() == pytest.approx(said["train/ent_coef_loss"], rel=1e-5)
    slope = torch.autograd.grad(dual, model.log_ent_coef)[0]
    torch.testing.assert_close(slope, temperature_gradient)


def test_squashed_log_prob() -> None:
    """Theirs adds 1e-6 before the logarithm, which does not show while |u| is below 3."""
    torch.manual_seed(0)
    mean, log_std = torch.randn(500, 2), 0.5 * torch.randn(500, 2) - 1
    theirs = SquashedDiagGaussianDistribution(2).proba_distribution(mean, log_std)
    action = theirs.sample()
    u = theirs.gaussian_actions
    near = u.abs().amax(1) < 3
    ours = squashed_log_prob(u, mean, log_std, torch.ones(2))
    torch.testing.assert_close(ours[near], theirs.log_prob(action, u)[near], rtol=1e-4, atol=1e-3)
    assert near.float().mean() > 0.9
