"""Notebooks to take along read well and run where there is neither MyST nor the site."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from extensions.notebooks import introduction
from extensions.previews import TEMPLATE
from tests.book.books import build, cell, html, project, section
from tests.book.contents import NOTEBOOKS
from tests.book.test_ledger import HELPERS, IMPORT, LEDGER_CONF, equation, figure
from tools.site import build_folder

pytestmark = pytest.mark.filterwarnings("ignore")

SITE = build_folder() / "html"
LEFT = re.compile(
    r"\{[a-z:+-]+\}`|^ *(:{3,}|`{3,}\{)|\$\$ *\([a-z]|^\([a-z-]+\)=$|<(div|span|a)\b", re.M
)
TAKE_CONF = (
    LEDGER_CONF.replace(
        '["extensions.ledger",',
        '["extensions.ledger", "extensions.notebooks", "sphinx_proof",',
    )
    + """
exercise_style = "solution_follow_exercise"
bibtex_reference_style = "author_year"
project = "The book"
math_numfig = True
numfig_secnum_depth = 1

def setup(app):
    from extensions import site
    for name in ("book_url", "book_repository"):
        app.add_config_value(name, "", "html", str)
    app.add_config_value("book_solutions", "folded", "html", str)
    app.add_node(site.Details, html=(site.visit_details, site.depart_details))
    app.add_node(site.Summary, html=(site.visit_summary, site.depart_summary))
    app.connect("doctree-resolved", site.fold, priority=900)
