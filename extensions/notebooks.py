"""Notebooks to take along: beside each page with code an ``.ipynb`` that any Jupyter can show.

``chapters/mdp/value-functions.ipynb`` stands beside ``value-functions.html``. Its Markdown is written
from the page as Sphinx resolved it, so that no role or directive is left: numbers and citations
are text, labelled equations carry ``\\tag{1.2.3}``, references are links where the book's address is
known (``BOOK_URL``), and boxes are quotations. Its code cells are the executed ones, with the outputs
that show without the book's style sheets and scripts: an explorer's first frame is a picture.

Cells of exercises and solutions carry the tags ``exercise`` and ``solution``; `tools/teaching.py`
makes student notebooks by them. Headings of solutions are collapsed, as solutions are in the book.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import nbformat
from docutils import nodes
from nbformat import NotebookNode
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from extensions.execution import notebook_path, write
from extensions.formulas import MACROS
from extensions.ledger import Tag

INSTALL = """\
# Only where the book's helpers are missing (in Colab, say): install them as they were at this
# commit. Other packages keep this machine's versions, so last digits may differ from the book's.
import importlib.util

if importlib.util.find_spec("rl_helpers") is None:
    %pip install --quiet "rl-helpers[dask] @ git+{repository}@{revision}\""""
READ = (
    "This notebook is the page {page} of the book *{book}*, with the outputs of the book's own run."
)
RUN_HERE = (
    "To run it, begin with the cell below: where the book's helpers are missing, it installs them."
)
RUN_ELSEWHERE = (
    "To run it you need the book's helpers: `pip install '.[dask]'` in a copy of the book's source "
    "installs them, and with them all that the notebook imports."
)
SLIDERS = "Figures with sliders are shown at their start; they move once their cells have run."
SHOWN = ("image/png", "text/plain")  # of an output: what needs no style sheet and no script
SPECIAL = re.compile(r"[\\`*$<]|(?<=\])\(|(?<![^\W_])_|_(?![^\W_])")
LINE_START = re.compile(r"^(\s*)([-+#>]|\d+(?=[.)]))(?=[.)]?\s)", re.M)
MACRO = re.compile("|".join(rf"{re.escape(name)}(?![A-Za-z])" for name in MACROS))


@dataclass
class Block:
    """A piece of a notebook: Markdown, or the number of a code cell in the executed notebook."""

    text: str = ""
    cell: int | None = None
    tags: tuple[str, ...] = ()
    figure: dict[str, str] = field(default_factory=dict)


