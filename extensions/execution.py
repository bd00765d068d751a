"""Execution: every section runs once, in parallel, before Sphinx reads a page.

An executed notebook is found again by the section's code cells (hashed by jupyter-cache, as MyST-NB
does) and taken if its key, all else that an execution depends on (``extensions/keys.py``), is still
the same. MyST-NB then finds every notebook in that cache and executes nothing itself.

Written to the build folder (``_build`` beside the sources, or ``BOOK_BUILD_DIR``):

- ``notebooks/<docname>.ipynb``: what was executed. The ledger reads it, nbval executes it again.
- ``timings.json``: seconds of each section; they stay out of notebooks, which two clean builds must
  make identical, and of all pages but the one that lists them (``extensions/run_times.py``). The
  role ``{run-time}`` shows them in coarse steps.
- ``.jupyter_cache``: the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from myst_nb.core.read import create_nb_reader
from nbclient import NotebookClient
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import ConfigError
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

from extensions.forking import fork_kernels
from extensions.kernels import SectionFailed, kernels_killed, run
from extensions.keys import execution_key
from tools.leftovers import PATTERNS
from tools.site import build_folder

logger = logging.getLogger(__name__)

NOTEBOOKS_KEPT = 200  # in the cache; the ones not used for the longest time go first
STEPS = {30: "30 s", 60: "60 s", 120: "2 min"}  # what {run-time} may say


# ---- Where things are ---------------------------------------------------------------------------


def notebook_path(source: str | Path, docname: str) -> Path:
    """Return where the executed notebook of a section is."""
    return build_folder(source) / "notebooks" / f"{docname}.ipynb"


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and leave it alone where nothing changes."""
    if path.is_file() and path.read_text("utf8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, "utf8")
    draft.replace(path)


# ---- The sections -------------------------------------------------------------------------------


def read_sections(env: BuildEnvironment) -> dict[str, NotebookNode]:
    """Read every page that is a notebook, with MyST-NB's own reader so that both hash the same."""
    sections = {}
    for docname in sorted(env.found_docs):
        path = env.doc2path(docname)
        text = Path(path).read_text("utf8")
        reader = create_nb_reader(path, env.myst_config, env.mystnb_config, text)  # type: ignore[attr-defined]
        if reader is not None:
            sections[docname] = reader.read(text)
            for number, cell in enumerate(sections[docname].cells):
                cell["id"] = f"cell-{number}"  # the reader's are random
    return sections


# ---- The cache ----------------------------------------------------------------------------------


def open_cache(path: Path) -> Any:
    """Open the cache, anew where an interruption left it without its tables."""
    cache = get_cache(path)
    try:
        cache.list_cache_records()
    except RuntimeError:
        cache.db.dispose()
        cache.clear_cache()
    cache.change_cache_limit(NOTEBOOKS_KEPT)
    return cache


def key_of(source: str | Path, notebook: NotebookNode) -> str:
    """Return the key of a section's execution."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return execution_key(source, cells)


def from_cache(cache: Any, notebook: NotebookNode, key: str) -> tuple[NotebookNode, float] | None:
    """Return a section with its cached outputs and its seconds, if it was executed with this key."""
    try:
        data = cache.match_cache_notebook(notebook).data
        if data["key"] != key:
            return None
        return cache.merge_match_into_notebook(notebook)[1], data["seconds"]
    except (KeyError, ValueError):  # not there, or cut short by an interruption
        return None


def store(cache: Any, notebook: NotebookNode, path: Path, key: str, seconds: float) -> None:
    """Put an executed section into the cache, over what an older helper or a crash left there."""
    hashed = cache.create_hashed_notebook(notebook)[1]
    shutil.rmtree(cache.path / "executed" / hashed, ignore_errors=True)
    bundle = CacheBundleIn(notebook, str(path), data={"key": key, "seconds": seconds})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


# ---- All sections -------------------------------------------------------------------------------


def execute_stale(
    env: BuildEnvironment, stale: dict[str, NotebookNode], keys: dict[str, str], cache: Any
) -> None:
    """Execute sections side by side; end the build, naming file and line, if any of them fails."""
    source, running, failed = Path(env.srcdir), set[NotebookClient](), 0
    timings = build_folder(source) / "timings.json"
    before = json.loads(timings.read_text()) if timings.is_file() else {}
    if stale:
        logger.info("executing %d sections", len(stale))
    # The slowest first; of those whose time is not known the last, since later parts train more.
    slowest_first = sorted(sorted(stale, reverse=True), key=lambda name: -before.get(name, 1e9))
    with ThreadPoolExecutor(os.cpu_count()) as pool, kernels_killed(pool, running):
        tasks = {}
        for docname in slowest_first:
            path = Path(env.doc2path(docname))
            tasks[pool.submit(run, stale[docname], source, path, running)] = docname, path
        for task in as_completed(tasks):
            docname, path = tasks[task]
            try:
                seconds = task.result()
            except SectionFailed as error:
                with logging.skip_warningiserror():  # -W would end the build at the first one
                    logger.error("%s", error, location=(docname, error.line), type="book")
                failed += 1
            else:
                store(cache, stale[docname], path, keys[docname], seconds)
                logger.info("executed %s in %.1f s", docname, seconds)
    if failed:
        # Not an exception of Sphinx's: Jupyter Book would bury the message under its traceback.
        raise SystemExit(f"{failed} of {len(stale)} sections failed to execute; nothing was built.")


def execute(app: Sphinx, env: BuildEnvironment, *changes: set[str]) -> list[str]:
    """Execute what is stale, write the notebooks, and return the pages whose outputs changed."""
    limit = section_limit()
    sections = read_sections(env)
    cache = open_cache(Path(app.config.nb_execution_cache_path))
    keys = {docname: key_of(app.srcdir, notebook) for docname, notebook in sections.items()}
    found = {docname: from_cache(cache, nb, keys[docname]) for docname, nb in sections.items()}
    # What took too long runs again: the machine may have been busy.
    stale = {d: deepcopy(sections[d]) for d, it in found.items() if not it or it[1] > limit}
    execute_stale(env, stale, keys, cache)

    folder = build_folder(app.srcdir)
    digests, seconds = {}, {}
    for docname, notebook in sections.items():
        cached = found[docname]
        if docname in stale:
            cached = from_cache(cache, notebook, keys[docname])
        assert cached is not None, f"{docname} was executed, but its cached notebook is not found"
        executed, seconds[docname] = cached
        text = nbformat.writes(executed) + "\n"
        write(notebook_path(app.srcdir, docname), text)
        digests[docname] = hashlib.sha256((text + step(seconds[docname])).encode()).hexdigest()
        if seconds[docname] > limit:
            logger.warning(
                "the section took %.0f s to execute; allowed are %g s (BOOK_SECTION_LIMIT)",
                seconds[docname], limit, location=docname, type="book",
            )  # fmt: skip
    cache.db.dispose()
    write(folder / "timings.json", json.dumps(seconds, indent=1) + "\n")
    for path in (folder / "notebooks").rglob("*.ipynb"):
        if path.relative_to(folder / "notebooks").with_suffix("").as_posix() not in sections:
            path.unlink()  # its section is gone

    before = getattr(env, "book_executed", {})
    env.book_executed, env.book_seconds = digests, seconds  # type: ignore[attr-defined]
    changed = {docname for docname in digests if digests[docname] != before.get(docname)}
    env.book_changed = changed  # type: ignore[attr-defined]
    return sorted(changed)


def section_limit() -> float:
    """Return the seconds that a section may take, from ``BOOK_SECTION_LIMIT``."""
    value = os.environ.get("BOOK_SECTION_LIMIT") or "120"
    try:
        return float(value)
    except ValueError:
        message = f"BOOK_SECTION_LIMIT is {value!r}; allowed is a number of seconds"
        raise ConfigError(message) from None


def step(seconds: float) -> str:
    """Return a run time in coarse steps, so that the next build most likely says the same."""
    for most, text in STEPS.items():
        if seconds <= most:
            return f"under {text}"
    return f"under {int(seconds // 60) + 1} min"


class RunTime(SphinxRole):
    """``{run-time}`under 30 s```: the page's measured run time in place of the words given."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Replace the role by the measured time."""
        seconds = getattr(self.env, "book_seconds", {}).get(self.env.docname)
        if seconds is None:
            where = self.get_location()
            logger.warning("{run-time} on a page without code", location=where, type="book")
        return [nodes.Text(self.text if seconds is None else step(seconds))], []


def configure(app: Sphinx, config: Config) -> None:
    """Point MyST-NB at the cache; keep Sphinx from leftovers and the build folder."""
    folder = build_folder(app.srcdir)
    config.nb_execution_mode = "cache"
    config.nb_execution_cache_path = str(folder / ".jupyter_cache")
    excluded = [f"{above}{name}" for name in PATTERNS for above in ("", "**/")]
    if folder.is_relative_to(app.srcdir):
        excluded.append(folder.relative_to(app.srcdir).as_posix())
    config.exclude_patterns.extend(excluded)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("myst_nb")
    fork_kernels()
    app.add_role("run-time", RunTime())
    app.connect("config-inited", configure)
    app.connect("env-get-outdated", execute)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