"""
)
PAGE = section(
    "A page",
    "As {cite:t}`used` says in {eq}`eq-one`, {numref}`fig-line` and "
    "{doc}`/part/page`: 2 * 3_4 costs \\$5.",
    IMPORT,
    equation("eq-one", r"\E[a] \mid b = c"),
    cell('check("eq-one", wrong="off by 0.5")'),
    figure("fig-line", "A line with $x_1$", 'explore("line", "A line that rises")'),
    ":::{prf:theorem} Of the page\n:label: thm-one\n\nFor all $a$,\n\n"
    "$$\na \\\\\n= b.\n$$\n\n- one\n- two\n:::\n",
    ":::{admonition} Predict\nWhat is {eq}`eq-one`?\n:::\n",
    "| a | b |\n| --- | --- |\n| $x \\mid y$, $\\lvert z \\rvert$ | `code` |\n",
    "## Exercises\n",
    ":::{exercise-start} Add (easy, 5 minutes)\n:label: ex-add\n:::\nAdd.\n:::{exercise-end}\n:::\n",
    ":::{solution-start} ex-add\n:label: sol-add\n:class: dropdown\n:::\nThus:\n",
    cell("1 + 1"),
    "Done.\n\n:::{solution-end}\n:::\n\n## Further reading\n\nNone.",
)
BIB = "@book{used, title = {Used}, author = {Ann Author}, year = 2001, publisher = {P}}\n"


def book(folder: Path, conf: str = TAKE_CONF) -> Path:
    pages = {"part/page": PAGE, "sources": "# Sources\n\n```{bibliography}\n```\n"}
    project(folder, pages, conf, HELPERS)
    (folder / "references.bib").write_text(BIB)
    status, log = build(folder)
    assert status == 0, log
    return folder


def taken(folder: Path) -> NotebookNode:
    return nbformat.read(folder / "_build" / "html" / "part" / "page.ipynb", as_version=4)


def text(notebook: NotebookNode) -> str:
    return "\n\n".join(each.source for each in notebook.cells if each.cell_type == "markdown")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    """The notebook of a page of a book that knows no address."""
    return taken(book(tmp_path_factory.mktemp("alone")))


def test_numbers_and_citations_are_text(alone: NotebookNode) -> None:
    said = text(alone)
    assert "As Author [2001] says in (1.1), Fig. 1.1 and *A page*: 2 \\* 3_4 costs \\$5." in said
    assert not LEFT.search(said), LEFT.search(said)


def test_an_equation_keeps_its_number_and_needs_no_macro(alone: NotebookNode) -> None:
    assert "$$\n\\mathbb{E}[a] \\mid b = c \\tag{1.1}\n$$" in text(alone)


def test_a_box_is_a_quotation_with_formulas_on_one_line(alone: NotebookNode) -> None:
    box = "> **Theorem 1.1 (Of the page)**\n>\n> For all $a$,\n>\n> $$a \\\\ = b.$$\n>\n> - one\n> - two"
    assert box in text(alone)
    assert "> **Predict**\n>\n> What is (1.1)?" in text(alone)


def test_bars_in_a_table_are_commands(alone: NotebookNode) -> None:
    assert r"| $x \mid y$, $\lvert z \rvert$ | `code` |" in text(alone)


def test_a_figure_is_a_picture_above_its_caption(alone: NotebookNode) -> None:
    at = next(n for n, each in enumerate(alone.cells) if "figure" in each.metadata)
    assert [set(output.data) for output in alone.cells[at].outputs] == [{"image/png", "text/plain"}]
    assert alone.cells[at + 1].source.startswith("**Figure 1.1.** A line with $x_1$")
    assert alone.cells[at].metadata.figure.name == "fig-line"


def test_a_solution_is_folded_below_its_own_heading(alone: NotebookNode) -> None:
    tags = [each.metadata.get("tags", []) for each in alone.cells]
    solution = [each for each, tag in zip(alone.cells, tags, strict=True) if "solution" in tag]
    assert [each.cell_type for each in solution] == ["markdown", "code", "markdown"]
    assert solution[0].source.startswith("### Solution of Exercise 1")
    assert solution[0].metadata.heading_collapsed
    assert solution[1].outputs, "its cell is executed"
    assert "exercise" in tags[tags.index(["solution"]) - 1]
    assert tags[-1] == [], "what follows is no solution"


def test_it_says_how_to_run_it(alone: NotebookNode) -> None:
    assert "pip install '.[dask]'" in alone.cells[0].source
    assert alone.cells[0].source.startswith("# A page\n\n> This notebook")


def test_with_addresses_it_links_and_installs(tmp_path: Path) -> None:
    conf = TAKE_CONF.replace('"book_url", "book_repository"', '"book_unused",').replace(
        "def setup(app):",
        "def setup(app):\n"
        '    app.add_config_value("book_url", "https://book.example/", "html", str)\n'
        '    app.add_config_value("book_repository", "https://github.com/o/n", "html", str)',
    )
    notebook = taken(book(tmp_path, conf))
    page = "https://book.example/part/page.html"
    assert f"[(1.1)]({page}#equation-eq-one)" in text(notebook)
    assert "[Author](https://book.example/sources.html#" in text(notebook) or (
        "[2001](https://book.example/sources.html#" in text(notebook)
    )
    setup = notebook.cells[1]
    assert "git+https://github.com/o/n@" in setup.source
    # Where the helpers are, the cell does nothing.
    exec(setup.source.replace("%pip", "raise SystemExit  # %pip"), {})


def test_without_solutions_none_is_left(tmp_path: Path) -> None:
    folder = book(tmp_path, TAKE_CONF.replace('"folded"', '"none"'))
    assert "solution" not in json.dumps(taken(folder).cells)
    assert "Thus:" not in html(folder, "part/page")
    assert "Add." in html(folder, "part/page")


@pytest.mark.parametrize(("how", "tag"), [("folded", "<details class"), ("open", "<details")])
def test_solutions_are_folded_or_open(how: str, tag: str, tmp_path: Path) -> None:
    page = html(book(tmp_path, TAKE_CONF.replace('"folded"', f'"{how}"')), "part/page")
    (details,) = re.findall(r"<details[^>]*>", page)
    assert details.startswith(tag)
    assert ("open=" in details) == (how == "open")


def test_the_introduction_names_the_page() -> None:
    assert "[P](https://b/p.html)" in introduction("P", "B", "https://b/p.html", "")


# ---- The book's own -----------------------------------------------------------------------------


def markdown(name: str) -> Iterator[str]:
    path = SITE / f"{name}.ipynb"
    if not path.is_file():
        pytest.fail(f"{path} is missing: run make book")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    yield from (each.source for each in notebook.cells if each.cell_type == "markdown")


@pytest.mark.site
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_no_role_and_no_directive_is_left(name: str) -> None:
    for source in markdown(name):
        prose = re.sub(r"^```\w*\n.*?^```$|`[^`\n]*`", "", source, flags=re.M | re.S)
        assert not LEFT.search(prose), LEFT.search(prose)
        formulas = re.sub(r"\$\$.*?\$\$", "", prose, flags=re.S)
        assert len(re.findall(r"(?<!\\)\$", formulas)) % 2 == 0, "a formula is not closed"
        assert not re.search(r"\\(E|KL|R|argmax|argmin)(?![A-Za-z])", prose), "a macro of the book"


@pytest.mark.site
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_equation_and_figure_of_the_page_is_in_its_notebook(name: str) -> None:
    page, said = (SITE / f"{name}.html").read_text("utf8"), "\n".join(markdown(name))
    page = TEMPLATE.sub("", page)  # without previews of other pages
    numbers = re.findall(r'<span class="eqno">\(([\d.]+)\)', page)
    assert re.findall(r"\\tag\{([\d.]+)\}", said) == numbers
    figures = re.findall(r'<span class="caption-number">(Figure [\d.]+?)\.? ?</span>', page)
    assert re.findall(r"^\*\*(Figure [\d.]+)\.\*\*", said, re.M) == figures


@pytest.mark.site
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_links_are_whole(name: str) -> None:
    for source in markdown(name):
        for target in re.findall(r"(?<!\\)\]\(([^)]*)\)", source):
            assert re.match(r"https?://", target), f"{target!r} leads nowhere outside the site"


@pytest.mark.site
def test_a_notebook_runs_in_an_empty_folder(tmp_path: Path) -> None:
    source = min(
        (SITE / f"{name}.ipynb" for name in NOTEBOOKS), key=lambda path: path.stat().st_size
    )
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(each.get("outputs") for each in notebook.cells)
