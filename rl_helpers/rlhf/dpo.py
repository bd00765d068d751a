"""Direct preference optimisation: losses of log-probabilities, policies to train, the loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl_helpers.rlhf.fine_tuning import sft_loss
from rl_helpers.rlhf.language_policy import log_policy_everywhere
from rl_helpers.rlhf.preferences import Comparisons, preference_loss
from rl_helpers.rlhf.toy_language import Language, sequence_log_probs
from rl_helpers.rlhf.transformer import Shape, Transformer
from rl_helpers.training.optim import Adam
from rl_helpers.training.seeds import draws, seed_generators
from rl_helpers.validation import require, require_at_least, require_positive, require_unit

# -- Losses ------------------------------------------------------------------------------------


def implicit_reward(
    log_probs: Float[Tensor, "*batch"],
    log_reference: Float[Tensor, "*batch"],
    beta: float | Tensor,
) -> Float[Tensor, "*batch"]:
    """r̂ = β log(π_θ/π_ref): the reward that a policy is best for, up to β log Z(x).

    Args:
        log_probs: log π_θ(y|x) of whole responses: the tokens' summed, the end
            token's among them.
        log_reference: log π_ref(y|x) of the same.
        beta: price of a nat, in units of reward; positive. A tensor is broadcast.

    Raises:
        ValueError: beta not positive.

    Source: eq-implicit-reward; Rafailov et al. (2023), below their equation 7.
    """
    require_positive(beta=beta)
    return beta * (log_probs - log_reference)


def dpo_loss(
    chosen: Float[Tensor, "*batch"],
    rejected: Float[Tensor, "*batch"],
    reference_chosen: Float[Tensor, "*batch"],
    reference_rejected: Float[Tensor, "*batch"],
    beta: float | Tensor,
    label: float | Tensor = 1.0,
) -> Float[Tensor, "*batch"]:
    """-p log σ(m) - (1 - p) log σ(-m), where m = r̂(y⁺) - r̂(y⁻).

    Args:
        chosen, rejected: log π_θ of the two responses, the tokens' summed.
        reference_chosen, reference_rejected: log π_ref of the same, without gradient.
        beta: as for `implicit_reward`.
        label: p, share of judges who prefer the chosen one, 0 to 1; below 1 for all
            pairs alike it is conservative DPO.

    Raises:
        ValueError: beta not positive, a label outside [0, 1].

    Source: eq-dpo-loss; Rafailov et al. (2023), equation 7.

    >>> numbers = -3.3, -1.32, -3.5, -0.72  # log-ratios .2 and -.6
    >>> two = [torch.tensor([x]) for x in numbers]
    >>> dpo_loss(*two, beta=0.5)
    tensor([0.5130])
    """
    require_unit(label=label)
    better = implicit_reward(chosen, reference_chosen, beta)
    worse = implicit_reward(rejected, reference_rejected, beta)
    return preference_loss(better - worse, label)


def ipo_loss(
    chosen: Float[Tensor, "*batch"],
    rejected: Float[Tensor, "*batch"],
    reference_chosen: Float[Tensor, "*batch"],
    reference_rejected: Float[Tensor, "*batch"],
    cost: float | Tensor,
    label: float | Tensor = 1.0,
) -> Float[Tensor, "*batch"]:
    """p (h - 1/(2c))² + (1 - p) (h + 1/(2c))², for h = log-ratio of y⁺ less that of y⁻.

    Args:
        chosen, rejected, reference_chosen, reference_rejected, label: as for `dpo_loss`.
        cost: c, price of a nat in units of the probability of being preferred; positive.

    Raises:
        ValueError: cost not positive, a label outside [0, 1].

    Source: eq-ipo; Azar et al. (2024), equation 17, whose τ is c here.
    """
    require_positive(cost=cost)
    require_unit(label=label)
    h, goal = (chosen - reference_chosen) - (rejected - reference_rejected), 1 / (2 * cost)
    return label * (h - goal) ** 2 + (1 - label) * (h + goal) ** 2


# -- Comparisons -------------------------------------------------------------------------------


def written_comparisons(language: Language, rows: Sequence[tuple[str, str, str]]) -> Comparisons:
    """Comparisons as they are written: a prompt, the chosen and the rejected response.

    Args:
        language: whose words they are.
        rows: n texts each.

    Raises:
        ValueError: no rows, a prompt or a word that the language does not have, a response
            without an end token or too long, or equal responses.
    """
    require(len(rows) > 0, "rows", "empty", "at least 1 comparison is needed")
    numbers = [
        [language.prompt(x), language.response(better), language.response(worse)]
        for x, better, worse in rows
    ]
    comparisons = Comparisons(*torch.tensor(numbers).T)
    require_comparisons(language, comparisons)
    return comparisons


def require_comparisons(language: Language, comparisons: Comparisons) -> None:
    """Raise `ValueError` unless prompts and responses are the language's, and no pair is equal."""
    _, chosen, rejected = comparisons
    sizes = (len(language.prompts), language.n_responses, language.n_responses)
    for name, numbers, n in zip(comparisons._fields, comparisons, sizes, strict=True):
        known = bool(((numbers >= 0) & (numbers < n)).all())
        require(
            known, name, f"{int(numbers.min())} to {int(numbers.max())}",
            f"this language has 0 to {n - 1}",
        )  # fmt: skip
    if bool((equal := chosen == rejected).any()):
        raise ValueError(
            f"chosen and rejected are the same response in {int(equal.sum())} of {equal.numel()} "
            f"comparisons, such as {language.text(int(chosen[equal][0]))!r}; a pair needs two"
        )


