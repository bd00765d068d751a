"""Part IV beside other hands: GPT-2 of transformers, the losses of TRL, on the same tensors.

`make bench` runs this before it measures; the ordinary tests have torch's own layers and
hand-worked numbers instead, and need no peer.
"""

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2Model
from trl import DPOTrainer, GRPOTrainer, RewardTrainer
from trl.trainer.utils import nanstd

from rl_helpers.rlhf import dpo, grpo
from rl_helpers.rlhf.preferences import preference_loss
from rl_helpers.rlhf.transformer import Shape, Transformer, initial_parameters
from rl_helpers.training.seeds import seed_generators


@pytest.mark.parametrize("n_layers", [1, 3])
def test_transformer_is_gpt2(n_layers: int) -> None:
    """With copied weights; theirs has no matrix at its end, ours does."""
    shape = Shape(12, 9, context=8, width=64, n_heads=2, n_layers=n_layers)
    theta = initial_parameters(shape, seed_generators(0, 1)).detach()
    theta += 0.1 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(1))
    model = Transformer(theta, shape)
    sizes = {"vocab_size": 12, "n_positions": 8, "n_embd": 64, "n_layer": n_layers, "n_head": 2}
    theirs = GPT2Model(GPT2Config(**sizes, activation_function="gelu"))
    names = {"qkv": "attn.c_attn", "mix": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}
    state: dict[str, Tensor] = {"wte.weight": "embedding", "wpe.weight": "position"}  # type: ignore[dict-item]
    state = {name: model.weights[ours][0] for name, ours in state.items()}  # type: ignore[index]
    norms = {"ln_f": "norm"}
    for layer in range(n_layers):
        norms |= {f"h.{layer}.ln_{k}": f"norm_{k} {layer}" for k in (1, 2)}
        for ours, name in names.items():
            state[f"h.{layer}.{name}.weight"] = model.weights[f"{ours} {layer}"][0]
            state[f"h.{layer}.{name}.bias"] = model.weights[f"bias of {ours} {layer}"][0]
    for name, ours in norms.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = model.weights[ours][0]
    missing = theirs.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all("attn.bias" in key or "masked" in key for key in missing.missing_keys)
    tokens = torch.randint(12, (1, 20, 8), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        hidden = theirs.eval()(tokens[0]).last_hidden_state
        wanted = hidden @ model.weights["head"][0] + model.weights["bias of head"][0]
        torch.testing.assert_close(model(tokens)[0], wanted, rtol=1e-5, atol=1e-5)


def trainer(**settings: Any) -> SimpleNamespace:
    """What the loss of a trainer of theirs asks of the trainer."""
    same = lambda x: x  # noqa: E731
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(**settings),
        accelerator=SimpleNamespace(gather=same, gather_for_metrics=same, device="cpu"),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **settings,
    )


def test_reward_loss() -> None:
    """A reward model's loss and its gradient."""
    rewards = torch.randn(2 * 30, 1, dtype=torch.float64, requires_grad=True)
    inputs = {"attention_mask": torch.ones(60, 4)}
    theirs = RewardTrainer.compute_loss(
        trainer(center_rewards_coefficient=None),
        lambda **_: SimpleNamespace(logits=rewards),
        inputs,
    )
    chosen, rejected = rewards.squeeze(-1).chunk(2)
    ours = preference_loss(chosen - rejected).mean()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, rewards)[0] for loss in (ours, theirs)))


@pytest.mark.parametrize("kind", ["sigmoid", "ipo"])
def test_dpo_and_ipo(kind: str) -> None:
    """Their IPO divides the log-ratios by the number of tokens first, which the paper does not."""
    beta, pairs, T = 0.3, 25, 5
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(T) < torch.randint(1, T + 1, (2 * pairs, 1), generator=generator)
    ours_tokens, reference = -torch.rand(2, 2 * pairs, T, generator=generator) * mask
    ours_tokens.requires_grad_()

    def outputs(log_probs: Tensor) -> SimpleNamespace:
        nothing = torch.zeros(2 * pairs, T)
        return SimpleNamespace(
            log_probs=log_probs, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )

    trains = trainer(
        beta=beta, label_smoothing=0.0, loss_types=[kind], loss_weights=[1.0], ld_alpha=None,
        f_divergence_type="reverse_kl", use_weighting=False, aux_loss_enabled=False,
        precompute_ref_logps=True,
    )  # fmt: skip
    seen = torch.cat([torch.zeros(2 * pairs, 1), mask.float()], dim=1)  # the prompt's token first
    inputs = {"input_ids": seen.long(), "attention_mask": seen, "completion_mask": seen}
    summed = reference.sum(-1).chunk(2)
    inputs |= dict(zip(("ref_chosen_logps", "ref_rejected_logps"), summed, strict=True))
    theirs = DPOTrainer._compute_loss(trains, lambda **_: outputs(ours_tokens), inputs, False)
    length = mask.sum(-1) + 0.0 if kind == "ipo" else 1.0
    four = [
        part for tokens in (ours_tokens, reference) for part in (tokens.sum(-1) / length).chunk(2)
    ]
    loss = dpo.dpo_loss if kind == "sigmoid" else dpo.ipo_loss
    chosen, rejected, old_chosen, old_rejected = four
    ours = loss(chosen, rejected, old_chosen, old_rejected, beta).mean()
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(x, ours_tokens, retain_graph=True)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)


