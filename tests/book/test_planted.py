"""Mistakes planted in a copy of the book are caught: in a helper, in a frame, in a number.

A wrong label of an equation is planted in test_ledger.py.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from extensions import forking
from extensions.kernels import KERNEL_ENV
from tests.planting import run_section
from tools import sources
from tools.environment import ROOT
from tools.site import build_folder

pytestmark = pytest.mark.site


# ---- In a helper --------------------------------------------------------------------------------

# file, what it says, what it is made to say, a section that uses it
HELPERS = [
    (
        "mdp/planning.py",
        "mdp.R + mdp.gamma * mdp.expected_next(V)",
        "mdp.R + mdp.expected_next(V)",
        "mdp/value-functions",
    ),
    (
        "mdp/planning.py",
        "np.eye(mdp.n_states) - mdp.gamma * P_pi, R_pi",
        "np.eye(mdp.n_states) - P_pi, R_pi",
        "mdp/value-functions",
    ),
    (
        "mdp/planning.py",
        "action_values(mdp, V).max(axis=1)",
        "action_values(mdp, V).mean(axis=1)",
        "mdp/bellman-optimality",
    ),
    (
        "mdp/returns.py",
        "shape[-1])):\n        following = rewards[..., t] + gamma * following",
        "shape[-1])):\n        following = rewards[..., t] + following",
        "mdp/decision-processes",
    ),
    (
        "mdp/trajectories.py",
        "np.eye(mdp.n_states) - mdp.gamma * P_pi.T, (1 - mdp.gamma) * mdp.p0",
        "np.eye(mdp.n_states) - mdp.gamma * P_pi.T, mdp.p0",
        "mdp/value-functions",
    ),
    (
        "policy_gradients/losses.py",
        "return -log_probs * fixed(advantages)",
        "return log_probs * fixed(advantages)",
        "policy-gradients/reinforce",
    ),
    (
        "policy_gradients/losses.py",
        "return -log_probs * fixed(advantages)",
        "return -log_probs * advantages",
        "policy-gradients/actor-critic",
    ),
    (
        "policy_gradients/advantages.py",
        "terminated, gamma)\n    return gae(deltas, terminated | truncated, gamma, lambda_)",
        "terminated, lambda_)\n    return gae(deltas, terminated | truncated, lambda_, gamma)",
        "policy-gradients/actor-critic",
    ),
    (
        "policy_gradients/advantages.py",
        "values[..., :-1], values[..., 1:], terminated, gamma",
        "values[..., :-1], values[..., 1:], terminated | truncated, gamma",
        "policy-gradients/actor-critic",
    ),
    (
        "policy_gradients/losses.py",
        "torch.minimum(ratio * A, clipped * A)",
        "torch.maximum(ratio * A, clipped * A)",
        "policy-gradients/ppo",
    ),
    (
        "policy_gradients/losses.py",
        "torch.minimum(ratio * A, clipped * A)",
        "clipped * A",
        "policy-gradients/ppo",
    ),
    (
        "policy_gradients/losses.py",
        "torch.where(A >= 0, (1 + epsilon)",
        "torch.where(A < 0, (1 + epsilon)",
        "policy-gradients/ppo",
    ),
    (
        "policy_gradients/softmax_tables.py",
        "eye - mdp.gamma * chain",
        "eye - mdp.gamma**2 * chain",
        "policy-gradients/policy-gradient-theorem",
    ),
    (
        "policy_gradients/bandits.py",
        "b[arm, every] += 1 - reward",
        "b[arm, every] += 1",
        "policy-gradients/bandits",
    ),
    (
        "policy_gradients/bandits.py",
        "(np.arange(len(pi))[:, None] == arm) - pi",
        "(np.arange(len(pi))[:, None] == arm) + pi",
        "policy-gradients/bandits",
    ),
    (
        "policy_gradients/bandits.py",
        "return rng.beta(a, b).argmax(axis=0)",
        "return (a / (a + b)).argmax(axis=0)",
        "policy-gradients/bandits",
    ),
    (
        "planning_as_inference/soft_planning.py",
        "rel_entr(policy, weights).sum(axis=1)",
        "rel_entr(weights, policy).sum(axis=1)",
        "planning-as-inference/kl-regularization",
    ),
    (
        "planning_as_inference/soft_planning.py",
        "z = Q / temperature + log_weights(Q, reference)\n    weights",
        "z = Q / temperature\n    weights",
        "planning-as-inference/kl-regularization",
    ),
    (
        "planning_as_inference/mirror_descent.py",
        "policies.append(boltzmann(Q, beta, policies[-1]))",
        "policies.append(boltzmann(Q, beta, policies[0]))",
        "planning-as-inference/kl-regularization",
    ),
    (
        "planning_as_inference/mirror_descent.py",
        "total += last",
        "total = last.copy()",
        "planning-as-inference/kl-regularization",
    ),
    (
        "planning_as_inference/mirror_descent.py",
        "new = beta * policy / (high[:, None] - Q)",
        "new = policy * np.exp(Q / beta)",
        "planning-as-inference/kl-regularization",
    ),
    (
        "planning_as_inference/messages.py",
        "log_likelihood = mdp.R / model.alpha",
        "log_likelihood = mdp.R",
        "planning-as-inference/control-as-inference",
    ),
    (
        "planning_as_inference/messages.py",
        "log_likelihood + expected.reshape(mdp.R.shape)",
        "2 * log_likelihood + expected.reshape(mdp.R.shape)",
        "planning-as-inference/control-as-inference",
    ),
    (
        "planning_as_inference/messages.py",
        "joint = (log_prior + log_actions[t]).ravel()",
        "joint = log_actions[t].ravel()",
        "planning-as-inference/control-as-inference",
    ),
    (
        "planning_as_inference/messages.py",
        "Q[t] = mdp.R + mdp.expected_next(V[t + 1])",
        "Q[t] = mdp.R + mdp.gamma * mdp.expected_next(V[t + 1])",
        "planning-as-inference/control-as-inference",
    ),
    (
        "planning_as_inference/messages.py",
        "return SoftValues(model.alpha * messages.log_states,",
        "return SoftValues(messages.log_states,",
        "planning-as-inference/control-as-inference",
    ),
    (
        "planning_as_inference/messages.py",
        "(values.Q - values.V[:-1, :, None]) / model.alpha)",
        "(values.Q - values.V[:-1, :, None]))",
        "planning-as-inference/control-as-inference",
    ),
    (
        "planning_as_inference/messages.py",
        "terms = after.log_p + messages.log_states[t + 1]",
        "terms = after.log_p + messages.log_states[t]",
        "planning-as-inference/control-as-inference",
    ),
    (
        "planning_as_inference/messages.py",
        "paid - model.alpha * (marginals",
        "paid - (marginals",
        "planning-as-inference/control-as-inference",
    ),
    (
        "planning_as_inference/soft_planning.py",
        "return temperature * (largest[:, 0] + np.log(np.exp(z - largest).sum(axis=1)))",
        "return Q.max(axis=1)",
        "planning-as-inference/maxent-rl",
    ),
    (
        "planning_as_inference/soft_planning.py",
        "mdp.R + temperature * bonus(policy, reference)",
        "mdp.R + bonus(policy, reference)",
        "planning-as-inference/maxent-rl",
    ),
    (
        "planning_as_inference/soft_planning.py",
        "mdp.R + temperature * bonus(policy, reference)",
        "mdp.R + temperature / mdp.gamma * bonus(policy, reference)",  # outside the discount
        "planning-as-inference/maxent-rl",
    ),
    (
        "planning_as_inference/soft_planning.py",
        "weights = np.exp(z - z.max(axis=1, keepdims=True))",
        "weights = np.exp(Q - Q.max(axis=1, keepdims=True))",
        "planning-as-inference/maxent-rl",
    ),
    (
        "planning_as_inference/soft_tables.py",
        "- alpha * log_pi",
        "- log_pi",
        "planning-as-inference/maxent-rl",
    ),
    (
        "planning_as_inference/soft_bandit.py",
        "signal = r - alpha * np.log",
        "signal = r + alpha * np.log",
        "planning-as-inference/maxent-rl",
    ),
    (
        "planning_as_inference/squashed_gaussian.py",
        "(scale.log() + log_tanh_slope(u))",
        "log_tanh_slope(u)",
        "planning-as-inference/soft-actor-critic",
    ),
    (
        "planning_as_inference/squashed_gaussian.py",
        "(scale.log() + log_tanh_slope(u))",
        "(scale.log() + 0 * u)",
        "planning-as-inference/soft-actor-critic",
    ),
    (
        "planning_as_inference/sac_losses.py",
        "gamma * (1 - terminated) *",
        "gamma *",
        "planning-as-inference/soft-actor-critic",
    ),
    (
        "planning_as_inference/sac_losses.py",
        "return -log_alpha *",
        "return log_alpha *",
        "planning-as-inference/soft-actor-critic",
    ),
    (
        "planning_as_inference/sac_losses.py",
        "targets.add_(tau *",
        "targets.add_(0 * tau *",
        "planning-as-inference/soft-actor-critic",
    ),
    (
        "rlhf/tilting.py",
        "return log_reference + reward / price",
        "return log_reference + reward * price",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/tilting.py",
        "return log_reference + reward / price",
        "return reward / price",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/tilting.py",
        "p * (log_p - log_q), 0.0)",
        "p * (log_q - log_p), 0.0)",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/tilting.py",
        "(log_policy.exp() * reward).sum(-1) - beta * drift",
        "(log_policy.exp() * reward).sum(-1) - drift",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/tilting.py",
        "after = beta * (level + here / beta).logsumexp(-1)",
        "after = (level.exp() * here).sum(-1)",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/tilting.py",
        "R[:n, W] = paid[:n]",
        "R[:n, W] = 0",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/tilting.py",
        "(reward - mean.unsqueeze(-1)) ** 2",
        "reward**2",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/tilting.py",
        "choice_weights(language, log_probs.exp())",
        "choice_weights(language, log_probs)",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/best_of_n.py",
        "r[..., 1:] != r[..., :-1]",
        "r[..., 1:] == r[..., 1:]",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/best_of_n.py",
        "(n - 1) * F.log()",
        "n * F.log()",
        "rlhf/kl-optimal-policy",
    ),
    (
        "rlhf/toy_language.py",
        "torch.arange(self.max_words) <= self.n_words",
        "torch.arange(self.max_words) < self.n_words",  # the end token is not chosen
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/toy_language.py",
        "ended.append(reach + here[..., W])",
        "ended.append(reach)",  # the end token left out of the sum
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/toy_language.py",
        "torch.cat([*ended, reach], dim=-1)",
        "torch.cat([*ended, reach + here[..., W:].sum()], dim=-1)",  # a forced end counted
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/toy_language.py",
        "after = (pi[..., first : first + n, :] * here).sum(-1)",
        "after = here.mean(-1)",
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/transformer.py",
        "scores = scores.masked_fill(later, -math.inf)",
        "pass",
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/transformer.py",
        "q @ k.mT / math.sqrt(q.shape[-1])",
        "q @ k.mT",
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/transformer.py",
        '["position"][:, n_read:end]',
        '["position"][:, : tokens.shape[-1]]',  # positions begin anew
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/language_policy.py",
        "chosen.masked_fill(~live, 0.0)",
        "chosen",  # padding counted
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/language_policy.py",
        "(log_policy + noise).argmax(-1)",
        "log_policy.argmax(-1)",
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/fine_tuning.py",
        "live, language.end).sum(-1)",
        "live, language.end).mean(-1)",
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/fine_tuning.py",
        "y.gather(0, x.unsqueeze(0)).squeeze(0)",
        "y[0]",  # responses to the first prompt
        "rlhf/language-model-policy",
    ),
    (
        "rlhf/preferences.py",
        "return (chosen - rejected).sigmoid()",
        "return (rejected - chosen).sigmoid()",
        "rlhf/reward-modeling",
    ),
    (
        "rlhf/preferences.py",
        "return -label * logsigmoid(margin) - (1 - label) * logsigmoid(-margin)",
        "return (1 - 2 * label) * margin",
        "rlhf/reward-modeling",
    ),
    (
        "rlhf/reward_model.py",
        "preference_loss(better - worse",
        "preference_loss(worse - better",
        "rlhf/reward-modeling",
    ),
    (
        "rlhf/reward_model.py",
        "at_end = x.shape[-1] + language",
        "at_end = x.shape[-1] - 1 + language",
        "rlhf/reward-modeling",
    ),
    (
        "rlhf/reward_model.py",
        " * m.sigmoid() * (-m).sigmoid()",
        "",
        "rlhf/reward-modeling",
    ),
    (
        "rlhf/reward_model.py",
        "off = centred(reward - truth, log_policy)",
        "off = reward - truth",
        "rlhf/reward-modeling",
    ),
    (
        "rlhf/reward_model.py",
        "(1 - (p**2).sum())",
        "1",
        "rlhf/reward-modeling",
    ),
    (
        "rlhf/dpo.py",
        "return beta * (log_probs - log_reference)",
        "return beta * log_probs",
        "rlhf/dpo",
    ),
    (
        "rlhf/dpo.py",
        "~language.live[responses], 0.0).sum(-1)",
        "~language.live[responses], 0.0).mean(-1)",
        "rlhf/dpo",
    ),
    (
        "rlhf/dpo.py",
        "preference_loss(better - worse, label)",
        "preference_loss(worse - better, label)",
        "rlhf/dpo",
    ),
    (
        "rlhf/dpo.py",
        "goal = (chosen - reference_chosen) - (rejected - reference_rejected), 1 / (2 * cost)",
        "goal = (chosen - reference_chosen) - (rejected - reference_rejected), 1 / cost",
        "rlhf/dpo",
    ),
    (
        "rlhf/dpo.py",
        "loss(new_y, new_z, reference_y, reference_z)",
        "loss(new_y, new_z, new_y.detach(), new_z.detach())",
        "rlhf/dpo",
    ),
    (
        "rlhf/tilting.py",
        "return log_reference + reward / price",
        "return log_reference + reward * price",
        "rlhf/reward-hacking",
    ),
    (
        "rlhf/divergences.py",
        "(-log_ratio).expm1() + log_ratio",
        "log_ratio.expm1() - log_ratio",
        "rlhf/rlhf-ppo",
    ),
    (
        "rlhf/divergences.py",
        "log_ratio**2 / 2",
        "log_ratio**2",
        "rlhf/rlhf-ppo",
    ),
    (
        "rlhf/rlhf_ppo.py",
        "-price * (log_probs - log_reference)",
        "-price * (log_reference - log_probs)",
        "rlhf/rlhf-ppo",
    ),
    (
        "rlhf/rlhf_ppo.py",
        "reward.unsqueeze(-1) * last_token(live)",
        "reward.unsqueeze(-1) * live",
        "rlhf/rlhf-ppo",
    ),
    (
        "rlhf/rlhf_ppo.py",
        "charges = torch.where(live, ",
        "charges = torch.where(live & ~last_token(live), ",
        "rlhf/rlhf-ppo",
    ),
    (
        "rlhf/rlhf_ppo.py",
        "outputs = outputs_before(reference, prompts",
        "outputs = outputs_before(policy, prompts",
        "rlhf/rlhf-ppo",
    ),
    (
        "rlhf/rlhf_ppo.py",
        "1 + gain * (kl",
        "1 - gain * (kl",
        "rlhf/rlhf-ppo",
    ),
    (
        "rlhf/grpo.py",
        "rewards - rewards.mean(-1, keepdim=True)",
        "rewards - rewards.sum(-1, keepdim=True) / (G - 1)",
        "rlhf/grpo",
    ),
    (
        "rlhf/grpo.py",
        "denominator: int = 0",
        "denominator: int = 1",
        "rlhf/grpo",
    ),
    (
        "rlhf/grpo.py",
        "for x in (log_probs, old_log_probs)",
        "for x in (log_probs, log_probs)",
        "rlhf/grpo",
    ),
    (
        "rlhf/grpo.py",
        "(log_probs - log_reference)",
        "(log_reference - log_probs)",
        "rlhf/grpo",
    ),
    (
        "rlhf/grpo_fixed_point.py",
        "scaled = (Q / price)",
        "scaled = (Q * price)",
        "rlhf/grpo",
    ),
    (
        "rlhf/grpo_fixed_point.py",
        "reward[n, y] - charge *",
        "reward[n, y] + charge *",
        "rlhf/grpo",
    ),
    (
        "outlook/importance.py",
        "return (log_weights.softmax(-1) * values).sum(-1)",
        "return (log_weights.exp() * values).mean(-1)",
        "outlook/connections",
    ),
    (
        "outlook/importance.py",
        "2 * log_weights.logsumexp(-1) - (2 * log_weights)",
        "log_weights.logsumexp(-1) - (2 * log_weights)",
        "outlook/connections",
    ),
    (
        "outlook/importance.py",
        "return (n * levels.exp() * integral).log()[level]",
        "return (n * integral).log()[level]",
        "outlook/connections",
    ),
    (
        "planning_as_inference/soft_planning.py",
        "0.0 - rel_entr",
        "0.0 + rel_entr",
        "outlook/summary",
    ),
    (
        "policy_gradients/advantages.py",
        "deltas[..., t] + gamma * lambda_ * following",
        "deltas[..., t] + gamma * following",
        "outlook/wrong-on-purpose",
    ),
    (
        "training/sweeps.py",
        "SeedSequence(seed, spawn_key=(i,))",
        "SeedSequence()",
        "outlook/scaling-up",
    ),
    (
        "training/sweeps.py",
        "results[k : k + n_seeds] for k in range(0, len(results), n_seeds)",
        "results[k :: len(settings)] for k in range(len(settings))",
        "outlook/scaling-up",
    ),
]


@pytest.fixture(scope="module")
def warm() -> ForkServerContext:
    """Processes that have the libraries loaded: that takes longer than most mistakes live."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.planting", *forking.LOADED])
    return context


