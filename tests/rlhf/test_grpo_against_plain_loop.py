"""The batched loops of GRPO and of its lesson learn what plain loops of one seed learn, seed by seed."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rl_helpers.rlhf import arithmetic, grpo
from rl_helpers.rlhf.arithmetic import LessonConfig, addition
from rl_helpers.rlhf.grpo import GrpoConfig, GrpoRun, Variant
from rl_helpers.rlhf.transformer import Shape, Transformer
from tests.planting import plant
from tests.rlhf import plain_grpo

# Both sides are float32, and sum the same numbers in another order; each of 8 updates, of size 0.01
# at most, may differ in its last digits.
ROUNDING = {"rtol": 1e-3, "atol": 2e-4}
SEED, N_SEEDS = 3, 2

LESSON = LessonConfig(n_steps=6, batch=5, wrong=0.5, learning_rate=0.01, width=8, n_heads=2)
TAUGHT = [0, 3, 7, 12, 30, 35]
RUN = GrpoConfig(n_steps=3, n_prompts=6, group=4, n_updates=3, learning_rate=0.01, evaluate_every=1)
CASES: dict[str, GrpoConfig] = {
    "GRPO": RUN,
    "a price": replace(RUN, variant=Variant(beta=0.5)),
    "RLOO": replace(RUN, variant=replace(grpo.RLOO, beta=0.3)),  # else Adam hides a factor
    "Dr. GRPO": replace(RUN, variant=grpo.DR_GRPO),
    "DAPO": replace(RUN, variant=replace(grpo.DAPO, low=0.02, high=0.05)),
    "GSPO": replace(RUN, variant=replace(grpo.GSPO, low=0.01, high=0.02)),
    "a critic": replace(RUN, variant=Variant("critic")),
    "a tight clip": replace(RUN, variant=Variant(low=0.01, high=0.02)),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def questions() -> arithmetic.Questions:
    """Small enough that a beginner is right now and then: sums of 0 to 2, of one digit."""
    return addition(2)


@functools.cache
def start() -> Transformer:
    config = replace(LESSON, n_steps=40, batch=16, wrong=0.0)
    return arithmetic.train_lesson(config, questions(), N_SEEDS, SEED)


@functools.cache
def alone(config: GrpoConfig, number: int) -> tuple[list[Tensor], list[float], list[float]]:
    begin = start()
    return plain_grpo.grpo(config, questions(), begin.shape, begin.theta[number], SEED, number)


def meaningful(theta: Tensor, shape: Shape) -> Tensor:
    """Parameters without the biases of keys: their gradients are rounding, which Adam enlarges."""
    theta, first = theta.clone(), 0
    for name, size in shape.tensors:
        if "qkv" in name and "bias" in name:
            theta[..., first + shape.width : first + 2 * shape.width] = 0
        first += math.prod(size)
    return theta


def assert_every_seed_is_the_plain_loop(run: GrpoRun, config: GrpoConfig) -> None:
    ones = [alone(config, number) for number in range(N_SEEDS)]
    torch.testing.assert_close(run.rewards, torch.tensor([one[1] for one in ones]))
    torch.testing.assert_close(run.silent, torch.tensor([one[2] for one in ones]))
    assert run.steps.tolist() == list(range(len(run.models)))
    for step, model in enumerate(run.models[1:]):
        expected = torch.stack([after[step] for after, *_ in ones])
        found, expected = (meaningful(x, model.shape) for x in (model.theta, expected))
        near = torch.isclose(found, expected, **ROUNDING)
        assert near.all(), f"step {step}: {(~near).sum()} of {near.numel()} parameters differ"


def train(config: GrpoConfig) -> GrpoRun:
    return grpo.train_grpo(config, questions(), start(), SEED)


@pytest.mark.parametrize("name", CASES)
def test_every_seed_of_a_batch_is_the_plain_loop(untyped: None, name: str) -> None:
    assert_every_seed_is_the_plain_loop(train(CASES[name]), CASES[name])


def test_the_comparison_covers_what_matters() -> None:
    seen: Counter[str] = Counter()
    begin, config = start(), CASES["a tight clip"]
    _, means, silent = plain_grpo.grpo(
        config, questions(), begin.shape, begin.theta[0], SEED, 0, lambda what: seen.update([what])
    )
    assert seen["1 tokens"] > 1
    assert seen["2 tokens"] > 20
    assert seen["clipped"] > 20
    assert seen["free"] > 20
    assert 0.1 < sum(means) / len(means) < 0.9
    assert 0 < sum(silent) / len(silent) < 0.8


def learn(taught: list[int] | None = None) -> Tensor:
    lesson = arithmetic.train_lesson(LESSON, addition(5), N_SEEDS, SEED, taught)
    return meaningful(lesson.theta, lesson.shape)


def assert_the_lesson_is_the_plain_one(theta: Tensor) -> None:
    pupil = [plain_lesson(number) for number in range(N_SEEDS)]
    shape = addition(5).shape(1, width=8, n_heads=2, n_layers=1)
    torch.testing.assert_close(theta, meaningful(torch.stack(pupil), shape), **ROUNDING)


@functools.cache
def plain_lesson(number: int) -> Tensor:
    return plain_grpo.lesson(LESSON, addition(5), SEED, number, TAUGHT)


def test_every_seed_of_a_lesson_is_the_plain_one(untyped: None) -> None:
    assert_the_lesson_is_the_plain_one(learn(TAUGHT))


def test_a_seed_does_not_depend_on_those_beside_it() -> None:  # with types checked
    begin = start()
    one = grpo.train_grpo(RUN, questions(), Transformer(begin.theta[:1], begin.shape), SEED)
    both = [meaningful(m.theta[0], m.shape) for m in (one.models[-1], train(RUN).models[-1])]
    torch.testing.assert_close(*both, **ROUNDING)


# ---- The comparison notices mistakes ------------------------------------------------------------

# what the mistake is, what grpo.py says, what it is made to say, the case that notices
MISTAKES = [
    ("the group's own mean with G - 1", "rewards - rewards.mean(-1, keepdim=True)",
     "rewards - rewards.sum(-1, keepdim=True) / max(1, G - 1)", "Dr. GRPO"),
    ("the other denominator", "denominator: int = 0", "denominator: int = 1", "a price"),
    ("not divided by the sd", "away / safe", "away", "GRPO"),
    ("the factor upside down", "(G / max(1, G - 1))", "(max(1, G - 1) / G)", "RLOO"),
    ("the max for the min", "gains = torch.minimum(", "gains = torch.maximum(", "a tight clip"),
    ("no clip", "ratio * A, clipped * A", "ratio * A, ratio * A", "a tight clip"),
    ("low for high", "1 + variant.high)", "1 + variant.low)", "DAPO"),
    ("the ratio of the current policy", "for x in (log_probs, old_log_probs)",
     "for x in (log_probs, log_probs)", "a tight clip"),
    ("a sum of log-ratios, not their mean", "moved.sum(-1, keepdim=True) / _lengths(live, log_probs)",
     "moved.sum(-1, keepdim=True)", "GSPO"),
    ("the token ratio for the sequence's", 'if variant.ratio == "token":', "if True:", "GSPO"),
    ("paid for leaving", "gains = gains - variant.beta", "gains = gains + variant.beta", "a price"),
    ("k3 upside down", "(log_probs - log_reference)", "(log_reference - log_probs)", "a price"),
    ("the price left out", "if variant.beta > 0:\n        require", "if False:\n        require",
     "a price"),
    ("means of responses for the group's", '"group": 1 / lengths.sum(-2, keepdim=True)',
     '"group": 1 / (G * lengths)', "DAPO"),
    ("means for sums", '"sum": torch.full_like(lengths, 1 / G)', '"sum": 1 / (G * lengths)', "RLOO"),
    ("descent for ascent", "return -(gains", "return (gains", "GRPO"),
    ("no baseline", "advantages = rewards - values.detach()", "advantages = rewards", "a critic"),
    ("the critic is not fitted", "(policy + fit / 2)", "(policy + 0 * fit)", "a critic"),
    ("the critic's loss not halved", "(policy + fit / 2)", "(policy + fit)", "a critic"),
    ("answers to other questions", "prompts = questions.prompts[asked]",
     "prompts = questions.prompts[asked.flip(1)]", "GRPO"),
    ("groups mixed up", "x.unflatten(1, (-1, group)) for x in y",
     "x.unflatten(1, (group, -1)).transpose(1, 2) for x in y", "GRPO"),
    ("the same questions every time", "permutations(generators, len(questions))[:, : config.n_prompts]",
     "torch.arange(config.n_prompts).expand(len(theta), -1)", "GRPO"),
    ("the reference follows", "group_outputs(reference, groups", "group_outputs(model, groups",
     "a price"),
    ("one update only", "range(step * config.n_updates, (step + 1) * config.n_updates)",
     "range(step * config.n_updates, step * config.n_updates + 1)", "GRPO"),
    ("a silent group is one of right answers", "groups.rewards.amax(-1) == groups.rewards.amin(-1)",
     "groups.rewards.amin(-1) == 1", "GRPO"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "wrong", "case"), [pytest.param(*rest, id=what) for what, *rest in MISTAKES]
)
def test_a_mistake_in_the_loop_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str, case: str
) -> None:
    plant(monkeypatch, "rlhf/grpo.py", right, wrong)
    run = train(CASES[case])
    with pytest.raises(AssertionError):
        assert_every_seed_is_the_plain_loop(run, CASES[case])


LESSON_MISTAKES = [
    ("labels never wrong", "luck < config.wrong", "luck < 0"),
    ("right labels among the wrong ones", "off = 1 + draws", "off = 0 + draws"),
    ("every question is taught", "lesson[draws(generators, len(lesson), config.batch)]",
     "draws(generators, len(questions), config.batch)"),
    ("the rate stays", "(1 - step / config.n_steps)", "1.0"),
    ("the end is not taught", "-log_probs.sum(-1).mean(1)", "-log_probs[..., :-1].sum(-1).mean(1)"),
    ("embeddings as small as elsewhere", "*= shape.width**0.5", "*= 1.0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("right", "wrong"), [pytest.param(*rest, id=what) for what, *rest in LESSON_MISTAKES]
)
def test_a_mistake_in_the_lesson_is_noticed(
    untyped: None, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str
) -> None:
    plant(monkeypatch, "rlhf/arithmetic.py", right, wrong)
    theta = learn(TAUGHT)
    with pytest.raises(AssertionError):
        assert_the_lesson_is_the_plain_one(theta)