class Writer:
    """Writes the resolved doctree of one page as blocks of Markdown.

    Args:
        env: Sphinx's environment, which knows all numbers.
        docname: the page.
        url: the book's address, with a slash at the end; empty where it is unknown.
    """

    def __init__(self, env: BuildEnvironment, docname: str, url: str) -> None:
        self.docname, self.url = docname, url
        self.numbers = env.toc_fignumbers.get(docname, {})
        self.exercise = ""

    def number(self, node: nodes.Element) -> str:
        """Return the number of a figure, an equation, a theorem or an exercise; empty if none."""
        for numbered in self.numbers.values():
            for ident in node["ids"]:
                if ident in numbered:
                    return ".".join(map(str, numbered[ident]))
        return ""

    # ---- Within a line --------------------------------------------------------------------------

    def inline(self, node: nodes.Node) -> str:
        """Return what stands within a paragraph as Markdown."""
        if isinstance(node, nodes.Text):
            return SPECIAL.sub(lambda m: "\\" + m[0], str(node))
        if isinstance(node, nodes.math):
            return f"${latex(node)}$"
        if isinstance(node, nodes.literal) and not is_reference(node.parent):
            fence = "``" if "`" in node.astext() else "`"
            return f"{fence}{node.astext()}{fence}"
        if isinstance(node, nodes.reference):
            return self.reference(node)
        if isinstance(node, nodes.raw | nodes.image | nodes.comment | addnodes.index):
            return ""
        said = "".join(self.inline(child) for child in node.children)
        mark = {"emphasis": "*", "strong": "**"}.get(node.tagname, "")
        return f"{mark}{said}{mark}" if said.strip() else said

    def reference(self, node: nodes.reference) -> str:
        """Return a link where it leads somewhere; else its text, the title of a page in italics."""
        said = "".join(self.inline(child) for child in node.children)
        target = node.get("refuri") or f"#{node.get('refid', '')}"
        outside = re.match(r"[a-z]+:", target)
        if outside or self.url:
            page = urljoin(self.url, f"{self.docname}.html")
            return f"[{said}]({target if outside else urljoin(page, target)})"
        titles = {"std-ref", "std-doc", "doc"}
        named = any(titles & set(child["classes"]) for child in node.findall(nodes.inline))
        return f"*{said}*" if named else said

    # ---- Blocks ---------------------------------------------------------------------------------

    def children(self, node: nodes.Element, depth: int) -> Iterator[Block]:
        """Yield the blocks of a node's children."""
        for child in node.children:
            if isinstance(child, nodes.Element):
                yield from self.blocks(child, depth)

    def blocks(self, node: nodes.Element, depth: int) -> Iterator[Block]:
        """Yield the blocks of a node; `depth` is the number of sections around it."""
        classes = set(node["classes"])
        if node.get("nb_element") == "cell_code":
            yield from self.code(node)
        elif "solution" in classes or "exercise" in classes:
            yield from self.task(node, depth)
        elif isinstance(node, nodes.Admonition) or "proof" in classes:
            yield Block(self.box(node, depth))
        elif isinstance(node, nodes.section):
            yield from self.children(node, depth + 1)
        elif isinstance(node, nodes.title):
            yield Block(f"{'#' * min(depth, 6)} {self.inline(node)}")
        elif isinstance(node, nodes.paragraph):
            said = LINE_START.sub(r"\1\\\2", self.inline(node))
            # "\1." and "\-": of a number it is the point that is escaped.
            said = re.sub(r"^(\s*)\\(\d+)(?=[.)])", r"\1\2\\", said, flags=re.M)
            yield Block(said)
        elif isinstance(node, nodes.math_block):
            number = self.number(node)
            tag = rf" \tag{{{number}}}" if number else ""
            yield Block(f"$$\n{latex(node)}{tag}\n$$")
        elif isinstance(node, nodes.bullet_list | nodes.enumerated_list):
            yield Block(self.items(node, depth))
        elif isinstance(node, nodes.definition_list):
            yield Block("\n".join(self.definitions(node, depth)))
        elif isinstance(node, nodes.block_quote):
            yield Block(quoted(self.text(node, depth)))
        elif isinstance(node, nodes.literal_block):
            yield Block(f"```{node.get('language', '')}\n{node.astext().rstrip()}\n```")
        elif isinstance(node, nodes.table):
            yield Block(self.table(node))
        elif isinstance(node, nodes.transition):
            yield Block("---")
        elif isinstance(node, Tag) or not isinstance(node, nodes.Inline | nodes.TextElement):
            yield from self.children(node, depth)

    def text(self, node: nodes.Element, depth: int) -> str:
        """Return a node's children as one text, for places where no code cell can be."""
        return "\n\n".join(block.text for block in self.children(node, depth) if block.text)

    def code(self, node: nodes.Element) -> Iterator[Block]:
        """Yield a code cell, and below it the caption of its figure."""
        figure = next(iter(node.findall(nodes.figure)), None)
        if figure is None:
            yield Block(cell=node["cell_index"])
            return
        caption = next(iter(figure.findall(nodes.caption)))
        number = self.number(figure)
        name = figure["ids"][0] if figure["ids"] else ""
        about = {"name": name, "number": number, "caption": " ".join(caption.astext().split())}
        yield Block(cell=node["cell_index"], figure=about)
        yield Block(f"**Figure {number}.** {' '.join(self.inline(caption).split())}")

    def title(self, node: nodes.Element) -> str:
        """Return the first line of a box: its kind and number, and its name."""
        kind = node.get("realtype", "exercise" if "exercise" in node["classes"] else "")
        numbered = f"{kind.title()} {self.number(node)}".strip()
        name = self.inline(node[0]).strip() if is_title(node[0]) else ""
        between = " " if name.startswith("(") else ". "
        return between.join(part for part in (numbered, name) if part)

    def box(self, node: nodes.Element, depth: int) -> str:
        """Return an admonition, a theorem or a proof as a quotation."""
        said = self.title(node)
        body = nodes.container("", *[child for child in node if not is_title(child)])
        return quoted("\n\n".join([*([f"**{said}**"] if said else []), self.text(body, depth)]))

    def task(self, node: nodes.Element, depth: int) -> Iterator[Block]:
        """Yield an exercise or a solution, with its code cells, below a heading of its own."""
        kind = "solution" if "solution" in node["classes"] else "exercise"
        if kind == "exercise":
            self.exercise = f"Exercise {self.number(node)}".strip()
            said = self.title(node)
        else:
            said = f"Solution of {self.exercise}"
        yield Block(f"{'#' * min(depth + 1, 6)} {said}", tags=(kind,))
        for child in node.children:
            if isinstance(child, nodes.Element) and not is_title(child):
                for block in self.blocks(child, depth):
                    yield Block(block.text, block.cell, (kind,), block.figure)

    def items(self, node: nodes.Element, depth: int) -> str:
        """Return a list."""
        start = int(node.get("start", 1))
        lines = []
        for at, item in enumerate(node.children, start=start):
            assert isinstance(item, nodes.Element)
            mark = "- " if isinstance(node, nodes.bullet_list) else f"{at}. "
            lines.append(mark + self.text(item, depth).replace("\n", "\n" + " " * len(mark)))
        return "\n".join(re.sub(r"[ ]+$", "", line, flags=re.M) for line in lines)

    def definitions(self, node: nodes.Element, depth: int) -> Iterator[str]:
        """Yield the items of a definition list, as a list: Jupyter knows no other."""
        for item in node.findall(nodes.definition_list_item):
            term = "".join(self.inline(child) for child in item.findall(nodes.term))
            said = " ".join(self.text(each, depth) for each in item.findall(nodes.definition))
            yield f"- **{term}**: {' '.join(said.split())}"

    def table(self, node: nodes.table) -> str:
        """Return a table."""
        rows = [
            [" ".join(self.inline(entry).split()).replace("|", r"\|") for entry in row.children]
            for row in node.findall(nodes.row)
        ]
        rows = [[bars(cell) for cell in row] for row in rows]
        rows.insert(1, ["---"] * len(rows[0]))
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def latex(node: nodes.Node) -> str:
    """Return a formula, with the book's own shorthands written out."""
    lines = (line.rstrip() for line in node.astext().strip().splitlines())
    return MACRO.sub(lambda match: MACROS[match[0]], "\n".join(line for line in lines if line))


