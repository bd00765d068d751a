"""Previews: what a reference leads to, shown beside it (``assets/previews.js``).

A page has the equations, figures, statements and exercises of its own, so the script copies those.
What stands on another page cannot be read from a page that is opened as a file. The build therefore
ends with a look through the pages, and puts each such target, of a figure its caption, into every page
that refers to it, as a ``<template>``: a browser neither shows nor loads it, and searching does not
find it.
"""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx

TEMPLATE = re.compile(r'<template class="preview".*?</template>\n', re.DOTALL)
ARTICLE = re.compile(r"<article>.*</article>", re.DOTALL)
# Tables of equations show what they refer to.
TABLES = re.compile(r'<div[^>]* class="(?:check-ledger|equation-index)\b.*?</table>', re.DOTALL)
REFERENCE = re.compile(r'<a class="reference internal" href="([^"#]+#[^"]+)"')
# Targets that have a preview; assets/previews.js has the same as selectors.
SHOWN = re.compile(r'<div class="math|<figure|<div class="proof|<div class="[^"]*\bexercise\b')
# Not in a copy: links, as a preview is only read, and names, which a page may have once.
LINKS = re.compile(r'<a class="headerlink".*?</a>|</?a\b[^>]*>| id="[^"]*"', re.DOTALL)


def element(text: str, attribute: str = "", tag: str = r"\w+") -> str:
    """Return the first element with an attribute, or of a name, and all that is inside it."""
    opening = re.search(rf"<({tag})\b(?=[^>]*{attribute})[^>]*>", text)
    if opening is None:
        return ""
    depth = 0
    for each in re.finditer(rf"<(/?){opening[1]}\b[^>]*>", text[opening.start() :]):
        depth += -1 if each[1] else 1
        if not depth:
            return text[opening.start() : opening.start() + each.end()]
    return ""


def preview(text: str, name: str) -> str:
    """Return what a preview shows of a page's element; empty if there is none to show."""
    found = element(text, rf' id="{re.escape(name)}"')
    if not SHOWN.match(found):
        return ""
    if found.startswith("<figure"):
        found = element(found, tag="figcaption")  # the figure itself is too much to carry along
    return LINKS.sub("", found).strip()


def add_previews(site: Path) -> None:
    """Put into every page of a site the previews of what it refers to on other pages."""

    @cache
    def read(path: Path) -> str:
        return TEMPLATE.sub("", path.read_text("utf8")) if path.is_file() else ""

    for path in sorted(site.rglob("*.html")):
        article = ARTICLE.search(read(path))
        if article is None:
            continue
        added = ""
        for link in dict.fromkeys(REFERENCE.findall(TABLES.sub("", article[0]))):
            target = urlsplit(html.unescape(link))
            other = (path.parent / unquote(target.path)).resolve()
            if shown := preview(read(other), unquote(target.fragment)):
                added += f'<template class="preview" data-for="{link}">{shown}</template>\n'
        before, end, after = read(path).rpartition("</body>")
        whole = before + added + end + after
        if whole != path.read_text("utf8"):
            path.write_text(whole, "utf8")


def finish(app: Sphinx, error: Exception | None) -> None:
    """Look through the pages once all are written."""
    if error is None and app.builder.format == "html":
        add_previews(Path(app.outdir))


def setup(app: Sphinx) -> dict[str, object]:
    """Register the extension."""
    app.connect("build-finished", finish)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
