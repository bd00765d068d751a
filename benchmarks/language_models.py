"""Measure Part IV: a training step beside TRL's, the list of all responses, and whole runs of RLHF.

Run with `make bench`. Steps are taken by the same transformer (two layers, width 64, about 102,000
parameters) on the same number of sequences of the same lengths, one seed, one thread, in turns:
CPU seconds of a long run less those of a short one, so that what happens once does not count.
"""

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from rl_helpers.rlhf import arithmetic, dpo, fine_tuning, grpo, reward_model, rlhf_ppo
from rl_helpers.rlhf.language_policy import language_shape, log_policy_everywhere
from rl_helpers.rlhf.preferences import sample_experiments
from rl_helpers.rlhf.tilting import kl, tilt
from rl_helpers.rlhf.toy_language import (
    END,
    butler,
    butler_reference,
    butler_reward,
    sequence_log_probs,
)
from rl_helpers.rlhf.transformer import Transformer, initial_parameters
from rl_helpers.training.seeds import seed_generators

WIDTH, LAYERS, HEADS = 64, 2, 2
PAIRS = 64  # comparisons of a step
QUESTIONS, GROUP = 32, 8  # of a step of GRPO: 256 answers, of at most 3 tokens
SHORT, LONG, ROUNDS = 20, 60, 3  # steps of the two runs, and turns
SIZES = {"width": WIDTH, "n_layers": LAYERS, "n_heads": HEADS}
LOG_REFERENCE = sequence_log_probs(butler, butler_reference())
COMPARISONS = sample_experiments(LOG_REFERENCE, butler_reward(), 2_000, seed_generators(0, 1))


# -- The book ----------------------------------------------------------------------------------


def book_reward(n_steps: int) -> None:
    """Steps of a reward model."""
    config = reward_model.RewardConfig(n_steps=n_steps, batch=PAIRS, **SIZES)
    reward_model.train_reward_model(config, butler, COMPARISONS)


def book_dpo(n_steps: int) -> None:
    """Steps of DPO, from a transformer that nobody trained."""
    shape = language_shape(butler, **SIZES)
    start = initial_parameters(shape, seed_generators(0, 1)).detach()
    config = dpo.DpoConfig(n_steps=n_steps, batch=PAIRS, keep_every=n_steps)
    dpo.train_dpo(
        config, dpo.TransformerPolicy(butler, shape), start, COMPARISONS, partial(dpo.dpo_loss, beta=0.5)
    )  # fmt: skip


