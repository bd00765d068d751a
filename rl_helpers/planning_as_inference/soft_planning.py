"""Planning when randomness is paid for: soft maxima, Boltzmann policies, soft value iteration.

Every function takes a temperature and an optional reference policy. Without a reference the reward
is raised by temperature * entropy (maximum entropy, eq-maxent-objective; the temperature is called
alpha there). With one it is lowered by temperature * KL(policy || reference) (eq-kl-objective; the
temperature is called beta there). One formula serves both: a weight w(s, a) of each action, 1
without a reference and reference(a|s) with one, and the bonus -temperature * log(policy / w).
"""

import numpy as np
from jaxtyping import Float
from scipy.special import rel_entr

from rl_helpers.mdp.planning import Plan, action_values, policy_value
from rl_helpers.mdp.process import MDP, Array, check_policy
from rl_helpers.validation import require, require_at_least, require_finite, require_positive


def log_weights(
    Q: Float[Array, "S A"], reference: Float[Array, "S A"] | None
) -> Float[Array, "S A"]:
    """Logarithm of each action's weight: 0 without a reference, log reference(a|s) with one.

    An action that the reference never takes has -infinity: no policy of finite KL takes it.
    """
    if reference is None:
        return np.zeros_like(Q)
    require(
        np.shape(reference) == np.shape(Q),
        "reference",
        f"an array of shape {np.shape(reference)}",
        f"it must have the shape of Q, {np.shape(Q)}",
    )
    with np.errstate(divide="ignore"):
        return np.log(reference)


def soft_maximum(
    Q: Float[Array, "S A"],
    temperature: float,
    reference: Float[Array, "S A"] | None = None,
) -> Float[Array, " S"]:
    """V(s) = temperature * log sum_a w(s, a) exp(Q(s, a) / temperature).

    Args:
        Q: action values [S, A].
        temperature: positive, in units of reward a nat.
        reference: policy [S, A] to stay close to; none by default, which pays for
            entropy.

    Raises:
        ValueError: temperature not positive, Q not finite, reference of another shape.

    Source: eq-soft-bellman-v; with a reference, the left side of eq-donsker-varadhan.

    >>> soft_maximum(np.array([[1.0, 0.0]]), 0.5).round(3)
    array([1.063])
    """
    require_positive(temperature=temperature)
    require_finite(Q=Q)
    z = Q / temperature + log_weights(Q, reference)
    largest = z.max(axis=1, keepdims=True)  # taken out: no exponential overflows
    return temperature * (largest[:, 0] + np.log(np.exp(z - largest).sum(axis=1)))


