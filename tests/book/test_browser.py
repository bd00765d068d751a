"""The built site in a real Chromium: links, sliders, no scripts, search, themes, accessibility."""

from __future__ import annotations

import functools
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from rl_helpers.frames import unpack
from tests.book.axe import complaints, start_axe
from tests.book.browser import (
    DESKTOP,
    FIRST,
    PHONE,
    SECTIONS,
    SHOWN,
    SITE,
    Reader,
    explorers,
    pages,
    text,
)

pytestmark = [pytest.mark.site, pytest.mark.usefixtures("site")]

PAGES = pages()
SEARCH = "search.html"
EXPLORED = [page for page in PAGES if explorers(page)]

# One section of each part: what a page shows without scripts, or from a server, is written by the same
# code everywhere.
ONE_OF_EACH = [FIRST, *{Path(page).parent: page for page in SECTIONS}.values()]

SAMPLE = 5  # frames of each explorer that are compared with its pack


# ---- The site ------------------------------------------------------------------------------------


def test_the_site_has_the_pages_it_should() -> None:
    assert {FIRST, SEARCH, "404.html"} < set(PAGES)
    for what, parts in {"slider": 'type="range"', "mark": 'class="check-mark"'}.items():
        assert [page for page in PAGES if parts in text(page)] == SHOWN, f"pages with a {what}"
    assert [page for page in SECTIONS if 'class="admonition solution' not in text(page)] == []


def test_the_address_of_the_site_leads_to_the_first_page(reader: Reader) -> None:
    with reader.opens("") as (tab, _):
        tab.wait_for_url("**/" + FIRST)


def test_a_wrong_address_leads_back_into_the_book(reader: Reader) -> None:
    with reader.opens("no/such/page.html", quiet=False) as (tab, watch):
        expect(tab.locator("h1")).to_have_text("There is no page here")
        expect(tab.locator("#book-nav li a").first).to_be_visible()
        # The page itself is the only thing that is not there: styles and scripts are found.
        missing = [problem for problem in watch.problems if problem.startswith("404: ")]
        assert missing == [f"404: {reader.address}no/such/page.html"]
        tab.locator("article a").first.click()
        tab.wait_for_url("**/" + FIRST)


# ---- Links --------------------------------------------------------------------------------------


class Anchors(HTMLParser):
    """What a page links to or loads, and the places in it that can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src", "action"):
                self.links.append(value or "")
            if name == "id":
                self.places.append(value or "")


@functools.cache
def anchors(page: str) -> Anchors:
    found = Anchors()
    found.feed(text(page))
    return found


@pytest.mark.parametrize("page", ["index.html", *PAGES])
def test_every_link_inside_the_site_leads_somewhere(page: str) -> None:
    home = "http://site/"
    dead = []
    for link in anchors(page).links:
        target = urlsplit(urljoin(home + page, link))
        if f"{target.scheme}://{target.netloc}/" != home:
            continue
        name = unquote(target.path).lstrip("/")
        file = SITE / name / "index.html" if (SITE / name).is_dir() else SITE / name
        if not file.is_file():
            dead.append(link)
        elif target.fragment and file.suffix == ".html":
            places = anchors(file.relative_to(SITE).as_posix()).places
            if unquote(target.fragment) not in places:
                dead.append(link)
    assert not dead, f"{page}: {dead}"


@pytest.mark.parametrize("page", PAGES)
def test_no_two_places_of_a_page_have_the_same_name(page: str) -> None:
    places = anchors(page).places
    assert sorted(places) == sorted(set(places)), f"{page}: {sorted(places)}"


# ---- Sliders ------------------------------------------------------------------------------------

STATE = """
(box) => ({
  positions: [...box.querySelectorAll("input")].map((slider) => Number(slider.value)),
  texts: [...box.querySelectorAll("input")].map((slider) => slider.getAttribute("aria-valuetext")),
  outputs: [...box.querySelectorAll("output")].map((output) => output.textContent),
  alt: box.querySelector(".explore-figure").getAttribute("aria-label"),
  figure: box.querySelector(".explore-figure").innerHTML,
})
"""
# The browser writes some tags in another way than the pack: both go through it.
AS_WRITTEN_BY_THE_BROWSER = """
(markup) => {
  const box = document.createElement("div");
  box.innerHTML = markup;
  return box.innerHTML;
}
"""


def state(tab: Page, name: str) -> dict[str, Any]:
    """What an explorer shows and says now."""
    found: dict[str, Any] = tab.locator(f'[data-explore="{name}"]').evaluate(STATE)
    return found


def assert_shows_its_frame(tab: Page, name: str, pack: dict[str, Any]) -> dict[str, Any]:
    """An explorer agrees with its pack, which is decoded here without the page's script."""
    now = state(tab, name)
    where = f"{name} at {now['positions']}"
    index = int(np.ravel_multi_index(now["positions"], [len(v) for v in pack["values"]]))
    said = [values[i] for values, i in zip(pack["values"], now["positions"], strict=True)]
    assert now["texts"] == said, f"{where}: aria-valuetext"
    assert now["outputs"] == said, f"{where}: output"
    assert now["alt"] == pack["alts"][index], f"{where}: aria-label"
    frame = tab.evaluate(AS_WRITTEN_BY_THE_BROWSER, unpack(pack, index))
    assert now["figure"] == frame, f"{where}: the figure is not the packed frame"
    return now


