"""Messages and soft values: by hand, from all walks, from exact arithmetic, and on bad input."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from rl_helpers.mdp.process import MDP, Array, random_mdp, random_policy, uniform_policy
from rl_helpers.mdp.trajectories import all_trajectories, trajectory_probability
from rl_helpers.planning_as_inference.messages import (
    OptimalityModel,
    backward_messages,
    fixed_dynamics_values,
    log_evidence,
    log_sums,
    optimality_likelihood,
    optimism,
    posterior_dynamics,
    posterior_first_state,
    posterior_marginals,
    soft_values,
    successors,
    tilted_policy,
    walk_marginals,
    walk_objective,
    walk_probability,
)
from tests.mdp.models import two_states


def random_model(
    rng: np.random.Generator,
    states: int = 3,
    actions: int = 2,
    horizon: int = 3,
    alpha: float = 0.6,
) -> OptimalityModel:
    R = -rng.uniform(0.0, 2.0, size=(states, actions))
    mdp = replace(random_mdp(rng, states, actions), R=R)
    return OptimalityModel(mdp, random_policy(rng, states, actions), alpha, horizon)


@st.composite
def optimality_models(draw: st.DrawFn) -> tuple[OptimalityModel, np.random.Generator]:
    """A model small enough to list its walks; some transitions and first states impossible."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    states, actions, horizon = (draw(st.integers(1, 3)) for _ in range(3))
    model = random_model(rng, states, actions, horizon, draw(st.sampled_from([0.3, 1.0, 4.0])))
    P = model.mdp.P * (rng.random(model.mdp.P.shape) < 0.7) + 1e-3 * np.eye(states)[:, None]
    p0 = np.zeros(states)
    p0[: draw(st.integers(1, states))] = 1
    mdp = replace(model.mdp, P=P / P.sum(axis=2, keepdims=True), p0=p0 / p0.sum())
    return replace(model, mdp=mdp), rng


def listed(model: OptimalityModel) -> tuple[Array, Array, Array, Array]:
    """All walks, their prior probability, and their returns."""
    states, actions = all_trajectories(model.mdp, model.horizon)
    p = trajectory_probability(model.mdp, model.prior, states, actions)
    return states, actions, p, model.mdp.R[states[:, :-1], actions].sum(axis=1)


# ---- The messages ---------------------------------------------------------------------------------


def test_four_walks_by_hand() -> None:
    """Left is free, right costs 1, and after right it costs 2: returns 0, -1, -1 and -3."""
    P = np.eye(3)[[[1, 2], [1, 1], [2, 2]]]
    mdp = MDP(P, np.array([[0.0, -1.0], [0.0, -1.0], [0.0, -2.0]]), 0.5, np.array([1.0, 0, 0]))
    model = OptimalityModel(mdp, uniform_policy(mdp), 1.0, 2)
    messages = backward_messages(model)
    e = math.e
    assert np.exp(messages.log_states[1]) == pytest.approx(
        [(1 + 1 / e) / 2, (1 + 1 / e) / 2, (1 + e**-2) / 2]
    )
    assert np.exp(messages.log_actions[0, 0]) == pytest.approx(
        [(1 + 1 / e) / 2, (1 + e**-2) / (2 * e)]
    )
    assert messages.log_states[2].tolist() == [0, 0, 0]
    total = 1 + 2 / e + e**-3
    assert log_evidence(model, messages) == pytest.approx(math.log(total / 4))
    marginals = posterior_marginals(model, messages)
    assert marginals[0, 0] == pytest.approx([(1 + 1 / e) / total, (1 / e + e**-3) / total])
    assert marginals[1, 1] == pytest.approx([1 / total, 1 / e / total])
    assert marginals[1, 2] == pytest.approx([1 / e / total, e**-3 / total])


@given(optimality_models())
def test_everything_about_the_posterior_from_the_list_of_walks(model_rng) -> None:  # type: ignore[no-untyped-def]
    model, _ = model_rng
    states, actions, p, returns = listed(model)
    messages = backward_messages(model)
    joint = p * np.exp(returns / model.alpha)
    assert log_evidence(model, messages) == pytest.approx(math.log(joint.sum()))
    posterior = joint / joint.sum()
    shape = (model.mdp.n_states, model.mdp.n_actions)
    for t, marginals in enumerate(posterior_marginals(model, messages)):
        pair = states[:, t] * shape[1] + actions[:, t]
        counted = np.bincount(pair, posterior, minlength=math.prod(shape)).reshape(shape)
        np.testing.assert_allclose(marginals, counted, atol=1e-12)
    dynamics = np.array(
        [
            posterior_dynamics(model, messages, t).toarray().reshape(*shape, -1)
            for t in range(model.horizon)
        ]
    )
    policy, first = tilted_policy(model, soft_values(model)), posterior_first_state(model, messages)
    again = walk_probability(first, policy, dynamics, states, actions)
    np.testing.assert_allclose(again, posterior, atol=1e-12)


