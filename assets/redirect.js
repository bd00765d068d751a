/* From an old address to the new one, at the same place of the page. */
location.replace(document.querySelector("main a").href + location.hash);
