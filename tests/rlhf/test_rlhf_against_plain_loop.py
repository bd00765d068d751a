"""The batched loop of RLHF learns what a plain loop of one seed learns, seed by seed."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_helpers.rlhf import rlhf_ppo
from rl_helpers.rlhf.language_policy import language_shape, outputs_everywhere
from rl_helpers.rlhf.rlhf_ppo import RlhfPPOConfig, RlhfRun
from rl_helpers.rlhf.toy_language import Language
from rl_helpers.rlhf.transformer import Transformer
from tests.planting import plant
from tests.rlhf import plain_rlhf
from tests.rlhf.plain_rlhf import Record

# Both sides are float32 and sum the same numbers in another order.
ROUNDING = {"rtol": 1e-3, "atol": 1e-4}
SEED = 5
N_SEEDS = 3

language = Language(words=("a", "b"), prompts=("x?", "y?"), max_words=3)
SHAPE = language_shape(language, n_values=1, width=6, n_heads=2)
BASE = RlhfPPOConfig(
    n_iterations=4, n_responses=9, n_epochs=2, n_minibatches=3, beta=0.4, target_kl=0.05,
    epsilon=0.1, lambda_=0.8, learning_rate=0.02, last_learning_rate=0.1, value_coefficient=0.3,
    evaluate_every=1,
)  # fmt: skip
CASES: dict[str, RlhfPPOConfig] = {
    "fixed price": BASE,
    "adapted price": replace(BASE, kl_gain=3.0),
    "each seed its own settings": replace(
        BASE, beta=(0.2, 0.5, 1.0), target_kl=(0.01, 0.1, 0.5), kl_gain=(0.0, 1.0, 4.0)
    ),
}


@functools.cache
def material() -> tuple[Tensor, Tensor]:
    """Parameters of references that are not their starts' zeros, and each seed's own rewards."""
    generator = torch.Generator().manual_seed(1)
    theta = 0.7 * torch.randn(N_SEEDS, SHAPE.n_parameters, generator=generator)
    reward = torch.randn(N_SEEDS, 2, language.n_responses, generator=generator)
    return theta, 2 * reward


def train(config: RlhfPPOConfig, n_seeds: int = N_SEEDS) -> RlhfRun:
    theta, reward = material()
    reference = Transformer(theta[:n_seeds], SHAPE)
    return rlhf_ppo.train_rlhf_ppo(config, language, reference, reward[:n_seeds], SEED)


@functools.cache
def alone(config: RlhfPPOConfig, number: int) -> Record:
    """The plain loop of one seed, with this seed's own settings."""
    given = {name: getattr(config, name) for name in ("beta", "target_kl", "kl_gain")}
    own: Any = {name: v[number] if isinstance(v, tuple) else v for name, v in given.items()}
    theta, reward = material()
    return plain_rlhf.rlhf(
        replace(config, **own), language, SHAPE, theta[number], reward[number], SEED, number
    )


def everything(theta: Tensor) -> Tensor:
    """Logits and value after every prompt and prefix: all that parameters do.

    Parameters themselves would not do: a bias of the keys shifts all scores of a query, so that its
    gradient is rounding alone, of which Adam makes steps of full size.
    """
    return outputs_everywhere(Transformer(theta, SHAPE), language)


def assert_every_seed_is_the_plain_loop(run: RlhfRun, config: RlhfPPOConfig) -> list[Record]:
    ones = [alone(config, number) for number in range(len(run.thetas))]
    assert run.steps.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(run.thetas[:, 0], material()[0][: len(ones)])
    for name in ("kls", "rewards", "betas"):
        expected = torch.tensor([getattr(one, name) for one in ones])
        torch.testing.assert_close(getattr(run, name), expected, **ROUNDING, msg=name)
    for k in range(4):
        expected = everything(torch.stack([one.thetas[k] for one in ones]))
        near = torch.isclose(everything(run.thetas[:, k + 1]), expected, **ROUNDING)
        assert near.all(), f"after {k + 1} iterations {(~near).sum()} of {near.numel()} differ"
    return ones


