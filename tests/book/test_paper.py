"""A single page, printed: what is only for screens is gone, solutions are there, colours are light."""

import pytest
from playwright.sync_api import Browser

from tests.book.browser import SITE

pytestmark = pytest.mark.site
PAGE = SITE / "chapters" / "mdp" / "decision-processes.html"
SHOWN = """(selector) => [...document.querySelectorAll(selector)].map(
    (node) => node.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true}))"""
ONLY_FOR_SCREENS = (
    ".bar", ".book-nav", ".page-toc", ".prev-next", ".foot-more", ".explore-controls",
    ".headerlink", ".cell details",
)  # fmt: skip


def test_a_page_on_paper(browser: Browser) -> None:
    with browser.new_context(color_scheme="dark") as context:
        page = context.new_page()
        page.goto(PAGE.as_uri())
        page.emulate_media(media="print")
        for selector in ONLY_FOR_SCREENS:
            shown = page.evaluate(SHOWN, selector)
            assert shown, f"the page has no {selector}: what does it test?"
            assert not any(shown), f"{selector} is printed"
        for selector in ("details.solution > p", "figure", ".check-mark", ".foot p:first-child"):
            shown = page.evaluate(SHOWN, selector)
            assert shown
            assert all(shown), f"{selector} is not printed"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
