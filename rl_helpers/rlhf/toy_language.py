"""Languages small enough to list every response, and *The butler*, which Part IV speaks.

What has been said so far is a *prefix*; prefixes are numbered as in a heap: the empty one is 0, and
prefix n with word w behind it is prefix W n + 1 + w, for W words. A response is a prefix and the
end token, so response n is prefix n, ended: a language lists its responses by counting. At the first
`n_choices` prefixes there is a choice; the longest, with `max_words` words, are ended by force, with
probability 1.

A policy is an array of log-probabilities [..., prefixes, tokens], a row for each prefix with a
choice. The words are tokens 0 to W - 1, the end token is W.
"""

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from rl_helpers.mdp.process import MDP
from rl_helpers.validation import require, require_at_least

END = "."
MOST_RESPONSES = 1_000_000  # of one prompt: more are too many to list


@dataclass(frozen=True)
class Language:
    """Words, prompts, and how many words a response may have.

    Args:
        words: W different words; the end token is not among them.
        prompts: what a response may answer.
        max_words: words after which a response is ended by force, at least 1.

    Raises:
        ValueError: repeated words or prompts, none of them, `max_words` below 1, or a language
            too large to list; the message says how many responses it has.
    """

    words: tuple[str, ...]
    prompts: tuple[str, ...]
    max_words: int

    def __post_init__(self) -> None:
        require_at_least(1, max_words=self.max_words)
        for name, given in (("words", self.words), ("prompts", self.prompts)):
            unique = 0 < len(given) == len(set(given)) and END not in given
            require(unique, name, given, f"at least one, all different, none of them {END!r}")
        if self.n_responses > MOST_RESPONSES:
            raise ValueError(
                f"a language of {len(self.words)} words and up to {self.max_words} of them in a response "
                f"has {self.n_responses:,} responses; at most {MOST_RESPONSES:,} can be listed"
            )

    @property
    def end(self) -> int:
        """The end token, W."""
        return len(self.words)

    @property
    def n_tokens(self) -> int:
        """Words and the end token, W + 1."""
        return len(self.words) + 1

    @property
    def n_responses(self) -> int:
        """Responses to one prompt, 1 + W + ... + W^max_words."""
        return sum(len(self.words) ** k for k in range(self.max_words + 1))

    @property
    def n_choices(self) -> int:
        """Prefixes with a choice of the next token, 1 + W + ... + W^(max_words - 1)."""
        return sum(len(self.words) ** k for k in range(self.max_words))

    @cached_property
    def tokens(self) -> Int[Tensor, "responses max_words"]:
        """Tokens chosen in each response; behind its end, end tokens that nobody chose."""
        rows = [
            [*words] + [self.end] * (self.max_words - n)
            for n in range(self.max_words + 1)
            for words in itertools.product(range(self.end), repeat=n)
        ]
        return torch.tensor(rows)

    @cached_property
    def n_words(self) -> Int[Tensor, " responses"]:
        """Number of words of each response."""
        return (self.tokens != self.end).sum(-1)

    @cached_property
    def live(self) -> Bool[Tensor, "responses max_words"]:
        """Which tokens were chosen: the words, and the end token unless it was forced."""
        return torch.arange(self.max_words) <= self.n_words.unsqueeze(-1)

    @cached_property
    def prefixes(self) -> Int[Tensor, "responses max_words"]:
        """Prefix in which each token was chosen; 0 behind the end."""
        path = [torch.zeros(self.n_responses, dtype=torch.long)]
        for token in self.tokens.T[:-1]:
            word = token != self.end
            path.append(torch.where(word, self.end * path[-1] + 1 + token, path[-1]))
        return torch.stack(path, dim=-1) * self.live

    def text(self, response: int) -> str:
        """A response as it is written.

        >>> butler.text(butler.response("yes sir."))
        'yes sir.'
        """
        require(
            0 <= response < self.n_responses, "response", response, f"0 to {self.n_responses - 1}"
        )
        said = self.tokens[response, : int(self.n_words[response])].tolist()
        return " ".join(self.words[word] for word in said) + END

    def response(self, text: str) -> int:
        """The number of a response.

        Raises:
            ValueError: a word that is not in the language, no end token, or too many words.
        """
        require(text.endswith(END), "text", repr(text), f"a response ends with {END!r}")
        number, said = 0, text.removesuffix(END).split()
        require(len(said) <= self.max_words, "text", repr(text), f"at most {self.max_words} words")
        for word in said:
            require(word in self.words, "text", repr(text), f"words are {', '.join(self.words)}")
            number = self.end * number + 1 + self.words.index(word)
        return number

    def prompt(self, text: str) -> int:
        """The number of a prompt; `ValueError` for one that is not in the language."""
        require(
            text in self.prompts, "prompt", repr(text), f"prompts are {', '.join(self.prompts)}"
        )
        return self.prompts.index(text)

    def number(self, tokens: Int[Tensor, "*batch max_words"]) -> Int[Tensor, "*batch"]:
        """Numbers of responses given by their tokens, as in `tokens`.

        Raises:
            ValueError: not `max_words` tokens, tokens outside 0 to W, or a word behind an end token.
        """
        require(
            tokens.shape[-1] == self.max_words, "tokens", tuple(tokens.shape),
            f"the last axis is {self.max_words} long",
        )  # fmt: skip
        ended = torch.zeros(tokens.shape[:-1], dtype=torch.bool)
        number = torch.zeros(tokens.shape[:-1], dtype=torch.long)
        for token in tokens.unbind(-1):
            valid = (token >= 0) & (token <= self.end) & (~ended | (token == self.end))
            require(
                bool(valid.all()), "tokens", token[~valid].tolist(),
                f"tokens are 0 to {self.end}, and behind an end token there is no word",
            )  # fmt: skip
            ended |= token == self.end
            number = torch.where(ended, number, self.end * number + 1 + token)
        return number


