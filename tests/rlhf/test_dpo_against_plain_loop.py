"""The batched loop of DPO learns what a plain loop of one seed learns, seed by seed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_helpers.rlhf import dpo
from rl_helpers.rlhf.dpo import DpoConfig, DpoRun
from rl_helpers.rlhf.language_policy import language_shape
from rl_helpers.rlhf.preferences import Comparisons
from rl_helpers.rlhf.toy_language import Language
from rl_helpers.rlhf.transformer import initial_parameters
from rl_helpers.training.seeds import seed_generators
from tests.planting import plant
from tests.rlhf import plain_dpo

# Both sides are float64 and sum the same numbers in another order. (Where steps of a pair cancel, the
# gradient is 0 but for rounding, which Adam would blow up if it were that of float32.)
ROUNDING = {"rtol": 1e-7, "atol": 1e-7}
SEED, SEEDS, N = 3, 3, 7

language = Language(("yes", "no", "sir"), ("tea?", "poem?"), 3)
shape = language_shape(language, width=8)


@dataclass(frozen=True)
class Case:
    """A policy, by name, a loss, by name, and what belongs to them."""

    policy: str = "table"
    loss: str = "dpo"
    price: float = 0.7
    label: float = 1.0
    batch: int = 20


CASES = {
    "table": Case(),
    "shared rows": Case("shared"),
    "transformer": Case("transformer"),
    "batches": Case(batch=4),
    "soft labels": Case(label=0.8),
    "IPO": Case(loss="ipo", price=0.3),
    "IPO, soft labels": Case(loss="ipo", price=0.3, label=0.8),
}


def config(case: Case) -> DpoConfig:
    return DpoConfig(n_steps=6, batch=case.batch, learning_rate=0.03, keep_every=1)


@functools.cache
def comparisons() -> Comparisons:
    """Each seed's own; the shortest and the longest responses are among them."""
    generator = torch.Generator().manual_seed(SEED)
    prompts = torch.randint(2, (SEEDS, N), generator=generator)
    chosen = torch.randint(language.n_responses, (SEEDS, N), generator=generator)
    rejected = (chosen + 1 + torch.randint(5, (SEEDS, N), generator=generator)) % 40
    chosen[:, 0], rejected[:, 0], chosen[:, 1], rejected[:, 1] = 0, 39, 30, 2
    return Comparisons(prompts, chosen, rejected)


@functools.cache
def start(policy: str) -> Tensor:
    generators = seed_generators(SEED + 1, SEEDS)
    if policy == "transformer":
        theta = initial_parameters(shape, generators).detach()
        noise = [torch.randn(theta.shape[1], generator=g) for g in generators]
        return (theta + 0.1 * torch.stack(noise)).double()  # a head that is not 0
    n = 2 * 4 * (13 if policy == "table" else 7)
    return torch.stack([torch.randn(n, generator=g) for g in generators]).double()


def train(case: Case) -> DpoRun:
    # looked up anew: a planted mistake puts another function or class here
    policies: dict[str, Any] = {
        "table": lambda: dpo.TablePolicy(language, dpo.each_prefix(language)),
        "shared": lambda: dpo.TablePolicy(language, dpo.place_and_last_word(language)),
        "transformer": lambda: dpo.TransformerPolicy(language, shape),
    }
    loss = (
        partial(dpo.dpo_loss, beta=case.price, label=case.label)
        if case.loss == "dpo"
        else partial(dpo.ipo_loss, cost=case.price, label=case.label)
    )
    return dpo.train_dpo(
        config(case), policies[case.policy](), start(case.policy), comparisons(), loss, SEED
    )


@functools.cache
def alone(case: Case, number: int) -> tuple[list[Tensor], list[float]]:
    speak = (
        plain_dpo.transformer_speaker(language, shape)
        if case.policy == "transformer"
        else plain_dpo.table_speaker(language, case.policy == "shared")
    )
    term: Callable[[Tensor], Tensor] = (
        partial(plain_dpo.dpo_term, beta=case.price, label=case.label)
        if case.loss == "dpo"
        else partial(plain_dpo.ipo_term, cost=case.price, label=case.label)
    )
    own = [part[number].tolist() for part in comparisons()]
    rows = list(zip(*own, strict=True))
    return plain_dpo.train(
        config(case), language, speak, start(case.policy)[number], rows, term, SEED, number
    )


