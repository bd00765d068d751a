/* Previews: what a reference leads to, shown beside it while it is hovered over or has the focus.

   Targets on this page are copied; those on other pages are in its templates (extensions/previews.py).
   With a finger there is no preview: a tap follows the link. */
(function () {
  "use strict";
  const shown = "div.math, figure, div.proof, .exercise";
  const wait = 180; // milliseconds: crossing a link opens nothing, and the way into a preview is kept
  const margin = 8; // pixels around it

  const box = document.createElement("div");
  box.className = "preview";
  box.id = "preview";
  box.popover = "manual";
  box.setAttribute("role", "tooltip");
  document.querySelector("main").append(box);

  let current = null;
  let timer = 0;

  function content(link) {
    const address = link.getAttribute("href");
    if (!address.startsWith("#")) {
      const template = document.querySelector(`template.preview[data-for="${CSS.escape(address)}"]`);
      return template && template.content.cloneNode(true);
    }
    const target = document.getElementById(decodeURIComponent(address.slice(1)));
    if (!target || !target.matches(shown) || target.contains(link)) return null;
    const copy = document.createDocumentFragment();
    const parts = target.matches("figure") ? target.querySelectorAll(".explore-figure, figcaption") : [target];
    copy.append(...[...parts].map((part) => part.cloneNode(true)));
    copy.querySelectorAll(".headerlink").forEach((each) => each.remove());
    copy.querySelectorAll("a").forEach((each) => each.replaceWith(...each.childNodes));
    copy.querySelectorAll("[id], [tabindex], [open]").forEach((each) => {
      ["id", "tabindex", "open"].forEach((name) => each.removeAttribute(name));
    });
    return copy;
  }

  // Below the reference, or above it where there is more room; always inside the window.
  function place(link) {
    const at = link.getClientRects()[0];
    const below = innerHeight - at.bottom, above = at.top;
    const under = below >= Math.min(box.offsetHeight + 2 * margin, above);
    box.style.maxHeight = `${Math.max(under ? below : above, 0) - 2 * margin}px`;
    const left = Math.min(at.left, document.documentElement.clientWidth - box.offsetWidth - margin);
    box.style.left = `${Math.max(left, margin)}px`;
    box.style.top = `${under ? at.bottom + margin : at.top - box.offsetHeight - margin}px`;
  }

  function open(link) {
    if (link === current) return;
    const inside = content(link);
    close();
    if (!inside) return;
    box.replaceChildren(inside);
    box.style.maxHeight = box.style.width = "";
    box.showPopover();
    box.style.width = `${box.offsetWidth}px`;
    box.querySelectorAll(".math-scroll").forEach((formula) => { // smaller, in place of scrolling
      const ratio = formula.clientWidth / formula.scrollWidth;
      if (ratio < 1) formula.style.fontSize = `${Math.floor(ratio * 98)}%`;
    });
    place(link);
    link.setAttribute("aria-describedby", "preview");
    current = link;
  }

  function close() {
    clearTimeout(timer);
    if (!current) return;
    current.removeAttribute("aria-describedby");
    current = null;
    box.hidePopover();
    box.replaceChildren();
  }

  function later(act) {
    clearTimeout(timer);
    timer = setTimeout(act, wait);
  }

  const links = document.querySelectorAll("article a.reference.internal[href*='#']:not(:is(.check-ledger, .equation-index) a)");
  links.forEach((link) => {
    link.addEventListener("pointerenter", (event) => {
      if (event.pointerType !== "touch") later(() => open(link));
    });
    link.addEventListener("pointerleave", () => later(close));
    link.addEventListener("focus", () => { if (link.matches(":focus-visible")) open(link); });
    link.addEventListener("blur", close);
  });
  box.addEventListener("pointerenter", () => clearTimeout(timer));
  box.addEventListener("pointerleave", () => later(close));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  addEventListener("resize", close);
  addEventListener("scroll", (event) => { // the focus may have scrolled its link into view
    if (!current || event.target === box) return;
    const at = current.getBoundingClientRect();
    if (at.bottom < 0 || at.top > innerHeight) close();
    else place(current);
  }, { passive: true, capture: true });
})();
