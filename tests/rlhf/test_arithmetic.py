"""Addition as a task: how questions are written, what is right, accuracies against sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_helpers.rlhf import arithmetic
from rl_helpers.rlhf.arithmetic import (
    END,
    LessonConfig,
    Questions,
    accuracy,
    addition,
    pass_at,
    spelled,
    train_lesson,
)
from rl_helpers.rlhf.language_policy import sample
from rl_helpers.rlhf.transformer import Transformer
from rl_helpers.training.seeds import seed_generators


def written(tokens: torch.Tensor) -> str:
    return "".join(arithmetic.SIGNS[token] for token in tokens.tolist())


@given(st.integers(1, 12))
def test_questions_and_answers_are_sums(largest: int) -> None:
    questions = addition(largest)
    assert len(questions) == (largest + 1) ** 2
    for prompt, answer in zip(questions.prompts, questions.answers, strict=True):
        a, b = written(prompt).removesuffix("=").split("+")
        assert int(written(answer).removesuffix(".")) == int(a) + int(b)


def test_one_question_by_hand() -> None:
    questions = addition(9)
    assert written(questions.prompts[78]) == "7+8="
    assert questions.answers[78].tolist() == [1, 5, END]
    assert questions.max_tokens == 3
    shape = questions.shape(1, width=8)
    assert (shape.n_inputs, shape.n_outputs, shape.context) == (13, 12, 6)


def test_only_the_whole_answer_is_right() -> None:
    questions = addition(9)
    asked = torch.tensor([[34, 34, 34, 34]])
    tokens = torch.tensor([[[0, 7, END], [0, 7, 7], [7, END, END], [0, 8, END]]])
    assert questions.is_right(asked, tokens).tolist() == [[True, False, False, False]]


def test_pass_at_by_hand() -> None:
    p = torch.tensor([[1.0, 0.5, 0.0]])
    assert pass_at(1, p).tolist() == pytest.approx([0.5])
    assert pass_at(3, p).tolist() == pytest.approx([(1 + 0.875 + 0) / 3])


@given(st.integers(1, 50), st.floats(0, 1))
def test_more_tries_never_find_less(k: int, p: float) -> None:
    chance = torch.tensor([p], dtype=torch.float64)
    assert pass_at(k, chance) <= pass_at(k + 1, chance) + 1e-12


def test_accuracies_are_those_of_sampling_and_of_greedy_decoding() -> None:
    questions = addition(2)
    pupil = train_lesson(LessonConfig(n_steps=30, wrong=0.3, width=8, n_heads=2), questions, 2)
    sampled, greedy = accuracy(pupil, questions)
    n = 4_000
    prompts = questions.prompts.repeat(n, 1).expand(2, -1, -1)
    asked = torch.arange(9).repeat(n).expand(2, -1)
    answers = sample(pupil, prompts, questions.max_tokens, END, seed_generators(1, 2))
    right = questions.is_right(asked, answers.tokens).double().view(2, n, 9).mean(1)
    assert (right - sampled).abs().max() < 5 * 0.5 / n**0.5
    # greedily, token by token
    read = questions.prompts.expand(2, -1, -1)
    for _ in range(questions.max_tokens):
        token = pupil(read)[:, :, -1, : END + 1].argmax(-1, keepdim=True)
        read = torch.cat([read, token], dim=-1)
    said = read[..., questions.prompts.shape[1] :]
    assert torch.equal(questions.is_right(torch.arange(9).expand(2, -1), said), greedy)
    assert bool(greedy.any())
    assert not bool(greedy.all())


def test_a_lesson_is_learned() -> None:
    questions = addition(3)
    sampled, greedy = accuracy(train_lesson(LessonConfig(n_steps=150), questions, 2), questions)
    assert sampled.mean() > 0.8
    assert greedy.float().mean() > 0.9


def test_what_is_not_taught_is_not_learned() -> None:
    questions = addition(6)
    carry = questions.answers[:, 0] == 1
    taught = (~carry).nonzero().ravel().tolist()
    pupil = train_lesson(LessonConfig(n_steps=100), questions, 2, taught=taught)
    sampled, _ = accuracy(pupil, questions)
    assert sampled[:, carry].max() < 0.01 < sampled[:, ~carry].mean()


LESSON = LessonConfig(n_steps=1, batch=2, width=4, n_heads=1)
SAME = Questions(torch.tensor([[1], [2]]), torch.tensor([[3, END], [3, END]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spelled("3-4"), "signs are"),
        (lambda: addition(0), "largest is 0"),
        (lambda: Questions(torch.zeros(2, 1).long(), torch.full((3, 2), END)), "answers is 3 long"),
        (lambda: Questions(torch.zeros(1, 1).long(), torch.tensor([[0, 7]])), "only end token"),
        (lambda: Questions(torch.zeros(1, 1).long(), torch.tensor([[END, END]])), "only end token"),
        (lambda: addition().is_right(torch.tensor([0]), torch.tensor([[0]])), "3 long"),
        (lambda: LessonConfig(n_steps=0), "n_steps is 0"),
        (lambda: LessonConfig(batch=0), "batch is 0"),
        (lambda: LessonConfig(wrong=1.5), "wrong is 1.5"),
        (lambda: LessonConfig(learning_rate=0.0), "learning_rate is 0"),
        (lambda: LessonConfig(n_values=-1), "n_values is -1"),
        (lambda: train_lesson(LESSON, addition(1), 1, taught=[]), "taught is empty"),
        (lambda: train_lesson(LESSON, addition(1), 1, taught=[4]), "questions are 0 to 3"),
        (
            lambda: train_lesson(LessonConfig(1, 2, 0.5), SAME, 1),
            "all answers are the same: none is wrong",
        ),
        (lambda: pass_at(0, torch.tensor([0.5])), "k is 0"),
        (lambda: pass_at(1, torch.tensor([1.5])), "0 <= sampled <= 1"),
    ],
)
def test_bad_input_is_named(untyped: None, call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_parameters_repeat() -> None:
    once, again = (train_lesson(LESSON, addition(1), 2).theta for _ in range(2))
    assert torch.equal(once, again)
    assert isinstance(train_lesson(LESSON, addition(1), 2), Transformer)
