"""Addition as a task whose answers can be verified: questions, supervised training, exact accuracy.

A question is written a+b=, its answer with leading zeros and an end token, 07. for 3+4=. Digits are
tokens 0 to 9, END is the last token of an answer, and + and = occur in questions only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl_helpers.rlhf.language_policy import outputs_before, token_log_probs
from rl_helpers.rlhf.transformer import Shape, Transformer, initial_parameters
from rl_helpers.training.optim import Adam
from rl_helpers.training.seeds import draws, seed_generators
from rl_helpers.validation import require, require_at_least, require_positive, require_unit

SIGNS = "0123456789.+="
END = SIGNS.index(".")


def spelled(text: str) -> list[int]:
    """The tokens of a question or an answer.

    >>> spelled("3+4=")
    [3, 11, 4, 12]
    """
    for sign in text:
        require(sign in SIGNS, "text", repr(text), f"signs are {SIGNS}")
    return [SIGNS.index(sign) for sign in text]


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions with one right answer each.

    Args:
        prompts: tokens of each question [n, P].
        answers: tokens of its answer, the end token last [n, L].

    Raises:
        ValueError: not one answer a question, or an answer that has no end token, or one inside.
    """

    prompts: Int[Tensor, "n P"]
    answers: Int[Tensor, "n L"]

    def __post_init__(self) -> None:
        require(
            len(self.prompts) == len(self.answers), "answers", f"{len(self.answers)} long",
            f"there are {len(self.prompts)} prompts",
        )  # fmt: skip
        ended = (self.answers[:, -1] == END) & ((self.answers == END).sum(1) == 1)
        require(
            bool(ended.all()), "answers", self.answers[~ended][:1].tolist(),
            f"an answer ends with its only end token, {END}",
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def max_tokens(self) -> int:
        """Tokens of an answer, the end token among them."""
        return self.answers.shape[1]

    def shape(self, n_values: int = 0, **sizes: int) -> Shape:
        """Sizes of a transformer that reads questions and answers them.

        Args:
            n_values: outputs besides the logits.
            sizes: width, n_heads, n_layers.
        """
        context = self.prompts.shape[1] + self.max_tokens - 1
        return Shape(len(SIGNS), END + 1 + n_values, context, **sizes)

    def is_right(
        self, asked: Int[Tensor, "*batch"], tokens: Int[Tensor, "*batch L"]
    ) -> Bool[Tensor, "*batch"]:
        """Whether answers are right to their last token: an answer that is cut off is not.

        Args:
            asked: number of the question [...].
            tokens: of what was answered [..., L].

        Raises:
            ValueError: answers of another length.
        """
        require(
            tokens.shape[-1] == self.max_tokens, "tokens", tuple(tokens.shape),
            f"the last axis is {self.max_tokens} long",
        )  # fmt: skip
        return (tokens == self.answers[asked]).all(-1)


def addition(largest: int = 9) -> Questions:
    """All sums of two numbers from 0 to `largest`, at least 1.

    >>> questions = addition()
    >>> len(questions), questions.prompts[34].tolist(), questions.answers[34].tolist()
    (100, [3, 11, 4, 12], [0, 7, 10])
    """
    require_at_least(1, largest=largest)
    digits, length = len(str(largest)), len(str(2 * largest))
    pairs = [(a, b) for a in range(largest + 1) for b in range(largest + 1)]
    prompts = [spelled(f"{a:0{digits}}+{b:0{digits}}=") for a, b in pairs]
    answers = [spelled(f"{a + b:0{length}}.") for a, b in pairs]
    return Questions(torch.tensor(prompts), torch.tensor(answers))


@dataclass(frozen=True)
class LessonConfig:
    """Settings of supervised training on questions and answers.

    Args:
        n_steps: steps of Adam.
        batch: questions of a step.
        wrong: share of labels that are wrong, 0 to 1.
        learning_rate: at the first step; it falls to 0 in a straight line. Positive.
        width, n_heads, n_layers: sizes of the transformer.
        n_values: outputs besides the logits, for a critic.
    """

    n_steps: int = 80
    batch: int = 64
    wrong: float = 0.0
    learning_rate: float = 6e-3
    width: int = 32
    n_heads: int = 4
    n_layers: int = 1
    n_values: int = 1

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, batch=self.batch)
        require_at_least(0, n_values=self.n_values)
        require_unit(wrong=self.wrong)
        require_positive(learning_rate=self.learning_rate)


