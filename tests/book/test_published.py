"""A book with an address: canonical links, the card, the site map, and old addresses that lead on."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import matplotlib.image
import pytest

from tests.book.books import build, html, project
from tools import addresses
from tools.environment import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")

ADDRESS = "https://example.org/book/"
CONF = """\
extensions = ["extensions.execution", "extensions.site"]
exclude_patterns = ["_build", "node_modules"]
project = "A small book"
author = "Somebody"
master_doc = "index"
html_theme = "basic"
html_title = "A small book"
html_static_path = ["assets"]
templates_path = ["templates"]
myst_enable_extensions = ["dollarmath"]
numfig = math_numfig = True
html_math_renderer = "katex"
html_use_index = False
"""
TOC = "root: index\nparts:\n- numbered: 2\n  chapters:\n  - file: chapters/one\n  - file: chapters/two\n"
ONE = "(sec-one)=\n# One\n\nWhat the first page says, in a sentence.\n\n$$ a = b $$ (eq-new)\n"
TWO = "(sec-two)=\n# Two\n\nThe second page refers to {eq}`eq-new`.\n"
REDIRECTS = "pages:\n  chapters/old: chapters/one\nlabels:\n  eq-old: eq-new\n"
LOCK = "chapters/old: [eq-old]\nchapters/two: [eq-new]\n"


def write(folder: Path, redirects: str = REDIRECTS) -> Path:
    """A small book with the frame of this one, an old page, an old label and one that moved."""
    project(folder, {"chapters/one": ONE, "chapters/two": TWO}, CONF)
    for name in ("node_modules", "assets", "templates", "package.json", "CITATION.cff"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "_toc.yml").write_text(TOC)
    (folder / "chapters" / "references.bib").touch()
    (folder / addresses.REDIRECTS).write_text(redirects)
    (folder / addresses.LOCK).write_text(LOCK)
    return folder


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small book, built with an address."""
    folder = write(tmp_path_factory.mktemp("addressed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOOK_URL", ADDRESS.rstrip("/"))
        status, log = build(folder, "-W", "--keep-going")
    assert status == 0, log
    return folder


def test_a_page_has_its_address_and_its_card(book: Path) -> None:
    page = html(book, "chapters/one")
    assert f'<link rel="canonical" href="{ADDRESS}chapters/one.html" />' in page
    for name, content in {
        "title": "1. One",
        "url": f"{ADDRESS}chapters/one.html",
        "site_name": "A small book",
        "image": f"{ADDRESS}_static/card.png",
    }.items():
        assert f'<meta property="og:{name}" content="{content}" />' in page
    assert 'property="og:description" content="What the first page says, in a sentence.' in page
    card = matplotlib.image.imread(book / "_build" / "html" / "_static" / "card.png")
    assert card.shape[:2] == (630, 1200)
    assert 0 < card[..., :3].std() < 0.5, "something is drawn"


def test_the_site_map_has_the_pages_and_nothing_else(book: Path) -> None:
    tree = ElementTree.parse(book / "_build" / "html" / "sitemap.xml")
    found = sorted(str(place.text) for place in tree.iter() if place.tag.endswith("loc"))
    assert found == [f"{ADDRESS}{x}.html" for x in ("chapters/one", "chapters/two", "index")]


def test_an_old_page_leads_to_the_new_one(book: Path) -> None:
    page = html(book, "chapters/old")
    assert f'<link rel="canonical" href="{ADDRESS}chapters/one.html">' in page
    assert '<noscript><meta http-equiv="refresh" content="0; url=one.html"></noscript>' in page
    assert '<a href="one.html">Open the page</a>' in page
    assert "Content-Security-Policy" in page


def test_old_labels_lead_on(book: Path) -> None:
    old = 'id="equation-eq-old">What stood here has moved. <a href="#equation-eq-new">'
    assert old in html(book, "chapters/one"), "asked for at the old page, and so at the new one"
    moved = 'id="equation-eq-new">What stood here has moved. <a href="one.html#equation-eq-new">'
    assert moved in html(book, "chapters/two")


def test_a_reference_brings_its_preview(book: Path) -> None:
    template = '<template class="preview" data-for="one.html#equation-eq-new"><div class="math'
    assert template in html(book, "chapters/two")


def test_what_is_gone_without_a_word_fails_the_build(tmp_path: Path) -> None:
    status, log = build(write(tmp_path, "pages:\nlabels:\n"), "-W", "--keep-going")
    assert status == 1
    said = "WARNING: chapters/redirects.yml: the page chapters/old is gone, and readers may have"
    assert said in log
    assert "`eq-old: <the label that took its place>`" in log
    assert not (tmp_path / "_build" / "html" / "sitemap.xml").exists(), "the book has no address"
    assert "canonical" not in html(tmp_path, "chapters/one")