@pytest.mark.parametrize("name", CASES)
def test_every_seed_of_a_batch_is_the_plain_loop(untyped: None, name: str) -> None:
    ones = assert_every_seed_is_the_plain_loop(train(CASES[name]), CASES[name])
    # the comparison covers responses of every length, and β that moves both ways
    lengths = [length for one in ones for length in one.lengths]
    assert set(lengths) == {1, 2, 3}
    if name == "each seed its own settings":
        moves = torch.tensor([one.betas for one in ones]).diff()
        assert bool((moves > 0).any() and (moves < 0).any() and (moves[0] == 0).all())


def test_a_seed_does_not_depend_on_those_beside_it() -> None:  # with types checked
    one, three = train(BASE, 1).thetas[:, -1], train(BASE).thetas[:, -1]
    torch.testing.assert_close(everything(one)[0], everything(three)[0], **ROUNDING)


def test_rewards_may_be_shared() -> None:
    theta, reward = material()
    reference = Transformer(theta, SHAPE)
    shared = rlhf_ppo.train_rlhf_ppo(BASE, language, reference, reward[0], SEED)
    each = rlhf_ppo.train_rlhf_ppo(BASE, language, reference, reward[:1].repeat(3, 1, 1), SEED)
    assert torch.equal(shared.thetas, each.thetas)


def test_training_leaves_the_reference_as_it_was() -> None:
    theta, _ = material()
    before = theta.clone()
    train(BASE)
    assert torch.equal(theta, before)


# ---- The comparison notices mistakes ------------------------------------------------------------

