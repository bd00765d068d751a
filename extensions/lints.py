"""Lints: what the book may not have, each a warning with file and line, fatal under ``-W``.

The functions ``lint_…`` look at every page in every build, not only at changed ones, so a warning
cannot be lost by building again. They read a `Page`: a source, its doctree and, if it has code, its
executed notebook; so they need no build to be tested.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from docutils import nodes
from sphinx import addnodes
from sphinx.environment import BuildEnvironment

from extensions import quotes
from extensions.execution import notebook_path
from tools import locks, sources

Fault = tuple[str, int | None, str]  # docname or file, line, message

SIDES = ("lhs", "rhs", "samples", "expected", "lower", "upper")  # of checks, as their arguments


@dataclass(frozen=True)
class Page:
    """One page: its source, its doctree and, if it has code, its executed notebook.

    A section is a page with code that has no pages below it in the table of contents: the book's
    first page, and the first of a part, owe no exercises.
    """

    docname: str
    text: str
    doctree: nodes.document
    notebook: dict[str, Any] | None = None
    checks: list[dict[str, Any]] = field(default_factory=list)
    findings: list[dict[str, Any]] = field(default_factory=list)
    is_section: bool = False

    def fault(self, pattern: str, message: str, after: int = 0) -> Fault:
        """Return a fault at the first line, later than `after`, that the pattern matches."""
        lines = enumerate(self.text.splitlines(), start=1)
        found = (n for n, line in lines if n > after and re.search(pattern, line))
        return self.docname, next(found, after or None), message


# ---- What a page has ----------------------------------------------------------------------------


def read_pages(env: BuildEnvironment) -> list[Page]:
    """Read all pages, in the order of the table of contents."""
    in_toc = [docname for docname in env.collect_relations() if docname in env.found_docs]
    pages = []
    for docname in [*in_toc, *sorted(env.found_docs - set(in_toc))]:
        path = notebook_path(env.srcdir, docname)
        notebook = json.loads(path.read_text("utf8")) if path.is_file() else None
        text = Path(env.doc2path(docname)).read_text("utf8")
        checks, findings = (
            [r for *_, output in outputs(notebook) if (r := record(output, kind))]
            for kind in ("rl_check", "rl_finding")
        )
        is_section = notebook is not None and not env.toctree_includes.get(docname)
        doctree = env.get_doctree(docname)
        pages.append(Page(docname, text, doctree, notebook, checks, findings, is_section))
    return pages


def outputs(notebook: dict[str, Any] | None) -> Iterator[tuple[int, dict[str, Any], Any]]:
    """Yield the line, the cell's metadata and the output, for each output of a notebook."""
    source_map = (notebook or {}).get("metadata", {}).get("source_map", [])
    for number, cell in enumerate((notebook or {}).get("cells", [])):
        line = source_map[number] if number < len(source_map) else 0
        for output in cell.get("outputs", []):
            yield line, cell["metadata"], output


def record(output: dict[str, Any], kind: str) -> dict[str, Any] | None:
    """Return the record that an instrument left in an output's metadata."""
    return output.get("metadata", {}).get(kind)


def equations(doctree: nodes.document) -> dict[str, nodes.math_block]:
    """Return the labelled equations of a page."""
    return {node["label"]: node for node in doctree.findall(nodes.math_block) if node.get("label")}


# ---- Lints --------------------------------------------------------------------------------------


def lint_equations(pages: list[Page]) -> Iterator[Fault]:
    """Every labelled equation is checked, and every check is of an equation of its section."""
    displayed: dict[str, str] = {}
    for page in pages:
        checked = {check["label"] for check in page.checks}
        for label, node in equations(page.doctree).items():
            where = rf"\({re.escape(label)}\)|:label:\s*{re.escape(label)}\s*$"
            if "amsmath" in node["classes"]:
                yield (
                    page.docname,
                    node.line,
                    "a numbered amsmath environment cannot be checked or referred to; allowed are "
                    "$$ … $$ (eq-label) with aligned inside, and starred environments",
                )
            elif not re.fullmatch(r"eq(-[a-z0-9]+)+", label):
                yield page.fault(
                    where,
                    f"equation label {label!r}; allowed are eq- and lower-case words with hyphens",
                )
            elif label in displayed:
                yield page.fault(
                    where,
                    f"equation {label} is displayed in {displayed[label]} already; "
                    "a label is allowed once in the book",
                )
            elif label not in checked:
                yield page.fault(
                    where,
                    f"equation {label} has no check; a labelled equation must be checked in its "
                    "section, one that claims nothing may go without a label",
                )
            displayed.setdefault(label, page.docname)


