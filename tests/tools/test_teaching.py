"""What lecturers take along: notebooks without solutions, figures as files."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import nbformat
import pytest
from matplotlib.figure import Figure

from rl_helpers.explore import Explore
from rl_helpers.plots import BLUE, INK
from tools import teaching
from tools.messages import Stop

V4 = nbformat.v4
SVG = "{http://www.w3.org/2000/svg}"


def draw(fig: Figure, beta: float) -> str:
    ax = fig.subplots()
    ax.plot([0, beta], color=BLUE)
    ax.set_ylabel("value", color=INK)
    return f'rises to "{beta}"'


@pytest.fixture
def markup(monkeypatch: pytest.MonkeyPatch) -> str:
    """What a page holds of an explorer."""
    monkeypatch.setenv("BOOK_STATIC", "1")
    data, _ = Explore("tilt", draw, beta=[-0.5, 1.0, 2.0])._repr_mimebundle_()
    return data["text/html"]


def cell(kind: str, *tags: str) -> Any:
    made = V4.new_code_cell("1") if kind == "code" else V4.new_markdown_cell("text")
    made.metadata["tags"] = list(tags)
    return made


def test_a_students_notebook_has_cells_for_answers_and_no_solutions() -> None:
    kinds = [
        ("text", ""), ("text", "exercise"), ("code", "exercise"), ("text", "solution"),
        ("code", "solution"), ("text", "solution"), ("text", "exercise"), ("text", "solution"),
        ("code", "solution"), ("text", ""),
    ]  # fmt: skip
    cells = [cell(kind, *filter(None, [tag])) for kind, tag in kinds]
    made = teaching.student(V4.new_notebook(cells=cells))
    nbformat.validate(made)
    said = [(each.cell_type, each.source) for each in made.cells]
    text, turn = ("markdown", "text"), ("code", teaching.YOUR_TURN)
    assert said == [text, text, ("code", "1"), turn, text, turn, text]
    assert "solution" not in json.dumps(made)


def test_a_figure_is_a_file_of_its_own(markup: str) -> None:
    name, svg, alt = next(teaching.frames(markup, ["beta"]))
    assert (name, alt) == ("", 'rises to "1.0"')
    text = teaching.standalone(svg, "Figure 1. A < B", alt)
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    assert root.attrib["width"] == "460.8pt"
    assert root.find(f"{SVG}title").text == "Figure 1. A < B"
    assert root.find(f"{SVG}desc").text == alt
    assert "var(" not in text
    assert BLUE in text
    assert "<text" not in text, "letters are paths: no font is asked for"


def test_a_slider_gives_its_lowest_and_its_highest_frame(markup: str) -> None:
    found = list(teaching.frames(markup, ["beta"]))
    assert [name for name, _, _ in found] == ["", ".beta=-0.5", ".beta=2"]
    assert [alt for _, _, alt in found] == [f'rises to "{beta}"' for beta in (1.0, -0.5, 2.0)]
    assert len({svg for _, svg, _ in found}) == 3


def test_both_are_written_below_one_folder(markup: str, tmp_path: Path) -> None:
    figure = {"name": "fig-tilt", "number": "1.2.3", "caption": "A tilt."}
    shown = V4.new_code_cell("Explore()", metadata={"figure": figure})
    page = tmp_path / "html" / "chapters" / "part" / "one.ipynb"
    executed = tmp_path / "notebooks" / "chapters" / "part" / "one.ipynb"
    for path in (page, executed):
        path.parent.mkdir(parents=True)
    nbformat.write(V4.new_notebook(cells=[shown, cell("text", "solution")]), page)
    record = {"rl_figure": {"name": "tilt", "sliders": ["beta"]}}
    output = V4.new_output("execute_result", {"text/html": markup}, metadata=record)
    ran = V4.new_code_cell("", outputs=[output], metadata={"mystnb": {"figure": figure}})
    nbformat.write(V4.new_notebook(cells=[ran]), executed)

    assert teaching.write(tmp_path) == (1, 3)
    below = tmp_path / "teaching" / "figures" / "part" / "one"
    names = sorted(path.name for path in below.iterdir())
    assert names == ["fig-tilt.beta=-0.5.svg", "fig-tilt.beta=2.svg", "fig-tilt.svg"]
    assert "<title>Figure 1.2.3. A tilt.</title>" in (below / "fig-tilt.svg").read_text()
    student = tmp_path / "teaching" / "notebooks" / "part" / "one.ipynb"
    assert len(nbformat.read(student, as_version=4).cells) == 1


def test_without_a_book_it_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="make book"):
        teaching.write(tmp_path)