# what the mistake is, the file, what it says, what it is made to say, the case that notices
MISTAKES = [
    ("the log-ratio flipped", "rlhf/rlhf_ppo.py",
     "-price * (log_probs - log_reference)", "-price * (log_reference - log_probs)", "fixed price"),
    ("no charge", "rlhf/rlhf_ppo.py",
     "-price * (log_probs - log_reference)", "0 * (log_probs - log_reference)", "fixed price"),
    ("the end token left out", "rlhf/rlhf_ppo.py",
     "y.log_probs, log_reference, y.live, paid",
     "torch.where(y.tokens == end, log_reference, y.log_probs), log_reference, y.live, paid",
     "fixed price"),
    ("the last token left out", "rlhf/rlhf_ppo.py",
     "charges = torch.where(live, ", "charges = torch.where(live & ~last_token(live), ",
     "fixed price"),
    ("the reward at every token", "rlhf/rlhf_ppo.py",
     "reward.unsqueeze(-1) * last_token(live)", "reward.unsqueeze(-1) * live", "fixed price"),
    ("the reward at the last place, where padding is", "rlhf/rlhf_ppo.py",
     "reward.unsqueeze(-1) * last_token(live)",
     "reward.unsqueeze(-1) * (torch.arange(live.shape[-1]) == live.shape[-1] - 1)", "fixed price"),
    ("the reward at the first token", "rlhf/rlhf_ppo.py",
     "reward.unsqueeze(-1) * last_token(live)",
     "reward.unsqueeze(-1) * (torch.arange(live.shape[-1]) == 0)", "fixed price"),
    ("padding counted by the policy", "rlhf/rlhf_ppo.py",
     "masked_mean(-gain, batch.live)", "masked_mean(-gain, torch.ones_like(batch.live))", "fixed price"),
    ("padding counted by the value", "rlhf/rlhf_ppo.py",
     "masked_mean(error, batch.live)", "masked_mean(error, torch.ones_like(batch.live))", "fixed price"),
    ("a mean for each response", "rlhf/rlhf_ppo.py",
     "masked_mean(-gain, batch.live)",
     "(-(gain * batch.live).sum(-1) / batch.live.sum(-1)).mean(-1)", "fixed price"),
    ("the reference's log-probabilities for the old policy's", "rlhf/rlhf_ppo.py",
     "y.live, y.log_probs, advantages", "y.live, log_reference, advantages", "fixed price"),
    ("the current policy's for the old one's", "rlhf/rlhf_ppo.py",
     "importance_ratio(log_probs, batch.log_probs)",
     "importance_ratio(log_probs, log_probs)", "fixed price"),
    ("the policy charged against itself", "rlhf/rlhf_ppo.py",
     "outputs = outputs_before(reference, prompts", "outputs = outputs_before(policy, prompts",
     "fixed price"),
    ("advantages across responses", "rlhf/rlhf_ppo.py",
     "charged, after, ended, cut, 1.0", "charged, after, cut, cut, 1.0", "fixed price"),
    ("a value behind the end", "rlhf/rlhf_ppo.py",
     "charged, after, ended, cut, 1.0", "charged, after, cut, ended, 1.0", "fixed price"),
    ("values of the reference", "rlhf/rlhf_ppo.py",
     "outputs_before(policy, prompts, y.tokens)[..., -1]",
     "outputs_before(reference, prompts, y.tokens)[..., -1]", "fixed price"),
    ("a logit for the value", "rlhf/rlhf_ppo.py",
     "value_loss(outputs[..., -1]", "value_loss(outputs[..., -2]", "fixed price"),
    ("discounted", "rlhf/rlhf_ppo.py", "ended, cut, 1.0,", "ended, cut, 0.9,", "fixed price"),
    ("advantages as the value's targets", "rlhf/rlhf_ppo.py",
     "targets = values + advantages", "targets = advantages", "fixed price"),
    ("no clip", "rlhf/rlhf_ppo.py",
     "clipped_surrogate(ratio, batch.advantages, epsilon)",
     "clipped_surrogate(ratio, batch.advantages, 9.0)", "fixed price"),
    ("descent for ascent", "rlhf/rlhf_ppo.py",
     "masked_mean(-gain", "masked_mean(gain", "fixed price"),
    ("the value's loss not weighted", "rlhf/rlhf_ppo.py",
     "actor + config.value_coefficient * critic", "actor + critic", "fixed price"),
    ("the learning rate constant", "rlhf/rlhf_ppo.py",
     "optimizer.step(learning_rate(config, step))",
     "optimizer.step(config.learning_rate)", "fixed price"),
    ("the learning rate falls to 0", "rlhf/rlhf_ppo.py",
     "(last + (1 - last) * (1 + turn) / 2)", "(1 + turn) / 2", "fixed price"),
    ("the first minibatch again and again", "training/minibatches.py",
     "order.split(n // n_minibatches, dim=1)",
     "[order[:, : n // n_minibatches]] * n_minibatches", "fixed price"),
    ("samples of another seed", "training/minibatches.py",
     "torch.arange(n_seeds)", "torch.arange(n_seeds).flip(0)", "fixed price"),
    ("another prompt's reward", "rlhf/rlhf_ppo.py",
     "unsqueeze(1), x, language.number", "unsqueeze(1), 1 - x, language.number", "fixed price"),
    ("another seed's price", "rlhf/rlhf_ppo.py",
     "beta.unsqueeze(1), last", "beta.flip(0).unsqueeze(1), last", "each seed its own settings"),
    ("β moves the wrong way", "rlhf/rlhf_ppo.py",
     "1 + gain * (kl", "1 - gain * (kl", "adapted price"),
    ("the controller is not limited", "rlhf/rlhf_ppo.py",
     ".clip(-0.2, 0.2)", ".clip(-9, 9)", "adapted price"),
    ("β moves by an amount, not by a factor", "rlhf/rlhf_ppo.py",
     "return beta * (1 + gain * (kl / target_kl - 1).clip(-0.2, 0.2))",
     "return beta + gain * (kl / target_kl - 1).clip(-0.2, 0.2)", "adapted price"),
    ("the divergence of a token, not of a response", "rlhf/rlhf_ppo.py",
     "(y.log_probs - log_reference).sum(-1).mean(-1)",
     "(y.log_probs - log_reference).mean(-1).mean(-1)", "adapted price"),
    ("the charge in the recorded reward", "rlhf/rlhf_ppo.py",
     "return samples, drift, paid.mean(-1)", "return samples, drift, charged.sum(-1).mean(-1)",
     "fixed price"),
    ("PPO's ε for Adam", "rlhf/rlhf_ppo.py", "eps=1e-8", "eps=1e-5", "fixed price"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "right", "wrong", "case"), [pytest.param(*rest, id=what) for what, *rest in MISTAKES]
)
@pytest.mark.site  # takes long
def test_a_mistake_in_the_loop_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, file: str, right: str, wrong: str, case: str
) -> None:
    plant(monkeypatch, file, right, wrong)
    try:
        run = train(CASES[case])
    except ValueError:  # a price that is no longer positive
        return
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(run, CASES[case])