# -- Policies ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TransformerPolicy:
    """A transformer's parameters as the policy's.

    Args:
        language: what is spoken.
        shape: sizes of the transformer.
    """

    language: Language
    shape: Shape

    def log_probs(
        self,
        theta: Float[Tensor, "seeds P"],
        prompts: Int[Tensor, "seeds n"],
        responses: Int[Tensor, "seeds n"],
    ) -> Float[Tensor, "seeds n"]:
        """log π_θ(y|x) of given responses: the tokens' summed, the end token's among them."""
        return -sft_loss(Transformer(theta, self.shape), self.language, prompts, responses)

    def everywhere(
        self, theta: Float[Tensor, "seeds P"]
    ) -> Float[Tensor, "seeds prompts choices tokens"]:
        """log π_θ(token|x, prefix) at every prefix, as the functions of `toy_language` take it."""
        return log_policy_everywhere(Transformer(theta, self.shape), self.language)


@dataclass(frozen=True, eq=False)
class TablePolicy:
    """A table of logits of the next token, a row for each state of each prompt.

    Prefixes with the same state share a row: what is learned after one is said after the other.

    Args:
        language: what is spoken.
        states: number of each prefix's state, from 0, none left out [choices]; `each_prefix` or
            `place_and_last_word`.

    Raises:
        ValueError: states of another length, or numbers left out.
    """

    language: Language
    states: Int[Tensor, " choices"]

    def __post_init__(self) -> None:
        n = self.language.n_choices
        require(
            len(self.states) == n, "states", f"of {len(self.states)} prefixes", f"there are {n}"
        )
        used = self.states.unique()
        counted = torch.equal(used, torch.arange(len(used)))
        require(counted, "states", used.tolist()[:8], "they count from 0 and leave none out")

    @property
    def n_states(self) -> int:
        """Rows of each prompt."""
        return int(self.states.max()) + 1

    @property
    def n_parameters(self) -> int:
        """Length P of a seed's vector of parameters."""
        return len(self.language.prompts) * self.n_states * self.language.n_tokens

    def parameters(
        self, log_policy: Float[Tensor, "*seeds prompts choices tokens"]
    ) -> Float[Tensor, "*seeds P"]:
        """Parameters of a policy whose rows depend on the state alone.

        Raises:
            ValueError: a policy that differs between prefixes of the same state.
        """
        first = torch.stack([(self.states == s).nonzero()[0, 0] for s in range(self.n_states)])
        table = log_policy[..., first, :]
        off = float((table[..., self.states, :] - log_policy).abs().max())
        require(off < 1e-6, "log_policy", f"off by {off:.2g}", "one row for each state must do")
        return table.flatten(-3)

    def log_probs(
        self,
        theta: Float[Tensor, "seeds P"],
        prompts: Int[Tensor, "seeds n"],
        responses: Int[Tensor, "seeds n"],
    ) -> Float[Tensor, "seeds n"]:
        """log π_θ(y|x) of given responses: the tokens' summed, the end token's among them."""
        language = self.language
        rows = prompts.unsqueeze(-1) * self.n_states + self.states[language.prefixes[responses]]
        cells = rows * language.n_tokens + language.tokens[responses]  # [seeds, n, L]
        tokens = self._table(theta).flatten(1).gather(1, cells.flatten(1)).view(cells.shape)
        return tokens.masked_fill(~language.live[responses], 0.0).sum(-1)

    def everywhere(
        self, theta: Float[Tensor, "seeds P"]
    ) -> Float[Tensor, "seeds prompts choices tokens"]:
        """log π_θ(token|x, prefix) at every prefix, as the functions of `toy_language` take it."""
        return self._table(theta)[:, :, self.states]

    def _table(self, theta: Tensor) -> Float[Tensor, "seeds prompts states tokens"]:
        language = self.language
        logits = theta.view(len(theta), len(language.prompts), self.n_states, language.n_tokens)
        return logits.log_softmax(-1)