@given(optimality_models())
def test_messages_are_the_probability_of_what_is_to_come(model_rng) -> None:  # type: ignore[no-untyped-def]
    """m_t(s, a), from the walks of a shorter model that begins in s."""
    model, _ = model_rng
    messages = backward_messages(model)
    for t in range(model.horizon):
        for s in range(model.mdp.n_states):
            start = replace(model.mdp, p0=np.eye(model.mdp.n_states)[s])
            shorter = replace(model, mdp=start, horizon=model.horizon - t)
            _, actions, p, returns = listed(shorter)
            joint = p * np.exp(returns / model.alpha)
            assert np.exp(messages.log_states[t, s]) == pytest.approx(joint.sum())
            for a in range(model.mdp.n_actions):
                chosen = joint[actions[:, 0] == a].sum() / model.prior[s, a]
                assert np.exp(messages.log_actions[t, s, a]) == pytest.approx(chosen)


def exact_messages(model: OptimalityModel) -> list[list[Fraction]]:
    """m_t(s) [T+1][S] as fractions; every reward is a whole number of alphas."""
    e, mdp, messages = Fraction(math.e), model.mdp, [[Fraction(1)] * model.mdp.n_states]
    P, prior = (np.vectorize(Fraction)(np.asarray(x)) for x in (mdp.P, model.prior))
    for _ in range(model.horizon):
        of_actions = [
            [e ** round(mdp.R[s, a] / model.alpha) * (P[s, a] @ messages[0]) for a in (0, 1)]
            for s in range(mdp.n_states)
        ]
        messages.insert(0, [prior[s] @ of_actions[s] for s in range(mdp.n_states)])
    return messages


def log_fraction(value: Fraction) -> float:
    """Logarithm of a fraction that is too small for a float."""
    shift = value.denominator.bit_length() - value.numerator.bit_length()
    return math.log(float(value * Fraction(2) ** shift)) - shift * math.log(2)


@pytest.mark.site  # takes long
def test_against_exact_arithmetic_far_below_the_smallest_float() -> None:
    """Rewards down to -2,000 nats a step: messages near exp(-8,000) as fractions, then logarithms."""
    rng = np.random.default_rng(0)
    alpha, T = 0.5, 4
    R = -alpha * rng.integers(0, 2_000, size=(3, 2)).astype(float)
    mdp = replace(random_mdp(rng, 3, 2), R=R)
    model = OptimalityModel(mdp, random_policy(rng, 3, 2), alpha, T)
    exact = [[log_fraction(m) for m in row] for row in exact_messages(model)]
    assert min(exact[0]) < -745, "the messages themselves are no floats"
    np.testing.assert_allclose(backward_messages(model).log_states, exact, rtol=1e-13, atol=1e-13)


def test_rewards_of_minus_a_million() -> None:
    """Brute force over walks in extended precision: a thousand nats, and ten million, a step."""
    rng = np.random.default_rng(1)
    for scale in (1e3, 1e6):
        model = random_model(rng, alpha=0.1)
        model = replace(model, mdp=replace(model.mdp, R=scale * model.mdp.R / 2))
        states, actions, p, _ = listed(model)
        rates = (model.mdp.R.astype(np.longdouble) / np.longdouble(0.1))[states[:, :-1], actions]
        terms = np.log(p.astype(np.longdouble)) + rates.sum(axis=1)
        top = terms.max()
        exact = float(top + np.log(np.exp(terms - top).sum()))
        messages = backward_messages(model)
        assert log_evidence(model, messages) == pytest.approx(exact, rel=1e-14)
        assert posterior_marginals(model, messages).sum(axis=(1, 2)) == pytest.approx(1, abs=1e-6)
        assert np.isfinite(messages.log_actions).all()
        policy = tilted_policy(model, soft_values(model))
        assert policy.sum(axis=2) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_sparse_against_dense(width: int) -> None:
    """Sparse P with zeros stored, duplicates and shuffled columns, against a dense log-sum-exp."""
    rng = np.random.default_rng(width)
    S, A, T, alpha = 30, 3, 12, 0.7
    columns = rng.integers(S, size=(S * A, width))
    data = rng.dirichlet(np.ones(width), size=S * A)
    if width > 2:
        data[:, 0] = 0.0  # stored, but impossible
        data /= data.sum(axis=1, keepdims=True)
    indptr = np.arange(0, S * A * width + 1, width)
    P = sparse.csr_array((data.ravel(), columns.ravel(), indptr), shape=(S * A, S))
    R = -rng.uniform(0, 1e5, size=(S, A))
    model = OptimalityModel(MDP(P, R, 0.9), random_policy(rng, S, A), alpha, T)
    with np.errstate(divide="ignore"):
        log_P = np.log(P.toarray().reshape(S, A, S))
    V, found = np.zeros(S), backward_messages(model)
    for t in reversed(range(T)):
        Q = R / alpha + logsumexp(log_P + V, axis=2)
        V = logsumexp(np.log(model.prior) + Q, axis=1)
        np.testing.assert_allclose(found.log_actions[t], Q, rtol=1e-13)
        np.testing.assert_allclose(found.log_states[t], V, rtol=1e-13)
    dense = replace(model, mdp=replace(model.mdp, P=P.toarray().reshape(S, A, S)))
    np.testing.assert_allclose(
        posterior_marginals(dense, backward_messages(dense)),
        posterior_marginals(model, found), atol=1e-9,
    )  # fmt: skip
    policy = rng.dirichlet(np.ones(A), size=(T, S))
    np.testing.assert_allclose(
        walk_marginals(dense, policy), walk_marginals(model, policy), atol=1e-12
    )


