"""“Cite this page”: what each page offers, and that BibTeX takes it."""

import io
import re
from html import unescape

import pytest
import yaml
from playwright.sync_api import Browser, expect
from pybtex.database import parse_string
from pybtex.plugin import find_plugin

from extensions.citing import Citation
from tests.book.browser import SITE, pages, text
from tools.environment import ROOT

AUTHORS = ({"name": "The authors of A & B"},)
PERSON = {"family-names": "Doe", "given-names": "Jane"}
CITATION = Citation(
    "ppo-2026", AUTHORS, "PPO, 100 %", "Section 2.5 of", "A & B", "0.2.0", "2026", ""
)


def formatted(bibtex: str) -> str:
    """An entry as a bibliography in BibTeX's plain style would show it."""
    entries = parse_string(bibtex, "bibtex").entries.values()
    style = find_plugin("pybtex.style.formatting", "plain")()
    backend, shown = find_plugin("pybtex.backends", "plaintext")(), io.StringIO()
    for entry in style.format_entries(entries):
        shown.write(entry.text.render(backend))
    return shown.getvalue()


def test_a_page_is_cited_as_a_part_of_the_book() -> None:
    assert CITATION.text == (
        "The authors of A & B (2026). PPO, 100 %. Section 2.5 of A & B, version 0.2.0."
    )
    shown = formatted(CITATION.bibtex)
    assert shown == ("The authors of A & B. PPO, 100 %. Section 2.5 of A & B, version 0.2.0, 2026.")


def test_people_and_addresses() -> None:
    fields = {**vars(CITATION), "authors": (PERSON, PERSON), "address": "https://b.org/ppo.html"}
    citation = Citation(**fields)
    assert citation.text.startswith("Jane Doe, Jane Doe (2026).")
    assert citation.text.endswith("https://b.org/ppo.html")
    assert "author = {Doe, Jane and Doe, Jane}," in citation.bibtex
    assert "url = {https://b.org/ppo.html}," in citation.bibtex


@pytest.mark.site
def test_every_page_of_the_site_offers_both_from_the_citation_file() -> None:
    book = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    keys = set()
    for page in pages():
        found = re.search(r'<div id="cite".*?</div>\s*</div>', text(page), re.DOTALL)
        if page in ("404.html", "search.html"):
            assert not found
            continue
        assert found, page
        plain, bibtex = map(unescape, re.findall(r"<pre>(.*?)</pre>", found[0], re.DOTALL))
        for said in (book["title"], book["version"], book["authors"][0]["name"]):
            assert said in plain, page
            assert said in bibtex, page
        assert formatted(bibtex)
        keys |= set(parse_string(bibtex, "bibtex").entries)
    assert len(keys) == len(pages()) - 2, "no two pages have the same key"
    assert {"reinforcement-learning-checked-2026", "policy-gradients-ppo-2026"} <= keys


@pytest.mark.site
def test_the_citation_opens_by_itself_and_can_be_copied(browser: Browser) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((SITE / "chapters" / "bibliography.html").as_uri())
        expect(page.locator("#cite")).to_be_hidden()
        page.get_by_role("button", name="Cite this page").press("Enter")
        expect(page.get_by_role("dialog", name="Cite this page")).to_be_visible()
        expect(page.locator("#cite .copybtn")).to_have_count(2)
        assert page.locator("#cite [style], #cite script").count() == 0
        page.keyboard.press("Escape")
        expect(page.locator("#cite")).to_be_hidden()
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto((SITE / "chapters" / "bibliography.html").as_uri())
        page.get_by_role("button", name="Cite this page").press("Enter")
        expect(page.locator("#cite")).to_be_visible()
