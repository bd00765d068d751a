"""Locks: what each labelled equation said, and how it was checked, when somebody last read both.

A check can be changed so that it still passes but no longer tests what the page displays. The lock
file holds, for each label, the displayed LaTeX and a hash of the code cells that name the label;
comments and layout of the code do not count. The build compares (`extensions.lints.lint_locks`), and
a change of either fails it until `make accept LABEL=eq-…`.
"""

import difflib
import hashlib
import json
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

from tools import addresses, leftovers, sources
from tools.environment import ROOT
from tools.messages import Stop

FILE = "chapters/equations.lock.yml"
HEAD = """\
# What each labelled equation displays, and a hash of the code that checks it, as last accepted.
# Either change fails the build until `make accept LABEL=eq-…`: read the equation and its checks first.
"""


@dataclass(frozen=True)
class Lock:
    """The displayed LaTeX of an equation, and a hash of the cells that check it."""

    latex: str
    check: str


def read(text: str) -> dict[str, Lock]:
    """Return the locks of a page's equations as they are now."""
    trees = [(cell.code, sources.parsed(cell.code)) for cell in sources.cells(text)]
    cells = [
        (sources.skeleton(tree), set(sources.texts(tree))) if tree else (code, code)
        for code, tree in trees
    ]
    locks = {}
    for equation in sources.equations(text):
        code = [shape for shape, said in cells if equation.label in said]
        digest = hashlib.sha256(json.dumps(code).encode()).hexdigest()[:16]
        locks[equation.label] = Lock(equation.latex, digest)
    return locks


def load(path: Path) -> dict[str, Lock]:
    """Return what was accepted.

    Raises:
        ValueError: the file is not one that `save` wrote, after a merge for example.
    """
    try:
        held = yaml.safe_load(path.read_text("utf8")) if path.is_file() else {}
        return {label: Lock(**entry) for label, entry in (held or {}).items()}
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
        raise ValueError(
            f"{path}:{line}: not a lock file as make accept writes it; mend it, or delete it, read "
            "every equation with its checks, and make accept LABEL=all"
        ) from None


def save(path: Path, locks: dict[str, Lock]) -> None:
    """Write what is accepted, one entry a label in alphabetical order: a short diff."""
    entries = [
        f"\n{label}:\n  check: '{lock.check}'\n  latex: |-\n{textwrap.indent(lock.latex, ' ' * 4)}\n"
        for label, lock in sorted(locks.items())
    ]
    path.write_text(HEAD + "".join(entries), "utf8")


def changed(now: dict[str, Lock], held: dict[str, Lock]) -> list[str]:
    """Return the labels that are not accepted: new, other than before, or gone."""
    return sorted(label for label in {*now, *held} if now.get(label) != held.get(label))


def accept(wanted: str, root: Path = ROOT) -> list[str]:
    """Accept labels as they are now, or "all" that changed; return a line on each.

    Raises:
        Stop: no label, one that is neither displayed nor locked, or a lock file that is broken.
    """
    path = root / FILE
    pages = leftovers.pages(root)
    now = {label: lock for page in pages for label, lock in read(page.read_text("utf8")).items()}
    try:
        held = load(path)
    except ValueError as error:
        raise Stop(str(error)) from None
    waiting = changed(now, held)
    state = f"Not accepted: {', '.join(waiting) or 'none'}."
    labels = waiting if wanted == "all" else wanted.split()
    if not wanted:
        raise Stop(f"make accept needs LABEL=eq-… (several in quotes), or LABEL=all. {state}")
    for label in labels:
        if label not in now and label not in held:
            near = difflib.get_close_matches(label, now, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise Stop(f"No equation is labelled {label!r}, and none was.{hint} {state}")
    said = []
    for label in labels:
        before = held.pop(label, None)
        if label in now:
            held[label] = now[label]
            said.append(
                f"{label}: " + ("accepted" if before != now[label] else "as accepted before")
            )
        else:
            said.append(f"{label}: removed")
    save(path, held)
    return said or ["All equations are as they were accepted."]


def main(arguments: list[str]) -> int:
    """Accept what the command line names."""
    try:
        wanted = " ".join(arguments)
        print("\n".join(addresses.accept() if wanted == "addresses" else accept(wanted)))
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