def lint_todos(pages: list[Page]) -> Iterator[Fault]:
    """Nothing is left to be written: what the template of a section asks for is said by line."""
    for page in pages:
        for number, line in enumerate(page.text.splitlines(), start=1):
            if match := re.search(r"\bTODO\b[:,]? *(.*)", line):
                yield page.docname, number, f"still to be written: {match[1].rstrip(chr(34))}"


def lint_checks(pages: list[Page]) -> Iterator[Fault]:
    """Every check is of an equation of its section, rejects a mistake and can be linked to."""
    for page in pages:
        known = [label for label in equations(page.doctree) if label.startswith("eq-")]
        anchors = set[str]()
        for line, cell, output in outputs(page.notebook):
            check = record(output, "rl_check")
            if check is None:
                continue
            label, where = check["label"], rf"""["']{re.escape(check["label"])}["']"""
            if label not in known:
                yield page.fault(
                    where,
                    f"check of {label}, which this page does not display; allowed are its "
                    f"labelled equations: {', '.join(known) or 'it has none'}",
                    line,
                )
            if not check["mistakes"]:
                yield page.fault(
                    where,
                    f"check of {label} rejects no mistake; at least one is needed, or the check "
                    "might pass whatever the equation says",
                    line,
                )
            if check["anchor"] in anchors:
                yield page.fault(where, f"check of {label}: anchor {check['anchor']} twice", line)
            if hidden(cell):
                yield page.fault(where, f"check of {label} is hidden; it must be shown", line)
            anchors.add(check["anchor"])


def hidden(cell: dict[str, Any]) -> bool:
    """Return whether a cell's tags keep its outputs out of the page."""
    return bool({"remove-output", "remove-cell", "remove_output"} & set(cell.get("tags", [])))


def lint_findings(pages: list[Page]) -> Iterator[Fault]:
    """Every finding has a name of its own in the whole book, and is shown."""
    places: dict[str, str] = {}
    for page in pages:
        for line, cell, output in outputs(page.notebook):
            found = record(output, "rl_finding")
            if found is None:
                continue
            name, where = found["name"], rf"""["']{re.escape(found["name"])}["']"""
            if name in places:
                message = f"finding {name} stands in {places[name]} already; a name is allowed once"
                yield page.fault(where, message, line)
            if hidden(cell):
                yield page.fault(where, f"finding {name} is hidden; it must be shown", line)
            at = page.fault(where, "", line)[1]
            places.setdefault(name, f"{page.docname}.md:{at}")


def lint_sides(pages: list[Page]) -> Iterator[Fault]:
    """No check compares an expression with itself."""
    for page in pages:
        for cell in sources.cells(page.text):
            tree = sources.parsed(cell.code)
            for call in (node for node in ast.walk(tree) if is_check(node)) if tree else ():
                named = {keyword.arg: keyword.value for keyword in call.keywords}
                sides = [*call.args[1:3], *(named[name] for name in SIDES if name in named)]
                if len(sides) == 2 and sources.skeleton(sides[0]) == sources.skeleton(sides[1]):
                    message = (
                        f"{ast.unparse(call.func)} compares {ast.unparse(sides[0])} with itself; "
                        "compute its two sides in two ways"
                    )
                    yield page.docname, cell.line + call.lineno - 1, message


def is_check(node: ast.AST) -> TypeGuard[ast.Call]:
    """Return whether a node of code calls a check of two sides."""
    name = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
    return name in ("check", "check_statistical", "check_bound")


