"""The book as one PDF, from the built pages: `make pdf`.

The pages are joined, in the order of the contents, into one document, which Chromium prints twice:
only a first print tells on which page everything stands. On the way links between pages become
links inside the document, solutions move to its end, explorers say which values they show, and code
that only draws a figure is left out. The pages of the site then link to the file; they lose the
link, as the site loses the file, when the book is built anew, so that neither is ever old.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pikepdf
import yaml
from jinja2 import Environment, FileSystemLoader
from lxml import html
from lxml.html import HtmlElement
from lxml.html.builder import CLASS, DIV, H1, H2, SECTION, SPAN, A, P
from markupsafe import Markup

from tools import chromium
from tools.build import only_one
from tools.environment import ROOT
from tools.messages import Stop
from tools.site import build_folder

NAME = "reinforcement-learning-checked.pdf"
SOLUTIONS = "solutions"
REPRINTS = 3  # a number may itself move what stands on a page; one is the rule
MARK = "<!-- pdf -->"  # in the frame of every page (templates/layout.html): here goes the link
LINKED = re.compile(re.escape(MARK) + r'(<a href="[^"]*">[^<]*</a> \([^)]*\))?')
# What a reader of paper cannot use, or what only draws a figure.
LEFT_OUT = """
    .//script | .//noscript | .//button | .//input | .//comment()
    | .//a[contains(@class, "headerlink")]
    | .//span[@class="katex-mathml"]
    | .//details[not(contains(@class, "admonition"))]
    | .//details[contains(@class, "above-input")]
"""
REFERRING = ("for", "aria-labelledby", "aria-describedby", "headers")  # attributes that name ids
# Formulas and tables that are wider than the page are made smaller, down to three fifths.
FIT = """() => {
    const wide = (box) => box.scrollWidth / box.clientWidth;
    const boxes = [...document.querySelectorAll(".math-scroll, .table-scroll")];
    for (const box of boxes)
      if (wide(box) > 1.005) box.style.fontSize = `${Math.max(0.6, 0.99 / wide(box))}em`;
    return boxes.filter((box) => wide(box) > 1.005)
      .map((box) => (box.closest("[id]")?.id ?? "") + ": " + box.textContent.slice(0, 60));
}"""
# Pages of the first print, into the places that ask for them.
NUMBER = """(pages) => {
    for (const place of document.querySelectorAll(".page-of"))
      place.textContent = pages[place.hash.slice(1)] ?? "?";
}"""


@dataclass(frozen=True)
class Entry:
    """A page in the book's contents.

    Attributes:
        path: in the site.
        title: with its number.
        level: 1, or 2 below the first page of a part.
        caption: the words above it in the contents, such as "Part I"; mostly empty.
    """

    path: str
    title: str
    level: int
    caption: str = ""

    @property
    def slug(self) -> str:
        """The page's name in the document, and the beginning of all names on it."""
        return re.sub(r"\W+", "-", self.path.removesuffix(".html"))


@dataclass(frozen=True)
class Site:
    """The built pages."""

    folder: Path

    @cached_property
    def first(self) -> str:
        """The path of the book's first page, to which index.html leads."""
        found = re.search(r"url=([^\"]+)", (self.folder / "index.html").read_text("utf8"))
        assert found, "index.html leads to no page"
        return found[1]

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """All pages of the book by their paths, in order."""
        nav = self.tree(self.first).xpath('//nav[@id="book-nav"]')[0]
        entries, caption = list[Entry](), ""
        for node in nav.xpath('.//li/a | .//p[contains(@class, "caption")]'):
            if node.tag == "p":
                caption = node.text_content().strip()
                continue
            href, level = node.get("href"), len(list(node.iterancestors("li")))
            path = posixpath.normpath(posixpath.join(posixpath.dirname(self.first), href))
            path = self.first if href == "#" else path
            entries.append(Entry(path, node.text_content().strip(), level, caption))
            caption = ""
        return {entry.path: entry for entry in entries}

    @cached_property
    def address(self) -> str:
        """Where the site is published, with a slash at the end; empty if that is not known."""
        found = self.tree(self.first).xpath('//link[@rel="canonical"]/@href')
        return found[0].removesuffix(self.first) if found else ""

    def tree(self, path: str) -> HtmlElement:
        """A page, parsed anew."""
        return html.fromstring((self.folder / path).read_text("utf8"))

    def target(self, page: str, href: str) -> str:
        """Where a link of a page leads in the document; empty if the document has no such place."""
        parts = urlsplit(href)
        if parts.scheme or parts.netloc:
            return href
        path = posixpath.join(posixpath.dirname(page), unquote(parts.path))
        path = posixpath.normpath(path) if parts.path else page
        if path in self.entries:
            slug = self.entries[path].slug
            return f"#{slug}--{parts.fragment}" if parts.fragment else f"#{slug}"
        return f"{self.address}{path}" if self.address else ""