# Our variant, and what theirs calls it: the loss, the level of its ratios, and how many groups its
# mean over tokens spans, where that matters.
GRPO_LOSSES = {
    "GRPO": (grpo.GRPO, "grpo", "token", 6),
    "Dr. GRPO": (grpo.DR_GRPO, "dr_grpo", "token", 6),
    "DAPO": (grpo.DAPO, "dapo", "token", 1),
    "BNPO is DAPO of one group": (grpo.DAPO, "bnpo", "token", 1),
    "GSPO": (replace(grpo.GSPO, low=0.1, high=0.15), "grpo", "sequence", 6),
    "a price without division by lengths": (replace(grpo.DR_GRPO, beta=0.3), "dr_grpo", "token", 6),
}


@pytest.mark.parametrize("name", GRPO_LOSSES)
def test_grpo_and_its_relatives(name: str) -> None:
    """Their Dr. GRPO divides by a constant, the most tokens of a response; ours leaves that out."""
    variant, loss_type, level, n = GRPO_LOSSES[name]
    G, L = 5, 4
    generator = torch.Generator().manual_seed(0)
    live = torch.arange(L) < torch.randint(1, L + 1, (n, G, 1), generator=generator)
    old, reference = -torch.rand(2, n, G, L, generator=generator, dtype=torch.float64)
    moved = 0.3 * torch.randn(n, G, L, generator=generator, dtype=torch.float64)
    log_probs = (old + moved).requires_grad_()
    rewards = torch.randn(n, G, generator=generator, dtype=torch.float64)
    advantages = grpo.ADVANTAGES[variant.advantages](rewards)
    trains = trainer(
        beta=variant.beta, loss_type=loss_type, importance_sampling_level=level,
        epsilon_low=variant.low, epsilon_high=variant.high, max_completion_length=L,
        delta=None, use_bias_correction_kl=False, steps_per_generation=1,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        aux_loss_enabled=False, current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False,
    )  # fmt: skip
    trains.accelerator.num_processes = 1
    trains.accelerator.reduce = lambda x, reduction: x
    nothing = torch.zeros(n * G, L)
    trains._get_per_token_logps_and_entropies = lambda *_, **__: (
        log_probs.flatten(0, 1), nothing, None
    )  # fmt: skip
    mask = live.flatten(0, 1).long()
    inputs = {
        "prompt_ids": mask[:, :1], "prompt_mask": mask[:, :1], "completion_ids": mask,
        "completion_mask": mask, "advantages": advantages.flatten(),
        "old_per_token_logps": old.flatten(0, 1), "ref_per_token_logps": reference.flatten(0, 1),
        "num_items_in_batch": mask.sum(),
    }  # fmt: skip
    theirs = GRPOTrainer._compute_loss(trains, None, inputs)
    each = grpo.grpo_loss(log_probs, old, live, advantages.unsqueeze(-1), variant, reference)
    ours = each.mean() / (L if loss_type == "dr_grpo" else 1)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(x, log_probs, retain_graph=True)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    assert 0.1 < float(((moved.exp() - 1).abs() > 0.2)[live].double().mean()) < 0.9  # clipped


def test_standardised_as_theirs() -> None:
    """Theirs divides by the standard deviation with G - 1, and adds 1e-4 to it."""
    rewards = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    away = rewards - rewards.mean(1, keepdim=True)
    theirs = away / (nanstd(rewards, dim=1).unsqueeze(1) + 1e-4)
    torch.testing.assert_close(grpo.standardised(rewards, 1e-4, denominator=1), theirs)
