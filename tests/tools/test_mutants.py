"""Mutants: what is changed, what is left alone, and that the known equivalents are still there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools import mutate
from tools.mutants import mutants


def after(source: str) -> set[str]:
    """What all mutants of a source say, written anew by `ast`."""
    return {ast.unparse(ast.parse(m.applied(source))) for m in mutants("f.py", source)}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", {"a <= b"}),
        ("(a + b) * c", {"(a - b) * c", "(a + b) / c"}),
        ("x[..., :-1]", {"x[..., :1]", "x[..., :-2]"}),
        ("a and b", {"a or b"}),
        ("z = torch.minimum(x, y)", {"z = torch.maximum(x, y)", "z = torch.minimum(y, x)"}),
        ("z = (a > b).any()", {"z = (a >= b).any()", "z = (a > b).all()"}),
        ("z = x.detach()", {"z = x"}),
        ("z = np.abs(x)", {"z = x"}),
        ("z = f(x, flag=True)", {"z = f(x)", "z = f(x, flag=False)"}),
        ("a if c else b", {"b if c else a"}),
        ("total += x", {"total -= x"}),
        ("if done:\n    stop()", {"if not done:\n    stop()", "if done:\n    pass"}),
        ("γ = 0.5 * β", {"γ = 1.0 * β", "γ = 0.5 / β"}),  # places are counted in bytes
        ('"""Words: 1 + 1."""', set()),
        ('raise ValueError(f"{1 + 1}")', set()),
        ("x: Float[Array, 3]", set()),
        ("def f(x: P[1] = 2) -> Q[1]:\n    return x", {"def f(x: P[1]=3) -> Q[1]:\n    return x"}),
    ],
)
def test_what_is_changed(source: str, expected: set[str]) -> None:
    assert after(source) == expected


def test_mutants_of_the_helpers_are_python_and_differ() -> None:
    for mutant in mutate.sample(150, seed=0):
        source = (mutate.ROOT / mutant.file).read_text("utf8")
        assert ast.dump(ast.parse(mutant.applied(source))) != ast.dump(ast.parse(source)), mutant


def test_known_equivalents_are_mutants_of_what_the_files_say_now() -> None:
    known = mutate.equivalent()
    found = {
        (m.file, *mutate.changed_lines(m))
        for file in {file for file, *_ in known}
        for m in mutants(file, (mutate.ROOT / file).read_text("utf8"))
    }
    assert known <= found, known - found


def test_a_sample_repeats_and_leaves_known_equivalents_out() -> None:
    drawn = mutate.sample(10_000, seed=0)
    assert drawn == mutate.sample(10_000, seed=0)
    assert drawn[:20] != mutate.sample(10_000, seed=1)[:20]
    assert not mutate.equivalent() & {(m.file, *mutate.changed_lines(m)) for m in drawn}


def test_tests_and_sections_of_a_file() -> None:
    tests = mutate.relevant_tests("rl_helpers/mdp/returns.py")
    assert tests[:2] == ["rl_helpers/mdp/returns.py", "tests/mdp/test_returns.py"]
    assert "tests/policy_gradients/test_losses.py" in tests
    assert "tests/instruments/test_plots.py" not in tests
    assert "tests/mdp/test_grid_plots.py" in mutate.relevant_tests("rl_helpers/mdp/grid_plots.py")
    names = [path.stem for path in mutate.relevant_sections("rl_helpers/policy_gradients/ppo.py")]
    assert names == ["ppo"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("pass", ""),
        ("print('words'); raise ValueError('wrong')", "exit status 1: ValueError: wrong"),
        ("import os; os.kill(os.getpid(), 15)", mutate.UNDECIDED),
        ("import time; time.sleep(60)", mutate.UNDECIDED),
        ("while True: pass", "no end after 2 CPU seconds"),
    ],
)
def test_only_a_failure_of_its_own_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    monkeypatch.setattr(mutate, "WALL_LIMIT", 3 if "sleep" in code else 60)
    monkeypatch.setattr(mutate, "CPU_LIMIT", 2)
    assert mutate.trouble(tmp_path, "-c", code) == said


MUTANT = mutate.sample(1, seed=0)[0]


@pytest.mark.parametrize(
    ("tests", "section", "expected"),
    [
        (["wrong"], [], "tests, wrong"),
        ([mutate.UNDECIDED], [], mutate.UNDECIDED),
        ([""], [""], ""),
        ([""], ["wrong", "", "wrong"], "page, wrong"),
        ([""], ["wrong", "wrong"], mutate.UNDECIDED),  # without the mutant too
        ([""], ["wrong", "", ""], mutate.UNDECIDED),  # now and then
        ([""], [mutate.UNDECIDED], mutate.UNDECIDED),
    ],
)
def test_who_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    tests: list[str], section: list[str], expected: str,
) -> None:  # fmt: skip
    file = tmp_path / MUTANT.file
    file.parent.mkdir(parents=True)
    answers, seen = [*tests, *section], []

    def answer(*_: object) -> str:
        seen.append(file.read_text("utf8"))
        return answers.pop(0)

    monkeypatch.setattr(mutate, "tests_trouble", answer)
    monkeypatch.setattr(mutate, "section_trouble", answer)
    monkeypatch.setattr(mutate, "relevant_sections", lambda file: [Path("page.md")])
    assert mutate.noticed(tmp_path, MUTANT) == expected
    assert answers == []
    source = (mutate.ROOT / MUTANT.file).read_text("utf8")
    # the third run is the section's without the mutant
    assert [text == source for text in seen] == [False, False, True, False][: len(seen)]
    assert file.read_text("utf8") == source


def test_the_quick_tests_run_in_a_copy(tmp_path: Path) -> None:
    mutate.copy_book(tmp_path / "book")
    trouble = mutate.tests_trouble(tmp_path / "book", ["tests/instruments/test_validation.py"])
    assert not trouble, trouble
