"""make section writes a section that executes and says, by line, what is to be filled in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from docutils import nodes

from extensions import lints
from tools import new_section, sources
from tools.environment import ROOT
from tools.messages import Stop


@pytest.fixture
def book(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    for part in new_section.parts((ROOT / "_toc.yml").read_text().splitlines()):
        (tmp_path / "chapters" / part).mkdir(parents=True)
    return tmp_path


def test_it_is_written_and_has_its_place(book: Path) -> None:
    before = (book / "_toc.yml").read_text().splitlines()
    file = new_section.begin("mdp/belief-states", "What the robot cannot see", book)
    after = (book / "_toc.yml").read_text().splitlines()
    row = "          - file: chapters/mdp/belief-states"
    assert [line for line in after if line != row] == before
    assert after[after.index(row) - 1].strip().startswith("- file: chapters/mdp/")
    assert not after[after.index(row) + 1].strip().startswith("- file: chapters/mdp/")
    text = file.read_text()
    assert file == book / "chapters" / "mdp" / "belief-states.md"
    assert "(sec-belief-states)=\n# What the robot cannot see\n" in text
    assert not re.search(r"@\w+@", text)


def test_each_gap_is_named_with_its_line(book: Path) -> None:
    text = new_section.begin("mdp/new", "New", book).read_text()
    page = lints.Page("chapters/mdp/new", text, nodes.document(None, None))
    found = list(lints.lint_todos([page]))
    lines = text.splitlines()
    assert len(found) == text.count("TODO")
    assert all("TODO" in lines[line - 1] for _, line, _ in found if line)
    assert found[0][2] == (
        "still to be written: the question that the section answers, in one sentence."
    )
    assert not list(lints.lint_todos([lints.Page("a", "Nothing to do", page.doctree)]))


def test_its_cells_run_and_its_check_holds(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = sources.script(new_section.begin("mdp/new", "New", book).read_text())
    exec(compile(code, "new.md", "exec"), {})
    assert "eq-new" in capsys.readouterr().out


def test_it_has_every_part_that_a_section_owes(book: Path) -> None:
    text = new_section.begin("mdp/new", "New", book).read_text()
    assert [each.label for each in sources.equations(text)] == ["eq-new"]
    exercises = re.findall(r"exercise-start\}.*\n:label: (ex-[\w-]+)", text)
    solved = re.findall(r"solution-start\} (ex-[\w-]+)", text)
    assert exercises == solved
    assert len(exercises) == 3
    assert "name: fig-new" in text
    assert "{numref}`fig-new`" in text


@pytest.mark.parametrize(
    ("name", "title", "said"),
    [
        ("belief", "T", "part/name"),
        ("mdp/Belief States", "T", "lower-case"),
        ("physics/belief", "T", "no part 'physics'; parts are mdp"),
        ("mdp/belief", " ", "needs a title"),
        ("mdp/there", "T", "there already"),
    ],
)
def test_what_cannot_be_is_refused(book: Path, name: str, title: str, said: str) -> None:
    (book / "chapters" / "mdp" / "there.md").touch()
    with pytest.raises(Stop, match=said):
        new_section.begin(name, title, book)