def bars(cell: str) -> str:
    """Return a table's cell, with the bars in its formulas written as LaTeX: \\| is a double bar."""
    return re.sub(
        r"\$[^$]+\$",
        lambda m: re.sub(r"\\\\\|", r"\\Vert ", m[0]).replace(r"\|", r"\vert "),
        cell,
    )


def quoted(text: str) -> str:
    """Return a text as a quotation; its formulas stand on one line, for Jupyter reads them first."""
    text = re.sub(r"\$\$\n(.*?)\n\$\$", lambda m: f"$${' '.join(m[1].split())}$$", text, flags=re.S)
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def is_title(node: nodes.Node) -> bool:
    """Return whether a node is the title of a box, as Sphinx or `extensions.site` names it."""
    return isinstance(node, nodes.title) or type(node).__name__ == "Summary"


def is_reference(node: nodes.Node | None) -> bool:
    """Return whether a node is a link, in which Sphinx sets numbers as code."""
    return isinstance(node, nodes.reference)


# ---- From blocks to a notebook ------------------------------------------------------------------


def collected(blocks: list[Block]) -> list[Block]:
    """Join neighbouring Markdown into cells; a heading begins a new one."""
    cells: list[Block] = []
    for block in blocks:
        last = cells[-1] if cells else Block(cell=0)
        joins = block.cell is None and last.cell is None and block.tags == last.tags
        if joins and not block.text.startswith("#"):
            last.text = f"{last.text}\n\n{block.text}"
        elif block.text or block.cell is not None:
            cells.append(block)
    return cells


