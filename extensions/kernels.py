"""Kernels: execute one notebook, and say where in its source it failed."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

# What kernels get besides the build's own environment. One thread each: kernels run side by side,
# and a sum's last digit may depend on the number of threads. nbval must set the same.
KERNEL_ENV = {
    "BOOK_STATIC": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
CELL_TIMEOUT = 1800  # seconds: only to end what hangs; BOOK_SECTION_LIMIT is what counts
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class SectionFailed(Exception):
    """A section that did not run to its end: the line in its source, and why."""

    def __init__(self, line: int | None, message: str) -> None:
        super().__init__(message)
        self.line = line


def new_client(notebook: NotebookNode, allow_errors: bool = False) -> NotebookClient:
    """Return what executes a notebook in place, to its first error or in spite of all."""
    return NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        allow_errors=allow_errors,
        coalesce_streams=True,  # how prints come in pieces differs from run to run
        record_timing=False,  # times in the cells' metadata would change the notebook's hash
        shutdown_kernel="immediate",
        config=Config({"KernelManager": {"transport_encryption": "auto"}}),
    )


def kernel_env(source: Path) -> dict[str, str]:
    """Return the environment of a kernel that executes a section of the book in a folder."""
    # The helpers that were hashed are the helpers that run, wherever the project is installed.
    paths = filter(None, [str(source), os.environ.get("PYTHONPATH")])
    return {**os.environ, **KERNEL_ENV, "PYTHONPATH": os.pathsep.join(paths)}


def run(notebook: NotebookNode, source: Path, path: Path, running: set[NotebookClient]) -> float:
    """Execute a notebook in place, in the folder of its source, and return the seconds taken."""
    client = new_client(notebook)
    at = [0]
    client.on_cell_start = lambda cell, cell_index: at.__setitem__(0, cell_index)
    running.add(client)
    start = time.monotonic()
    try:
        asyncio.run(client.async_execute(cwd=str(path.parent), env=kernel_env(source)))
    except Exception as error:  # of the cell, or of its kernel: both are reported at the cell
        raise failure(error, notebook, at[0], path.read_text("utf8")) from None
    finally:
        running.discard(client)
    return time.monotonic() - start


def failure(error: Exception, notebook: NotebookNode, index: int, text: str) -> SectionFailed:
    """Say where in the source a cell failed, and why, in the kernel's own words."""
    traceback = ANSI.sub("", str(error)).strip()
    if isinstance(error, CellExecutionError):
        outputs = notebook.cells[index].get("outputs", [])
        raised = [ANSI.sub("", "\n".join(o.traceback)) for o in outputs if o.output_type == "error"]
        traceback = raised[-1].strip() if raised else traceback
    summary = traceback.splitlines()[-1] if traceback else type(error).__name__
    in_cell = re.search(r"Cell In\s*\[\d+\], line (\d+)", traceback)
    line = cell_line(notebook, index, text)
    if line is not None and in_cell:
        line += int(in_cell[1]) - 1
    shown = "\n".join(f"    {row}" for row in traceback.splitlines()[-16:])
    return SectionFailed(line, f"a cell failed: {summary}\n{shown}")


def cell_line(notebook: NotebookNode, index: int, text: str) -> int | None:
    """Return the line, from 1, on which a cell's code begins in the section's source."""
    if "source_map" not in notebook.metadata:
        return None
    fence, lines = notebook.metadata["source_map"][index], text.splitlines()
    first = notebook.cells[index].source.split("\n")[0]
    return next((n + 1 for n in range(fence, len(lines)) if lines[n] == first), fence + 1)


@contextmanager
def kernels_killed(pool: ThreadPoolExecutor, running: set[NotebookClient]) -> Iterator[None]:
    """On an interruption, end the kernels that run: their threads end with them."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for client in list(running):
            process = getattr(getattr(client.km, "provisioner", None), "process", None)
            if process is not None:
                process.kill()
        raise