# ---- From pages to one document -----------------------------------------------------------------


def rename(site: Site, entry: Entry, body: HtmlElement) -> None:
    """Give all names on a page its own beginning, and point its links into the document."""
    begin = f"{entry.slug}--"
    for node in list(body.iter(html.etree.Element)):
        for key, value in node.attrib.items():
            if key == "id":
                node.set(key, begin + value)
            elif key in REFERRING:
                node.set(key, " ".join(begin + name for name in value.split()))
            elif key in ("href", "xlink:href"):
                node.set(key, site.target(entry.path, value))
            elif "url(#" in value:
                node.set(key, value.replace("url(#", f"url(#{begin}"))
        if node.tag == "a" and not node.get("href") and not node.get("id"):
            node.drop_tag()


def say_pictures(body: HtmlElement) -> None:
    """Let each formula be read aloud as its source, and each figure as its alt text."""
    for node in body.xpath('.//span[@class="katex"]'):
        source = node.xpath('.//annotation[@encoding="application/x-tex"]')
        if source:
            node.set("role", "img")  # a leaf, where "math" would have a tag for each letter
            node.set("aria-label", " ".join(source[0].text_content().split()))
            for shown in node.xpath('.//span[@class="katex-html"]'):
                shown.attrib.pop("aria-hidden", None)  # what is hidden would take the label along
    for drawn in body.xpath('.//*[@role="img"]/svg'):
        drawn.attrib.pop("aria-hidden", None)
        for key in ("role", "aria-label"):  # Chromium's print reads no label around a drawing
            drawn.set(key, drawn.getparent().attrib.pop(key))


def still(site: Site, entry: Entry, body: HtmlElement) -> None:
    """Put, in the place of a figure's sliders, a line that says at which values it is shown."""
    for controls in body.xpath('.//div[@class="explore-controls"]'):
        values = [
            f"{control.xpath('string(label)')} = {control.xpath('string(output)')}"
            for control in controls.xpath('.//div[@class="explore-control"]')
        ]
        said = P("Shown at " + ", ".join(values) + ". Move it in the ", CLASS("explore-shown"))
        figures = controls.xpath("ancestor::figure/@id")
        if site.address and figures:
            page = f"{site.address}{entry.path}#{figures[-1]}"
            said.append(A("web book", href=page))
        else:
            said[-1:] = [SPAN("web book")]
        said[-1].tail = "."
        controls.getparent().replace(controls, said)


def lower(body: HtmlElement, level: int) -> None:
    """Mark the headings of a page by their rank on it, and give them their rank in the book."""
    for node in body.xpath(".//h1 | .//h2 | .//h3 | .//h4"):
        rank = int(node.tag[1])
        node.set("class", f"{node.get('class', '')} rank-{rank}".strip())
        node.tag = f"h{rank + level - 1}"


def solutions(body: HtmlElement) -> Iterator[HtmlElement]:
    """Take the solutions out of a page; exercise and solution then lead to one another."""
    exercise = None
    for node in list(body.iter("div", "details")):
        classes = node.get("class", "").split()
        if "exercise" in classes:
            exercise = node
        elif node.tag == "details" and "solution" in classes:
            assert exercise is not None, f"{node.get('id')} follows no exercise"
            name = exercise.xpath('string(.//*[@class="caption-number"])').strip()
            title = exercise.xpath('string(p[contains(@class, "admonition-title")])').strip()
            there = P("Solution: page ", CLASS("to-solution"))
            there.append(page_of(node.get("id")))
            exercise.append(there)
            node.remove(node.xpath("summary")[0])
            back = A(name, href=f"#{exercise.get('id')}")
            back.tail = title.removeprefix(name) + " "
            heading = P(back, SPAN("page ", CLASS("back")), CLASS("admonition-title"))
            heading[-1].append(page_of(exercise.get("id")))
            node.drop_tree()
            node.tag, node.text = "div", None
            node.set("class", "solution")
            node.insert(0, heading)
            yield node