def markdown_cell(block: Block) -> NotebookNode:
    """Return a cell of Markdown; a solution is folded below its heading."""
    cell = nbformat.v4.new_markdown_cell(block.text)
    if block.tags:
        cell.metadata["tags"] = list(block.tags)
    if block.tags == ("solution",) and block.text.startswith("#"):
        cell.metadata["heading_collapsed"] = True
    return cell


def code_cell(block: Block, executed: NotebookNode) -> NotebookNode:
    """Return an executed cell with the outputs that need neither style sheet nor script."""
    cell = nbformat.v4.new_code_cell(executed.source, execution_count=executed.execution_count)
    tags = [*executed.metadata.get("tags", []), *block.tags]
    if tags:
        cell.metadata["tags"] = tags
    if "hide-input" in tags:
        cell.metadata["jupyter"] = {"source_hidden": True}
    if block.figure:
        cell.metadata["figure"] = block.figure
    for output in executed.outputs:
        if "data" in output:
            data = {kind: output.data[kind] for kind in SHOWN if kind in output.data}
            if not data:
                continue  # a record for the build
            output = nbformat.from_dict({**output, "data": data, "metadata": {}})
        cell.outputs.append(output)
    return cell


def introduction(page: str, book: str, link: str, repository: str) -> str:
    """Return what a notebook says at its top: what it is, and how to run it."""
    said = READ.format(page=f"[{page}]({link})" if link else f"*{page}*", book=book)
    return quoted("\n".join([said, RUN_HERE if repository else RUN_ELSEWHERE, SLIDERS]))


def notebook(blocks: list[Block], executed: NotebookNode, said: str, install: str) -> NotebookNode:
    """Return the notebook of a page.

    Args:
        blocks: the page, its title first.
        executed: the notebook as the build executed it.
        said: what stands below the title.
        install: the code of a cell below that; none where it is empty.
    """
    title, *rest = blocks
    cells = [nbformat.v4.new_markdown_cell(f"{title.text}\n\n{said}")]
    if install:
        cells.append(nbformat.v4.new_code_cell(install))
    for block in collected(rest):
        if block.cell is None:
            cells.append(markdown_cell(block))
        else:
            cells.append(code_cell(block, executed.cells[block.cell]))
    known = ("kernelspec", "language_info")
    metadata = {key: executed.metadata[key] for key in known if key in executed.metadata}
    made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"  # random otherwise: every build would change every notebook
    made.nbformat_minor = 5
    nbformat.validate(made)
    return made


@cache
def revision(root: Path) -> str:
    """Return the commit that the sections are at; the branch where there is no history to ask."""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else os.environ.get("BOOK_BRANCH", "main")


def write_notebook(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Write the notebook of a page beside it."""
    source = notebook_path(app.srcdir, page)
    if doctree is None or "kernelspec" not in app.env.metadata[page] or not source.is_file():
        return
    config = app.config
    url = f"{config.book_url.rstrip('/')}/" if config.book_url else ""
    link = f"{url}{page}.html" if url else ""
    said = introduction(app.env.titles[page].astext(), config.project, link, config.book_repository)
    install = ""
    if config.book_repository:
        commit = revision(Path(app.srcdir))
        install = INSTALL.format(repository=config.book_repository, revision=commit)
    blocks = list(Writer(app.env, page, url).children(doctree, 0))
    made = notebook(blocks, nbformat.read(source, as_version=4), said, install)
    write(Path(app.outdir) / f"{page}.ipynb", nbformat.writes(made) + "\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("html-page-context", write_notebook)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
