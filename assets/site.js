/* What the frame of a page needs a script for. Without it every page can still be read. */
(function () {
  "use strict";
  const root = document.documentElement;

  // Light, dark, or as the system says.
  const names = { auto: "as the system", light: "light", dark: "dark" };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.querySelector(".theme-switch");

  function paint() {
    const mode = root.dataset.mode;
    root.dataset.theme = mode === "auto" ? (system.matches ? "dark" : "light") : mode;
    button.lastElementChild.textContent = button.title = `Colours: ${names[mode]}`;
  }

  button.addEventListener("click", () => {
    const modes = Object.keys(names);
    root.dataset.mode = modes[(modes.indexOf(root.dataset.mode) + 1) % modes.length];
    try {
      localStorage.setItem("mode", root.dataset.mode);
    } catch (error) { /* storage is blocked: the choice holds for this page */ }
    paint();
  });
  system.addEventListener("change", paint);
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; }); // paper is white
  addEventListener("afterprint", paint);
  paint();

  // Sphinx's script takes this key from the browser, which would close a menu with it.
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelector("[popover]:popover-open")?.hidePopover();
  }, true);

  // Who comes for something that has moved is led on.
  function follow() {
    const moved = document.querySelector(".moved:target a");
    if (moved) location.replace(moved.href);
  }
  addEventListener("hashchange", follow);
  follow();

  // What scrolls sideways can be reached, and scrolled, with the keyboard.
  const wide = ".math-scroll, pre, .table-scroll, .rl-check, .cell_output > .output";
  function tabStops() {
    document.querySelectorAll(wide).forEach((box) => {
      if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    });
  }
  addEventListener("load", tabStops);
  addEventListener("resize", tabStops);
  document.addEventListener("toggle", tabStops, true); // a solution was opened
  if (document.fonts) document.fonts.ready.then(tabStops);

  // The list of headings shows where the reader is.
  const links = [...document.querySelectorAll(".page-toc a")];
  const headings = links.map((link) => document.getElementById(decodeURIComponent(link.hash.slice(1))));
  function here() {
    let at = -1;
    headings.forEach((heading, i) => {
      if (heading && heading.getBoundingClientRect().top < innerHeight / 3) at = i;
    });
    links.forEach((link, i) => {
      if (i === at) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    });
  }
  if (links.length) {
    let waiting = false;
    addEventListener("scroll", () => {
      if (!waiting) requestAnimationFrame(() => { waiting = false; here(); });
      waiting = true;
    }, { passive: true });
    here();
  }
})();