def page_of(name: str) -> HtmlElement:
    """A link to a place that reads as the number of its page, once that is known."""
    return A("000", CLASS("page-of"), href=f"#{name}")


def link_checks(pages: dict[str, HtmlElement]) -> None:
    """Let the mark of each check and of each finding lead to its row of the ledger."""
    rows: dict[str, str] = {}
    for body in pages.values():
        for row in body.xpath('.//div[@class="ledger"]//tr'):
            for href in row.xpath(
                './/a/@href[contains(., "--check-") or contains(., "--finding-")]'
            ):
                name = href.removeprefix("#")
                row.set("id", row.get("id") or f"ledger--{name}")
                rows[name] = row.get("id")
    for body in pages.values():
        for mark in body.xpath('.//span[@class="rl-check-mark"]'):
            name = mark.getparent().get("id", "")
            if name in rows:
                link = A(mark.text_content(), CLASS("rl-check-mark"), href=f"#{rows[name]}")
                link.set("aria-label", "Its row of the ledger")
                link.tail = mark.tail
                mark.getparent().replace(mark, link)


def joined(site: Site) -> str:
    """Return the whole book as one HTML document."""
    pages: dict[str, HtmlElement] = {}
    wide = set[str]()
    end = SECTION(H1("Solutions", CLASS("rank-1")), CLASS("page"), id=SOLUTIONS)
    for entry in site.entries.values():
        body = site.tree(entry.path).xpath('//main//div[@class="body"]')[0]
        say_pictures(body)
        still(site, entry, body)
        for node in body.xpath(LEFT_OUT):
            node.drop_tree()
        rename(site, entry, body)
        lower(body, entry.level)
        found = list(solutions(body))
        if found:
            heading = H2(A(entry.title, href=f"#{entry.slug}"), CLASS("rank-2"))
            end.append(DIV(heading, *found, CLASS("solutions"), id=f"{SOLUTIONS}--{entry.slug}"))
        body.tag = "section"
        body.set("id", entry.slug)
        body.set("class", "page")
        for table in body.xpath('.//div[contains(@class, "check-ledger")]'):
            table.set("class", "ledger")  # of the whole width, where the page would stack it
            wide.add(entry.slug)
        pages[entry.slug] = body
    link_checks(pages)
    entries, bodies = list(site.entries.values()), list(pages.values())
    if len(end) > 1:
        entries.append(Entry(SOLUTIONS, "Solutions", 1))
        bodies.append(end)
    book = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
    foot = site.tree(site.first).xpath('string(//footer[@class="foot"]/p)')
    templates = Environment(
        loader=FileSystemLoader(ROOT / "templates"), autoescape=True, trim_blocks=True
    )
    return templates.get_template("print.html").render(
        book=book,
        rights=foot.strip(),
        address=site.address,
        static=(site.folder / "_static").as_uri(),
        entries=entries,
        wide=wide,
        bodies=[text(body) for body in bodies],
        json=json.dumps,
    )


def plain(node: HtmlElement) -> str:
    """The words of an element."""
    return " ".join(node.text_content().replace("\u200b", "").split())


def text(node: HtmlElement) -> Markup:
    """An element as HTML."""
    return Markup(html.tostring(node, encoding="unicode", with_tail=False))


# ---- From the document to paper -----------------------------------------------------------------


