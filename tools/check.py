"""What `make check` and `make test` run: one pytest each, and its own summary comes last."""

import os
import shlex
import subprocess
import time

from tools.build import build, report
from tools.environment import ROOT, python, variables
from tools.messages import Stop
from tools.site import build_folder

# The tests of a file stay in one process, in order: they share a browser, a kernel or a small book.
PYTEST = ["-m", "pytest", "--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
TESTS = ["tests", "rl_helpers"]


def pytest(*arguments: str, **env: str) -> int:
    """Run pytest with the reader's own arguments; return its exit status."""
    command = [python(), *PYTEST, *arguments, *shlex.split(os.environ.get("ARGS", ""))]
    return subprocess.run(command, cwd=ROOT, env=variables(**env)).returncode


def fast() -> int:
    """Make check: lint, types and unit tests, without a build."""
    return pytest("-m", "not site", *TESTS)


def everything() -> int:
    """Make test: a build, then every check there is."""
    failure = ""
    start = time.monotonic()
    try:
        report(build(), time.monotonic() - start)
    except Stop as stop:
        if "Interrupted" in str(stop):
            raise
        # The other checks may show why, so they run all the same; test_build.py fails.
        print(stop, flush=True)
        failure = str(stop)[-20_000:]  # an environment variable cannot hold any length
    seconds = time.monotonic() - start
    notebooks = build_folder() / "notebooks"
    executed = [str(notebooks)] if notebooks.is_dir() else []
    env = {"BOOK_FAILURE": failure, "BOOK_SECONDS": f"{seconds:.0f}"}
    return pytest("--nbval", "--nbval-current-env", *TESTS, *executed, **env)