Policy = TransformerPolicy | TablePolicy


def each_prefix(language: Language) -> Int[Tensor, " choices"]:
    """Each prefix is a state of its own: the policy is a table, and can be any policy."""
    return torch.arange(language.n_choices)


def place_and_last_word(language: Language) -> Int[Tensor, " choices"]:
    """A state is how many words were said, and the last of them."""
    W, states = len(language.words), [0]
    for length in range(1, language.max_words):
        last = torch.arange(W).repeat(W ** (length - 1))
        states += (1 + W * (length - 1) + last).tolist()
    return torch.tensor(states)


# -- The loop ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DpoConfig:
    """Settings of a training run on a fixed set of comparisons.

    Args:
        n_steps: steps of Adam.
        batch: comparisons of a step, drawn with replacement; all of them if there are no more.
        learning_rate: at the first step; it falls to 0 in a straight line. Positive.
        keep_every: steps between the parameters that are kept.
    """

    n_steps: int = 400
    batch: int = 64
    learning_rate: float = 3e-3
    keep_every: int = 20

    def __post_init__(self) -> None:
        require_at_least(1, n_steps=self.n_steps, batch=self.batch, keep_every=self.keep_every)
        require_positive(learning_rate=self.learning_rate)


@dataclass(frozen=True, eq=False)
class DpoRun:
    """What training left.

    Args:
        steps: steps taken when parameters were kept, the first 0 and the last all [k].
        theta: parameters then [k, seeds, P].
        losses: mean loss of each step's batch [seeds, n_steps].
    """

    steps: Int[Tensor, " k"]
    theta: Float[Tensor, "k seeds P"]
    losses: Float[Tensor, "seeds n_steps"]


Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def train_dpo(
    config: DpoConfig,
    policy: Policy,
    theta: Float[Tensor, "seeds P"],
    comparisons: Comparisons,
    loss: Loss,
    seed: int = 0,
) -> DpoRun:
    """Train each seed's policy on its own comparisons; it starts at its reference.

    Args:
        config: the settings.
        policy: what the parameters mean.
        theta: the reference's parameters, and the first of the policy [seeds, P].
        comparisons: of each seed [seeds, n].
        loss: of log π_θ and log π_ref of both responses, such as
            `partial(dpo_loss, beta=0.5)`.
        seed: the experiment's seed, of the batches.

    Raises:
        ValueError: comparisons that are not the language's, or of equal responses.

    Source: eq-dpo-loss, eq-ipo; whichever `loss` is.
    """
    require_comparisons(policy.language, comparisons)
    seeds, n = comparisons.prompts.shape
    generators = seed_generators(seed, seeds)
    pairs = comparisons.prompts.repeat(1, 2), torch.cat(comparisons[1:], dim=1)
    reference = policy.log_probs(theta.detach(), *pairs).chunk(2, dim=1)
    theta = theta.detach().clone().requires_grad_()
    optimizer = Adam([theta], eps=1e-8)
    kept, losses = {0: theta.detach().clone()}, []
    at = torch.arange(n).expand(seeds, n)  # all of them, or else a batch
    for step in range(config.n_steps):
        if config.batch < n:
            at = draws(generators, n, config.batch)
        x, y, z, reference_y, reference_z = (
            part.gather(1, at) for part in (*comparisons, *reference)
        )
        both = policy.log_probs(theta, x.repeat(1, 2), torch.cat([y, z], dim=1))
        new_y, new_z = both.chunk(2, dim=1)
        mean = loss(new_y, new_z, reference_y, reference_z).mean(1)
        mean.sum().backward()
        optimizer.step(config.learning_rate * (1 - step / config.n_steps))
        losses.append(mean.detach())
        if (step + 1) % config.keep_every == 0 or step + 1 == config.n_steps:
            kept[step + 1] = theta.detach().clone()
    path = torch.stack(list(kept.values()))
    return DpoRun(torch.tensor(list(kept)), path, torch.stack(losses, dim=1))