def test_log_sums_take_the_largest_term_out() -> None:
    terms = np.array([-1e6, -1e6 + math.log(3), 800.0, 800.0, -5.0])
    row, start = np.array([0, 0, 1, 1, 2]), np.array([0, 2, 4])
    expected = [-1e6 + math.log(4), 800 + math.log(2), -5.0]
    assert log_sums(terms, row, start) == pytest.approx(expected, rel=1e-15)


def test_successors_leave_impossible_transitions_out() -> None:
    after = successors(two_states())
    assert after.state.tolist() == [0, 1, 1, 1]
    assert after.row.tolist() == [0, 1, 2, 3]
    assert after.start.tolist() == [0, 1, 2, 3]
    assert after.log_p.tolist() == [0.0] * 4


def test_the_discount_plays_no_part() -> None:
    model = random_model(np.random.default_rng(2))
    other = replace(model, mdp=replace(model.mdp, gamma=0.1))
    np.testing.assert_array_equal(
        backward_messages(model).log_actions, backward_messages(other).log_actions
    )
    assert optimism(model) == optimism(other)


@given(optimality_models(), st.floats(0.1, 5.0))
def test_a_shift_of_every_step_leaves_the_posterior(model_rng, shift: float) -> None:  # type: ignore[no-untyped-def]
    model, _ = model_rng
    shifted = replace(model, mdp=replace(model.mdp, R=model.mdp.R - shift))
    before, after = backward_messages(model), backward_messages(shifted)
    np.testing.assert_allclose(
        posterior_marginals(model, before), posterior_marginals(shifted, after), atol=1e-10
    )
    lower = (log_evidence(model, before) - log_evidence(shifted, after)) * model.alpha
    assert lower == pytest.approx(shift * model.horizon)


# ---- The world as it is ---------------------------------------------------------------------------


@given(optimality_models())
def test_fixed_dynamics_values_are_the_best_objective(model_rng) -> None:  # type: ignore[no-untyped-def]
    model, rng = model_rng
    values = fixed_dynamics_values(model)
    best = tilted_policy(model, values)
    top = float(model.mdp.p0 @ values.V[0])
    assert walk_objective(model, best) == pytest.approx(top)
    shape = (model.horizon, model.mdp.n_states)
    for _ in range(3):
        other = rng.dirichlet(np.ones(model.mdp.n_actions), size=shape)
        assert walk_objective(model, other) <= top + 1e-9
    claimed = model.alpha * log_evidence(model, backward_messages(model))
    assert top <= claimed + 1e-9
    assert optimism(model) == pytest.approx(claimed - top, abs=1e-12)
    assert (fixed_dynamics_values(model).V <= soft_values(model).V + 1e-9).all()


@given(optimality_models())
def test_the_gap_is_a_divergence_of_walks(model_rng) -> None:  # type: ignore[no-untyped-def]
    model, rng = model_rng
    states, actions, p, returns = listed(model)
    shape = (model.horizon, model.mdp.n_states)
    policy = rng.dirichlet(np.ones(model.mdp.n_actions), size=shape)
    q = walk_probability(
        model.mdp.p0, policy, np.array([model.mdp.P] * model.horizon), states, actions
    )
    joint, seen = p * np.exp(returns / model.alpha), q > 0
    divergence = (q[seen] * np.log(q[seen] / (joint / joint.sum())[seen])).sum()
    gap = model.alpha * math.log(joint.sum()) - walk_objective(model, policy)
    assert gap == pytest.approx(model.alpha * divergence, abs=1e-9)


