"""The built site: where it is, a local server for it, and what its pages weigh."""

from __future__ import annotations

import contextlib
import functools
import gzip
import http.server
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.environment import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Response

PACK = re.compile(r'<script type="application/json" class="explore-pack">(.*?)</script>', re.DOTALL)
EXPLORER = re.compile(r'<div class="explore" data-explore="([^"]+)"')

# Scripts for a browser: from before the page begins, note what moved on it; and how much did, in all.
OBSERVE = """
window.shifts = [];
const named = (node) => node && node.nodeType === 1 ? node.outerHTML.slice(0, 100) : String(node);
new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
  if (!entry.hadRecentInput)
    shifts.push({value: entry.value, moved: entry.sources.map((source) => named(source.node))});
})).observe({type: "layout-shift", buffered: true});
"""
LAYOUT_SHIFT = "shifts.reduce((sum, shift) => sum + shift.value, 0)"


def build_folder(root: str | Path = ROOT) -> Path:
    """The folder that holds everything a build makes: `_build`, or the environment's BOOK_BUILD_DIR.

    A relative BOOK_BUILD_DIR is taken from `root`; an empty one counts as none.
    """
    return (Path(root) / (os.environ.get("BOOK_BUILD_DIR") or "_build")).resolve()


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder like a static host: a wrong address gets the site's own page for that."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send `404.html` where there is no such file."""
        page = Path(self.directory) / "404.html"
        if code == 404 and page.exists():
            self.answer(404, page.read_bytes(), "text/html; charset=utf-8")
        else:
            super().send_error(code, message, explain)

    def answer(self, status: int, content: bytes, kind: str) -> None:
        """Send one answer that no browser keeps."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Leave the terminal to others."""


class Server(http.server.ThreadingHTTPServer):
    """Browsers drop connections when a page is left; that is no error."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore it."""


@contextlib.contextmanager
def served(folder: Path, port: int = 0, handler: type[Handler] = Handler) -> Iterator[str]:
    """Serve a folder on this machine; gives its address, with a slash at the end.

    Args:
        folder: what to serve.
        port: on which port; 0 takes a free one.
        handler: what answers the requests.
    """
    with Server(("127.0.0.1", port), functools.partial(handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


def weight(content: bytes) -> int:
    """Size after compression, as a web server would send it."""
    return min(len(content), len(gzip.compress(content, 6)))


def page_weight(responses: list[Response]) -> int:
    """Compressed size of everything that a page loads, without the packs of its explorers."""
    total = 0
    for response in responses:
        body = response.body()
        if "text/html" in response.headers.get("content-type", ""):
            body = PACK.sub("", body.decode()).encode()
        total += weight(body)
    return total
