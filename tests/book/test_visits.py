"""Every page, opened once on a desktop and once on a phone: all that is seen without a hand."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.book.axe import complaints, start_axe
from tests.book.browser import DESKTOP, OPEN_ALL, PHONE, SHOWN, Reader, explorers, pages, text
from tools.site import LAYOUT_SHIFT, OBSERVE, PACK, page_weight, weight

pytestmark = [pytest.mark.site, pytest.mark.usefixtures("site")]

PAGES = pages()
ARTICLES = [page for page in PAGES if "<article>" in text(page)]
LOOKS = {DESKTOP: "light", PHONE: "dark"}
NARROW = {PHONE: [PHONE, 360], DESKTOP: [640]}  # 640 CSS pixels are a window of 1280 at 200 %

KILOBYTE = 1000
PAGE_LIMIT, PACK_LIMIT = 350 * KILOBYTE, 80 * KILOBYTE
STILL = 0.001  # layout shift that nobody sees


WIDE = """
(width) => [...document.querySelectorAll("body *")]
  .filter((box) => box.getBoundingClientRect().right > width + 1)
  .slice(0, 5)
  .map((box) => `<${box.localName} class="${box.getAttribute("class") ?? ""}">`)
"""
CLIPPED = """
() => [...document.querySelectorAll("article :is(p, li, h1, h2, h3, figcaption, td, th, summary, button)")]
  .filter((box) => box.checkVisibility())
  .filter((box) => !box.closest(".table-scroll, pre, .math-scroll, .output, .unseen"))
  .filter((box) => {
    const at = box.getBoundingClientRect();
    return at.width && at.height > 1 && (at.left < -1 || at.right > document.documentElement.clientWidth + 1);
  })
  .map((box) => box.outerHTML.slice(0, 120))
"""
CUT_FORMULAS = """
() => [...document.querySelectorAll(".math-scroll")]
  .filter((box) => !box.closest("table") && box.scrollWidth > box.clientWidth + 1)
  .map((box) => box.textContent.trim().slice(0, 60))
"""
CUT_FIGURES = """
() => [...document.querySelectorAll(".explore-figure svg")].filter((figure) => {
  const box = figure.getBoundingClientRect();
  return [...figure.querySelectorAll("use:not([clip-path] use)")].some((sign) => {
    const at = sign.getBoundingClientRect();
    const out = Math.max(at.right - box.right, box.left - at.left, at.bottom - box.bottom, box.top - at.top);
    return at.width && out > 0.6;
  });
}).map((figure) => figure.closest(".explore").dataset.explore)
"""
CUT_CODE = """
() => [...document.querySelectorAll("main pre")]
  .filter((box) => !box.checkVisibility() || box.scrollWidth > box.clientWidth)
  .map((box) => box.textContent.split("\\n").reduce((a, b) => a.length < b.length ? b : a))
