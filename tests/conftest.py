"""What tests share: the examples of Hypothesis, calls without type checks, a browser, the built site."""

from collections.abc import Iterator

import jaxtyping
import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from tests.book.browser import ARGUMENTS, NO_SITE, PATIENCE, SITE, Reader, patience, skip_or_fail
from tools.site import served

# The same examples in every run, so that a failure in CI is one here too.
settings.register_profile("book", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("book")


@pytest.fixture
def untyped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call helpers as a reader does: bad shapes reach their `ValueError`, not the type checker."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def browser(chromium_path: str) -> Iterator[Browser]:
    """Chromium, for one file and no longer: while it is open, no other event loop can run."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=ARGUMENTS)
        with patience(PATIENCE):
            yield browser
        browser.close()


@pytest.fixture(scope="module")
def site() -> None:
    """There is a built site, or the test is skipped; in CI it fails."""
    if not (SITE / "index.html").exists():
        skip_or_fail(NO_SITE.format(SITE))


@pytest.fixture(scope="module")
def reader(site: None, browser: Browser) -> Iterator[Reader]:
    """Reads the site from a static host."""
    with served(SITE) as address:
        yield Reader(browser, address)


@pytest.fixture(scope="module")
def offline_reader(site: None, browser: Browser) -> Reader:
    """Reads the site from files."""
    return Reader(browser, SITE.as_uri() + "/")
