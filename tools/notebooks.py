"""Convert the sections to .ipynb files without outputs: python -m tools.notebooks FOLDER.

Where BOOK_REPOSITORY is known, each notebook starts with a cell that installs the helpers if they
are missing, as in Colab, from the very commit that the notebook was made of. Where BOOK_URL is
known, it also links to its page.
"""

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from tools.environment import ROOT
from tools.leftovers import pages

INSTALL = """\
# Only where the book's helpers are missing (in Colab, say): install them as they were at this
# commit. Other packages keep this machine's versions, so last digits may differ from the book's.
import importlib.util

if importlib.util.find_spec("rl_helpers") is None:
    %pip install --quiet "rl-helpers @ git+{repository}@{revision}"
"""
README = """\
# The book's sections as notebooks

Made by the book's workflow from the sections on its main branch; changes made here are overwritten.
"""


def section_files(root: Path = ROOT) -> list[Path]:
    """The executable pages, sections and those that lead to them: all that name a kernel."""
    return [
        path for path in pages(root) if "kernelspec" in jupytext.read(path, fmt="md:myst").metadata
    ]


def convert(path: Path, name: str, repository: str, revision: str, url: str) -> NotebookNode:
    """One section as a notebook. `name` is its path in the book, without suffix."""
    notebook = jupytext.read(path, fmt="md:myst")
    notebook.metadata.pop("jupytext", None)
    first = []
    if url:
        page = f"{url.rstrip('/')}/{name}.html"
        text = f"The code of [this page]({page}), where equations, links and figures are rendered."
        first.append(nbformat.v4.new_markdown_cell(text))
    if repository:
        source = INSTALL.format(repository=repository, revision=revision).rstrip()
        first.append(nbformat.v4.new_code_cell(source))
    notebook.cells = first + notebook.cells
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # random otherwise: every run would change every notebook
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return notebook


def write(target: Path, root: Path, repository: str, revision: str, url: str) -> list[Path]:
    """Write all notebooks below `target`, at their sections' paths; return what was written."""
    written = []
    for path in section_files(root):
        name = path.relative_to(root).with_suffix("").as_posix()
        file = target / f"{name}.ipynb"
        file.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(convert(path, name, repository, revision, url), file)
        written.append(file)
    (target / "README.md").write_text(README, encoding="utf-8")
    return written


def commit(root: Path) -> str:
    """The commit that the sections are at; the branch where there is no history to ask."""
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else os.environ.get("BOOK_BRANCH", "main")


def main(arguments: list[str]) -> int:
    """Convert into the folder named on the command line."""
    if len(arguments) != 1:
        print("Usage: python -m tools.notebooks FOLDER", file=sys.stderr)
        return 2
    repository, url = os.environ.get("BOOK_REPOSITORY", ""), os.environ.get("BOOK_URL", "")
    written = write(Path(arguments[0]), ROOT, repository, commit(ROOT), url)
    print(f"{len(written)} notebooks in {arguments[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
