"""What axe finds wrong with a page: contrast, names, roles, order."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.book.browser import OPEN_ALL
from tools.environment import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
# axe judges no text on gradients, such as the shadows at the ends of what scrolls. It would look for
# minutes at what is alike: the inside of a figure, hidden from screen readers; each sign of a formula,
# which has the colour of the text around it, and its MathML, which axe has no rules for; and each word
# of code, where one of each kind is enough.
PREPARE = """
() => {
  const plain = new CSSStyleSheet(); // a <style> would be against the page's policy
  plain.replaceSync("* { background-image: none !important }");
  document.adoptedStyleSheets.push(plain);
  document.querySelectorAll(".explore-figure svg").forEach((figure) => figure.replaceChildren());
  const formulas = document.querySelectorAll(".katex-html, math");
  formulas.forEach((formula) => formula.replaceChildren(formula.textContent));
  const kinds = new Set();
  for (const word of document.querySelectorAll("pre span")) {
    const kind = [word, word.closest("pre"), word.closest("div")].map((x) => x?.className).join();
    if (kinds.has(kind)) word.replaceWith(...word.childNodes);
    kinds.add(kind);
  }
}
"""
RUN = """
() => axe
  .run({preload: false, resultTypes: ["violations"]})
  .then(({violations}) => violations.map((violation) =>
    `${violation.id} (${violation.help}): ` +
    violation.nodes.slice(0, 3).map((node) => node.html.slice(0, 150)).join(" … ")))
"""
NEXT_FRAME = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


def start_axe(tab: Page) -> None:
    """Open what is folded, and empty the figures: a page is not itself afterwards."""
    tab.evaluate(AXE.read_text("utf8"))
    tab.evaluate(PREPARE)
    tab.evaluate(OPEN_ALL)


def complaints(tab: Page, width: int, theme: str) -> list[str]:
    """What axe finds, in a window of a width and in a theme."""
    tab.set_viewport_size({"width": width, "height": 900})
    tab.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
    tab.evaluate(NEXT_FRAME)  # the page has answered to its new width
    found: list[str] = tab.evaluate(RUN)
    return [f"{theme}, {width} px: {complaint}" for complaint in found]
