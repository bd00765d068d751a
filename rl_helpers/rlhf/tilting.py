"""The best policy under a KL price, by listing all responses: tilted reference, value, objective.

Policies are log-probabilities of all responses [..., responses], rewards have the same shape;
`soft_token_values` says the same token by token.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rl_helpers.mdp.process import MDP
from rl_helpers.rlhf.toy_language import Language, choice_weights
from rl_helpers.validation import (
    require,
    require_finite,
    require_log_distributions,
    require_positive,
)


def kl(
    log_p: Float[Tensor, "*batch responses"], log_q: Float[Tensor, "*batch responses"]
) -> Float[Tensor, "*batch"]:
    """KL(p || q) in nats, of log-probabilities of all responses; infinite where q lacks support."""
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(-1)


def log_partition(
    log_reference: Float[Tensor, "*batch responses"],
    reward: Float[Tensor, "*batch responses"],
    beta: float | Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """log Z(x) = log sum_y π_ref(y|x) exp(r(x, y)/β).

    Args:
        log_reference: log π_ref(y|x) of all responses.
        reward: r(x, y) of all responses.
        beta: price of a nat, in units of reward; positive. A tensor gives each row its own.

    Raises:
        ValueError: beta not positive, rewards not finite, a reference that is no distribution.

    Source: eq-partition.
    """
    return _weights(log_reference, reward, beta).logsumexp(-1)


def tilt(
    log_reference: Float[Tensor, "*batch responses"],
    reward: Float[Tensor, "*batch responses"],
    beta: float | Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch responses"]:
    """log π*(y|x): the reference times exp(r/β), divided by Z(x).

    Args:
        log_reference, reward, beta: as for `log_partition`.

    Source: eq-rlhf-optimum.

    >>> three = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    >>> tilt(three.log(), torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64), 1.0).exp().numpy().round(3)
    array([0.279, 0.379, 0.343])
    """
    return _weights(log_reference, reward, beta).log_softmax(-1)


def rlhf_objective(
    log_policy: Float[Tensor, "*batch responses"],
    log_reference: Float[Tensor, "*batch responses"],
    reward: Float[Tensor, "*batch responses"],
    beta: float | Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """E_π[r(x, y)] - β KL(π(.|x) || π_ref(.|x)) of each prompt.

    Args:
        log_policy: log π(y|x) of all responses.
        log_reference, reward, beta: as for `log_partition`.

    Raises:
        ValueError: as for `log_partition`; or a policy that says what the reference never does.

    Source: eq-rlhf-objective; for one prompt.
    """
    _require_problem(log_reference, reward, beta)
    drift = kl(log_policy, log_reference)
    require(
        bool(drift.isfinite().all()), "log_reference", "-infinity for a response of the policy",
        "the reference must have support wherever the policy does",
    )  # fmt: skip
    return (log_policy.exp() * reward).sum(-1) - beta * drift


def moments(
    log_policy: Float[Tensor, "*batch responses"], reward: Float[Tensor, "*batch responses"]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Mean and variance of the reward under a policy, of each prompt.

    Source: eq-tilt-derivatives, where the policy is a tilted one.
    """
    p = log_policy.exp()
    mean = (p * reward).sum(-1)
    return mean, (p * (reward - mean.unsqueeze(-1)) ** 2).sum(-1)


def favourites(
    log_reference: Float[Tensor, " responses"], reward: Float[Tensor, " responses"]
) -> list[tuple[float, int]]:
    """The likeliest response of the tilted policy, as β falls from infinity to 0.

    Response y' overtakes y at β = (r' - r) / (log π_ref(y) - log π_ref(y')), if it has the higher
    reward; the next favourite is the one that overtakes first. Where several do so together, the
    one with the highest reward counts.

    Args:
        log_reference: log π_ref(y|x) of all responses to one prompt.
        reward: r(x, y) of all responses.

    Returns:
        Of each favourite the β below which it is the likeliest, and its number; the first has
        infinity.

    Raises:
        ValueError: as for `log_partition`.

    Source: eq-crossing.

    >>> three = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    >>> [(round(beta, 3), y) for beta, y in favourites(three.log(), torch.tensor([0.0, 1.0, 2.0]))]
    [(inf, 0), (1.443, 1), (0.91, 2)]
    """
    _require_problem(log_reference, reward)
    likeliest = log_reference == log_reference.max()
    first = torch.where(likeliest, reward, -torch.inf).argmax()
    found = [(math.inf, int(first))]
    while True:
        now = found[-1][1]
        more = reward - reward[now]
        beta = torch.where(more > 0, more / (log_reference[now] - log_reference), 0.0)
        if float(beta.max()) == 0.0:
            return found
        overtaking = torch.where(beta == beta.max(), reward, -torch.inf)
        found.append((float(beta.max()), int(overtaking.argmax())))


