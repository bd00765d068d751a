/* What this site changes in Sphinx's search, which is loaded before it. */
// A page opened as a file may not read its neighbours: then the results are titles alone.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// Formulas are in a page twice, for eyes and for screen readers; figures and packs are no prose.
const toText = Search.htmlToText;
Search.htmlToText = (html, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  const noise = ".katex-mathml, .explore, .copybtn, .prev-next, .section-number";
  page.querySelectorAll(noise).forEach((element) => element.remove());
  return toText(page.documentElement.outerHTML, anchor);
};
