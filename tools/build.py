"""Execute and build the book into a stage, and publish the stage only when the build succeeded.

Inside the build folder (_build, or BOOK_BUILD_DIR):
    html/       the last good site, which readers and tests see
    notebooks/  the executed notebooks, kept by extensions/execution.py as its cache
    stage/      where Jupyter Book works; kept, so that the next build only redoes what changed
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tools.environment import ROOT, VENV, variables
from tools.leftovers import files
from tools.messages import FULL, Stop, explain
from tools.process import stream
from tools.site import build_folder

# Inputs shared by all pages: when one changes, every page is rendered again. Sections and helpers
# are not among them: extensions/execution.py finds the pages whose outputs changed.
SHARED = ("_config.yml", "_toc.yml", "constraints.txt", "package-lock.json")
SHARED_FOLDERS = ("assets", "extensions", "templates")
FOLDERS = ("chapters", "rl_helpers")
SETTINGS = (
    "BOOK_BRANCH", "BOOK_REPOSITORY", "BOOK_SECTION_LIMIT", "BOOK_SOLUTIONS", "BOOK_URL"
)  # fmt: skip
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
PROBLEM = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^[\w.]*(Error|Exception)\b.*: ")


def sources(root: Path = ROOT) -> list[Path]:
    """Every file that the site is made of."""
    found = [root / name for name in SHARED if (root / name).exists()]
    for folder in (*SHARED_FOLDERS, *FOLDERS):
        found += files(root / folder)
    return sorted([*found, *root.glob("*.bib")])


def keys(root: Path = ROOT) -> tuple[str, str]:
    """Two hashes of what the site is made of: the shared inputs, and sections with helpers.

    The names of the sections count as shared: every page has them in its sidebar.
    What was accepted counts as text: no page shows it.
    """
    shared, own = hashlib.sha256(), hashlib.sha256()
    for name in SETTINGS:
        shared.update(f"{name}={os.environ.get(name, '')}\0".encode())
    environment = VENV / "pyvenv.cfg"  # names the version of Python
    shared.update(environment.read_bytes() if environment.exists() else b"")
    for path in sources(root):
        name, content = path.relative_to(root).as_posix(), path.read_bytes()
        section = name.startswith("chapters/") and name.endswith((".md", ".lock.yml"))
        helper = name.startswith("rl_helpers/")
        (own if helper else shared).update(f"{name}\0".encode())
        digest = own if helper or section else shared
        digest.update(f"{len(content)}\0".encode() + content)
    return shared.hexdigest(), own.hexdigest()


def publish(staged: Path, site: Path) -> None:
    """Put the staged site in the place of the published one, which is whole at every moment."""
    new, old = site.with_name(site.name + ".new"), site.with_name(site.name + ".old")
    recover(site)
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(staged, new)
    if site.exists():
        site.rename(old)
    new.rename(site)
    shutil.rmtree(old, ignore_errors=True)


def recover(site: Path) -> None:
    """Undo a publication that was interrupted between its two renames."""
    old = site.with_name(site.name + ".old")
    if old.exists() and not site.exists():
        old.rename(site)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep two builds from working in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            print("Another build of the book is running; this one waits for it.", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def warnings_in(errors: str) -> list[str]:
    """The warnings and errors, each once and in order, with the indented lines below them."""
    found: dict[str, None] = {}
    entry: list[str] = []
    for line in [*COLOURS.sub("", errors).splitlines(), ""]:
        if entry and line.startswith("    "):
            entry.append(line)
            continue
        if entry:
            found["\n".join(entry)] = None
        entry = [line.rstrip()] if PROBLEM.search(line) else []
    return list(found)


def build(root: Path = ROOT, folder: Path | None = None, command: list[str] | None = None) -> Path:
    """Build the book if anything changed; return the site's first page, or raise Stop.

    A failed or interrupted build leaves html/ as it was, and the executed notebooks for the next.
    """
    folder = folder or build_folder(root)
    site, stage, good = folder / "html", folder / "stage", folder / "stage" / "good"
    if command is None:
        command = [str(VENV / "bin" / "jupyter-book"), "build", ".", "-n", "-W", "--keep-going"]
        # As a "custom" builder, Jupyter Book does not end with the address of the stage.
        command += ["--builder", "custom", "--custom-builder", "html"]
        command += ["--path-output", str(stage)]
    with only_one(folder):
        recover(site)
        now = list(keys(root))
        before = good.read_text().split() if good.exists() else []
        if now == before and (site / "index.html").exists() and (folder / "notebooks").is_dir():
            return site / "index.html"
        if now[:1] != before[:1]:
            # A page whose warnings were shown once is not read again, so its warnings would be
            # forgotten: only a stage that ended well may be continued.
            shutil.rmtree(stage, ignore_errors=True)
        good.unlink(missing_ok=True)
        try:
            status, errors = stream(command, root, variables())
        except KeyboardInterrupt:
            kept = "the last good site is still in place" if site.exists() else "no site was made"
            raise Stop(f"\nInterrupted: {kept}, and what was executed is kept.") from None
        if status:
            found = warnings_in(errors)
            lines = [f"The build failed (exit status {status})."]
            lines += [FULL] if explain(errors) == FULL else []
            lines += [f"Warnings and errors ({len(found)}):", *found] if found else []
            lines += ["The last good site is still in place."] if site.exists() else []
            raise Stop("\n".join(lines))
        publish(stage / "_build" / "html", site)
        good.write_text("\n".join(now))
    return site / "index.html"


def report(page: Path, seconds: float) -> None:
    """Say where to open the book."""
    shown = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
    print(f"\nThe book is up to date ({seconds:.0f} s). Open {shown}\n{page.as_uri()}", flush=True)


def main() -> None:
    """Make book, once the environment is there."""
    start = time.monotonic()
    page = build()
    report(page, time.monotonic() - start)
