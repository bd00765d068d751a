"""What every test may use, the notebooks' environment, and where the time went."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import chromium

# Before anything loads torch: its tensors are small here, and a second thread would only spin, and
# take the core from the other process. A number that is set already stands.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# What a run does, the longest first, and how the path of a test tells: the first that fits.
PHASES = {
    "pages in a browser": (
        "tests/book/test_visits.py",
        "tests/book/test_browser.py",
        "tests/book/test_reading.py",
    ),
    "sections in JupyterLab": ("tests/book/test_lab.py",),
    "mistakes planted": ("tests/book/test_planted.py",),
    "second build": ("tests/book/test_build.py",),
    "notebooks executed again": (".ipynb",),
    "tests of tools and extensions": ("tests/tools", "tests/book"),
    "tests of the helpers": ("",),
}


def is_notebook(item: pytest.Item) -> bool:
    """Whether a test is a cell of an executed notebook."""
    return type(item).__module__.startswith("nbval")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest: two processes then end at about the same time."""
    order = list(PHASES)
    items.sort(key=lambda item: order.index(phase(item.nodeid)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Execute notebooks again as the build did; all other tests see the live instruments."""
    if not is_notebook(item):
        return (yield)
    from extensions.forking import fork_kernels
    from extensions.kernels import KERNEL_ENV

    fork_kernels()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KERNEL_ENV.items():
            patch.setenv(name, value)
        return (yield)


def phase(test: str) -> str:
    """The phase that a test belongs to, from its path."""
    path = Path(test.split("::")[0]).as_posix()
    return next(name for name, parts in PHASES.items() if any(part in path for part in parts))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say where the time went, in seconds of work: processes work side by side."""
    spent: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                spent[phase(report.nodeid)] += report.duration
    if build := os.environ.get("BOOK_SECONDS"):
        spent["build"] = float(build)
    terminalreporter.section("where the time went")
    for name, seconds in sorted(spent.items(), key=lambda entry: -entry[1]):
        terminalreporter.write_line(f"{seconds:6.0f} s  {name}")


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """Chromium, or a skip that says so; in CI its absence is a failure."""
    found = chromium.find()
    if found:
        return found
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(chromium.MISSING)
    pytest.skip(chromium.MISSING)
