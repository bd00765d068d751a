"""Control as inference: which actions an agent took, given that each of its T steps was optimal.

The model gives every step a chance exp(r / alpha) of being optimal, and actions a prior p(a|s).
Conditioning on T optimal steps takes one pass from the end: the backward messages m_t. They live in
logarithms throughout, because with rewards of -1,000,000 a message is smaller than any float.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from rl_helpers.mdp.process import MDP, Array, check_policy
from rl_helpers.planning_as_inference.soft_planning import bonus, soft_maximum
from rl_helpers.validation import (
    require,
    require_at_least,
    require_distributions,
    require_finite,
    require_positive,
)


def optimality_likelihood(R: Float[Array, "*shape"], alpha: float) -> Float[Array, "*shape"]:
    """p(O = 1 | s, a) = exp(R(s, a) / alpha), the chance that a step with this reward is optimal.

    Args:
        R: rewards, at most 0, any shape.
        alpha: temperature, positive, in units of reward a nat.

    Raises:
        ValueError: alpha not positive, a reward that is positive, NaN or infinite.

    Source: eq-optimality; Levine (2018), equation 3, where alpha is 1.

    >>> optimality_likelihood(np.array([0.0, -1.0, -3.0]), 1.0).round(3)
    array([1.   , 0.368, 0.05 ])
    """
    return np.exp(_log_likelihood(R, alpha))


def _log_likelihood(R: Float[Array, "*shape"], alpha: float) -> Float[Array, "*shape"]:
    require_positive(alpha=alpha)
    require_finite(alpha=alpha, R=R)
    if np.max(R) > 0:
        raise ValueError(
            f"R holds the reward {np.max(R):g}; exp(R / alpha) is a probability only for rewards of at "
            "most 0. Subtract the largest reward from every step's, absorbing states' included: "
            "R - R.max(). This leaves the posterior as it is, and lowers every return by T times it"
        )
    return R / alpha


@dataclass(frozen=True, eq=False)
class OptimalityModel:
    """T steps of a decision process, actions from a prior, and the evidence that each was optimal.

    Args:
        mdp: the decision process, P dense or sparse, rewards at most 0. Its discount plays no
            part: walks have T steps, and each counts alike.
        prior: p(a|s), what actions are likely before any evidence [S, A], positive everywhere.
        alpha: temperature, positive, in units of reward a nat.
        horizon: number of steps T, at least 1.

    Raises:
        ValueError: positive rewards, a prior that is no distribution or leaves actions out, alpha
            not positive, horizon below 1.

    Source: eq-joint.
    """

    mdp: MDP
    prior: Float[Array, "S A"]
    alpha: float
    horizon: int

    def __post_init__(self) -> None:
        require_at_least(1, horizon=self.horizon)
        _log_likelihood(self.mdp.R, self.alpha)
        check_policy(self.mdp, self.prior, "prior")
        if np.min(self.prior) == 0:
            s, a = (int(i) for i in np.argwhere(np.asarray(self.prior) == 0)[0])
            raise ValueError(
                f"prior[{s}, {a}] is 0, and no evidence brings that action back; every action needs "
                "a positive probability"
            )


@dataclass(frozen=True, eq=False)
class Messages:
    """Backward messages, as logarithms.

    Args:
        log_states: log m_t(s), the log probability that steps t to T-1 are optimal when s_t = s
            [T+1, S]; the last row is 0.
        log_actions: log m_t(s, a), the same given a_t = a too [T, S, A].
    """

    log_states: Float[Array, "T1 S"]
    log_actions: Float[Array, "T S A"]


@dataclass(frozen=True, eq=False)
class SoftValues:
    """Values of every state, and of every action in it, at each time, in units of reward.

    Args:
        V: V_t(s) [T+1, S]; the last row is 0.
        Q: Q_t(s, a) [T, S, A].
    """

    V: Float[Array, "T1 S"]
    Q: Float[Array, "T S A"]


@dataclass(frozen=True, eq=False)
class Successors:
    """Every transition that is possible, those of one state and action side by side.

    Args:
        log_p: log P(s'|s, a) [N].
        state: where it leads, s' [N].
        row: its state and action, s * A + a [N].
        start: where each row begins [S*A].
    """

    log_p: Float[Array, " N"]
    state: Int[Array, " N"]
    row: Int[Array, " N"]
    start: Int[Array, " SA"]


def _rows(mdp: MDP) -> Any:
    """P as a matrix [S*A, S], dense or sparse."""
    return mdp.P if sparse.issparse(mdp.P) else mdp.P.reshape(-1, mdp.n_states)


def successors(mdp: MDP) -> Successors:
    """The possible transitions of a decision process, dense or sparse."""
    P = sparse.csr_array(_rows(mdp), copy=True)
    P.eliminate_zeros()  # log 0 is not finite
    row = np.repeat(np.arange(P.shape[0]), np.diff(P.indptr))
    return Successors(np.log(P.data), P.indices.astype(np.intp), row, P.indptr[:-1].astype(np.intp))


def log_sums(
    terms: Float[Array, " N"], row: Int[Array, " N"], start: Int[Array, " M"]
) -> Float[Array, " M"]:
    """The logarithm of the sum of exp(terms) over each row, where rows stand one after another.

    The largest term of each row is taken out of its sum, which then neither overflows nor vanishes.

    Args:
        terms: finite logarithms [N].
        row: to which row each belongs [N], ascending, no row empty.
        start: where each row begins [M].

    >>> log_sums(np.log([1.0, 3.0, 5.0]), np.array([0, 0, 1]), np.array([0, 2])).round(3)
    array([1.386, 1.609])
    """
    largest = np.maximum.reduceat(terms, start)
    return largest + np.log(np.add.reduceat(np.exp(terms - largest[row]), start))


def backward_messages(model: OptimalityModel) -> Messages:
    """The messages m_t, from the last step to the first.

    Args:
        model: dynamics, action prior, temperature and horizon.

    Returns:
        The logarithms of the messages.

    Source: eq-messages; Levine (2018), section 2.3, with an action prior in place of a
    uniform one.
    """
    mdp, T = model.mdp, model.horizon
    after, log_prior = successors(mdp), np.log(model.prior)
    log_likelihood = mdp.R / model.alpha
    actions = np.arange(log_prior.size)  # those of one state side by side
    state, first_action = actions // mdp.n_actions, actions[:: mdp.n_actions]
    log_states = np.zeros((T + 1, mdp.n_states))  # m_T = 1: no evidence after T steps
    log_actions = np.empty((T, *mdp.R.shape))
    for t in reversed(range(T)):
        following = after.log_p + log_states[t + 1][after.state]
        expected = log_sums(following, after.row, after.start)
        log_actions[t] = log_likelihood + expected.reshape(mdp.R.shape)
        joint = (log_prior + log_actions[t]).ravel()
        log_states[t] = log_sums(joint, state, first_action)
    return Messages(log_states, log_actions)


def log_evidence(model: OptimalityModel, messages: Messages) -> float:
    """The log probability that all T steps are optimal, log p(O) = log sum_s p(s) m_0(s)."""
    possible = model.mdp.p0 > 0
    terms = np.log(model.mdp.p0[possible]) + messages.log_states[0, possible]
    return float(np.logaddexp.reduce(terms))


def soft_values(model: OptimalityModel, messages: Messages | None = None) -> SoftValues:
    """V_t = alpha log m_t(s) and Q_t = alpha log m_t(s, a), the values of exact conditioning.

    Args:
        model: the model.
        messages: its messages, if they have been computed.

    Source: eq-soft-log; they obey eq-inference-bellman.
    """
    messages = backward_messages(model) if messages is None else messages
    return SoftValues(model.alpha * messages.log_states, model.alpha * messages.log_actions)


def fixed_dynamics_values(model: OptimalityModel) -> SoftValues:
    """The values of the best policy that leaves the dynamics as they are, from the last step back.

    Q_t = r + E[V_{t+1}], with the plain expectation, and V_t the soft maximum of Q_t. p(s_0) . V_0
    is the largest J that any policy has.

    Source: eq-fixed-dynamics; Levine (2018), section 3.
    """
    mdp, T = model.mdp, model.horizon
    V, Q = np.zeros((T + 1, mdp.n_states)), np.empty((T, *mdp.R.shape))
    for t in reversed(range(T)):
        Q[t] = mdp.R + mdp.expected_next(V[t + 1])
        V[t] = soft_maximum(Q[t], model.alpha, model.prior)
    return SoftValues(V, Q)


def tilted_policy(model: OptimalityModel, values: SoftValues) -> Float[Array, "T S A"]:
    """p(a|s) exp((Q_t - V_t) / alpha): with the values of exact conditioning the posterior policy.

    Args:
        model: whose prior is tilted.
        values: `soft_values` or `fixed_dynamics_values` of the same model.

    Returns:
        A policy for each time [T, S, A].

    Source: eq-posterior-policy.
    """
    return model.prior * np.exp((values.Q - values.V[:-1, :, None]) / model.alpha)


def posterior_first_state(model: OptimalityModel, messages: Messages) -> Float[Array, " S"]:
    """p(s_0 | O), proportional to p(s_0) m_0(s_0) [S]. Source: eq-posterior-dynamics."""
    m = messages.log_states[0]
    weights = model.mdp.p0 * np.exp(np.minimum(m - m[model.mdp.p0 > 0].max(), 0.0))
    return weights / weights.sum()


def posterior_dynamics(model: OptimalityModel, messages: Messages, t: int) -> sparse.csr_array:
    """p(s_{t+1} | s_t, a_t, O): the transitions that are likely in hindsight.

    Args:
        model: the model.
        messages: its messages.
        t: time of the step, 0 to T-1.

    Returns:
        Sparse [S*A, S] with row `s * A + a`, as `MDP` has it.

    Source: eq-posterior-dynamics.
    """
    T, rows = model.horizon, model.prior.size
    require(0 <= t < T, "t", t, f"a model of {T} steps has the times 0 to {T - 1}")
    after = successors(model.mdp)
    terms = after.log_p + messages.log_states[t + 1][after.state]
    p = np.exp(terms - log_sums(terms, after.row, after.start)[after.row])
    return sparse.csr_array((p, (after.row, after.state)), shape=(rows, model.mdp.n_states))


def posterior_marginals(model: OptimalityModel, messages: Messages) -> Float[Array, "T S A"]:
    """p(s_t, a_t | O): where the agent was and what it did, given that it did well.

    The first state, the actions and the transitions are all those of the posterior, one step after
    the other.

    Returns:
        A distribution for each time [T, S, A].

    Source: eq-trajectory-posterior, summed over everything else.
    """
    policy = tilted_policy(model, soft_values(model, messages))
    states, marginals = posterior_first_state(model, messages), np.empty_like(policy)
    for t in range(model.horizon):
        marginals[t] = states[:, None] * policy[t]
        states = marginals[t].ravel() @ posterior_dynamics(model, messages, t)
    return marginals


def walk_marginals(model: OptimalityModel, policy: Float[Array, "T S A"]) -> Float[Array, "T S A"]:
    """P(s_t, a_t) when a policy is really followed: first state and dynamics as they are.

    Args:
        model: the model; its prior and temperature play no part.
        policy: for each time and state a distribution of actions [T, S, A].

    Returns:
        A distribution for each time [T, S, A].
    """
    _check_timed_policy(model, policy)
    states, marginals = model.mdp.p0, np.empty_like(policy)
    for t in range(model.horizon):
        marginals[t] = states[:, None] * policy[t]
        states = marginals[t].ravel() @ _rows(model.mdp)
    return marginals


def walk_objective(model: OptimalityModel, policy: Float[Array, "T S A"]) -> float:
    """J of a policy: its expected return over T steps, less alpha times its KL from the prior.

    Args:
        model: the model.
        policy: for each time and state a distribution of actions [T, S, A].

    Returns:
        J, at most alpha log p(O).

    Source: eq-evidence-gap.
    """
    marginals = walk_marginals(model, policy)
    divergence = -np.array([bonus(step, model.prior) for step in policy])  # [T, S], in nats
    paid = (marginals * model.mdp.R).sum()
    return float(paid - model.alpha * (marginals.sum(axis=2) * divergence).sum())


def optimism(model: OptimalityModel) -> float:
    """alpha log p(O) less the largest J: what exact conditioning promises beyond the best policy.

    Source: eq-evidence-gap, at the policy of eq-fixed-dynamics.
    """
    promised = model.alpha * log_evidence(model, backward_messages(model))
    return float(promised - model.mdp.p0 @ fixed_dynamics_values(model).V[0])


def walk_probability(
    first: Float[Array, " S"],
    policy: Float[Array, "T S A"],
    dynamics: Float[Array, "T S A S"],
    states: Int[Array, "N T1"],
    actions: Int[Array, "N T"],
) -> Float[Array, " N"]:
    """Probability of each walk when policy and dynamics have one array for every time.

    Args:
        first: distribution of the first state [S].
        policy: distributions of actions [T, S, A].
        dynamics: distributions of next states [T, S, A, S].
        states, actions: the walks [N, T+1] and [N, T].

    Source: eq-trajectory; eq-posterior-dynamics.
    """
    steps, now = np.arange(actions.shape[1]), states[:, :-1]
    chosen = policy[steps, now, actions] * dynamics[steps, now, actions, states[:, 1:]]
    return first[states[:, 0]] * chosen.prod(axis=1)


def _check_timed_policy(model: OptimalityModel, policy: Float[Array, "T S A"]) -> None:
    shape = (model.horizon, *model.prior.shape)
    require(
        np.shape(policy) == shape, "policy", f"an array of shape {np.shape(policy)}",
        f"this model needs one policy a step, {shape}",
    )  # fmt: skip
    require_distributions(policy=policy)