def sequence_log_probs(
    language: Language, log_policy: Float[Tensor, "*batch choices tokens"]
) -> Float[Tensor, "*batch responses"]:
    """log π(y|x) of every response, from log π(token|x, prefix).

    Args:
        language: of n_choices prefixes and n_tokens tokens.
        log_policy: log-probabilities of the next token [..., choices, tokens].

    Returns:
        Their sums over the tokens of each response [..., responses]; a forced end adds 0.

    Raises:
        ValueError: log_policy of another shape.

    Source: eq-lm-factor.
    """
    _require_table(language, log_policy)
    W = language.end
    reach = log_policy.new_zeros(*log_policy.shape[:-2], 1)  # log-probabilities of prefixes
    ended, first = [], 0
    for _ in range(language.max_words):
        here = log_policy[..., first : first + reach.shape[-1], :]  # one level of the tree
        ended.append(reach + here[..., W])
        first += reach.shape[-1]
        reach = (reach.unsqueeze(-1) + here[..., :W]).flatten(-2)
    return torch.cat([*ended, reach], dim=-1)


def token_values(
    language: Language,
    log_policy: Float[Tensor, "*batch choices tokens"],
    response_values: Float[Tensor, "*batch responses"],
) -> tuple[Float[Tensor, "*batch choices"], Float[Tensor, "*batch choices tokens"]]:
    """V and Q of a policy at every prefix with a choice, for a reward that is paid at the end.

    Args:
        language: as for `sequence_log_probs`.
        log_policy: log-probabilities of the next token [..., choices, tokens].
        response_values: reward of each response [..., responses].

    Returns:
        V [..., choices], expected reward from each prefix on, and Q [..., choices, tokens].

    Source: eq-bellman-v for the token process, where γ = 1 and nothing is random but the policy.
    """
    _require_table(language, log_policy)
    W, pi = language.end, log_policy.exp()
    after = response_values[..., language.n_choices :]  # of the longest prefixes
    V, Q = [], []
    for depth in reversed(range(language.max_words)):
        first, n = sum(W**k for k in range(depth)), W**depth
        ends = response_values[..., first : first + n].unsqueeze(-1)
        here = torch.cat([after.unflatten(-1, (n, W)), ends], dim=-1)
        after = (pi[..., first : first + n, :] * here).sum(-1)
        Q.append(here)
        V.append(after)
    return torch.cat(V[::-1], dim=-1), torch.cat(Q[::-1], dim=-2)