"""
MARKS = """
() => [...document.querySelectorAll("a.check-mark")].map((mark) => {
  const link = mark.getAttribute("href"), check = document.getElementById(link.slice(1));
  return {
    link,
    marked: mark.checkVisibility(),
    checked: check !== null && check.matches(".rl-check") && check.checkVisibility(),
  };
})
"""
PREVIEWED = """
() => [...document.querySelectorAll("article a.reference.internal[href*='#']")].map((link) => {
  if (!/#(equation-|fig-|thm-|alg-|ex-)/.test(link.href) || link.closest(".check-ledger, .equation-index")
      || !link.checkVisibility())
    return null;
  link.scrollIntoView({block: "center"});
  link.focus({focusVisible: true});
  const box = document.getElementById("preview"), at = box.getBoundingClientRect();
  const result = {
    href: link.getAttribute("href"),
    open: box.matches(":popover-open"),
    text: box.textContent.trim().length,
    inside: at.left >= 0 && at.top >= 0 && at.right <= innerWidth && at.bottom <= innerHeight,
    names: box.querySelectorAll("[id], a").length,
    cut: [...box.querySelectorAll(".math-scroll")].some((f) => f.scrollWidth > f.clientWidth + 1),
  };
  link.blur();
  return result;
}).filter(Boolean)
"""


@dataclass(frozen=True)
class Narrow:
    """A page in a narrow window: how wide it is, and what reaches out of it."""

    needed: int
    widest: list[str]
    clipped: list[str]


@dataclass(frozen=True)
class Visit:
    """What one visit showed, each list empty where all is well."""

    problems: list[str]
    theme: str
    titles: int
    weight: int
    moved: tuple[float, Any]
    marks: list[dict[str, Any]]
    cut_formulas: list[str]
    cut_code: list[str]
    cut_figures: list[str]
    previews: list[dict[str, Any]]
    narrow: dict[int, Narrow]
    complaints: list[str]


Visits = Callable[[str, int], Visit]


@pytest.fixture(scope="module")
def visits(reader: Reader) -> Visits:
    """Visits of pages, each made once."""
    return functools.cache(lambda page, width: visit(reader, page, width))


def visit(reader: Reader, page: str, width: int) -> Visit:
    theme = LOOKS[width]
    with reader.opens(page, width=width, theme=theme, quiet=False, before=OBSERVE) as (tab, watch):
        moved = movement(tab)
        size = page_weight(watch.responses)
        marks = tab.evaluate(MARKS)
        theme, titles = tab.evaluate(
            "[document.documentElement.dataset.theme, document.querySelectorAll('h1').length]"
        )
        tab.evaluate(OPEN_ALL)
        cut_formulas, cut_code = tab.evaluate(CUT_FORMULAS), tab.evaluate(CUT_CODE)
        cut_figures = tab.evaluate(CUT_FIGURES)
        previews = tab.evaluate(PREVIEWED) if page in ARTICLES else []
        narrow = {each: narrowed(tab, each) for each in NARROW[width]}
        start_axe(tab)
        axe = complaints(tab, width, theme)
        return Visit(
            list(watch.problems), theme, titles, size, moved,
            marks, cut_formulas, cut_code, cut_figures, previews, narrow, axe,
        )  # fmt: skip


def movement(tab: Page) -> tuple[float, Any]:
    """How much moved while a page opened, and what."""
    tab.evaluate("document.fonts.ready.then(() => true)")
    tab.wait_for_timeout(100)
    return tab.evaluate(LAYOUT_SHIFT), tab.evaluate("shifts")


def narrowed(tab: Page, width: int) -> Narrow:
    tab.set_viewport_size({"width": width, "height": 900})
    return Narrow(
        tab.evaluate("document.documentElement.scrollWidth"),
        tab.evaluate(WIDE, width),
        tab.evaluate(CLIPPED),
    )


both = pytest.mark.parametrize("width", LOOKS)
every_page = pytest.mark.parametrize("page", PAGES)


@both
@every_page
def test_a_page_is_quiet_and_asks_no_other_host(visits: Visits, page: str, width: int) -> None:
    seen = visits(page, width)
    assert not seen.problems, f"{page}: {seen.problems}"
    assert (seen.theme, seen.titles) == (LOOKS[width], 1)


# `404.html` is for servers alone, and pages with an explorer are opened as files to move its sliders.
@pytest.mark.parametrize("page", [p for p in PAGES if p != "404.html" and not explorers(p)])
def test_a_page_is_quiet_as_a_file(offline_reader: Reader, page: str) -> None:
    with offline_reader.opens(page) as (tab, _):
        assert tab.locator("h1").count() == 1


@both
@every_page
def test_axe_has_no_complaint(visits: Visits, page: str, width: int) -> None:
    """In each theme at one width: colours do not depend on the width, nor sizes on the theme."""
    found = visits(page, width).complaints
    assert not found, f"{page}:\n" + "\n".join(found)


@both
@every_page
def test_nothing_moves_while_a_page_opens(
    reader: Reader, visits: Visits, page: str, width: int
) -> None:
    """The least of three visits counts: what is wrong with a page moves in all of them."""
    moved = [visits(page, width).moved]
    while moved[-1][0] >= STILL and len(moved) < 3:
        with reader.opens(page, width=width, theme=LOOKS[width], before=OBSERVE) as (tab, _):
            moved.append(movement(tab))
    least, what = min(moved, key=lambda each: each[0])
    assert least < STILL, f"{page}, {width} px: {what}"


@every_page
def test_a_page_on_a_phone_does_not_scroll_sideways(visits: Visits, page: str) -> None:
    for width, seen in visits(page, PHONE).narrow.items():
        assert seen.needed <= width, (
            f"{page} needs {seen.needed} px of {width}; among the widest: {seen.widest}"
        )


@every_page
def test_nothing_is_cut_at_a_zoom_of_200_percent(visits: Visits, page: str) -> None:
    ((width, seen),) = visits(page, DESKTOP).narrow.items()
    assert seen.needed <= width, f"{page} needs {seen.needed} px of {width}: {seen.widest}"
    assert not seen.clipped, page


@every_page
def test_formulas_fit_the_column_on_a_desktop(visits: Visits, page: str) -> None:
    cut = visits(page, DESKTOP).cut_formulas
    assert not cut, f"{page}: break these into lines, with aligned: {cut}"


@every_page
def test_code_fits_the_column_on_a_desktop(visits: Visits, page: str) -> None:
    cut = visits(page, DESKTOP).cut_code
    assert not cut, f"{page}: break these lines, or those below them: {cut}"


@every_page
def test_a_figure_shows_its_labels_whole(visits: Visits, page: str) -> None:
    cut = visits(page, DESKTOP).cut_figures
    assert not cut, f"{page}: labels or marks reach out of the picture in {cut}"


@every_page
def test_a_page_and_its_packs_are_light(visits: Visits, page: str) -> None:
    size = visits(page, DESKTOP).weight
    assert size <= PAGE_LIMIT, f"{page} weighs {size / KILOBYTE:.0f} kB gzipped, without its packs"
    for number, pack in enumerate(PACK.findall(text(page)), start=1):
        size = weight(pack.encode())
        assert size <= PACK_LIMIT, f"{page}: pack {number} weighs {size / KILOBYTE:.0f} kB gzipped"


@pytest.mark.parametrize("page", SHOWN)
def test_each_mark_points_to_a_check_that_is_seen(visits: Visits, page: str) -> None:
    marks = visits(page, DESKTOP).marks
    assert marks, f"{page} has no mark"
    for mark in marks:
        assert mark["marked"], f"{page}: the mark of {mark['link']} is not seen"
        assert mark["checked"], f"{page}: a mark points to {mark['link']}, which is not seen"


@both
@pytest.mark.parametrize("page", ARTICLES)
def test_each_reference_shows_what_it_refers_to(visits: Visits, page: str, width: int) -> None:
    for each in visits(page, width).previews:
        where = f"{page} at {width} px: {each['href']}"
        if each["href"].startswith("#equation") and not each["open"]:
            continue  # inside the very equation's box
        assert each["open"], f"{where} shows nothing"
        assert each["text"], f"{where} shows an empty box"
        assert each["inside"], f"{where} is not whole in the window"
        assert not each["names"], f"{where} has links or names"
        assert not each["cut"], f"{where}: the formula is cut"
