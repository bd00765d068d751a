"""make robust: what it executes, what it reads of an execution, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.book.books import cell, section
from tools import robust
from tools.messages import Stop
from tools.robust import Outcome

# Holds at even seeds only; prints a number that differs from seed to seed.
CODE = """SEED = 4
import os
from rl_helpers.checks import check
from rl_helpers.findings import finding

print(f"the run gave {10 + SEED}, on {os.environ['BOOK_STATIC']}")
check("eq-even", SEED % 2 * 1.0, 0.0, mistakes={"odd": 1.0})"""
LATER = 'finding("larger", [3 + SEED / 100 + x / 10 for x in range(8)], above=1)'


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(robust, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    written = tmp_path / "even.md"
    written.write_text(section("Even", "The run gave 14 of 99.", cell(CODE), cell(LATER)))
    return written


def test_a_section_runs_to_its_end_with_another_seed(page: Path) -> None:
    own = robust.execute(page, None, {})
    assert own.errors == []
    assert own.rooms["check eq-even"] == pytest.approx(1e9)
    assert own.rooms["finding larger"] == pytest.approx(27.5, abs=0.5)
    assert {"14", "1"} <= own.printed
    other = robust.execute(page, 5, {})
    assert list(other.rooms) == ["finding larger"], "the cells after a failure run"
    (error,) = other.errors
    assert error.startswith("CheckFailed: eq-even: the two sides differ")
    assert "15" in other.printed
    assert "SEED = 4" in page.read_text(), "the source stays as it is"
    assert [typed.number for typed in robust.stale(page, own, [other])] == ["14"]


def test_report_names_what_did_not_hold(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = Outcome({"check eq-even": 3.0, "finding larger": 5.0}, {"14"})
    runs = {
        "its own seed": own,
        "seed 1": Outcome({"finding larger": 1.9}, {"15"}, ["CheckFailed: eq-even: differs"]),
        "seed 2": own,
    }
    assert robust.report(page, runs) == 4
    said = capsys.readouterr().out
    assert "✗ check eq-even: 2 of 3, least room 3 times" in said
    assert "✗ finding larger: 3 of 3, least room 1.9 standard errors" in said
    assert "✗ seed 1: CheckFailed: eq-even: differs" in said
    assert "✗ even.md:13: 14 in prose is typed, and other runs differ" in said
    page.write_text(page.read_text().replace("SEED = 4", "SEED = 14"))
    assert robust.report(page, runs) == 3, "14 may now be a setting"
    assert "? even.md:13: 14 in prose: of the code, or the run?" in capsys.readouterr().out
    assert robust.report(page, {"its own seed": own, "seed 2": own}) == 0
    assert "✓ check eq-even: 2 of 2" in capsys.readouterr().out


def test_numbers_of_text_outputs() -> None:
    outputs = [
        new_output("stream", text="1,024 steps: 0.5 and 7"),
        new_output("display_data", data={"text/plain": "off by 12", "text/html": "<b>99</b>"}),
    ]
    notebook = new_notebook(cells=[new_code_cell("x", outputs=outputs)])
    assert robust.read(notebook).printed == {"1,024", "0.5", "7", "12"}


def test_another_instruction_set_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    assert robust.other_instructions() == {"AVX2": robust.AVX2}
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert robust.other_instructions() == {"SSE": robust.SSE}
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert robust.other_instructions() == {}


def test_bad_arguments(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEDS", "many")
    with pytest.raises(Stop, match="SEEDS is 'many'; allowed is a whole number"):
        robust.main([])
    monkeypatch.setenv("SEEDS", "1")
    page.write_text(section("Without a seed", "Words."))
    with pytest.raises(Stop, match=r"No section in even\.md"):
        robust.main(["even.md"])