def print_pages(document: Path, target: Path) -> None:
    """Print a document."""
    from playwright.sync_api import sync_playwright

    browser_path = chromium.find()
    if not browser_path:
        raise Stop(chromium.MISSING)
    options: dict[str, Any] = {"prefer_css_page_size": True, "print_background": True}
    options |= {"outline": True, "tagged": True}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path)
        page = browser.new_page(viewport={"width": 612, "height": 900})
        page.set_default_timeout(0)
        page.emulate_media(media="print", color_scheme="light")
        page.goto(document.as_uri())
        page.evaluate("document.fonts.ready")
        if wide := page.evaluate(FIT):
            raise Stop("Wider than a page, even when made smaller:\n" + "\n".join(wide))
        page.pdf(path=target, prefer_css_page_size=True)
        for _ in range(REPRINTS):
            numbers = places(target)
            page.evaluate(NUMBER, numbers)
            page.pdf(path=target, **options)
            if places(target) == numbers:
                break
        else:
            raise Stop(f"The numbers of pages are still not right after {REPRINTS} prints.")
        browser.close()


def places(printed: Path) -> dict[str, int]:
    """The page, from 1, of each place that something leads to."""
    with pikepdf.open(printed) as file:
        numbers = {page.obj.objgen: number for number, page in enumerate(file.pages, start=1)}
        found = file.Root.get("/Dests", pikepdf.Dictionary()).items()
        return {name.removeprefix("/"): numbers[place[0].objgen] for name, place in found}


def finish(printed: Path, title: str, author: str, headings: list[str]) -> None:
    """Name the book and its author, mend the bookmarks, and pack the file.

    Chromium writes some words of a heading twice into its bookmark, and each of some 100,000 tags,
    by which screen readers find their way, as an object of its own.
    """
    with pikepdf.open(printed, allow_overwriting_input=True) as file:
        file.docinfo = file.make_indirect(pikepdf.Dictionary(Title=str(title), Author=str(author)))
        with file.open_outline() as outline:
            bookmarks = list(flat(outline.root))
            for bookmark, heading in zip(bookmarks, headings, strict=True):
                bookmark.title = heading
        pack = pikepdf.ObjectStreamMode.generate
        file.save(printed, object_stream_mode=pack, deterministic_id=True)


def flat(items: list[pikepdf.OutlineItem]) -> Iterator[pikepdf.OutlineItem]:
    """Bookmarks in the order of the document."""
    for item in items:
        yield item
        yield from flat(item.children)


def make(site: Site, folder: Path) -> Path:
    """Make the PDF in a folder, unless it is there already; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    document, target, stamp = folder / "book.html", folder / NAME, folder / "printed"
    content = joined(site)
    styles = [path.read_bytes() for path in sorted((site.folder / "_static").glob("*.css"))]
    digest = hashlib.sha256(b"\0".join([content.encode(), *styles, Path(__file__).read_bytes()]))
    if target.exists() and stamp.exists() and stamp.read_text() == digest.hexdigest():
        return target
    stamp.unlink(missing_ok=True)
    document.write_text(content, "utf8")
    print_pages(document, target)
    tree = html.fromstring(content)
    headings = [plain(node) for node in tree.xpath("//h1 | //h2 | //h3 | //h4 | //h5")]
    finish(
        target,
        tree.xpath("string(//title)"),
        tree.xpath('string(//*[@class="cover-author"])'),
        headings,
    )
    stamp.write_text(digest.hexdigest())
    return target


def link(site: Site, made: Path) -> None:
    """Put the PDF into the site, and then let every page of the book lead to it."""
    arriving = site.folder / f"{NAME}.part"
    shutil.copyfile(made, arriving)
    arriving.replace(site.folder / NAME)
    with pikepdf.open(made) as file:
        size = f"{len(file.pages)} pages, {made.stat().st_size / 1e6:.0f} MB"
    for path in site.entries:
        page = site.folder / path
        href = posixpath.relpath(NAME, posixpath.dirname(path))
        words = f'<a href="{href}">The book as a PDF</a> ({size})'
        page.write_text(LINKED.sub(MARK + words, page.read_text("utf8")), "utf8")


def main() -> int:
    """Make the PDF of the built book, and link the book's pages to it."""
    folder = build_folder()
    site = Site(folder / "html")
    try:
        with only_one(folder):
            start = time.monotonic()
            link(site, make(site, folder / "pdf"))
    except Stop as stop:
        print(stop, file=sys.stderr)
        return 1
    print(f"The PDF is up to date ({time.monotonic() - start:.0f} s): {site.folder / NAME}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
