"""Errata: mistakes that readers could see, each with what guards against it now.

The directive ``{errata}`` lists the entries of a file (``book_errata``), the newest first. The build
warns, naming the entry, of one that is incomplete or whose guard does not exist:

    - date: 2026-11-26
      page: chapters/mdp/bellman-optimality
      wrong: what stood there
      right: what is true, and stands there now
      guard: {equation: eq-policy-improvement}      # or {finding: name}, {test: tests/….py::test_name}
"""

from __future__ import annotations

import ast
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from extensions import lints

logger = logging.getLogger(__name__)

FIELDS = {"date", "page", "wrong", "right", "guard"}
GUARDS = ("equation", "finding", "test")


def load(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the entries of an errata file, each with the line, from 1, on which it begins."""
    text = path.read_text("utf8")
    root = yaml.compose(text)
    lines = [node.start_mark.line + 1 for node in root.value] if root else []
    return list(zip(lines, yaml.safe_load(text) or [], strict=True))


def tests(path: Path) -> set[str]:
    """Return the names of the tests of a file; none where there is no such file."""
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text("utf8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def guard_of(entry: dict[str, Any]) -> tuple[str, str]:
    """Return the kind and the name of an entry's guard; no kind where it is none."""
    guard = entry.get("guard")
    if not isinstance(guard, dict) or len(guard) != 1:
        return "", str(guard)
    ((kind, name),) = guard.items()
    return str(kind), str(name)


def faults(entry: dict[str, Any], pages: list[lints.Page], root: Path) -> Iterator[str]:
    """Yield what is wrong with an entry."""
    if missing := FIELDS ^ set(entry):
        yield f"fields are {', '.join(sorted(FIELDS))}; missing or unknown: {', '.join(sorted(missing))}"
        return
    if not isinstance(entry["date"], datetime.date):
        yield f"date is {entry['date']!r}; allowed is a day such as 2026-11-26"
    if entry["page"] not in {page.docname for page in pages}:
        yield f"there is no page {entry['page']!r}"
    kind, name = guard_of(entry)
    if kind not in GUARDS:
        yield f"guard is {entry['guard']!r}; allowed is one of {', '.join(GUARDS)}, with its name"
        return
    known: set[str] = set()
    if kind == "equation":
        known = {check["label"] for page in pages for check in page.checks}
    elif kind == "finding":
        known = {found["name"] for page in pages for found in page.findings}
    else:
        file, _, test = name.partition("::")
        known = {name} if test in tests(root / file) else set()
    if name not in known:
        yield f"its guard does not exist: no {kind} {name!r}"


def lint_errata(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Warn of entries that are incomplete or whose guards do not exist."""
    path = Path(app.srcdir) / app.config.book_errata
    if app.config.book_errata:
        pages = lints.read_pages(env)
        for number, (line, entry) in enumerate(load(path), start=1):
            for fault in faults(entry, pages, Path(app.srcdir)):
                where = f"{path}:{line}"
                logger.warning("entry %d: %s", number, fault, location=where, type="book")
    return []


class Errata(SphinxDirective):
    """``{errata}``: the entries as a list, the newest first."""

    def run(self) -> list[nodes.Node]:
        """Write the list as Markdown, so that what entries say may have formulas and roles."""
        path = Path(self.env.srcdir) / self.config.book_errata
        self.env.note_dependency(str(path))
        entries = sorted(load(path), key=lambda each: str(each[1].get("date")), reverse=True)
        container = nodes.container(classes=["errata"])
        for _, entry in entries:
            if set(entry) == FIELDS and guard_of(entry)[0] in GUARDS:
                lines = list(said(entry))
                self.state.nested_parse(StringList(lines, str(path)), 0, container)
        return [container]


def said(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the Markdown of an entry."""
    kind, name = guard_of(entry)
    guard = {
        "equation": f"the check of {{eq}}`{name}`",
        "finding": f"the finding `{name}`",
        "test": f"the test `{name}`",
    }[kind]
    yield from (f"**{entry['date']}**, {{doc}}`/{entry['page']}`", "")
    for word in ("wrong", "right"):
        yield f": *{word.capitalize()}:* {' '.join(entry[word].split())}"
        yield ""
    yield from (f": *Guard:* {guard}.", "")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("book_errata", "", "env", str)
    app.add_directive("errata", Errata)
    app.connect("env-get-updated", lint_errata, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
