"""What every test may use, and the notebooks' environment."""

import os
from collections.abc import Iterator

import pytest

from tools import chromium


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Execute notebooks again as the build did; all other tests see the live instruments."""
    if not type(item).__module__.startswith("nbval"):
        return (yield)
    from extensions.kernels import KERNEL_ENV

    with pytest.MonkeyPatch.context() as patch:
        for name, value in KERNEL_ENV.items():
            patch.setenv(name, value)
        return (yield)


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Chromium, or a skip that says so; in CI its absence is a failure."""
    found = chromium.find()
    if found:
        return found
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(chromium.MISSING)
    pytest.skip(chromium.MISSING)