def assert_slider_moves(tab: Page, page: str, name: str, number: int) -> None:
    """Each key of a slider makes the right step, and each step shows another frame."""
    pack = explorers(page)[name]
    last = len(pack["values"][number]) - 1
    slider = tab.locator(f'[data-explore="{name}"] input').nth(number)
    before = assert_shows_its_frame(tab, name, pack)
    slider.focus()
    for key in ("Home", "ArrowRight", "PageUp", "End", "ArrowLeft", "PageDown"):
        slider.press(key)
        now = assert_shows_its_frame(tab, name, pack)
        start, end = before["positions"][number], now["positions"][number]
        what = f"{page}: {key} on slider {number + 1} of {name}, from {start} to {end},"
        allowed = {
            "Home": end == 0,
            "End": end == last,
            "ArrowRight": end == min(start + 1, last),
            "ArrowLeft": end == max(start - 1, 0),
            "PageUp": end > start or start == last,
            "PageDown": end < start or start == 0,
        }
        assert allowed[key], f"{what} is the wrong step"
        if start != end:
            assert now["figure"] != before["figure"], f"{what} leaves the figure as it was"
            assert now["alt"] != before["alt"], f"{what} leaves the alt text as it was"
        before = now


@pytest.mark.parametrize("page", EXPLORED)
def test_each_slider_moves_its_figure_in_a_page_opened_as_a_file(
    offline_reader: Reader, page: str
) -> None:
    with offline_reader.opens(page) as (tab, _):
        for name, pack in explorers(page).items():
            start = state(tab, name)["positions"]
            for number, position in enumerate(start):
                assert_slider_moves(tab, page, name, number)
                tab.locator(f'[data-explore="{name}"] input').nth(number).fill(str(position))
            assert_shows_its_frame(tab, name, pack)


@pytest.mark.parametrize("page", ONE_OF_EACH)
def test_explorers_show_the_frames_of_their_packs_on_a_server_too(
    reader: Reader, page: str
) -> None:
    with reader.opens(page) as (tab, _):
        for name, pack in explorers(page).items():
            shape = [len(values) for values in pack["values"]]
            sample = np.linspace(0, len(pack["frames"]) - 1, SAMPLE).round().astype(int)
            sliders = tab.locator(f'[data-explore="{name}"] input')
            for index in sample:
                for number, position in enumerate(np.unravel_index(index, shape)):
                    sliders.nth(number).fill(str(position))
                assert_shows_its_frame(tab, name, pack)


# ---- Without JavaScript -------------------------------------------------------------------------


@pytest.mark.parametrize("page", ONE_OF_EACH)
def test_without_javascript_explorers_show_one_frame_and_solutions_open(
    reader: Reader, page: str
) -> None:
    with reader.opens(page, scripts=False) as (tab, _):
        for name, pack in explorers(page).items():
            box = tab.locator(f'[data-explore="{name}"]')
            expect(box.locator(".explore-figure svg")).to_be_visible()
            expect(box.locator(".explore-controls")).to_be_hidden()
            expect(box.locator(".explore-noscript")).to_be_visible()
            assert_shows_its_frame(tab, name, pack)
        solutions = tab.locator("details.solution").all()
        assert solutions or page not in SECTIONS, f"{page} has no solution to open"
        for solution in solutions:
            title, inside = solution.locator("summary"), solution.locator(":scope > :not(summary)")
            expect(inside.first, f"{page}: {title.inner_text()}").to_be_hidden()
            title.click()
            expect(inside.first, f"{page}: {title.inner_text()}").to_be_visible()


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_without_javascript_a_reader_finds_the_way(reader: Reader, width: int) -> None:
    with reader.opens(FIRST, scripts=False, width=width) as (tab, _):
        expect(tab.locator(".theme-switch")).to_be_hidden()
        expect(tab.locator(".prev-next .next")).to_be_visible()
        if width == PHONE:
            tab.locator(".bar-menu").click()
        goal = tab.locator(f'#book-nav a[href$="{Path(SECTIONS[0]).name}"]')
        goal.click()
        tab.wait_for_url("**/" + SECTIONS[0])
        expect(tab.locator("h1")).to_be_visible()