# -- What training did --------------------------------------------------------------------------


def listed(
    policy: Policy, theta: Float[Tensor, "seeds P"]
) -> Float[Tensor, "seeds prompts responses"]:
    """log π_θ(y|x) of every response, in float64."""
    return sequence_log_probs(policy.language, policy.everywhere(theta).double())


def log_ratios(
    policy: Policy,
    theta: Float[Tensor, "seeds P"],
    reference: Float[Tensor, " P"],
    comparisons: Comparisons,
) -> tuple[Float[Tensor, "seeds n"], Float[Tensor, "seeds n"]]:
    """log(π_θ/π_ref) of the chosen and of the rejected responses of each seed.

    Args:
        policy: what the parameters mean.
        theta: each seed's parameters.
        reference: those of the reference, one for all seeds.
        comparisons: of each seed [seeds, n].
    """
    then, x = reference.expand(len(theta), -1), comparisons.prompts
    y, z = (
        policy.log_probs(theta, x, side) - policy.log_probs(then, x, side)
        for side in (comparisons.chosen, comparisons.rejected)
    )
    return y, z


def response_kinds(
    language: Language, comparisons: Comparisons
) -> dict[str, Bool[Tensor, "seeds prompts responses"]]:
    """Which responses were only ever chosen, only rejected, both, or never compared.

    Args:
        language: whose responses they are.
        comparisons: of each seed [seeds, n].
    """
    seeds, prompts = torch.arange(len(comparisons.prompts)).unsqueeze(1), comparisons.prompts
    won = torch.zeros(len(seeds), len(language.prompts), language.n_responses, dtype=torch.bool)
    lost = torch.zeros_like(won)
    won[seeds, prompts, comparisons.chosen] = True
    lost[seeds, prompts, comparisons.rejected] = True
    return {
        "chosen": won & ~lost, "rejected": lost & ~won, "both": won & lost, "unseen": ~won & ~lost,
    }  # fmt: skip


def scores(
    policy: Policy,
    theta: Float[Tensor, " P"],
    prompts: Int[Tensor, " n"],
    responses: Int[Tensor, " n"],
) -> Float[Tensor, "n P"]:
    """∇log π_θ(y|x) of each response, all at the same parameters.

    Args:
        policy: what the parameters mean.
        theta: the parameters.
        prompts, responses: by their numbers.
    """
    copies = theta.detach().expand(len(prompts), -1).clone().requires_grad_()
    log_probs = policy.log_probs(copies, prompts.unsqueeze(1), responses.unsqueeze(1))
    return torch.autograd.grad(log_probs.sum(), copies)[0]


def minimise(
    loss: Callable[[Float[Tensor, " responses"]], Float[Tensor, ""]],
    log_start: Float[Tensor, " responses"],
) -> Float[Tensor, " responses"]:
    """log π(y) of the policy, among all, at a minimum of a smooth loss: a quasi-Newton method (L-BFGS).

    Args:
        loss: of the log-probabilities of all responses to one prompt.
        log_start: where the search begins.
    """
    logits = log_start.detach().clone().requires_grad_()
    search = torch.optim.LBFGS(
        [logits], max_iter=1_000, tolerance_grad=1e-11, tolerance_change=0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(logits.log_softmax(0))
        value.backward()
        return value

    search.step(closure)
    return logits.detach().log_softmax(0)
