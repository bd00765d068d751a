/* Before the first paint: the reader's own choice of light or dark, else the system's. */
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
})(document.documentElement);