def choice_weights(
    language: Language,
    weights: Float[Tensor, "*batch responses"],
    counted: Bool[Tensor, "responses max_words"] | None = None,
) -> Float[Tensor, "*batch choices tokens"]:
    """Add up weights of responses over the choices that they make.

    With probabilities as weights these are the expected visits of each prefix and token; with
    probabilities times rewards, what the score of each is multiplied by in the policy gradient.

    Args:
        language: as for `sequence_log_probs`.
        weights: a number for each response [..., responses].
        counted: which tokens of each response are counted; by default all that were chosen.

    Returns:
        For each prefix and token the sum over responses that choose it there [..., choices, tokens].
    """
    counted = language.live if counted is None else counted
    choice = language.prefixes * language.n_tokens + language.tokens  # [responses, max_words]
    total = weights.new_zeros(*weights.shape[:-1], language.n_choices * language.n_tokens)
    for at, made in zip(choice.T, counted.T, strict=True):
        total.index_add_(-1, at[made], weights[..., made])
    return total.unflatten(-1, (language.n_choices, language.n_tokens))


def token_process(
    language: Language, response_values: Float[Tensor, " responses"], gamma: float
) -> MDP:
    """The decision process of one prompt, as in Part I; every transition is deterministic.

    State n is prefix n, for n below the number of responses N, and state N + n is response n, which
    has ended and stays so. The end token pays the response's reward; of the longest prefixes each
    action ends, and only the end token pays: a policy is to take it there (`token_policy`).

    Args:
        language: whose prefixes and responses are the states.
        response_values: reward of each response.
        gamma: discount, which an MDP wants below 1; the process itself ends, and needs none.
    """
    N, W, C = language.n_responses, language.end, language.n_choices
    following = np.tile(N + np.arange(N)[:, None], W + 1)  # the end
    following[:C, :W] = 1 + np.arange(C * W).reshape(C, W)  # a word
    absorbed = np.repeat(N + np.arange(N), W + 1)
    columns = np.concatenate([following.ravel(), absorbed])
    rows = np.arange(len(columns))
    P = sparse.csr_array((np.ones(len(columns)), (rows, columns)), shape=(len(columns), 2 * N))
    R = np.zeros((2 * N, W + 1))
    R[:N, W] = response_values.numpy()
    return MDP(P, R, gamma, p0=np.eye(1, 2 * N)[0])


def token_policy(
    language: Language, log_policy: Float[Tensor, "choices tokens"]
) -> Float[np.ndarray, "states tokens"]:
    """A policy of the token process, from log π(token|prefix): the end is forced where none is given."""
    _require_table(language, log_policy)
    policy = np.zeros((2 * language.n_responses, language.n_tokens))
    policy[:, language.end] = 1.0
    policy[: language.n_choices] = log_policy.exp().numpy()
    return policy


def sample_responses(
    log_probs: Float[Tensor, "*batch responses"], n: int, generator: torch.Generator
) -> Int[Tensor, "*batch n"]:
    """Independent responses by their numbers, from the log-probabilities of all [..., n]."""
    rows = log_probs.exp().reshape(-1, log_probs.shape[-1])
    drawn = torch.multinomial(rows, n, replacement=True, generator=generator)
    return drawn.reshape(*log_probs.shape[:-1], n)


