"""What JupyterLab, editors and systems leave beside the sources is no part of the book."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from extensions.keys import execution_key
from tests.book.books import build, cell, executed, html, project, section
from tools.build import keys, sources
from tools.environment import ROOT
from tools.leftovers import files, is_leftover, pages

BROKEN = section("Left", "{numref}`nowhere`", cell("raise SystemExit"))
NOTEBOOK = nbformat.writes(nbformat.v4.new_notebook())
# Beside a section one.md: what left it, and its content.
LEFT = {
    ".ipynb_checkpoints/one-checkpoint.md": BROKEN,  # JupyterLab, when a section is opened
    ".~one.md": BROKEN,  # JupyterLab, while it saves
    "one.ipynb": NOTEBOOK,  # JupyterLab, "Save as" or a paired notebook
    "one-Copy1.md": BROKEN,  # JupyterLab, "Duplicate"
    "Untitled.ipynb": NOTEBOOK,  # JupyterLab, "New"
    "untitled.md": BROKEN,
    "untitled1.md": BROKEN,
    "untitled.txt": "",
    "Untitled Folder/notes.md": BROKEN,
    ".one.md.swp": "",  # Vim
    ".one.md.swo": "",
    "4913": "",
    "one.md~": BROKEN,  # Vim, Emacs, gedit
    "#one.md#": BROKEN,  # Emacs
    ".#one.md": "",
    ".one.md.kate-swp": "",  # Kate
    ".goutputstream-ABC123": "",  # gedit
    "one.md.bak": BROKEN,
    "one.md.orig": BROKEN,  # a merge, a patch
    "one.md.rej": "",
    "one.md.tmp": BROKEN,
    "__pycache__/one.cpython-311.pyc": "",
    ".DS_Store": "",
    "Thumbs.db": "",
    "desktop.ini": "",
}
CELLS = ["import rl_helpers"]
each_kind = pytest.mark.parametrize("name", LEFT)


def git(*words: str) -> str:
    """What git answers about the book's folder."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this copy of the book is no git repository")
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout


def leave(folder: Path) -> None:
    for name, content in LEFT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A book under a folder whose own name looks like a leftover's."""
    parts = {"chapters/one": section("One", cell("print(1)")), "chapters/two": "# Two\n"}
    conf = 'extensions = ["extensions.execution"]\nhtml_theme = "basic"\nhtml_static_path = ["assets"]\n'
    folder = tmp_path / ".books" / "untitled"
    folder.mkdir(parents=True)
    for name in ("assets", "extensions", "templates"):
        (folder / name).mkdir()
        (folder / name / "own.css").touch()
    return project(folder, parts, conf=conf)


@each_kind
def test_a_leftover_is_no_page_and_no_source(name: str, book: Path) -> None:
    before = keys(book), execution_key(book, CELLS)
    for folder in ("chapters", "assets", "extensions", "rl_helpers", "templates"):
        path = book / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(LEFT[name])
        assert is_leftover(path.relative_to(book))
        assert path not in sources(book)
        assert path not in files(book / folder)
    assert [page.name for page in pages(book)] == ["one.md", "two.md"]
    assert (keys(book), execution_key(book, CELLS)) == before


@each_kind
def test_git_ignores_a_leftover(name: str) -> None:
    path = f"chapters/mdp/{name}"
    assert git("check-ignore", "--no-index", path).strip(), path


def test_a_page_that_the_contents_forgot_is_no_leftover(book: Path) -> None:
    new = book / "chapters" / "part" / "new-section.md"
    new.parent.mkdir()
    before = keys(book)
    new.write_text("# New\n")
    assert new in pages(book)
    assert keys(book) != before


def test_no_file_of_the_book_is_a_leftover() -> None:
    for folder in ("assets", "chapters", "extensions", "rl_helpers", "templates"):
        tracked = git("ls-files", folder).splitlines()
        assert tracked, folder
        assert not [name for name in tracked if is_leftover(Path(name))]


@pytest.mark.filterwarnings("ignore")
def test_leftovers_fail_no_build_and_reach_no_site(book: Path) -> None:
    for folder in ("chapters", "assets", "rl_helpers", "."):
        leave(book / folder)
    status, log = build(book, "-W", "--keep-going")
    assert status == 0, log
    assert executed(log) == ["chapters/one"]
    site = book / "_build" / "html"
    assert html(book, "chapters/one")
    assert sorted(path.name for path in (site / "chapters").iterdir()) == ["one.html", "two.html"]
    own = {path.name for path in (site / "_static").rglob("*")}
    assert "own.css" in own
    assert not own & {Path(name).name for name in LEFT}