@pytest.mark.parametrize(("file", "right", "wrong", "section"), HELPERS)
def test_in_a_helper(
    warm: ForkServerContext, file: str, right: str, wrong: str, section: str, tmp_path: Path
) -> None:
    """Its own checks or findings stop the section, run as a script that imports the spoiled copy."""
    shutil.copytree(ROOT / "rl_helpers", tmp_path / "rl_helpers")
    helper = tmp_path / "rl_helpers" / file
    source = helper.read_text("utf8")
    assert source.count(right) == 1, f"{file} says something else now; plant the mistake anew"
    helper.write_text(source.replace(right, wrong), "utf8")

    page = (ROOT / "chapters" / f"{section}.md").read_text("utf8")
    (tmp_path / "section.py").write_text(sources.script(page), "utf8")
    here, there = multiprocessing.Pipe()
    process = warm.Process(target=run_section, args=(tmp_path, there))
    process.start()
    there.close()
    said = here.recv()
    process.join()
    failed = re.match(r"rl_helpers\.\w+\.(?:Check|Finding)Failed: ([\w-]+): ", said)
    assert failed, f"nothing noticed that {file} says {wrong}: {said or 'it ran to its end'}"
    named = f"({failed[1]})" if failed[1].startswith("eq-") else f'finding("{failed[1]}"'
    assert named in page, "what stops it is an equation or a finding of this section"