def _require_table(language: Language, log_policy: Tensor) -> None:
    shape = (language.n_choices, language.n_tokens)
    require(
        tuple(log_policy.shape[-2:]) == shape, "log_policy", tuple(log_policy.shape),
        f"[..., choices, tokens] = [..., {shape[0]}, {shape[1]}]",
    )  # fmt: skip


# The butler. ----------------------------------------------------------------------------------

butler = Language(
    words=("yes", "no", "sir", "sorry", "but", "very", "good"),
    prompts=("tea?", "soup?", "poem?", "drive?"),
    max_words=4,
)
TRUTH = (1.0, 1.0, -1.0, -1.0)  # what he may promise: there is tea and soup; no poem, no car
# How he speaks by habit: logits of what follows a word; all others are UNUSUAL.
UNUSUAL = -3.0
HABIT = {
    "": {"yes": 2.0, "no": 1.0, "sorry": 1.0, "very": 1.0},
    "yes": {"sir": 2.0, END: 1.0},
    "no": {"sir": 1.0, "sorry": 1.0, END: 1.0},
    "sir": {END: 3.0},
    "sorry": {"sir": 2.0, "but": 1.0, END: 1.0},
    "but": {"no": 2.0, "very": 1.0, "yes": 0.0},
    "very": {"good": 2.0, "sorry": 1.0, "very": 0.0},
    "good": {"sir": 2.0, END: 1.0},
}
EAGER = ("tea?", "poem?")  # here "yes" has a logit higher by 1 everywhere


def butler_reference() -> Float[Tensor, "prompts choices tokens"]:
    """How the butler speaks before he is trained: log-probabilities of the next token.

    They depend on the last word and, a little, on the prompt.

    >>> all_probs = sequence_log_probs(butler, butler_reference()).exp()
    >>> round(all_probs[butler.prompt("poem?"), butler.response("yes sir.")].item(), 3)
    0.487
    """
    followers = (*butler.words, END)
    rows = [[HABIT[last].get(word, UNUSUAL) for word in followers] for last in ("", *butler.words)]
    habit = torch.tensor(rows, dtype=torch.float64)  # by last word, the start first
    last = torch.tensor([0] + [1 + n % butler.end for n in range(butler.n_choices - 1)])
    logits = habit[last].repeat(len(butler.prompts), 1, 1)
    for prompt in EAGER:
        logits[butler.prompt(prompt), :, butler.words.index("yes")] += 1
    return logits.log_softmax(-1)


def butler_reward() -> Float[Tensor, "prompts responses"]:
    """What the household wants to hear: true promises, courtesy, and sentences that a butler speaks.

    s (#yes + #good - #no) + ½ (#sir + #sorry) - 2 #(pairs of neighbours that are not his habit),
    where s is the prompt's `TRUTH`; the start and an end that was not forced are neighbours too.

    >>> butler_reward()[butler.prompt("poem?"), butler.response("no sorry sir.")].item()
    2.0
    """
    said = [[butler.words.index(word) for word in group] for group in (("yes", "good"), ("no",))]
    polite = [butler.words.index(word) for word in ("sir", "sorry")]
    counts = (butler.tokens.unsqueeze(-1) == torch.arange(butler.n_tokens)) & butler.live.unsqueeze(
        -1
    )
    counts = counts.sum(1).to(torch.float64)  # [responses, tokens]
    promises = counts[:, said[0]].sum(-1) - counts[:, said[1]].sum(-1)
    followers = (*butler.words, END)
    usual = torch.tensor([[w in HABIT[last] for w in followers] for last in ("", *butler.words)])
    before = torch.cat([torch.zeros(butler.n_responses, 1, dtype=torch.long), butler.tokens + 1], 1)
    odd = ~usual[before[:, :-1].clamp(max=butler.end), butler.tokens] & butler.live
    shared = 0.5 * counts[:, polite].sum(-1) - 2 * odd.sum(-1)
    return torch.tensor(TRUTH, dtype=torch.float64).unsqueeze(-1) * promises + shared
