"""The book as one PDF: everything is in it, in its place, and every link inside leads somewhere.

Printing takes minutes, so these tests read the PDF of `make pdf`, and are skipped where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pikepdf
import pytest
import yaml
from lxml import html
from lxml.html import HtmlElement
from pypdf import PageObject, PdfReader

from tests.book.browser import SITE
from tools.environment import ROOT
from tools.pdf import NAME, SOLUTIONS, Site, make, places
from tools.site import build_folder

pytestmark = pytest.mark.site
MADE = build_folder() / "pdf"


@pytest.fixture(scope="module")
def reader() -> PdfReader:
    """The PDF of the built book."""
    if not (MADE / NAME).exists():
        pytest.skip(f"{MADE / NAME} does not exist: run `make pdf` first, it takes minutes")
    return PdfReader(make(Site(SITE), MADE))  # which prints anew what has changed


@pytest.fixture(scope="module")
def document(reader: PdfReader) -> HtmlElement:
    """What was printed."""
    return html.fromstring((MADE / "book.html").read_text("utf8"))


@pytest.fixture(scope="module")
def pages(reader: PdfReader) -> dict[str, int]:
    """The page, from 1, of all places that are linked to."""
    return places(MADE / NAME)


def words(text: str) -> str:
    """A text with single spaces, and ligatures and soft hyphens undone."""
    return " ".join(text.replace("ﬁ", "fi").replace("ﬂ", "fl").replace("\xad", "").split())


def squeezed(text: str) -> str:
    """A text without spaces, which a PDF does not keep."""
    return words(text).replace(" ", "")


def titles(outline: list[Any]) -> Iterator[str]:
    """All bookmarks in order."""
    for entry in outline:
        if isinstance(entry, list):
            yield from titles(entry)
        else:
            yield words(entry.title)


def test_every_page_of_the_book_is_in_the_bookmarks_in_order(reader: PdfReader) -> None:
    bookmarks = iter(map(squeezed, titles(reader.outline)))
    for entry in Site(SITE).entries.values():
        assert squeezed(entry.title) in bookmarks, f"{entry.title} is missing, or out of order"
    assert "Solutions" in bookmarks


def test_the_contents_name_the_right_pages(reader: PdfReader, pages: dict[str, int]) -> None:
    entries = list(Site(SITE).entries.values())
    begin = pages[entries[0].slug]
    contents = squeezed("".join(page.extract_text() for page in reader.pages[: begin - 1]))
    numbers = [pages[entry.slug] for entry in entries]
    assert numbers == sorted(set(numbers)), "each page of the book begins a new one"
    for entry in entries:
        assert f"{squeezed(entry.title)}{pages[entry.slug]}" in contents
    for entry in entries:
        first = squeezed(reader.pages[pages[entry.slug] - 1].extract_text())
        assert squeezed(entry.title) in first


def test_pages_are_numbered(reader: PdfReader) -> None:
    assert len(reader.pages) > 10 * len(Site(SITE).entries) / 2
    for number in (2, len(reader.pages) // 2, len(reader.pages)):
        assert re.search(rf"\b{number}\b", reader.pages[number - 1].extract_text())


def links(page: PageObject) -> Iterator[tuple[str, str]]:
    """The kind and the target of each link."""
    for reference in page.get("/Annots", []):
        note = reference.get_object()
        if note["/Subtype"] == "/Link":
            action = note.get("/A", {})
            if "/URI" in action:
                yield "URI", str(action["/URI"])
            else:
                yield "inside", str(note.get("/Dest", action.get("/D")))


def test_every_link_leads_somewhere(reader: PdfReader, pages: dict[str, int]) -> None:
    found = [each for page in reader.pages for each in links(page)]
    outside = {target for kind, target in found if kind == "URI"}
    assert all(target.startswith(("https://", "http://", "mailto:")) for target in outside), outside
    inside = {target.removeprefix("/") for kind, target in found if kind == "inside"}
    assert not inside - set(pages)
    assert len(inside) > 500


def test_every_name_in_the_document_is_its_own(document: HtmlElement) -> None:
    names = document.xpath("//@id")
    assert len(names) == len(set(names))
    hrefs = document.xpath("//@href | //@*[name()='xlink:href']")
    dead = {href for href in hrefs if href.startswith("#")} - {f"#{name}" for name in names}
    assert not dead


def test_it_asks_for_nothing_but_the_site(document: HtmlElement) -> None:
    asked = document.xpath("//@src | //link/@href")
    assert asked
    assert all(each.startswith(SITE.as_uri()) for each in asked)


def test_fonts_are_embedded(reader: PdfReader) -> None:
    seen = set()
    for page in reader.pages:
        for reference in page["/Resources"].get_object().get("/Font", {}).values():
            font = reference.get_object()
            for part in font.get("/DescendantFonts", [font]):
                part = part.get_object()
                if part["/Subtype"] == "/Type3":
                    continue  # drawn glyph by glyph
                holds = set(part["/FontDescriptor"].get_object())
                assert holds & {"/FontFile", "/FontFile2", "/FontFile3"}, font["/BaseFont"]
                seen.add(font["/BaseFont"].split("+")[-1])
    assert {"SourceSerif4-Regular", "KaTeX_Math-Italic"} <= seen


def test_every_figure_has_its_caption(
    reader: PdfReader, document: HtmlElement, pages: dict[str, int]
) -> None:
    figures = document.xpath("//figure[@id]")
    assert len(figures) > 50
    for figure in figures:
        number = squeezed(figure.xpath('string(.//figcaption//*[@class="caption-number"])'))
        at = pages[figure.get("id")]
        near = "".join(page.extract_text() for page in reader.pages[at - 1 : at + 1])
        assert number in squeezed(near), f"{number} should be on page {at}"


def test_solutions_stand_after_the_sections(document: HtmlElement, pages: dict[str, int]) -> None:
    exercises = document.xpath('//div[contains(@class, "exercise")]/@id')
    solutions = document.xpath('//section[@id="solutions"]//div[@class="solution"]/@id')
    assert len(exercises) == len(solutions) > 50
    last = max(pages[entry.slug] for entry in Site(SITE).entries.values())
    assert pages[SOLUTIONS] > last
    for exercise, solution in zip(exercises, solutions, strict=True):
        assert pages[exercise] < pages[SOLUTIONS] <= pages[solution]


def test_formulas_and_figures_have_words_for_those_who_listen(
    reader: PdfReader, document: HtmlElement
) -> None:
    with pikepdf.open(MADE / NAME) as file:
        assert file.Root.MarkInfo.Marked
        assert file.Root.Lang == "en"
        tags = (each for each in file.objects if isinstance(each, pikepdf.Dictionary))
        said = {str(tag.Alt) for tag in tags if "/S" in tag and "/Alt" in tag}
    wanted = document.xpath('//*[@role="img"]/@aria-label')
    missing = {words(each) for each in wanted} - {words(each) for each in said}
    assert len(set(wanted)) > 500
    assert not missing


def test_it_says_whose_it_is(reader: PdfReader) -> None:
    book = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
    assert reader.metadata
    assert (reader.metadata.title, reader.metadata.author) == (
        book["title"],
        book["authors"][0]["name"],
    )
    cover = squeezed(reader.pages[0].extract_text())
    assert squeezed(f"Version {book['version']}") in cover
    assert "CCBY4.0" in cover
    assert reader.metadata.creation_date is None, "two prints of the same pages are the same"
