"""What an execution depends on besides the section's own cells: its key.

The key of a section holds the helpers that it imports, directly or through other helpers, the lock
file, the kernels' environment and the version of Python. So a page never shows what an older helper
computed, and a change of one helper executes only the sections that use it.
"""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

from extensions.kernels import KERNEL_ENV

PACKAGE = "rl_helpers"
LOCK = "constraints.txt"


def execution_key(source: str | Path, cells: Iterable[str]) -> str:
    """Return a hash of everything but its cells that the execution of a section depends on.

    Args:
        source: the folder that holds the helpers' package and the lock file.
        cells: the section's code cells, as IPython would run them.
    """
    root = Path(source)
    key = hashlib.sha256(repr([platform.python_version(), KERNEL_ENV]).encode())
    for path in [*sorted(helpers(root, cells)), root / LOCK]:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        key.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return key.hexdigest()[:16]


def helpers(root: Path, cells: Iterable[str]) -> set[Path]:
    """Return the files of the package that code imports, directly or through one another."""
    found: set[Path] = set()
    waiting = [TransformerManager().transform_cell(cell) for cell in cells]
    while waiting:
        named = {path for name in imported(waiting.pop()) for path in files(root, name)}
        for path in named - found:
            found.add(path)
            waiting.append(path.read_text("utf8"))
    return found


@cache
def imported(code: str) -> frozenset[str]:
    """Return what a piece of code imports; of `from a import b`, where b may be a module, `a.b`.

    Code that cannot be parsed fails when it runs; here it imports nothing.
    """
    names = set[str]()
    with suppress(SyntaxError):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def files(root: Path, name: str) -> Iterator[Path]:
    """Return the files that run when a dotted name of the package is imported: its packages' too."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return
    for end in range(1, len(parts) + 1):
        path = root.joinpath(*parts[:end])
        candidates = (path / "__init__.py", path.with_name(f"{path.name}.py"))
        yield from (candidate for candidate in candidates if candidate.is_file())
