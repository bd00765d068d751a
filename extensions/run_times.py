"""The page of run times and versions, which the build makes.

``{run-times}`` is replaced by a table of the seconds that each section took when it was executed,
and ``{versions}`` by what executed and built the book. Both come with the execution: a section that
is taken from the cache keeps its time, so an unchanged book has an unchanged page.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinxcontrib import katex

REQUIREMENTS = "requirements.txt"


class Place(nodes.Element):
    """Where a table goes, of what its attribute `of` says: "run-times" or "versions"."""


class PlaceDirective(SphinxDirective):
    """``{run-times}`` and ``{versions}``: filled when all pages are known."""

    def run(self) -> list[nodes.Node]:
        """Leave a place; the page is read again in each build, as times may have changed."""
        self.env.note_reread()
        return [Place(of=self.name)]


class FillTables(SphinxPostTransform):
    """Fill the places."""

    default_priority = 5  # before cross-references are resolved

    def run(self, **kwargs: Any) -> None:
        """Change the page."""
        for place in list(self.document.findall(Place)):
            if place["of"] == "run-times":
                rows = list(times(self.env))
                content = table(["Section", "Seconds"], rows, numbers=True)
            else:
                rows = [[nodes.paragraph("", name), nodes.paragraph("", said)]
                        for name, said in versions(Path(self.app.srcdir))]  # fmt: skip
                content = table(["What", "Version"], rows)
            place.replace_self(content)


def in_order(env: BuildEnvironment, page: str) -> Iterator[str]:
    """A page and all pages below it, as the contents order them."""
    yield page
    for below in env.toctree_includes.get(page, []):
        yield from in_order(env, below)


def times(env: BuildEnvironment) -> Iterator[list[nodes.Node]]:
    """Rows of all sections with the seconds that they took, and their sum."""
    seconds: dict[str, float] = getattr(env, "book_seconds", {})
    for page in dict.fromkeys(in_order(env, env.config.root_doc)):
        if page in seconds:
            link = addnodes.pending_xref(
                "", nodes.inline("", ""), refdomain="std", reftype="doc", refdoc=env.docname,
                reftarget=f"/{page}", refexplicit=False, refwarn=True,
            )  # fmt: skip
            yield [nodes.paragraph("", "", link), nodes.paragraph("", f"{seconds[page]:.1f}")]
    total = nodes.paragraph("", f"{sum(seconds.values()):,.0f}")
    yield [nodes.paragraph("", "Together"), total]


def versions(root: Path) -> Iterator[tuple[str, str]]:
    """What executed and built the book: the machine, Python, and each package that is required."""
    yield "Processor", f"{processor()}, {os.cpu_count()} cores"
    yield "System", f"{platform.system()}, {platform.machine()}"
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    required = re.findall(r"^([\w.-]+)==", (root / REQUIREMENTS).read_text("utf8"), re.MULTILINE)
    yield from ((name, version(name)) for name in required)
    yield "KaTeX", katex.katex_version


def processor() -> str:
    """The processor's name, as far as the system tells."""
    cpus = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpus.read_text()) if cpus.is_file() else None
    return found[1] if found else platform.processor() or platform.machine()


def table(headings: list[str], rows: list[list[nodes.Node]], numbers: bool = False) -> nodes.table:
    """A table with a line of headings; with `numbers`, its last column is one of numbers."""
    group = nodes.tgroup("", cols=len(headings))
    group += [nodes.colspec("", colwidth=1) for _ in headings]
    head = [nodes.paragraph("", heading) for heading in headings]
    lines = []
    for cells in [head, *rows]:
        entries = [nodes.entry("", cell) for cell in cells]
        if numbers:
            entries[-1]["classes"].append("text-right")
        lines.append(nodes.row("", *entries))
    group += [nodes.thead("", lines[0]), nodes.tbody("", *lines[1:])]
    return nodes.table("", group)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(Place)
    app.add_directive("run-times", PlaceDirective)
    app.add_directive("versions", PlaceDirective)
    app.add_post_transform(FillTables)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
