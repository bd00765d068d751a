"""Everything that can be checked, in one pytest run after a build."""

import os
import shlex
import subprocess
import time

from tools.build import build, report
from tools.environment import ROOT, python, variables
from tools.messages import Stop
from tools.site import build_folder


def main() -> int:
    """Make test, once the environment is there. Returns pytest's exit status."""
    failure = ""
    start = time.monotonic()
    try:
        report(build(), time.monotonic() - start)
    except Stop as stop:
        if "Interrupted" in str(stop):
            raise
        # The other checks may show why, so they run all the same; tests/test_build.py fails.
        print(stop, flush=True)
        failure = str(stop)[-20_000:]  # an environment variable cannot hold any length
    folder = build_folder()
    command = [python(), "-m", "pytest", "--nbval", "--nbval-current-env", "tests", "rl_helpers"]
    command += [str(folder / "notebooks")] if (folder / "notebooks").is_dir() else []
    command += shlex.split(os.environ.get("ARGS", ""))
    return subprocess.run(command, cwd=ROOT, env=variables(BOOK_FAILURE=failure)).returncode