def test_the_best_policy_against_a_general_optimiser() -> None:
    model = random_model(np.random.default_rng(3), horizon=2)

    def loss(logits: Array) -> float:
        return -walk_objective(model, softmax(logits.reshape(2, 3, 2), axis=2))

    found = minimize(loss, np.zeros(12), tol=1e-12)
    assert -found.fun == pytest.approx(model.mdp.p0 @ fixed_dynamics_values(model).V[0], abs=1e-8)


def test_certain_moves_make_both_agree() -> None:
    rng = np.random.default_rng(4)
    model = random_model(rng)
    mdp = replace(model.mdp, P=np.eye(3)[rng.integers(3, size=(3, 2))], p0=np.eye(3)[1])
    certain = replace(model, mdp=mdp)
    np.testing.assert_allclose(fixed_dynamics_values(certain).Q, soft_values(certain).Q, atol=1e-12)
    assert optimism(certain) == pytest.approx(0, abs=1e-12)


def test_marginals_of_a_walk_by_hand() -> None:
    """Half stay, half move: the agent is still in state 0 with probability 1/2."""
    mdp = replace(two_states(), R=np.zeros((2, 2)))
    model = OptimalityModel(mdp, uniform_policy(mdp), 2.0, 2)
    policy = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.25, 0.75], [1.0, 0.0]]])
    marginals = walk_marginals(model, policy)
    assert marginals[0].tolist() == [[0.5, 0.5], [0, 0]]
    assert marginals[1].tolist() == [[0.125, 0.375], [0.5, 0]]
    # rewards are 0; divergences from the fair prior are log 2 once p is a point
    quarter = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert walk_objective(model, policy) == pytest.approx(-2 * (0.5 * quarter + 0.5 * math.log(2)))


def test_likelihood() -> None:
    assert optimality_likelihood(np.array([0.0, -1.0]), 0.5) == pytest.approx([1, math.exp(-2)])


# ---- Bad input ------------------------------------------------------------------------------------


def test_bad_input(untyped: None) -> None:
    mdp = replace(two_states(), R=-np.ones((2, 2)))
    half = np.full((2, 2), 0.5)
    for alpha in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=rf"alpha is {alpha}; it must be positive"):
            OptimalityModel(mdp, half, alpha, 3)
        with pytest.raises(ValueError, match="alpha is"):
            optimality_likelihood(mdp.R, alpha)
    with pytest.raises(ValueError, match="alpha holds 1 values that are NaN or infinite"):
        OptimalityModel(mdp, half, math.inf, 3)
    offer = "Subtract the largest reward from every step's, absorbing states' included"
    with pytest.raises(ValueError, match=rf"R holds the reward 2; .*{offer}"):
        OptimalityModel(two_states(), half, 1.0, 3)
    with pytest.raises(ValueError, match=r"R holds the reward 0\.5"):
        optimality_likelihood(np.array([0.5, -1.0]), 1.0)
    with pytest.raises(ValueError, match=r"row \[0\] of prior sums to 0.8"):
        OptimalityModel(mdp, np.array([[0.4, 0.4], [0.5, 0.5]]), 1.0, 3)
    with pytest.raises(ValueError, match="prior holds the negative probability"):
        OptimalityModel(mdp, np.array([[1.5, -0.5], [0.5, 0.5]]), 1.0, 3)
    with pytest.raises(ValueError, match=r"prior\[1, 0\] is 0, and no evidence brings"):
        OptimalityModel(mdp, np.array([[0.5, 0.5], [0.0, 1.0]]), 1.0, 3)
    with pytest.raises(ValueError, match=r"prior has shape \(2, 1\); this MDP needs \(2, 2\)"):
        OptimalityModel(mdp, np.ones((2, 1)), 1.0, 3)
    with pytest.raises(ValueError, match="horizon is 0; it must be at least 1"):
        OptimalityModel(mdp, half, 1.0, 0)
    model = OptimalityModel(mdp, half, 1.0, 3)
    for t in (-1, 3):
        with pytest.raises(ValueError, match=rf"t is {t}; a model of 3 steps has the times 0 to 2"):
            posterior_dynamics(model, backward_messages(model), t)
    for function in (walk_marginals, walk_objective):
        with pytest.raises(ValueError, match="this model needs one policy a step"):
            function(model, half)
        with pytest.raises(ValueError, match="of policy sums to"):
            function(model, np.full((3, 2, 2), 0.4))
