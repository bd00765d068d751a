"""Reading the built site: its policy, previews, headings, the keyboard."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.book.browser import (
    FIRST,
    PATIENCE,
    PHONE,
    SITE,
    Reader,
    explorers,
    pages,
    text,
)
from tools.site import served

pytestmark = [pytest.mark.site, pytest.mark.usefixtures("site")]

PAGES = pages()
LEDGER, INDEX = "chapters/outlook/ledger.html", "chapters/outlook/equations.html"
REFERENCE = "article a.reference.internal[href*='#']:not(:is(.check-ledger, .equation-index) a)"
SECTION = "chapters/mdp/bellman-optimality.html"


# ---- The policy ---------------------------------------------------------------------------------

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"')
# Chromium says what the policy kept from a page, in the console, which `Reader` watches too.
VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation",
  (event) => violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""


class Inline(HTMLParser):
    """What of a page its policy would keep from running."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.policy_before = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy_before = True
        data = given.get("type", "text/javascript") == "application/json"
        if (
            tag in ("script", "link")
            and not self.policy_before
            and (given.get("src") or tag == "script")
        ):
            self.found.append(f"<{tag}> before the policy")
        if tag == "script" and "src" not in given and not data:
            self.found.append("a script inside the page")
        if tag in ("style", "base", "iframe", "object", "embed"):
            self.found.append(f"<{tag}>")
        self.found += [f"{name}={value!r}" for name, value in attrs if name.startswith("on")]
        self.found += [
            str(v) for _, v in attrs if (v or "").strip().lower().startswith("javascript:")
        ]


@pytest.mark.parametrize("page", ["index.html", *PAGES])
def test_a_page_has_the_policy_and_nothing_inline(page: str) -> None:
    (policy,) = POLICY.findall(text(page))
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules.pop("style-src-attr") == "'unsafe-inline'", "KaTeX and figures need it"
    assert rules["default-src"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:"} & set(
        " ".join(rules.values()).split()
    )
    inline = Inline()
    inline.feed(text(page))
    assert inline.found == [], page


@pytest.mark.parametrize("source", ["reader", "offline_reader"])
@pytest.mark.parametrize("page", [FIRST, SECTION, LEDGER, INDEX, "search.html?q=policy"])
def test_a_page_obeys_its_policy(request: pytest.FixtureRequest, source: str, page: str) -> None:
    with request.getfixturevalue(source).opens(page, before=VIOLATIONS) as (tab, _):
        tab.locator(".theme-switch").click()
        if page.startswith("search"):
            expect(tab.locator("#search-results li").first).to_be_visible()
        for name in list(explorers(page))[:1] if "?" not in page else []:
            figure = tab.locator(f'[data-explore="{name}"] .explore-figure')
            before = figure.inner_html()
            tab.locator(f'[data-explore="{name}"] input').first.press("ArrowRight")
            expect(figure).not_to_have_js_property("innerHTML", before)
        assert tab.evaluate("violations") == []


def until(tab: Page, expression: str) -> None:
    """Wait for it from outside: Playwright's own waiting evaluates text, which the policy forbids."""
    for _ in range(10 * PATIENCE):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(100)
    pytest.fail(f"not within {PATIENCE} s: {expression}")