def boltzmann(
    Q: Float[Array, "S A"], temperature: float, reference: Float[Array, "S A"] | None = None
) -> Float[Array, "S A"]:
    """The policy w(s, a) exp(Q(s, a) / temperature), divided by its sum over actions.

    Args:
        Q: action values [S, A].
        temperature: positive, in units of reward a nat.
        reference: policy [S, A] to stay close to; none by default.

    Source: eq-boltzmann; with a reference, eq-kl-boltzmann.

    >>> boltzmann(np.array([[1.0, 0.0]]), 0.5).round(3)
    array([[0.881, 0.119]])
    """
    require_positive(temperature=temperature)
    require_finite(Q=Q)
    z = Q / temperature + log_weights(Q, reference)
    weights = np.exp(z - z.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def bonus(
    policy: Float[Array, "S A"], reference: Float[Array, "S A"] | None = None
) -> Float[Array, " S"]:
    """What a policy is paid in each state for one unit of temperature, in nats.

    Returns:
        The entropy of the policy without a reference, minus KL(policy || reference) with one;
        minus infinity where the policy takes an action that the reference never takes.
    """
    weights = np.ones_like(policy) if reference is None else reference
    return 0.0 - rel_entr(policy, weights).sum(axis=1)  # a sure policy has 0, not -0


def soft_policy_value(
    mdp: MDP,
    policy: Float[Array, "S A"],
    temperature: float,
    reference: Float[Array, "S A"] | None = None,
) -> Float[Array, " S"]:
    """Soft value of a policy: rewards and bonuses of all steps, this one's included, discounted.

    Args:
        mdp: the decision process.
        policy: to be evaluated [S, A].
        temperature: at least 0; at 0 this is `planning.policy_value`.
        reference: policy [S, A] to stay close to; none by default.

    Returns:
        V [S].

    Raises:
        ValueError: temperature negative, a policy that is none, or one that takes an action which
            the reference never takes: its KL is infinite.

    Source: eq-maxent-objective, eq-kl-objective, from each state.
    """
    require_at_least(0, temperature=temperature)
    check_policy(mdp, policy)
    if reference is not None:
        check_policy(mdp, reference, "reference")
        require_support(policy, reference)
    paid = mdp.R + temperature * bonus(policy, reference)[:, None]
    return policy_value(MDP(mdp.P, paid, mdp.gamma, mdp.p0), policy)


def require_support(policy: Float[Array, "S A"], reference: Float[Array, "S A"]) -> None:
    """Raise `ValueError` if a policy takes an action that the reference never takes."""
    lost = np.argwhere((policy > 0) & (reference == 0))
    if len(lost):
        s, a = (int(i) for i in lost[0])
        raise ValueError(
            f"reference[{s}, {a}] is 0 where policy is {policy[s, a]:.3g}, so that the KL divergence "
            "is infinite; the reference must give every action of the policy some probability"
        )


def soft_value_iteration(
    mdp: MDP,
    temperature: float,
    reference: Float[Array, "S A"] | None = None,
    *,
    tol: float = 1e-10,
    max_sweeps: int = 100_000,
) -> Plan:
    """Apply the soft backup until V is within `tol` of its fixed point everywhere.

    The soft backup contracts by gamma like the hard one, so the same rule stops it:
    eq-vi-stop.

    Args:
        mdp: the decision process.
        temperature: positive, in units of reward a nat.
        reference: policy [S, A] to stay close to; none by default.
        tol: largest distance to the fixed point allowed, positive.
        max_sweeps: most sweeps allowed.

    Returns:
        The plan: V, and the Boltzmann policy of its action values; no history.

    Raises:
        ValueError: temperature or tol not positive, a reference that is no policy.
        RuntimeError: `max_sweeps` done and V still too far.

    Source: eq-soft-bellman-q and eq-soft-bellman-v; Haarnoja et al. (2017), theorem 3.
    """
    require_positive(temperature=temperature, tol=tol)
    require_at_least(1, max_sweeps=max_sweeps)
    if reference is not None:
        check_policy(mdp, reference, "reference")
    V = np.zeros(mdp.n_states)
    for sweep in range(1, max_sweeps + 1):
        Q = action_values(mdp, V)
        V, before = soft_maximum(Q, temperature, reference), V
        change = np.abs(V - before).max()
        if change * mdp.gamma <= tol * (1 - mdp.gamma):
            policy = boltzmann(action_values(mdp, V), temperature, reference)
            return Plan(V, policy, None, sweep)
    off = change / (1 - mdp.gamma)
    left = f"{max_sweeps} sweeps left V up to {off:.3g} away, tol {tol:g}"
    raise RuntimeError(f"soft value iteration: {left}")


def soft_policy_iteration(
    mdp: MDP,
    temperature: float,
    reference: Float[Array, "S A"] | None = None,
    *,
    tol: float = 1e-8,
    max_steps: int = 1_000,
) -> Plan:
    """Evaluate exactly, turn to the Boltzmann policy of the action values, until nothing changes.

    The same fixed point as `soft_value_iteration`, in a few linear solves where that takes some
    hundred sweeps. Stops when one more backup moves V by so little that V is within `tol` of the
    fixed point.

    Args:
        mdp: the decision process.
        temperature: positive, in units of reward a nat.
        reference: policy [S, A] to stay close to; none by default.
        tol: largest distance to the fixed point allowed, positive.
        max_steps: most improvements allowed.

    Returns:
        The plan: V of the last policy evaluated, and the Boltzmann policy of its action values; no
        history.

    Raises:
        ValueError: temperature or tol not positive, a reference that is no policy.
        RuntimeError: `max_steps` done and V still too far.

    Source: eq-soft-gap, of which each term improves; Haarnoja et al. (2018), theorem 1.
    """
    require_positive(temperature=temperature, tol=tol)
    require_at_least(1, max_steps=max_steps)
    if reference is not None:
        check_policy(mdp, reference, "reference")
    policy = boltzmann(np.zeros(mdp.R.shape), temperature, reference)
    for step in range(1, max_steps + 1):
        V = soft_policy_value(mdp, policy, temperature, reference)
        Q = action_values(mdp, V)
        policy = boltzmann(Q, temperature, reference)
        change = np.abs(soft_maximum(Q, temperature, reference) - V).max()
        if change <= tol * (1 - mdp.gamma):
            return Plan(V, policy, None, step)
    off = change / (1 - mdp.gamma)
    raise RuntimeError(
        f"soft policy iteration: {max_steps} steps left V up to {off:.3g} away, tol {tol:g}"
    )
