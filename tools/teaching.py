"""What lecturers take along: `make teaching` writes, from the built book, into _build/teaching

    notebooks/<part>/<section>.ipynb            for students: without solutions, a cell for each answer
    figures/<part>/<section>/<figure>.svg       for slides: each figure as a file of its own

An explorer's figure is its first frame as the page shows it. Beside it stands, for each of its sliders,
a frame at the slider's lowest and one at its highest value, the other slider left where it was:
`fig-tilt.beta=0.05.svg`. The files name their own fonts and colours, those of the light theme, on a
transparent ground; caption and alt text are inside, as title and description.
"""

import html
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from nbformat import NotebookNode

from rl_helpers.frames import unpack
from tools.notebooks import notebooks
from tools.site import PACK, build_folder

YOUR_TURN = "# Your turn."
FIRST = re.compile(r'aria-label="(?P<alt>[^"]*)">(?P<svg><svg .*?</svg>)\s*</div>', re.S)
COLOUR = re.compile(r"var\(--[\w-]+,\s*([^)]+)\)")
VIEW = re.compile(r'<svg viewBox="0 0 (?P<width>[\d.]+) (?P<height>[\d.]+)" aria-hidden="true"')


# ---- Notebooks for students ---------------------------------------------------------------------


def student(notebook: NotebookNode) -> NotebookNode:
    """A notebook without its solutions; each exercise ends with an empty cell for the answer."""
    cells: list[NotebookNode] = []
    answered = True
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "solution" not in tags:
            cells.append(cell)
            answered = "exercise" not in tags
        elif not answered:
            cells.append(nbformat.v4.new_code_cell(YOUR_TURN, id=f"{cell.id}-answer"))
            answered = True
    return nbformat.from_dict({**notebook, "cells": cells})


# ---- Figures for slides -------------------------------------------------------------------------


def standalone(svg: str, title: str, description: str) -> str:
    """An SVG of a page as a file: with its size, its colours, a title and a description."""
    match = VIEW.match(svg)
    assert match is not None, svg[:100]
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{match["width"]}pt" '
        f'height="{match["height"]}pt" viewBox="0 0 {match["width"]} {match["height"]}" role="img"'
    )
    start = svg.index(">", match.end()) + 1
    said = f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>"
    whole = root + svg[match.end() : start] + said + svg[start:]
    return COLOUR.sub(r"\1", whole) + "\n"


def frames(markup: str, sliders: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the chosen frames of a figure: what its file is called beyond its name, SVG, alt text."""
    shown = FIRST.search(markup)
    assert shown is not None, markup[:100]
    yield "", shown["svg"], html.unescape(shown["alt"])
    packed = PACK.search(markup)
    if packed is None:
        return
    pack = json.loads(packed[1])
    starts = [int(n) for n in re.findall(r'<input type="range"[^>]*? value="(\d+)"', markup)]
    shape = [len(values) for values in pack["values"]]
    for at, (name, values) in enumerate(zip(sliders, pack["values"], strict=True)):
        for place in (0, len(values) - 1):
            point = [place if n == at else start for n, start in enumerate(starts)]
            number = int(np.ravel_multi_index(point, shape))
            value = re.sub(r"[^\w.+-]+", "-", values[place].replace("−", "-")).rstrip("-")
            yield f".{name.rstrip('_')}={value}", unpack(pack, number), pack["alts"][number]


def drawn(notebook: dict[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the figures of an executed notebook: name, HTML as the page has it, its sliders."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            record = output.get("metadata", {}).get("rl_figure")
            if record:
                figure = cell["metadata"].get("mystnb", {}).get("figure", {})
                name = figure.get("name", f"fig-{record['name']}")
                yield name, "".join(output["data"]["text/html"]), record["sliders"]


def captions(notebook: NotebookNode) -> dict[str, str]:
    """The captions of a notebook's figures, with their numbers, by name."""
    about = [cell.metadata["figure"] for cell in notebook.cells if "figure" in cell.metadata]
    return {each["name"]: f"Figure {each['number']}. {each['caption']}" for each in about}


# ---- Both ---------------------------------------------------------------------------------------


def write(folder: Path) -> tuple[int, int]:
    """Write everything below `folder`/teaching; return how many notebooks and how many figures."""
    site, target = folder / "html", folder / "teaching"
    found = notebooks(site)
    shutil.rmtree(target, ignore_errors=True)
    count = 0
    for path in found:
        name = path.relative_to(site / "chapters")
        made = nbformat.read(path, as_version=4)
        file = target / "notebooks" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(student(made), file)
        executed = json.loads((folder / "notebooks" / "chapters" / name).read_text("utf8"))
        said = captions(made)
        for figure, markup, sliders in drawn(executed):
            below = target / "figures" / name.with_suffix("")
            below.mkdir(parents=True, exist_ok=True)
            for which, svg, alt in frames(markup, sliders):
                title = said.get(figure, figure)
                text = standalone(svg, title, alt)
                (below / f"{figure}{which}.svg").write_text(text, encoding="utf-8")
                count += 1
    return len(found), count


def main() -> None:
    """Make teaching, once the book is built."""
    folder = build_folder()
    made, drawings = write(folder)
    print(f"{made} student notebooks and {drawings} figures in {folder / 'teaching'}")


if __name__ == "__main__":
    main()