def test_what_the_policy_forbids_does_not_run(reader: Reader) -> None:
    with reader.opens(FIRST, quiet=False, before=VIOLATIONS) as (tab, watch):
        tab.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "window.planted = true";
              document.body.append(script);
              document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.planted = true'>");
              document.head.append(Object.assign(document.createElement("style"), {textContent: "p {}"}));
            }"""
        )
        until(tab, "violations.length >= 3")
        assert tab.evaluate("window.planted") is None
        assert any("Content Security Policy" in problem for problem in watch.problems)


# ---- Previews -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["reader", "offline_reader"])
def test_a_preview_opens_stays_and_closes(request: pytest.FixtureRequest, source: str) -> None:
    with request.getfixturevalue(source).opens(SECTION) as (tab, _):
        box = tab.locator("#preview")
        other = tab.locator(f"{REFERENCE}[href^='value-functions.html#equation-']").first
        before = tab.evaluate("document.documentElement.scrollHeight")
        other.hover()
        expect(box).to_be_visible()
        expect(box.locator(".katex").first).to_be_visible()
        assert tab.evaluate("document.documentElement.scrollHeight") == before
        box.hover()  # a reader may move into it
        tab.wait_for_timeout(400)
        expect(box).to_be_visible()
        tab.keyboard.press("Escape")
        expect(box).to_be_hidden()
        tab.mouse.move(0, 0)

        other.focus()
        tab.keyboard.press("Shift+Tab")
        tab.keyboard.press("Tab")  # with the keyboard, as the focus is shown only then
        expect(box).to_be_visible()
        expect(other).to_have_attribute("aria-describedby", "preview")
        tab.keyboard.press("Escape")
        expect(box).to_be_hidden()
        expect(other, "the focus stays where it was").to_be_focused()
        expect(other).not_to_have_attribute("aria-describedby", "preview")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/value-functions.html#equation-*")


def test_a_finger_follows_the_link(browser: Browser) -> None:
    with served(SITE) as address:
        context = browser.new_context(has_touch=True, viewport={"width": PHONE, "height": 800})
        tab = context.new_page()
        tab.goto(address + SECTION)
        tab.locator(f"{REFERENCE}[href^='#']").first.tap()
        tab.wait_for_timeout(400)
        expect(tab.locator("#preview")).to_be_hidden()
        assert "#" in tab.url
        context.close()


# ---- Headings, the keyboard ---------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_headings_go_down_by_one(page: str) -> None:
    levels = [int(level) for level in re.findall(r"<h([1-6])\b", text(page))]
    assert levels.count(1) == 1, page
    assert levels[0] == 1, page
    for above, below in pairwise(levels):
        assert below <= above + 1, f"{page}: h{below} after h{above}"


@pytest.mark.parametrize("page", PAGES)
def test_no_place_is_reached_out_of_order(page: str) -> None:
    assert not re.findall(r'tabindex="[1-9]', text(page))


FOCUS = """
() => {
  const at = document.activeElement;
  if (at === document.body) return null;
  window.stops = window.stops || [];
  const last = stops[stops.length - 1];
  stops.push(at);
  const style = getComputedStyle(at), form = at.closest(".search-form");
  const ring = form && at.localName === "input" ? getComputedStyle(form) : style;
  const box = at.getBoundingClientRect();
  return {
    name: at.outerHTML.slice(0, 120),
    ordered: !last || Boolean(last.compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING),
    ring: at.type === "range" || (ring.outlineStyle !== "none" && parseFloat(ring.outlineWidth) >= 2),
    seen: box.width > 0 && box.height > 0 && box.right > 0 && box.bottom > 0
      && box.left < innerWidth && box.top < innerHeight,
  };
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", [FIRST, SECTION, "search.html", INDEX])
def test_the_tab_key_goes_through_a_page_in_order(reader: Reader, page: str, theme: str) -> None:
    with reader.opens(page, theme=theme) as (tab, _):
        stops = 0
        while stops < 150:
            tab.keyboard.press("Tab")
            stop = tab.evaluate(FOCUS)
            if stop is None:
                break
            stops += 1
            assert stop["ordered"], f"{page}: before what stands above it: {stop['name']}"
            assert stop["ring"], f"{page}: no ring around {stop['name']}"
            assert stop["seen"], f"{page}: out of sight: {stop['name']}"
        assert stops > 10, page


def test_the_ring_is_seen_in_both_themes(reader: Reader) -> None:
    """Three to one against the page and against the shade, as WCAG 2.2 asks of what is no text."""

    def light(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    with reader.opens(FIRST) as (tab, _):
        for theme in ("light", "dark"):
            tab.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
            ring, *behind = tab.evaluate(
                "['--focus', '--page', '--shade'].map((name) => "
                "getComputedStyle(document.documentElement).getPropertyValue(name).trim())"
            )
            for ground in behind:
                low, high = sorted([light(ring), light(ground)])
                assert (high + 0.05) / (low + 0.05) >= 3, f"{theme}: {ring} on {ground}"


def test_the_menu_closes_with_escape_and_gives_the_focus_back(reader: Reader) -> None:
    with reader.opens(FIRST, width=PHONE) as (tab, _):
        button, menu = tab.locator(".bar-menu"), tab.locator("#book-nav")
        button.focus()
        tab.keyboard.press("Enter")
        expect(menu).to_be_visible()
        tab.keyboard.press("Tab")
        tab.keyboard.press("Escape")
        expect(menu).to_be_hidden()
        expect(button).to_be_focused()
