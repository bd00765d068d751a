"""Book lint: what a section holds and how long it is. The build's own lints are in extensions."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from functools import cache

import jupytext
import pytest
from nbformat import NotebookNode

from tests.book.contents import INTRO, NOTEBOOKS, PARTS, SECTIONS, TOC, WRITTEN, text
from tools import leftovers
from tools.environment import ROOT

WORDS = range(1_500, 3_001)  # outside code and displayed equations
CELLS = range(10, 27)  # the cells of the solutions count
MEDIAN_LINES, MOST_LINES = 8, 25  # of a cell, blank lines apart
MOST_COLUMNS = 88  # what the page shows without a scroll bar at 1280 px
EXERCISES = 3
LABELS = ("sec-", "eq-", "fig-", "def-", "thm-", "alg-", "ex-", "sol-")
EFFORT = re.compile(r"\((easy|medium|hard), \d+ minutes?\)")
NOT_IN_TEXT = ["simply", "TODO", "FIXME", "coming soon"]
NOT_IN_CODE = {
    "an installation": r"^\s*[!%]\s*(pip|conda)\b",
    "an absolute path": r"""["'](/|~/|[A-Za-z]:\\)\w""",
    "an address": r"https?://",
    "a time, which is another one next time": r"\btime\.(time|perf_counter|monotonic)\b|%%?time",
}
SETTINGS = {"size", "labels", "start"}  # arguments of Explore that are no sliders


@cache
def notebook(name: str) -> NotebookNode:
    return jupytext.reads(text(name), fmt="md:myst")


def code_cells(name: str) -> list[NotebookNode]:
    return [cell for cell in notebook(name).cells if cell.cell_type == "code"]


def code(name: str) -> list[str]:
    return [cell.source for cell in code_cells(name)]


def prose(name: str) -> str:
    """The text of a page without code, displayed equations and the machinery of directives."""
    cells = (cell.source for cell in notebook(name).cells if cell.cell_type == "markdown")
    written = re.sub(r"\$\$.*?\$\$(\s*\([\w-]+\))?", "", "\n".join(cells), flags=re.DOTALL)
    written = re.sub(r"^(:::+|```+).*$|^:[\w-]+:.*$|^\(.*\)=$", "", written, flags=re.MULTILINE)
    return re.sub(r"\$[^$]+\$", "x", written)


def headings(name: str) -> list[str]:
    return re.findall(r"^## (.+?)\s*$", prose(name), re.MULTILINE)


each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
each_section = pytest.mark.parametrize("name", SECTIONS)


def test_every_page_exists_and_is_in_the_table_of_contents() -> None:
    there = {path.relative_to(ROOT).with_suffix("").as_posix() for path in leftovers.pages()}
    assert there == set(TOC)
    assert len(TOC) == len(set(TOC))
    assert SECTIONS


@each_notebook
def test_header(name: str) -> None:
    metadata = notebook(name).metadata
    written = metadata.jupytext.text_representation
    assert (written.extension, written.format_name) == (".md", "myst")
    # JupyterLab writes its own display name, and versions, when the section is saved there.
    assert (metadata.kernelspec.name, metadata.kernelspec.language) == ("python3", "python")


@each_notebook
def test_saving_in_jupyterlab_changes_the_layout_at_most(name: str) -> None:
    opened = notebook(name)
    saved = jupytext.reads(jupytext.writes(opened, fmt="md:myst"), fmt="md:myst")
    for before, after in zip(opened.cells, saved.cells, strict=True):
        assert (before.cell_type, before.source) == (after.cell_type, after.source)
        assert before.metadata == after.metadata


@each_section
def test_words(name: str) -> None:
    words = len(re.findall(r"\w[\w'’.-]*", prose(name)))
    assert words in WORDS, f"{words} words; allowed are {WORDS.start} to {WORDS.stop - 1}"


def lines_of(cell: str) -> int:
    return sum(bool(line.strip()) for line in cell.splitlines())


@each_section
def test_cells(name: str) -> None:
    lines = [lines_of(cell) for cell in code(name)]
    assert len(lines) in CELLS, f"{len(lines)} cells; allowed are {CELLS.start} to {CELLS.stop - 1}"
    # Code that draws a figure is folded away; the median is of what is read.
    folded = ["hide-input" in cell.metadata.get("tags", []) for cell in code_cells(name)]
    shown = [number for number, fold in zip(lines, folded, strict=True) if not fold]
    assert statistics.median(shown) <= MEDIAN_LINES


@each_notebook
def test_lines_and_columns(name: str) -> None:
    longest = max(code(name), key=lines_of)
    assert lines_of(longest) <= MOST_LINES, f"{lines_of(longest)} lines:\n{longest}"
    widest = max((line for cell in code(name) for line in cell.splitlines()), key=len)
    assert len(widest) <= MOST_COLUMNS, f"{len(widest)} columns:\n{widest}"


@each_notebook
def test_what_is_folded_away_draws_a_figure(name: str) -> None:
    """The fold says so: "Code of this figure"."""
    for cell in code_cells(name):
        folded = [tag for tag in cell.metadata.get("tags", []) if tag.startswith("hide-")]
        figure = "figure" in cell.metadata.get("mystnb", {})
        assert folded == (["hide-input"] if figure else []), cell.source


