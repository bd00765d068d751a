"""The built site as the browser tests see it: its pages, their explorers, and a reader of them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Response,
    expect,
)

from tests.book import contents
from tools.site import EXPLORER, PACK, build_folder

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NO_SITE = "There is no site in {}: run make book."

DESKTOP, PHONE = 1280, 390  # widths in pixels
OPEN_ALL = "document.querySelectorAll('details').forEach((box) => { box.open = true; })"
PATIENCE = 20  # seconds until a page must show what is expected: the machine may be busy


def skip_or_fail(reason: str) -> None:
    """Skip a test that cannot run here; in CI that is a failure."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextlib.contextmanager
def patience(seconds: float, *tabs: Page) -> Iterator[None]:
    """Wait so long, instead of five seconds, for what is expected."""
    for tab in tabs:
        tab.set_default_timeout(seconds * 1000)
    expect.set_options(timeout=seconds * 1000)
    try:
        yield
    finally:
        expect.set_options(timeout=None)


# ---- The site's files ---------------------------------------------------------------------------


SITE = build_folder() / "html"
FIRST = "chapters/intro.html"
# These have a slider and a checked equation, sections a folded solution too; no other page has.
SECTIONS = sorted(f"{name}.html" for name in contents.SECTIONS)
SHOWN = [FIRST, *SECTIONS]


@functools.cache
def text(page: str) -> str:
    return (SITE / page).read_text("utf8")


def pages() -> list[str]:
    """Every page but those that only lead to another, as `index.html` does."""
    found = (path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
    return sorted(
        name
        for name in found
        if not name.startswith("_") and 'http-equiv="refresh"' not in text(name)[:2000]
    )


def explorers(page: str) -> dict[str, dict[str, Any]]:
    """The packs of a page's explorers by their names; plain figures have none."""
    parts = EXPLORER.split(text(page))[1:]
    found = {name: PACK.search(part) for name, part in zip(parts[::2], parts[1::2], strict=True)}
    return {name: json.loads(pack[1]) for name, pack in found.items() if pack}


# ---- Watched ------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Notes what a reader's console would show, and each request that fails or leaves the site."""

    address: str
    problems: list[str] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", self.said)
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        page.on("request", self.asked)
        page.on("requestfailed", self.failed)
        page.on("response", self.answered)

    def said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console {message.type}: {message.text}")

    def asked(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.problems.append(f"asks another host: {request.url}")

    def failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page was left
            self.problems.append(f"{request.failure}: {request.url}")

    def answered(self, response: Response) -> None:
        self.responses.append(response)
        if response.status >= 400:
            self.problems.append(f"{response.status}: {response.url}")


@dataclass
class Reader:
    """Opens pages of the site, one at a time, and sees to it that all is quiet."""

    browser: Browser
    address: str
    contexts: dict[bool, BrowserContext] = field(default_factory=dict)

    @contextlib.contextmanager
    def opens(
        self,
        page: str,
        *,
        width: int = DESKTOP,
        theme: str = "light",
        scripts: bool = True,
        quiet: bool = True,
        before: str = "",
    ) -> Iterator[tuple[Page, Watch]]:
        """Open one page in a new tab, with nothing remembered but files.

        Args:
            page: its path in the site.
            width: of the window.
            theme: the system's colours, `light` or `dark`.
            scripts: whether JavaScript runs.
            quiet: whether what `Watch` notes until the end fails the test.
            before: a script that runs before the page's own.
        """
        if scripts not in self.contexts:  # a new one for each page would take twice the time
            self.contexts[scripts] = self.browser.new_context(java_script_enabled=scripts)
            self.contexts[scripts].set_default_timeout(PATIENCE * 1000)
        tab, watch = self.contexts[scripts].new_page(), Watch(self.address)
        try:
            tab.set_viewport_size({"width": width, "height": 900})
            tab.emulate_media(color_scheme="dark" if theme == "dark" else "light")
            watch.listen(tab)
            if before:
                tab.add_init_script(before)
            tab.goto(self.address + page)
            yield tab, watch
            if quiet:
                assert not watch.problems, f"{page}: {watch.problems}"
        finally:
            with contextlib.suppress(Error):  # of a page that did not open
                tab.evaluate("localStorage.clear()")
            tab.close()