def soft_token_values(
    language: Language,
    log_reference: Float[Tensor, "*batch choices tokens"],
    reward: Float[Tensor, "*batch responses"],
    beta: float,
) -> tuple[Float[Tensor, "*batch choices"], Float[Tensor, "*batch choices tokens"]]:
    """Soft V and Q at every prefix: what it is worth to have said this much.

    The tilted sequence policy, token by token, is
    log π_ref(token|x, prefix) + (Q - V)/β.

    Args:
        language: whose tree of prefixes it is.
        log_reference: log-probabilities of the next token [..., choices, tokens].
        reward: of each response, paid at its end [..., responses].
        beta: price of a nat, in units of reward; positive.

    Returns:
        V [..., choices], of which the first is β log Z(x), and Q [..., choices,
        tokens]: the V of the prefix that a word leads to, or the reward of the response
        that a token completes.

    Raises:
        ValueError: beta not positive, rewards not finite, arrays that do not fit the
            language.

    Source: eq-token-tilt.
    """
    require_positive(beta=beta)
    require_finite(reward=reward.detach())
    table = tuple(log_reference.shape[-2:])
    shape = language.n_choices, language.n_tokens
    n_responses = language.n_responses
    allowed = f"its last axes are {shape} for this language"
    require(table == shape, "log_reference", table, allowed)
    require(
        reward.shape[-1] == n_responses, "reward", tuple(reward.shape),
        f"its last axis is {n_responses} for this language",
    )  # fmt: skip
    W, after = language.end, reward[..., language.n_choices :]  # of the longest
    V, Q = [], []
    for depth in reversed(range(language.max_words)):
        first, n = sum(W**k for k in range(depth)), W**depth
        ends = reward[..., first : first + n].unsqueeze(-1)
        here = torch.cat([after.unflatten(-1, (n, W)), ends], dim=-1)
        level = log_reference[..., first : first + n, :]
        after = beta * (level + here / beta).logsumexp(-1)
        Q.append(here)
        V.append(after)
    return torch.cat(V[::-1], dim=-1), torch.cat(Q[::-1], dim=-2)


def choice_process(language: Language, reward: Float[Tensor, " responses"]) -> MDP:
    """Answering a prompt as a decision process: prefixes are states, tokens actions.

    The last state is the end, where nothing happens any more. The discount is a number
    below 1 that matters little: 1 - 1e-12.

    Args:
        language: with n_choices prefixes and n_tokens tokens.
        reward: of each response, paid by the token that completes it.

    Returns:
        A process of n_choices + 1 states and n_tokens actions, which starts at the
        empty prefix.

    Raises:
        ValueError: rewards that do not fit the language.

    Source: eq-token-tilt is eq-kl-boltzmann for this process.
    """
    n, W = language.n_choices, language.end
    size = language.n_responses
    allowed = f"{size} are needed for this language"
    require(len(reward) == size, "reward", len(reward), allowed)
    paid = reward.numpy()
    after = W * np.arange(n)[:, None] + 1 + np.arange(W)  # prefix n, then word w
    P, R = np.zeros((n + 1, W + 1, n + 1)), np.zeros((n + 1, W + 1))
    P[np.arange(n)[:, None], np.arange(W), after.clip(max=n)] = 1
    P[:n, W, n] = P[n, :, n] = 1
    R[:n, :W] = np.where(after < n, 0.0, paid[after])  # the longest are ended by force
    R[:n, W] = paid[:n]
    return MDP(P, R, 1 - 1e-12, np.eye(n + 1)[0])


def prefix_probs(
    language: Language, log_probs: Float[Tensor, "*batch responses"]
) -> Float[Tensor, "*batch choices"]:
    """Probability that each prefix with a choice occurs, from the log-probabilities of responses.

    Source: eq-kl-chain.
    """
    return choice_weights(language, log_probs.exp()).sum(-1)


def _weights(log_reference: Tensor, reward: Tensor, beta: float | Tensor) -> Tensor:
    """log(π_ref exp(r/β)) of all responses."""
    _require_problem(log_reference, reward, beta)
    price = beta.unsqueeze(-1) if isinstance(beta, Tensor) else beta
    return log_reference + reward / price


def _require_problem(log_reference: Tensor, reward: Tensor, beta: float | Tensor = 1.0) -> None:
    """Raise `ValueError` as `log_partition` says."""
    require_positive(beta=beta)
    require_finite(reward=reward.detach())
    require_log_distributions(log_reference=log_reference)