@each_section
def test_one_seed(name: str) -> None:
    seeds = re.findall(r"^SEED = \d+$", "\n".join(code(name)), re.MULTILINE)
    assert len(seeds) == 1, "a section states its one SEED"


@each_section
def test_parts(name: str) -> None:
    found = headings(name)
    assert "What goes wrong" in found
    assert found[-1] == "Further reading"
    assert found.index("Summary") < found.index("Exercises") < found.index("Further reading")
    assert "{cite" in prose(name).rpartition("## Further reading")[2]
    assert "In this section you will" in prose(name)
    assert "{run-time}" in prose(name)


@each_section
def test_exercises_state_their_effort(name: str) -> None:
    titles = re.findall(r"^(?:```+|:::+)\{exercise(?:-start)?\}(.*)$", text(name), re.MULTILINE)
    assert len(titles) >= EXERCISES
    for title in titles:
        assert EFFORT.search(title), f"{title.strip()!r} needs, for example, (easy, 5 minutes)"


def sliders(cell: str) -> list[str]:
    """The arguments of a cell's explorers that are sliders."""
    calls = (node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call))
    return [
        keyword.arg or "**"
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "Explore"
        for keyword in call.keywords
        if keyword.arg not in SETTINGS
    ]


@each_notebook
def test_a_question_precedes_each_explorer_and_an_answer_follows(name: str) -> None:
    explorers, asked, answered = 0, False, True
    for cell in notebook(name).cells:
        if cell.cell_type == "markdown":
            answered = True
            asked = asked or bool(re.search(r"^:::+\{admonition\} Predict", cell.source, re.M))
        elif sliders(cell.source):
            assert asked, f"no Predict admonition before Explore with {sliders(cell.source)}"
            assert answered
            asked, answered, explorers = False, False, explorers + 1
    assert answered, "the last explorer has no answer"
    assert explorers or name in PARTS, "a section has an explorer"


@each_notebook
def test_what_is_to_be_shown_ends_its_cell(name: str) -> None:
    """Jupyter displays a cell's last expression, and drops the others in silence."""
    for cell in code(name):
        for statement in ast.parse(cell).body[:-1]:
            called = getattr(getattr(statement, "value", None), "func", None)
            shows = isinstance(statement, ast.Expr) and isinstance(called, ast.Name)
            assert not (shows and called.id in ("show", "Explore")), ast.unparse(statement)


@each_notebook
def test_nothing_banned_in_code(name: str) -> None:
    for cell in code(name):
        for what, pattern in NOT_IN_CODE.items():
            found = re.search(pattern, cell, re.MULTILINE)
            assert not found, f"{what} in a code cell: {found and found[0]}"


@pytest.mark.parametrize("name", WRITTEN)
def test_nothing_banned_in_text(name: str) -> None:
    for word in NOT_IN_TEXT:
        found = re.search(rf"^.*\b{word}\b.*$", text(name), re.MULTILINE | re.IGNORECASE)
        assert not found, f"{word!r}: {found and found[0]}"


def labels(name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each label of a page, and how it may begin there."""
    for cell in notebook(name).cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        yield from ((label, ("fig-",)) for key, label in figure.items() if key == "name")
    where = {
        r"^\(([^)\s]+)\)=": ("sec-", "fig-"),
        r"\$\$ *\(([^)\s]+)\)": ("eq-",),
        r"^:name: *(\S+)": ("fig-",),
        r"\{exercise(?:-start)?\}[^\n]*\n:label: *(\S+)": ("ex-",),
        r"\{solution(?:-start)?\}[^\n]*\n:label: *(\S+)": ("sol-",),
        r"^:label: *(\S+)": LABELS,
    }
    for pattern, allowed in where.items():
        for label in re.findall(pattern, text(name), re.MULTILINE):
            yield label, allowed


@pytest.mark.parametrize("name", WRITTEN)
def test_labels(name: str) -> None:
    for label, allowed in labels(name):
        assert label.startswith(allowed), f"label {label}; allowed are {', '.join(allowed)}"
        assert re.fullmatch(r"[a-z0-9-]+", label), f"label {label}: lower-case words and hyphens"


@each_section
def test_the_sections_own_label(name: str) -> None:
    assert f"(sec-{name.rpartition('/')[2]})=\n# " in text(name)


@pytest.mark.parametrize("name", PARTS)
def test_a_parts_first_page_has_a_picture(name: str) -> None:
    assert name in NOTEBOOKS
    figures = [cell.metadata.get("mystnb", {}).get("figure") for cell in code_cells(name)]
    (figure,) = (each for each in figures if each)
    assert f"{{numref}}`{figure['name']}`" in prose(name)


def test_the_first_page_has_a_check_and_a_slider() -> None:
    assert INTRO in NOTEBOOKS
    assert any(re.search(r"^check\(", cell, re.MULTILINE) for cell in code(INTRO))
    assert [slider for cell in code(INTRO) for slider in sliders(cell)]
    label = f"{{eq}}`{next(each for each, _ in labels(INTRO) if each.startswith('eq-'))}`"
    assert label in prose(INTRO).partition("stands a small tick")[0], "the tick it speaks of"