# ---- Search -------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["reader", "offline_reader"])
def test_search_finds(request: pytest.FixtureRequest, source: str) -> None:
    found_in = "bellman-optimality.html"
    with request.getfixturevalue(source).opens(FIRST) as (tab, _):
        field = tab.locator(".search-form input")
        field.fill("contraction")
        field.press("Enter")
        tab.wait_for_url("**/search.html?q=contraction")
        result = tab.locator(f'#search-results a[href*="{found_in}"]').first
        expect(result).to_be_visible()
        result.click()
        tab.wait_for_url(f"**/{found_in}*")
        expect(tab.locator("main")).to_contain_text("contraction")


def test_words_searched_for_are_marked_in_the_text_alone(reader: Reader) -> None:
    with reader.opens(FIRST) as (tab, _):
        field = tab.locator(".search-form input")
        field.fill("policy")
        field.press("Enter")
        tab.locator("#search-results a[href*='policy-gradients/']").first.click()
        tab.wait_for_url("**/policy-gradients/*")
        expect(tab.locator("article .highlighted").first).to_be_visible()
        expect(tab.locator("#book-nav"), "the word is beside the text too").to_contain_text(
            "policy"
        )
        beside = tab.locator(".highlighted:not(article .highlighted)")
        expect(beside, "marked beside the text").to_have_count(0)


# ---- Light and dark -----------------------------------------------------------------------------

INK = """
() => {
  const drawn = document.querySelector('.explore-figure [style*="var(--fig-ink"]');
  const style = getComputedStyle(drawn);
  return [style.fill, style.stroke];
}
"""


def test_the_theme_button_changes_the_figures_and_is_remembered(reader: Reader) -> None:
    with reader.opens(SECTIONS[0]) as (tab, _):
        root, button = tab.locator("html"), tab.locator(".theme-switch")
        colours = {"light": tab.evaluate(INK)}
        for theme, mode in [("light", "light"), ("dark", "dark")]:
            button.click()
            expect(root).to_have_attribute("data-mode", mode)
            expect(root).to_have_attribute("data-theme", theme)
            expect(button).to_have_attribute("title", f"Colours: {mode}")
        colours["dark"] = tab.evaluate(INK)
        assert colours["light"] != colours["dark"], "a figure's text keeps its colour"
        assert tab.evaluate("localStorage.getItem('mode')") == "dark"

        tab.locator(".prev-next .next").click()
        tab.wait_for_url(lambda address: SECTIONS[0] not in address)
        expect(root).to_have_attribute("data-theme", "dark")
        tab.reload()
        expect(root).to_have_attribute("data-theme", "dark")
        button.click()
        expect(root).to_have_attribute("data-mode", "auto")
        expect(root).to_have_attribute("data-theme", "light")  # this system's
        tab.emulate_media(color_scheme="dark")
        expect(root).to_have_attribute("data-theme", "dark")


# ---- Accessibility ------------------------------------------------------------------------------


def test_axe_has_no_complaint_about_the_open_menu(reader: Reader) -> None:
    with reader.opens(FIRST, width=PHONE) as (tab, _):
        start_axe(tab)
        tab.locator(".bar-menu").click()
        expect(tab.locator("#book-nav")).to_be_visible()
        found = complaints(tab, PHONE, "light") + complaints(tab, PHONE, "dark")
    assert not found, "\n".join(found)


PALE = """
(what) => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`${what} { color: #bbb !important }`);
  document.adoptedStyleSheets.push(sheet);
}
"""


@pytest.mark.parametrize("what", ["pre .k", ".katex", "article p"])
def test_axe_complains_about_what_is_too_pale(reader: Reader, what: str) -> None:
    with reader.opens(SECTIONS[0]) as (tab, _):
        start_axe(tab)
        tab.evaluate(PALE, what)
        found = complaints(tab, DESKTOP, "light")
    assert any("contrast" in complaint for complaint in found), f"{what}: {found}"