# ---- In an executed notebook --------------------------------------------------------------------


def next_digit(match: re.Match[str]) -> str:
    return match[1] + str((int(match[2]) + 1) % 10)


def spoil_number(output: NotebookNode) -> bool:
    """Change the last digit that a cell printed."""
    if output.output_type != "stream":
        return False
    before = output.text
    output.text = re.sub(r"(?s)(.*)(\d)", next_digit, before, count=1)
    return output.text != before


def spoil_frame(output: NotebookNode) -> bool:
    """Change one number in the pack of an explorer: one tag in one of its frames."""
    page = output.get("data", {}).get("text/html", "")
    if "explore-pack" not in page:
        return False
    wrong = re.sub(r'("frames":\[\[[\d,]*)(\d)', next_digit, page, count=1)
    output.data["text/html"] = wrong
    return wrong != page


def spoil(notebook: NotebookNode, change: Callable[[NotebookNode], bool]) -> int | None:
    """Change one output, and return the number of its cell among those with code."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return next((n for n, cell in enumerate(code) if any(map(change, cell.outputs))), None)


def test_in_a_number_and_in_a_frame(tmp_path: Path) -> None:
    """Both in one notebook, executed once: nbval must name these two cells and no other."""
    built = build_folder() / "notebooks"
    seconds = json.loads((build_folder() / "timings.json").read_text())
    for path in (
        built / f"{docname}.ipynb" for docname in sorted(seconds, key=seconds.__getitem__)
    ):
        notebook = nbformat.read(path, as_version=4)
        number, frame = spoil(notebook, spoil_number), spoil(notebook, spoil_frame)
        if number is not None and frame is not None:
            break
    else:
        pytest.skip("no executed section prints a number and has an explorer: run make book")
    nbformat.write(notebook, tmp_path / "spoiled.ipynb")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-rf",
         "-p", "no:cacheprovider", "spoiled.ipynb"],
        cwd=tmp_path, env={**os.environ, **KERNEL_ENV}, capture_output=True, text=True,
    )  # fmt: skip
    failed = re.findall(r"^FAILED .*::Cell (\d+)", done.stdout, re.MULTILINE)
    assert {int(cell) for cell in failed} == {number, frame}, done.stdout
    assert "passed" in done.stdout.splitlines()[-1]