def assert_every_seed_is_the_plain_loop(run: DpoRun, case: Case) -> None:
    assert run.steps.tolist() == list(range(7))
    for number in range(SEEDS):
        path, losses = alone(case, number)
        torch.testing.assert_close(run.theta[:, number], torch.stack(path), **ROUNDING)
        expected = torch.tensor(losses, dtype=torch.float64)
        torch.testing.assert_close(run.losses[number], expected, **ROUNDING)


@pytest.mark.parametrize("name", CASES)
def test_every_seed_of_a_batch_is_the_plain_loop(name: str) -> None:
    assert_every_seed_is_the_plain_loop(train(CASES[name]), CASES[name])


# ---- The comparison notices mistakes ------------------------------------------------------------

# what the mistake is, the file, what it says, what it is made to say, the case that notices
MISTAKES = [
    ("averaged, not summed", "dpo.py", "0.0).sum(-1)", "0.0).mean(-1)", "table"),
    ("averaged over the tokens that count", "dpo.py",
     "0.0).sum(-1)", "0.0).sum(-1) / language.live[responses].sum(-1)", "shared rows"),
    ("averaged in the transformer", "fine_tuning.py",
     "language.end).sum(-1)", "language.end).mean(-1)", "transformer"),
    ("chosen and rejected swapped", "dpo.py",
     "x, y, z, reference_y, reference_z = (", "x, z, y, reference_z, reference_y = (", "table"),
    ("the references swapped", "dpo.py",
     "x, y, z, reference_y, reference_z = (", "x, y, z, reference_z, reference_y = (", "table"),
    ("the reference left out", "dpo.py",
     "loss(new_y, new_z, reference_y, reference_z)",
     "loss(new_y, new_z, 0 * reference_y, 0 * reference_z)", "table"),
    ("the reference left out of IPO", "dpo.py",
     "(chosen - reference_chosen) - (rejected - reference_rejected)", "chosen - rejected", "IPO"),
    ("the reference not detached", "dpo.py",
     "loss(new_y, new_z, reference_y, reference_z)",
     "loss(new_y, new_z, new_y, new_z)", "transformer"),
    ("the reference follows", "dpo.py",
     "loss(new_y, new_z, reference_y, reference_z)",
     "loss(new_y, new_z, new_y.detach(), new_z.detach())", "transformer"),
    ("padding counted", "dpo.py",
     "tokens.masked_fill(~language.live[responses], 0.0)", "tokens", "table"),
    ("padding counted in the transformer", "language_policy.py",
     "return chosen.masked_fill(~live, 0.0)", "return chosen", "transformer"),
    ("the end token left out", "dpo.py",
     "~language.live[responses]", "language.tokens[responses] == language.end", "table"),
    ("beta left out", "dpo.py",
     "return beta * (log_probs", "return (log_probs", "table"),
    ("the margin's sign", "dpo.py",
     "better - worse", "worse - better", "table"),
    ("labels left out", "dpo.py",
     "(better - worse, label)", "(better - worse)", "soft labels"),
    ("IPO's goal twice as far", "dpo.py", "1 / (2 * cost)", "1 / cost", "IPO"),
    ("IPO's labels the other way round", "dpo.py",
     "return label * (h - goal) ** 2 + (1 - label) * (h + goal) ** 2",
     "return label * (h + goal) ** 2 + (1 - label) * (h - goal) ** 2", "IPO, soft labels"),
    ("rows of the first prompt", "dpo.py",
     "prompts.unsqueeze(-1) * self.n_states + self", "0 * prompts.unsqueeze(-1) + self", "table"),
    ("rows of other last words", "dpo.py",
     "(1 + W * (length - 1) + last)", "(1 + W * (length - 1) + last.flip(0))", "shared rows"),
    ("the learning rate stays", "dpo.py", " * (1 - step / config.n_steps))", ")", "table"),
    ("batches of the first seed", "dpo.py",
     "draws(generators, n", "draws([generators[0]] * seeds, n", "batches"),
    ("batches although all would fit", "dpo.py", "if config.batch < n:", "if True:", "table"),
    ("the loss summed over the batch", "dpo.py",
     "reference_z).mean(1)", "reference_z).sum(1)", "table"),
    ("the same batch in every step", "dpo.py",
     "draws(generators, n", "draws([torch.Generator() for _ in generators], n",
     "batches"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("file", "right", "wrong", "case"), [pytest.param(*rest, id=what) for what, *rest in MISTAKES]
)
@pytest.mark.site  # takes long
def test_a_mistake_in_the_loop_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, file: str, right: str, wrong: str, case: str
) -> None:
    plant(monkeypatch, "rlhf/" + file, right, wrong)
    run = train(CASES[case])
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(run, CASES[case])
