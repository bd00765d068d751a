"""Links that survive renames: small pages at old addresses, and old labels that lead on.

What is public and what was renamed, `tools/addresses.py` says; an old address that leads nowhere is a
warning, and so an error under ``-W``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from tools import addresses

logger = logging.getLogger(__name__)


class Forwarding:
    """What leads from the addresses that were to those that are."""

    def read(self, app: Sphinx) -> None:
        """Read what is public and what was renamed, and warn of what leads nowhere."""
        root = Path(app.srcdir)
        now, before = addresses.current(root), addresses.listed(root)
        try:
            went = addresses.redirects(root)
        except ValueError as error:
            logger.warning("%s", error, type="book")
            went = addresses.Redirects({}, {})
        for message in addresses.faults(now, before, went):
            logger.warning("%s: %s", addresses.REDIRECTS, message, type="book")
        first = app.config.root_doc  # to which the site's own address leads
        self.pages = went.pages | ({} if first == "index" else {"index": first})
        self.labels = addresses.moved(now, before, went)
        self.places = addresses.places(now)
        if app.config.html_baseurl:
            app.config.sitemap_excludes += [f"{old}.html" for old in self.pages]

    def write_again(self, app: Sphinx, env: BuildEnvironment) -> list[str]:
        """Name the pages with old labels: what those lead to may have moved again."""
        return [page for page in self.labels if page in env.found_docs]

    def old_labels(
        self,
        app: Sphinx,
        page: str,
        template: str,
        context: dict[str, Any],
        doctree: nodes.document | None,
    ) -> None:
        """Give a page the labels that were on it once."""
        context["moved"] = [
            {
                "anchor": addresses.anchor(old),
                "href": f"{app.builder.get_relative_uri(page, self.places[new])}#"
                + addresses.anchor(new),
            }
            for old, new in self.labels.get(page, {}).items()
        ]

    def old_pages(self, app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Add the small pages that lead to others."""
        for old, new in self.pages.items():
            base, target = app.config.html_baseurl, app.builder.get_target_uri(new)
            canonical = base + target if base else ""
            yield old, {"target": new, "canonical": canonical}, "redirect.html"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    forwarding = Forwarding()
    app.connect("builder-inited", forwarding.read)
    app.connect("env-get-updated", forwarding.write_again)
    app.connect("html-page-context", forwarding.old_labels)
    app.connect("html-collect-pages", forwarding.old_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