def lint_locks(pages: list[Page], file: str, held: dict[str, locks.Lock]) -> Iterator[Fault]:
    """Every equation, and the code that checks it, is as somebody last accepted it."""
    shown = set[str]()
    for page in pages:
        now = locks.read(page.text)
        shown |= set(now)
        for equation in sources.equations(page.text):
            label, lock, line = equation.label, held.get(equation.label), equation.line
            again = f"read it and its checks, then make accept LABEL={label}"
            if lock is None:
                yield page.docname, line, f"equation {label} was never accepted: {again}"
            elif lock.latex != now[label].latex:
                yield page.docname, line, f"equation {label} is not what was accepted: {again}"
            elif lock.check != now[label].check:
                message = f"what checks equation {label} is not what was accepted: {again}"
                yield page.fault(rf"""["']{label}["']""", message)
        for label in equations(page.doctree):
            if label.startswith("eq-") and label not in now:
                message = f"equation {label} cannot be locked; allowed is $$ … $$ ({label})"
                yield page.fault(re.escape(label), message)
    lines = Path(file).read_text("utf8").splitlines() if held else []
    for label in (label for label in held if label not in shown):
        message = f"equation {label} is gone: put it back, or make accept LABEL={label}"
        yield f"{file}:{lines.index(f'{label}:') + 1}", None, message


def lint_records(pages: list[Page]) -> Iterator[Fault]:
    """Each name of a section's numbers and findings stands for one of them."""
    for page in pages:
        names = set[str]()
        for line, _, output in outputs(page.notebook):
            found = record(output, "rl_number") or record(output, "rl_finding")
            if found and found["name"] in names:
                message = f"{found['name']} is recorded twice in this section; quotes need one"
                yield page.fault(rf"\b{re.escape(found['name'])}\b", message, line)
            names |= {found["name"]} if found else set()


def lint_quotes(pages: list[Page]) -> Iterator[Fault]:
    """Each ``{run}`` of the text quotes a number that its section, or the one named, recorded."""
    records = {page.docname: quotes.recorded(page.notebook or {"cells": []}) for page in pages}
    with_code = [page.docname for page in pages if page.notebook]
    for page in pages:
        for line, said in quotes.quotes(page.text):
            section = quotes.parsed(said).section
            try:
                docname = quotes.docname_of(section, with_code) if section else page.docname
                quotes.quote(records[docname], said)
            except ValueError as error:
                yield page.docname, line, f"{{run}}`{said}`: {error}"


def lint_captions(pages: list[Page]) -> Iterator[Fault]:
    """The caption of a figure that shows a band over seeds says how many, and which band."""
    for page in pages:
        captions = {
            name: " ".join(caption.astext().split())
            for figure in page.doctree.findall(nodes.figure)
            for caption in figure.findall(nodes.caption)
            for name in figure["names"]
        }
        for line, cell, output in outputs(page.notebook):
            label = cell.get("mystnb", {}).get("figure", {}).get("name")
            for runs in (record(output, "rl_figure") or {}).get("runs", []) if label else ():
                caption, (low, high) = captions.get(label, ""), runs["band"]
                missing = {
                    f"its {runs['seeds']:,} seeds": rf"(?<![\d.,]){runs['seeds']:,}(?![\d]|[.,]\d)",
                    f"its band from the {low}th to the {high}th percentile": rf"\b{low}th\b.*\b{high}th\b",
                }
                for what, said in missing.items():
                    if not re.search(said, caption):
                        message = f"the caption of {label} does not say {what}"
                        yield page.fault(rf"name:\s*['\"]?{re.escape(label)}\b", message, line)


def lint_figures(pages: list[Page]) -> Iterator[Fault]:
    """Every figure has a label, a caption and alt text, and some prose refers to it."""
    mentioned = {target for page in pages for target in references(page.doctree)}
    for page in pages:
        for node in page.doctree.findall(nodes.figure):
            names = {*node["names"], *node["ids"]}
            label = next((name for name in node["names"] if name.startswith("fig-")), None)
            caption = next(iter(node.findall(nodes.caption)), None)
            shown = label or (caption.astext()[:40] if caption is not None else "without a name")
            where = rf"(name|label):\s*['\"]?{re.escape(label)}\b" if label else r"(?!)"
            missing = {
                "label (name: fig-…)": label is None,
                "caption": caption is None or not caption.astext().strip(),
                "mention (some prose must refer to it)": label and not names & mentioned,
            }
            for what in (what for what, absent in missing.items() if absent):
                yield page.fault(where, f"figure {shown} has no {what}", (node.line or 1) - 1)
        for image in page.doctree.findall(nodes.image):
            if not rendered_output(image):
                if not image.get("alt", "").strip():
                    yield page.docname, line_of(image), f"image {image['uri']} has no alt text"
                if not isinstance(image.parent, nodes.figure):
                    yield (
                        page.docname,
                        line_of(image),
                        f"image {image['uri']} is not in a figure; allowed is a figure directive "
                        "with name, alt and a caption",
                    )
        for line, cell, output in outputs(page.notebook):
            figure = record(output, "rl_figure")
            if figure and not cell.get("mystnb", {}).get("figure"):
                yield (
                    page.docname,
                    line,
                    (
                        f"figure {figure['name']} has no label and caption; its cell needs "
                        ':mystnb: {figure: {name: fig-…, caption: "…"}}'
                    ),
                )
            if figure and not figure.get("alt", "").strip():
                yield page.docname, line, f"figure {figure['name']} has no alt text"


