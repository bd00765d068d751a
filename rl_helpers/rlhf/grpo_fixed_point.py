"""Where GRPO settles if the k3 estimates of the KL divergence are a term of its loss.

Not at the tilted reference: in each state at a hyperbola, the forward-KL step of `mirror_descent`.
`grpo_fixed_point` computes it backwards over tokens; `train_tables` gets there by sampling groups.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from rl_helpers.planning_as_inference.mirror_descent import forward_kl_step
from rl_helpers.rlhf.divergences import k3
from rl_helpers.rlhf.grpo import ADVANTAGES, Variant, grpo_loss
from rl_helpers.rlhf.toy_language import Language, sample_responses, sequence_log_probs
from rl_helpers.training.optim import Adam
from rl_helpers.training.seeds import seed_generators
from rl_helpers.validation import (
    require,
    require_at_least,
    require_finite,
    require_positive,
)


def grpo_fixed_point(
    language: Language,
    log_reference: Float[Tensor, "*batch choices tokens"],
    reward: Float[Tensor, "*batch responses"],
    beta: float | Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch choices tokens"]:
    """log π with π(a|s) = β π_ref(a|s) / (β + V(s) - Q(s, a)), the last token first.

    V and Q are its own values: expected rewards, without charges.

    Args:
        language: what is spoken.
        log_reference: log π_ref of the next token; all finite.
        reward: of each response.
        beta: price of the k3 estimates, in units of reward, positive; a tensor gives
            each prompt its own. If the advantage is r_i less the mean of all G rewards,
            which is smaller by the factor 1 - 1/G, give β G/(G - 1).

    Raises:
        ValueError: beta not positive, rewards not finite, a reference without support.

    Source: eq-grpo-fixed-point; eq-trpo-step.
    """
    require_positive(beta=beta)
    require_finite(reward=reward)
    require(
        bool(log_reference.isfinite().all()), "log_reference", "not finite somewhere",
        "the reference must have support wherever the policy may",
    )  # fmt: skip
    price = beta[..., None, None] if isinstance(beta, Tensor) else beta
    W, after, rows = language.end, reward[..., language.n_choices :], []
    for depth in reversed(range(language.max_words)):
        first, n = sum(W**k for k in range(depth)), W**depth
        ends = reward[..., first : first + n].unsqueeze(-1)
        Q = torch.cat([after.unflatten(-1, (n, W)), ends], dim=-1)
        here = log_reference[..., first : first + n, :].exp()
        scaled = (Q / price).flatten(0, -2).double().numpy()
        step = forward_kl_step(here.flatten(0, -2).double().numpy(), scaled, 1.0)
        policy = torch.from_numpy(step).to(Q.dtype).view_as(Q)
        after = (policy * Q).sum(-1)
        rows.append(policy)
    return torch.cat(rows[::-1], dim=-2).log()


def standardised_fixed_point(
    language: Language,
    log_reference: Float[Tensor, "*batch choices tokens"],
    reward: Float[Tensor, "*batch responses"],
    beta: float,
    n_steps: int = 200,
) -> Float[Tensor, "*batch choices tokens"]:
    """The same for standardised advantages and large groups: the price is β times the rewards' sd.

    The sd is that of the policy which is sought, so it is iterated.

    Args:
        language, log_reference, reward, beta: as for `grpo_fixed_point`.
        n_steps: iterations, at least 1.

    Raises:
        ValueError: as for `grpo_fixed_point`; prompts whose responses all have one reward.

    Source: eq-grpo-fixed-point, with standardised advantages.
    """
    require_at_least(1, n_steps=n_steps)
    require_positive(beta=beta)
    policy = log_reference
    for _ in range(n_steps):
        probs = sequence_log_probs(language, policy).exp()
        mean = (probs * reward).sum(-1, keepdim=True)
        spread = (probs * (reward - mean) ** 2).sum(-1).sqrt()
        require(bool((spread > 0).all()), "reward", "the same for all", "rewards must differ")
        policy = grpo_fixed_point(language, log_reference, reward, beta * spread)
    return policy


def expected_slope(
    language: Language,
    log_policy: Float[Tensor, "prompts choices tokens"],
    log_reference: Float[Tensor, "prompts choices tokens"],
    reward: Float[Tensor, "prompts responses"],
    beta: float,
    standardise: bool = False,
) -> Float[Tensor, "prompts choices tokens"]:
    """Expected gradient of GRPO's objective in all logits of a table: endless groups, tokens summed.

    Every response pulls with its probability.

    Args:
        language: what is spoken.
        log_policy: log π of the next token.
        log_reference, reward: as for `grpo_fixed_point`.
        beta: price of the k3 estimates in the loss, positive.
        standardise: divide the advantages of each prompt by their standard deviation.

    Source: eq-grpo-objective, at ratios of 1.
    """
    require_positive(beta=beta)
    logits = log_policy.detach().clone().requires_grad_()
    table, at = logits.log_softmax(-1), (slice(None), language.prefixes, language.tokens)
    pi = sequence_log_probs(language, table).exp().detach()
    A = reward - (pi * reward).sum(-1, keepdim=True)
    if standardise:
        A = A / (pi * A**2).sum(-1, keepdim=True).sqrt()
    each = A.unsqueeze(-1) * table[at] - beta * k3(table[at] - log_reference[at])
    return torch.autograd.grad((pi.unsqueeze(-1) * each * language.live).sum(), logits)[0]


def train_tables(
    variant: Variant,
    language: Language,
    log_reference: Float[Tensor, "prompts choices tokens"],
    reward: Float[Tensor, "prompts responses"],
    *,
    group: int = 64,
    n_steps: int = 300,
    learning_rate: float = 0.05,
    charge: float = 0.0,
    n_seeds: int = 1,
    seed: int = 0,
) -> Float[Tensor, "seeds prompts choices tokens"]:
    """Train tables of logits by GRPO, one gradient step for each group.

    Args:
        variant: the algorithm; its beta is the price of the k3 estimates in the loss.
        language: what is spoken.
        log_reference: log π_ref of the next token, where training starts.
        reward: of each response.
        group: responses to each prompt in each step, at least 2.
        n_steps: number of steps, at least 1.
        learning_rate: of Adam at the first step, positive; it falls to 0 linearly.
        charge: price of log π/π_ref of the response *in its reward*, at least 0.
        n_seeds: number of seeds, trained in one batch.
        seed: the experiment's seed.

    Returns:
        log π of the next token of each seed's policy at the end.

    Source: eq-grpo-objective, eq-kl-reward.
    """
    require_at_least(2, group=group)
    require_at_least(1, n_steps=n_steps)
    require_at_least(0, charge=charge)
    require_positive(learning_rate=learning_rate)
    generators = seed_generators(seed, n_seeds)
    shape = (n_seeds, *log_reference.shape)
    theta = log_reference.flatten().repeat(n_seeds, 1).requires_grad_()  # logits
    optimizer, n = Adam([theta], eps=1e-8), torch.arange(len(reward)).view(-1, 1)
    for step in range(n_steps):
        log_policy = theta.view(shape).log_softmax(-1)
        listed = sequence_log_probs(language, log_policy.detach())
        both = zip(listed, generators, strict=True)
        y = torch.stack([sample_responses(p, group, g) for p, g in both])
        at = (n.unsqueeze(-1), language.prefixes[y], language.tokens[y])
        live, log_ref = language.live[y], log_reference[at] * language.live[y]
        seeds = torch.arange(n_seeds).view(-1, 1, 1, 1)
        log_probs = log_policy[(seeds, *at)] * live
        paid = reward[n, y] - charge * (log_probs.detach() - log_ref).sum(-1)
        A = ADVANTAGES[variant.advantages](paid).unsqueeze(-1)
        loss = grpo_loss(log_probs, log_probs.detach(), live, A, variant, log_ref)
        loss.sum().backward()
        optimizer.step(learning_rate * (1 - step / n_steps))
    return theta.detach().view(shape).log_softmax(-1)