def book_grpo(n_steps: int, n_updates: int) -> None:
    """Steps of GRPO on addition, `n_updates` of them with the same answers."""
    questions = arithmetic.addition()
    shape = questions.shape(**SIZES)
    start = initial_parameters(shape, seed_generators(0, 1)).detach()
    config = grpo.GrpoConfig(
        n_steps=max(1, n_steps // n_updates), n_prompts=QUESTIONS, group=GROUP, n_updates=n_updates,
        learning_rate=1e-3, evaluate_every=n_steps,
    )  # fmt: skip
    grpo.train_grpo(config, questions, Transformer(start, shape))


# -- TRL ---------------------------------------------------------------------------------------


def trl_parts(signs: Sequence[str] = (*butler.words, END, *butler.prompts)) -> tuple[Any, Any]:
    """A tokenizer of the butler's words and prompts, or of other signs, and the sizes of the transformer."""
    from datasets.fingerprint import Hasher
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, PreTrainedTokenizerFast

    # Otherwise data sets are named by a hash of the functions that made them, which it cannot take.
    Hasher.hash = classmethod(lambda cls, value: uuid.uuid4().hex)
    words = ["<pad>", *signs]
    vocabulary = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>")
    tokenizer = Tokenizer(vocabulary)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=END, unk_token="<pad>"
    )
    fast.padding_side = "left"
    sizes = GPT2Config(
        vocab_size=len(words), n_positions=8, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, num_labels=1,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu",
        pad_token_id=0, eos_token_id=fast.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    return fast, sizes


def trl_settings(n_steps: int, folder: str) -> dict[str, Any]:
    """What its configurations share: plain training, without files and reports."""
    return {
        "output_dir": folder, "max_steps": n_steps, "learning_rate": 1e-3, "seed": 0,
        "report_to": [], "save_strategy": "no", "logging_strategy": "no", "use_cpu": True,
        "disable_tqdm": True, "bf16": False, "gradient_checkpointing": False,
    }  # fmt: skip


def trl_comparisons() -> Any:
    """The first seed's comparisons, as texts."""
    from datasets import Dataset

    def said(y: int) -> str:
        return " " + butler.text(y).replace(END, f" {END}")

    rows = [
        {"prompt": butler.prompts[x], "chosen": said(y), "rejected": said(z)}
        for x, y, z in zip(*(part[0].tolist() for part in COMPARISONS), strict=True)
    ]
    return Dataset.from_list(rows)


def trl_reward(n_steps: int) -> None:
    """Steps of a reward model."""
    from transformers import GPT2ForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    tokenizer, sizes = trl_parts()
    with tempfile.TemporaryDirectory() as folder:
        settings = trl_settings(n_steps, folder)
        RewardTrainer(
            model=GPT2ForSequenceClassification(sizes), train_dataset=trl_comparisons(),
            args=RewardConfig(per_device_train_batch_size=PAIRS, max_length=8, **settings),
            processing_class=tokenizer,
        ).train()  # fmt: skip


def trl_dpo(n_steps: int) -> None:
    """Steps of DPO; the reference's log-probabilities are computed before, as in the book."""
    from transformers import GPT2LMHeadModel
    from trl import DPOConfig, DPOTrainer

    tokenizer, sizes = trl_parts()
    with tempfile.TemporaryDirectory() as folder:
        settings = trl_settings(n_steps, folder) | {"precompute_ref_log_probs": True}
        DPOTrainer(
            model=GPT2LMHeadModel(sizes), ref_model=GPT2LMHeadModel(sizes),
            args=DPOConfig(per_device_train_batch_size=PAIRS, max_length=8, beta=0.5, **settings),
            train_dataset=trl_comparisons(), processing_class=tokenizer,
        ).train()  # fmt: skip


def trl_grpo(n_steps: int, n_updates: int) -> None:
    """Steps of GRPO on addition, answers generated as its trainer does by default."""
    from datasets import Dataset
    from transformers import GPT2LMHeadModel
    from trl import GRPOConfig, GRPOTrainer

    tokenizer, sizes = trl_parts(arithmetic.SIGNS)
    questions = arithmetic.addition()
    rows = [
        {"prompt": " ".join(arithmetic.SIGNS[i] for i in prompt), "wanted": [i + 1 for i in answer]}
        for prompt, answer in zip(
            questions.prompts.tolist(), questions.answers.tolist(), strict=True
        )
    ]

    def right(completion_ids: list[list[int]], wanted: list[list[int]], **_: Any) -> list[float]:
        return [float(said == answer) for said, answer in zip(completion_ids, wanted, strict=True)]

    with tempfile.TemporaryDirectory() as folder:
        GRPOTrainer(
            model=GPT2LMHeadModel(sizes), reward_funcs=right, train_dataset=Dataset.from_list(rows),
            args=GRPOConfig(
                per_device_train_batch_size=QUESTIONS * GROUP, num_generations=GROUP, beta=0.0,
                max_completion_length=questions.max_tokens, loss_type="grpo",
                num_iterations=n_updates, **trl_settings(n_steps, folder),
            ),
            processing_class=tokenizer,
        ).train()  # fmt: skip


# -- Both --------------------------------------------------------------------------------------


def step_seconds(train: Callable[[int], None]) -> float:
    """CPU seconds of a step: a long run less a short one."""
    train(2)  # what is loaded or compiled once
    spent = []
    for n_steps in (SHORT, LONG):
        start = time.process_time()
        train(n_steps)
        spent.append(time.process_time() - start)
    return (spent[1] - spent[0]) / (LONG - SHORT)


def steps_beside_trl(sides: dict[str, tuple[Callable[[int], None], Callable[[int], None]]]) -> None:
    """The table of training steps."""
    print("| a training step | this book, CPU ms | TRL, CPU ms | ratio |")
    print("|---|---:|---:|---:|")
    for name, both in sides.items():
        turns = np.array([[step_seconds(side) for side in both] for _ in range(ROUNDS)]) * 1e3
        cells = [f"{np.median(t):.1f} ({t.min():.1f}–{t.max():.1f})" for t in turns.T]
        ratio = np.median(turns[:, 1]) / np.median(turns[:, 0])
        print(f"| {name} | {cells[0]} | {cells[1]} | {ratio:.1f} × |")


@torch.no_grad()
def listing() -> None:
    """CPU time to list the butler's responses with one transformer."""
    shape = language_shape(butler, **SIZES)
    model = Transformer(initial_parameters(shape, seed_generators(0, 1)).detach(), shape)
    spent = []
    for _ in range(20):
        start = time.process_time()
        sequence_log_probs(butler, log_policy_everywhere(model, butler))
        spent.append(time.process_time() - start)
    print(
        f"All {len(butler.prompts)} × {butler.n_responses:,} responses listed, "
        f"{shape.n_parameters:,} parameters: {np.median(spent) * 1e3:.1f} CPU ms"
    )


def whole_rlhf(n_seeds: int = 16, beta: float = 0.5) -> None:
    """RLHF with PPO from fine-tuned transformers: time, and distance from the best policy."""
    sizes = {"width": 24, "n_values": 1}
    sft = fine_tuning.SftConfig(n_steps=150, learning_rate=6e-3, **sizes)
    start = fine_tuning.train_sft(sft, butler, butler_reference(), n_seeds, seed=1).model
    before = time.process_time()
    run = rlhf_ppo.train_rlhf_ppo(
        rlhf_ppo.RlhfPPOConfig(n_iterations=60, learning_rate=3e-3, beta=beta),
        butler,
        start,
        butler_reward().float(),
        seed=1,
    )
    seconds = (time.process_time() - before) / n_seeds
    with torch.no_grad():
        first, last = (
            sequence_log_probs(butler, log_policy_everywhere(model, butler).double())
            for model in (start, Transformer(run.thetas[:, -1], start.shape))
        )
    far = kl(last, tilt(first, butler_reward().expand_as(first), beta)).mean(-1)
    print(
        f"RLHF with PPO, β = {beta}: {seconds:.2f} CPU s a seed; within 0.05 nats of the best "
        f"policy in {(far < 0.05).sum()} of {n_seeds} seeds, median {far.median():.3f}"
    )


def whole_grpo(n_seeds: int = 8) -> None:
    """GRPO on addition, from transformers that learned from labels of which a quarter was wrong."""
    questions = arithmetic.addition(7)
    lesson = arithmetic.LessonConfig(n_steps=260, wrong=0.25)
    start = arithmetic.train_lesson(lesson, questions, n_seeds, seed=1)
    config = grpo.GrpoConfig(n_steps=48)
    before = time.process_time()
    run = grpo.train_grpo(config, questions, start, seed=1)
    seconds = (time.process_time() - before) / n_seeds
    sampled = grpo.accuracies(run, questions)[0].mean((0, 2))
    print(
        f"GRPO on addition: {seconds:.2f} CPU s a seed for {run.steps[-1]} gradient steps; "
        f"sampled accuracy from {sampled[0]:.2f} to {sampled[-1]:.2f}"
    )


if __name__ == "__main__":
    os.environ |= {
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"
    }  # fmt: skip
    torch.set_num_threads(1)
    listing()
    whole_rlhf()
    whole_grpo()
    steps_beside_trl({"reward model": (book_reward, trl_reward), "DPO": (book_dpo, trl_dpo)})
    for times in (1, 4):  # the answers are sampled anew, or used again, as in PPO
        both = partial(book_grpo, n_updates=times), partial(trl_grpo, n_updates=times)
        steps_beside_trl({f"GRPO, answers used {times} ×": both})
