"""Run a command, showing its output and keeping what it says about failures."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


def stream(command: list[str], cwd: Path, env: dict[str, str]) -> tuple[int, str]:
    """Run a command to its end; return its exit status and what it wrote to standard error.

    Standard output goes straight to the terminal, which keeps pip's progress bars. The command has
    its own session, so that an interruption ends it with all its children (kernels, say).
    """
    errors: list[str] = []
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        assert process.stderr is not None

        def pass_on() -> None:
            with contextlib.suppress(ValueError):  # closed while being read, after an interruption
                for line in process.stderr or ():
                    errors.append(line)
                    sys.stderr.write(line)

        reader = threading.Thread(target=pass_on, daemon=True)
        reader.start()
        try:
            status = process.wait()
        except BaseException:
            end(process)
            raise
        finally:
            reader.join(timeout=5)
    return status, "".join(errors)


def end(process: subprocess.Popen[str]) -> None:
    """Interrupt a command's whole session, and kill what does not end by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
