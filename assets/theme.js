/* Before the first paint: the reader's own choice of light or dark, else the system's; and a request for
   the typefaces that a page begins with, so that no line moves when they come. */
(function (root) {
  "use strict";
  let mode = null;
  try {
    mode = localStorage.getItem("mode");
  } catch (error) { /* storage is blocked */ }
  if (mode !== "light" && mode !== "dark") mode = "auto";
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.mode = mode;
  root.dataset.theme = mode === "auto" ? (dark ? "dark" : "light") : mode;

  if (location.protocol === "file:") return; // a browser allows no such request there
  const text = ["source-serif-4-latin-400-normal", "source-serif-4-latin-600-normal",
    "source-serif-4-latin-400-italic", "source-serif-4-greek-400-normal",
    "source-sans-3-latin-400-normal", "source-sans-3-latin-600-normal"];
  const formulas = "math" in root.dataset ? ["KaTeX_Main-Regular", "KaTeX_Math-Italic"] : [];
  [...text, ...formulas]
    .forEach((name) => {
      const link = document.createElement("link");
      Object.assign(link, { rel: "preload", as: "font", type: "font/woff2", crossOrigin: "" });
      link.href = new URL(`fonts/${name}.woff2`, document.currentScript.src);
      document.head.append(link);
    });
})(document.documentElement);
