"""The Makefile's targets."""

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
from typing import NoReturn

from tools import environment
from tools.messages import FULL, Stop

USAGE = (
    "Targets: book, pdf, check, test, robust, mutate, accept, section, teaching, lab, serve, lock, "
    "bench, bench-book, clean, distclean (see make help)"
)
LEFTOVERS = (".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "rl_helpers.egg-info")


def clean(everything: bool) -> None:
    """Remove what was built; with `everything` also what was installed."""
    names = ["_build", *LEFTOVERS]
    names += [".venv", "node_modules"] if everything else []
    for name in names:
        if (environment.ROOT / name).exists():
            shutil.rmtree(environment.ROOT / name)
            print(f"removed {name}")


def lock() -> None:
    """Write constraints.txt anew from the requirements, for all platforms and Pythons from 3.11."""
    from tools import newest

    path = environment.ROOT / newest.LOCK
    text = path.read_text("utf8")
    path.write_text("")  # the requirements point at the old lock, which would hold all versions
    try:
        text = newest.resolve(environment.ROOT)
    finally:
        path.write_text(text, "utf8")


def module(*words: str, **extra: str) -> int:
    """Run a module with its arguments and extra variables; return its exit status."""
    command, env = [environment.python(), "-m", *words], environment.variables(**extra)
    return subprocess.run(command, cwd=environment.ROOT, env=env).returncode


def run(target: str) -> int:
    """Run one target; return its exit status."""
    status = 0
    if target == "book":
        environment.ensure("book")
        from tools import build

        build.main()
    elif target == "pdf":
        environment.ensure("dev")
        from tools import build

        build.main()
        status = module("tools.pdf")
    elif target in ("check", "test"):
        environment.ensure("dev")
        from tools import check

        status = check.fast() if target == "check" else check.everything()
    elif target == "serve":
        environment.ensure("book")
        from tools import serve

        serve.main()
    elif target == "lab":
        environment.ensure("book")
        from tools import lab

        lab.main()
    elif target == "robust":
        environment.ensure("dev")
        status = module("tools.robust", *shlex.split(os.environ.get("ARGS", "")))
    elif target == "mutate":
        environment.ensure("dev")
        status = module("tools.mutate", *shlex.split(os.environ.get("ARGS", "")))
    elif target == "accept":
        environment.ensure("book")
        status = module("tools.locks", os.environ.get("LABEL", ""))
    elif target == "section":
        environment.ensure("book")
        words = [os.environ.get("NAME", ""), os.environ.get("TITLE", "")]
        status = module("tools.new_section", *words)
    elif target == "teaching":
        environment.ensure("book")
        from tools import build

        build.main()
        status = module("tools.teaching")
    elif target == "lock":
        environment.ensure("dev")
        lock()
    elif target == "bench-book":
        environment.ensure("dev")
        status = module("benchmarks.book")
    elif target == "bench":
        environment.ensure("dev")
        peers = str(environment.install_peers())
        status = (
            module("pytest", "-q", "benchmarks", PYTHONPATH=peers)
            or module("benchmarks.bandits")
            or module("benchmarks.messages")
            or module("benchmarks.sweeps")
            or module("benchmarks.cartpole", PYTHONPATH=peers)
            or module("benchmarks.pendulum", PYTHONPATH=peers)
            or module("benchmarks.language_models", PYTHONPATH=peers)
        )
    elif target in ("clean", "distclean"):
        clean(everything=target == "distclean")
    else:
        raise Stop(f"There is no target {target!r}. {USAGE}")
    return status


def main(arguments: list[str]) -> int:
    """Run the target named on the command line, with messages for people on failure."""

    def end(number: int, _: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        return run(arguments[0] if arguments else "")
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(f"\n{FULL}", file=sys.stderr)
            return 1
        raise
