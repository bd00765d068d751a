"""“Cite this page”: each page's own citation, as text and as BibTeX.

Author, title and version are those of ``CITATION.cff``, the year is that of the book's copyright,
number and title are the page's own, and its address is given where it is known (``BOOK_URL``).
``templates/cite.html`` shows them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx

LEVELS = {1: "Part", 2: "Section"}  # what a page with so many numbers is called
SPECIAL = re.compile(r"([&%$#_])")  # of what titles may hold, to TeX


@dataclass(frozen=True)
class Citation:
    """How to cite a page, or the book.

    Attributes:
        key: for BibTeX.
        authors: each as in ``CITATION.cff``.
        title: of the page; of the book on its first page.
        place: where the page is in the book, such as "Section 2.5 of"; empty on the first page.
        book: the book's title.
        version: the book's.
        year: the book's.
        address: of the page; empty where it is not known.
    """

    key: str
    authors: tuple[dict[str, str], ...]
    title: str
    place: str
    book: str
    version: str
    year: str
    address: str

    @property
    def where(self) -> str:
        """The page's place in the book, and the book's version."""
        if not self.place:
            return f"Version {self.version}"
        return f"{self.place} {self.book}, version {self.version}"

    @property
    def text(self) -> str:
        """One paragraph."""
        names = [
            author.get("name") or f"{author['given-names']} {author['family-names']}"
            for author in self.authors
        ]
        said = f"{', '.join(names)} ({self.year}). {self.title}. {self.where}. {self.address}"
        return said.rstrip()

    @property
    def bibtex(self) -> str:
        """An entry for a bibliography."""
        names = [
            f"{{{tex(author['name'])}}}"
            if "name" in author
            else tex(f"{author['family-names']}, {author['given-names']}")
            for author in self.authors
        ]
        fields = {
            "author": " and ".join(names),
            "title": f"{{{tex(self.title)}}}",
            "howpublished": tex(self.where),
            "year": self.year,
            "url": self.address,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
        return "\n".join([f"@misc{{{self.key},", *lines, "}"])


def tex(text: str) -> str:
    """A text as TeX reads it."""
    return SPECIAL.sub(r"\\\1", text)


@functools.cache
def cited(path: Path) -> dict[str, Any]:
    """The citation file: one build reads it once."""
    held: dict[str, Any] = yaml.safe_load(path.read_text("utf8"))
    return held


def page_context(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the templates a page's citation."""
    context["citation"] = None
    if doctree is None:
        return
    book = cited(Path(app.confdir) / "CITATION.cff")
    year = app.config.copyright[-4:]
    number = app.env.toc_secnumbers.get(page, {}).get("", ())
    name = page.removeprefix("chapters/").removesuffix("/index")
    place = "In"
    if number:
        place = f"{LEVELS.get(len(number), 'Section')} {'.'.join(map(str, number))} of"
    elif page == app.config.root_doc:
        name, place = book["title"].lower(), ""
    context["citation"] = Citation(
        key=f"{re.sub(r'[^a-z0-9]+', '-', name)}-{year}",
        authors=tuple(book["authors"]),
        title=app.env.titles[page].astext() if place else book["title"],
        place=place,
        book=book["title"],
        version=str(book["version"]),
        year=year,
        address=f"{app.config.html_baseurl}{page}.html" if app.config.html_baseurl else "",
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("html-page-context", page_context)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
