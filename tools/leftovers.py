"""Leftovers: what JupyterLab, editors and systems put beside the sources, and is none of them.

Opening a section in JupyterLab leaves `.ipynb_checkpoints/`, Vim a swap file, a copy is named
`ppo-Copy1.md`. By its name alone such a file is no page and no source: it starts no build, reaches
no site and fails no test. Any other Markdown file below `chapters/` is a page, and the lint asks
for its place in the table of contents.
"""

from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from tools.environment import ROOT

# Of a file or a folder. Sections are Markdown: a notebook beside one was saved from it.
PATTERNS = (
    ".*",
    "__pycache__",
    "*.ipynb",
    "[Uu]ntitled*",
    "*-Copy[0-9]*",
    "*~",
    "[#]*[#]",
    "4913",
    "*.bak",
    "*.orig",
    "*.rej",
    "*.sw[a-p]",
    "*.tmp",
    "Thumbs.db",
    "desktop.ini",
)


def is_leftover(path: PurePath) -> bool:
    """Whether a path, relative to the book, names a leftover or something inside one."""
    return any(fnmatchcase(part, pattern) for part in path.parts for pattern in PATTERNS)


def files(folder: Path) -> list[Path]:
    """Every file below a folder that is no leftover, by name."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not is_leftover(path.relative_to(folder)))


def pages(root: Path = ROOT) -> list[Path]:
    """Every page of the book: the Markdown files below `chapters/`."""
    return [path for path in files(root / "chapters") if path.suffix == ".md"]