def references(doctree: nodes.document) -> Iterator[str]:
    """Yield what a page's prose refers to; a figure's own caption does not count."""
    for node in doctree.findall():
        if isinstance(node, nodes.reference | addnodes.pending_xref):
            target = node.get("reftarget") or node.get("refid") or node.get("refname") or ""
            figure: Any = node
            while figure is not None and not isinstance(figure, nodes.figure):
                figure = figure.parent
            if figure is None or target not in {*figure["names"], *figure["ids"]}:
                yield target


def line_of(node: Any) -> int | None:
    """Return the line of a node, or of what contains it."""
    while not node.line and node.parent is not None:
        node = node.parent
    return node.line


def rendered_output(node: Any) -> bool:
    """Return whether a node is part of a cell's output."""
    while node is not None and node.get("nb_element") != "cell_code_output":
        node = node.parent
    return node is not None


def lint_outputs(pages: list[Page]) -> Iterator[Fault]:
    """No output is a bare figure, a live widget, or different in the next build."""
    for page in pages:
        for line, _, output in outputs(page.notebook):
            data = output.get("data", {})
            text = "".join([*output.get("text", []), *data.get("text/plain", [])])
            pictures = {"image/png", "image/svg+xml", "image/jpeg"} & set(data)
            if pictures and record(output, "rl_figure") is None:
                yield (
                    page.docname,
                    line,
                    f"output {', '.join(sorted(pictures))} is a bare figure; allowed are those of "
                    "Explore, which have alt text and follow the theme",
                )
            if "application/vnd.jupyter.widget-view+json" in data:
                yield page.docname, line, "output is a live widget, which does nothing in a page"
            if output["output_type"] == "stream" and output["name"] == "stderr":
                first = text.strip().split("\n")[0]
                yield page.docname, line, f"a cell must not write to stderr, but wrote: {first}"
            if address := re.search(r"\b0x[0-9a-f]{6,}\b", text):
                yield (
                    page.docname,
                    line,
                    f"output has the memory address {address[0]}, which is another one next time",
                )


def lint_exercises(pages: list[Page], least: int) -> Iterator[Fault]:
    """Every exercise has a solution on its page, and every section has enough exercises."""
    for page in pages:
        found = [node["label"] for node in page.doctree.findall() if is_node(node, "exercise")]
        solved = {n["target_label"] for n in page.doctree.findall() if is_node(n, "solution")}
        for label in (label for label in found if label not in solved):
            yield page.fault(
                rf":label:\s*{re.escape(label)}\s*$",
                f"exercise {label} has no solution on its page; write a solution-start for it",
            )
        if page.is_section and len(found) < least:
            yield (
                page.docname,
                None,
                f"the section has {len(found)} of the {least} exercises it needs",
            )


def is_node(node: nodes.Node, kind: str) -> bool:
    """Return whether a node is one of sphinx-exercise's, whether that is installed or not."""
    names = {"exercise": ("exercise_node", "exercise_enumerable_node"), "solution": "solution_node"}
    return type(node).__name__ in names[kind]


def lint_bibliography(env: BuildEnvironment) -> Iterator[Fault]:
    """Every entry of the bibliography is cited."""
    if "cite" not in env.domains:
        return
    domain: Any = env.get_domain("cite")
    cited = {target.key for reference in domain.citation_refs for target in reference.targets}
    for path, bibfile in domain.bibdata.bibfiles.items():
        lines = Path(path).read_text("utf8").splitlines()
        for key in (key for key in bibfile.keys if key not in cited):
            start = re.compile(rf"@\w+\s*\{{\s*{re.escape(key)}\s*,")
            line = next((n for n, text in enumerate(lines, start=1) if start.search(text)), 1)
            yield f"{path}:{line}", None, f"{key} is not cited anywhere; cite it or leave it out"
