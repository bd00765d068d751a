"""Copy the notebooks of the built site into a folder: python -m tools.notebooks FOLDER.

The build writes a notebook beside each page with code (`extensions/notebooks.py`). The publishing
workflow puts them, and nothing else, on the branch from which Colab opens them.
"""

import shutil
import sys
from pathlib import Path

from tools.messages import Stop
from tools.site import build_folder

README = """\
# The book's sections as notebooks

Made by the book's workflow from the sections on its main branch; changes made here are overwritten.
"""


def notebooks(site: Path) -> list[Path]:
    """The notebooks of a built site; raises Stop where there are none."""
    found = sorted((site / "chapters").rglob("*.ipynb"))
    if not found:
        raise Stop(f"There are no notebooks in {site}: `make book` makes them.")
    return found


def copy(target: Path, site: Path) -> list[Path]:
    """Copy all notebooks below `target`, at their pages' paths; return what was written."""
    written = []
    for path in notebooks(site):
        file = target / path.relative_to(site)
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, file)
        written.append(file)
    (target / "README.md").write_text(README, encoding="utf-8")
    return written


def main(arguments: list[str]) -> int:
    """Copy into the folder named on the command line."""
    if len(arguments) != 1:
        print("Usage: python -m tools.notebooks FOLDER", file=sys.stderr)
        return 2
    try:
        written = copy(Path(arguments[0]), build_folder() / "html")
    except Stop as stop:
        print(stop, file=sys.stderr)
        return 1
    print(f"{len(written)} notebooks in {arguments[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
