"""What the tests of the built site share: that there is one, and its readers."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.book.browser import NO_SITE, SITE, Reader, skip_or_fail
from tools.site import served


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