def train_lesson(
    config: LessonConfig,
    questions: Questions,
    n_seeds: int,
    seed: int = 0,
    taught: Sequence[int] | None = None,
) -> Transformer:
    """Teach one transformer a seed by cross-entropy on questions and labels.

    A wrong label is one of the other answers that occur, all equally likely.

    Args:
        config: the settings.
        questions: what is asked.
        n_seeds: number of seeds, trained in one batch.
        seed: the experiment's seed; with the same number of threads the run repeats
            bit for bit.
        taught: numbers of the questions of the lesson; by default all.

    Raises:
        ValueError: no questions, or questions that do not exist; wrong labels where
            all answers are the same.

    Source: eq-sft.
    """
    lesson = torch.arange(len(questions)) if taught is None else torch.tensor(taught)
    _require_lesson(config, questions, lesson)
    answers, right = questions.answers.unique(dim=0, return_inverse=True)  # [m, L]
    generators, shape = seed_generators(seed, n_seeds), _shape(config, questions)
    theta = first_parameters(shape, generators)
    optimizer = Adam([theta], eps=1e-8)
    for step in range(config.n_steps):
        asked = lesson[draws(generators, len(lesson), config.batch)]  # [seeds, batch]
        off = 1 + draws(generators, max(1, len(answers) - 1), config.batch)
        luck = torch.stack([torch.rand(config.batch, generator=g) for g in generators])
        label = right[asked] + torch.where(luck < config.wrong, off, 0)
        model = Transformer(theta, shape)
        labels = answers[label % len(answers)]
        log_probs = answer_log_probs(model, questions.prompts[asked], labels)
        (-log_probs.sum(-1).mean(1)).sum().backward()
        optimizer.step(config.learning_rate * (1 - step / config.n_steps))
    return Transformer(theta.detach(), shape)


def first_parameters(
    shape: Shape, generators: Sequence[torch.Generator]
) -> Float[Tensor, "seeds P"]:
    """As `transformer.initial_parameters`, but embeddings and positions are standard normal."""
    theta = initial_parameters(shape, generators).detach()
    theta[:, : (shape.n_inputs + shape.context) * shape.width] *= shape.width**0.5
    return theta.requires_grad_()


def answer_log_probs(
    model: Transformer, prompts: Int[Tensor, "seeds n P"], answers: Int[Tensor, "seeds n L"]
) -> Float[Tensor, "seeds n L"]:
    """log π of each token of given answers, by teacher forcing: the right beginning is read."""
    live = torch.ones_like(answers, dtype=torch.bool)
    return token_log_probs(outputs_before(model, prompts, answers), answers, live, END)


@torch.no_grad()
def accuracy(
    model: Transformer, questions: Questions
) -> tuple[Float[Tensor, "seeds n"], Bool[Tensor, "seeds n"]]:
    """How likely each question is answered rightly by sampling, and whether it is greedily. Both exact.

    By teacher forcing: a sampled answer is right with the product of its tokens' probabilities; the
    greedy one is right if each token of the right answer is the likeliest.

    Args:
        model: of all seeds.
        questions: all of them are asked.

    Returns:
        Probabilities of the right answers [seeds, n], and which greedy answers are right.
    """
    seeds = len(model.theta)
    prompts, answers = (
        x.expand(seeds, -1, -1) for x in (questions.prompts, questions.answers)
    )  # fmt: skip
    logits = outputs_before(model, prompts, answers)[..., : END + 1]
    live = torch.ones_like(answers, dtype=torch.bool)
    sampled = token_log_probs(logits, answers, live, END).sum(-1).exp()
    return sampled, (logits.argmax(-1) == answers).all(-1)


def pass_at(k: int, sampled: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Share of questions that k independent samples answer rightly at least once, 1 - (1 - p)^k.

    Args:
        k: number of samples, at least 1.
        sampled: probabilities p of a right answer to each question [..., n].

    Raises:
        ValueError: k below 1, or probabilities outside [0, 1].

    >>> pass_at(2, torch.tensor([0.5, 0.0]))
    tensor(0.3750)
    """
    require_at_least(1, k=k)
    require_unit(sampled=sampled)
    return 1 - ((1 - sampled) ** k).mean(-1)


def _shape(config: LessonConfig, questions: Questions) -> Shape:
    return questions.shape(
        config.n_values, width=config.width, n_heads=config.n_heads, n_layers=config.n_layers
    )


def _require_lesson(config: LessonConfig, questions: Questions, lesson: Tensor) -> None:
    require(len(lesson) > 0, "taught", "empty", "a lesson needs questions")
    known = bool(((lesson >= 0) & (lesson < len(questions))).all())
    require(known, "taught", lesson.tolist()[:8], f"questions are 0 to {len(questions) - 1}")
    if config.wrong > 0:
        several = len(questions.answers.unique(dim=0)) > 1
        require(several, "wrong", config.wrong, "all answers are the same: none is wrong")
