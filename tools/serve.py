"""A local server that builds the book again, as `make book` does, when a source changes."""

import os
import time
from pathlib import Path

from tools.build import build, report, sources
from tools.environment import ROOT
from tools.messages import Stop, check_port, read_port
from tools.site import Handler, build_folder, served

# Only served pages ask whether there is a newer build; the files themselves are as published.
RELOAD = b"""\
let seen;
setInterval(async () => {
  const now = await fetch("/-/built").then((answer) => answer.text(), () => seen);
  if (seen !== undefined && now !== seen) location.reload();
  seen = now;
}, 1000);
"""
ASK = b'<script src="/-/reload.js"></script></body>'  # a file, as pages allow no other script


class Reloading(Handler):
    """Serves the site, with the reloading script in its pages."""

    built = "0"

    def do_GET(self) -> None:
        """Answer a page, a file, or the number of the build."""
        if self.path == "/-/built":
            self.answer(200, self.built.encode(), "text/plain")
            return
        if self.path == "/-/reload.js":
            self.answer(200, RELOAD, "text/javascript")
            return
        path = Path(self.translate_path(self.path))
        page = path / "index.html" if path.is_dir() and self.path.endswith("/") else path
        if page.suffix == ".html" and page.exists():
            self.answer(200, page.read_bytes(), "text/html; charset=utf-8")
        else:
            super().do_GET()

    def answer(self, status: int, content: bytes, kind: str) -> None:
        """Send an answer; a page asks whether there is a newer build."""
        if kind.startswith("text/html"):
            content = content.replace(b"</body>", ASK)
        super().answer(status, content, kind)


def stamps() -> dict[str, int]:
    """When each source last changed."""
    found = {}
    for path in sources(ROOT):
        try:
            found[str(path)] = path.stat().st_mtime_ns
        except FileNotFoundError:  # an editor is just replacing it
            continue
    return found


def rebuild() -> None:
    """Build once; a failure is told and leaves the last good site being served."""
    start = time.monotonic()
    try:
        report(build(), time.monotonic() - start)
    except Stop as stop:
        if "Interrupted" in str(stop):
            raise
        print(stop, flush=True)
    Reloading.built = str(int(Reloading.built) + 1)


def main() -> None:
    """Make serve, once the environment is there."""
    port = read_port(os.environ.get("PORT") or "8000", "serve")
    check_port(port, "serve")
    seen = stamps()
    rebuild()
    with served(build_folder() / "html", port, Reloading):
        print(
            f"Serving http://localhost:{port}/ and watching the sources; Ctrl-C ends it.",
            flush=True,
        )
        try:
            while True:
                time.sleep(0.5)
                now = stamps()
                if now != seen:
                    seen = now
                    rebuild()
        except KeyboardInterrupt:
            print()
