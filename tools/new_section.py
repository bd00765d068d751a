"""Begin a section: make section NAME=part/name TITLE="…" writes it and gives it its place in _toc.yml.

The section comes from `tools/section.md` and has every part that a section owes. It executes as it is;
the build then names, with file and line, each TODO that is still to be written.
"""

import re
import sys
from pathlib import Path

from tools.environment import ROOT
from tools.messages import Stop

TEMPLATE = Path(__file__).with_name("section.md")
USAGE = 'make section NAME=part/name TITLE="…"'
ROW = re.compile(r"^(?P<indent> +)- file: chapters/(?P<part>[\w-]+)/(?P<name>[\w-]+)$")


def parts(toc: list[str]) -> list[str]:
    """The parts of the book: what has a first page with sections below it."""
    rows = [ROW.match(line) for line in toc]
    return [
        match["part"]
        for match, below in zip(rows, toc[1:], strict=False)
        if match and match["name"] == "index" and below.strip() == "sections:"
    ]


def placed(toc: list[str], part: str, name: str) -> list[str]:
    """The table of contents with one more section, the last of its part."""
    rows = [(n, match) for n, line in enumerate(toc) if (match := ROW.match(line))]
    at, last = [(n, match) for n, match in rows if match["part"] == part][-1]
    indent = last["indent"] if last["name"] != "index" else last["indent"] + "    "
    return [*toc[: at + 1], f"{indent}- file: chapters/{part}/{name}", *toc[at + 1 :]]


def begin(name: str, title: str, root: Path = ROOT) -> Path:
    """Write the section; return its file.

    Raises:
        Stop: a name that cannot be, a part that is not there, a section that is, or no title.
    """
    toc_file = root / "_toc.yml"
    toc = toc_file.read_text("utf8").splitlines()
    part, _, short = name.partition("/")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", short):
        raise Stop(
            f"NAME is {name!r}; allowed is part/name, in lower-case words with hyphens: {USAGE}"
        )
    if part not in parts(toc):
        raise Stop(f"There is no part {part!r}; parts are {', '.join(parts(toc))}.")
    if not title.strip():
        raise Stop(f"The section needs a title: {USAGE}")
    file = root / "chapters" / part / f"{short}.md"
    if file.exists():
        raise Stop(f"{file.relative_to(root)} is there already.")
    text = TEMPLATE.read_text("utf8").replace("@name@", short).replace("@title@", title.strip())
    file.write_text(text, encoding="utf-8")
    toc_file.write_text("\n".join(placed(toc, part, short)) + "\n", encoding="utf-8")
    return file


def main(arguments: list[str]) -> int:
    """Make section."""
    try:
        name, title = arguments
        file = begin(name, title)
    except Stop as stop:
        print(stop, file=sys.stderr)
        return 1
    shown = file.relative_to(ROOT)
    print(f"{shown} is written and has its place in _toc.yml.")
    print("`make serve` shows it while you write; each build lists what is still to do, by line.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
