"""The ledger: what the book claims, and the checks that ran.

``check``, its siblings and ``finding`` leave a record in a cell's output. From the executed
notebooks the build

- puts a mark beside each labelled equation, which links to its check in the same section;
- fills the directive ``{check-ledger}`` with a table of all equations and their checks,
  ``{finding-ledger}`` with one of all that the runs show, and ``{equation-index}`` with all equations
  by section, to look one up by its number;
- warns of what the book may not have (`extensions.lints`): a labelled equation without a check,
  a check that rejects no mistake, a figure without alt text, an exercise without a solution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

from extensions import lints
from tools import locks

logger = logging.getLogger(__name__)

CHECK_HEADINGS = ["Number", "Equation", "Section", "Check", "Tolerance", "Mistakes rejected"]
FINDING_HEADINGS = [
    "Finding", "Section", "Mean ± standard error", "± 2 standard errors", "Runs", "Claim", "Margin"
]  # fmt: skip


class Tag(nodes.TextElement):
    """An HTML element: docutils has no links with a label, nor table headers with a scope."""


class Ledger(nodes.Element):
    """Where a table goes; its attribute `of` names the directive."""


def tag(name: str, *content: nodes.Node | str, **attributes: str) -> Tag:
    """Return an HTML element; write ``aria_label`` for aria-label, ``class_`` for class."""
    names = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    children = [nodes.Text(child) if isinstance(child, str) else child for child in content]
    return Tag("", "", *children, tag=name, attributes=names)


def visit_tag(self: HTML5Translator, node: Tag) -> None:
    """Open the element."""
    self.body.append(self.starttag(node, node["tag"], "", **node["attributes"]))


def depart_tag(self: HTML5Translator, node: Tag) -> None:
    """Close the element."""
    self.body.append(f"</{node['tag']}>")


# ---- From pages to the ledger -------------------------------------------------------------------


def survey(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Report what the lints find, note all checks, and return the ledger's page if they changed."""
    pages = lints.read_pages(env)
    found = [
        *lints.lint_todos(pages),
        *lints.lint_equations(pages),
        *lints.lint_checks(pages),
        *lints.lint_sides(pages),
        *lints.lint_findings(pages),
        *lints.lint_records(pages),
        *lints.lint_quotes(pages),
        *lints.lint_captions(pages),
        *locked(app, pages),
        *lints.lint_figures(pages),
        *lints.lint_outputs(pages),
        *lints.lint_exercises(pages, app.config.book_least_exercises),
        *lints.lint_bibliography(env),
    ]
    for where, line, message in found:
        location = (where, line) if where in env.found_docs else where
        logger.warning("%s", message, location=location, type="book")

    before = getattr(env, "book_ledger", None)
    ledger = {"checks": check_rows(env, pages), "findings": finding_rows(env, pages)}
    env.book_ledger = ledger  # type: ignore[attr-defined]
    holders = [page.docname for page in pages if any(page.doctree.findall(Ledger))]
    return holders if ledger != before else []


def locked(app: Sphinx, pages: list[lints.Page]) -> Iterator[lints.Fault]:
    """Return what the lock file, if the book has one, says against the equations."""
    if app.config.book_locks:
        path = Path(app.srcdir) / app.config.book_locks
        try:
            yield from lints.lint_locks(pages, str(path), locks.load(path))
        except ValueError as error:
            where, line, message = str(error).split(":", 2)
            yield f"{where}:{line}", None, message.strip()


def check_rows(env: BuildEnvironment, pages: list[lints.Page]) -> list[dict[str, Any]]:
    """Return, for each checked equation, all that the ledger shows of it."""
    rows = []
    for page in pages:
        for label, node in lints.equations(page.doctree).items():
            checks = [check for check in page.checks if check["label"] == label]
            numbers = env.toc_fignumbers.get(page.docname, {}).get("displaymath", {})
            row = {
                "label": label,
                "latex": node.astext(),
                "docname": page.docname,
                # Not shown from here, but the ledger is written again when they change.
                "section": env.titles[page.docname].astext(),
                "number": numbers.get(nodes.make_id(f"equation-{label}")),
            }
            if checks:
                rows.append({**row, "checks": checks})
    return rows


def finding_rows(env: BuildEnvironment, pages: list[lints.Page]) -> list[dict[str, Any]]:
    """Return, for each finding, all that the ledger shows of it."""
    return [
        {**found, "docname": page.docname, "section": env.titles[page.docname].astext()}
        for page in pages
        for found in page.findings
    ]


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def totals(rows: list[dict[str, Any]]) -> str:
    """Return how much was checked."""
    checks = [check for row in rows for check in row["checks"]]
    mistakes = sum(len(check["mistakes"]) for check in checks)
    kinds = Counter(check["kind"] for check in checks)
    by_kind = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    return (
        f"{count(len(rows), 'equation')}, {count(len(checks), 'check')}"
        f"{f' ({by_kind})' if by_kind else ''}, {count(mistakes, 'mistake')} rejected."
    )


def summary(check: dict[str, Any]) -> str:
    """Return what a mark says."""
    word = "tolerance " if check["kind"] == "exact" else ""
    mistakes = count(len(check["mistakes"]), "mistake")
    return f"Checked: {check['kind']}, {word}{check['tolerance']}, {mistakes} rejected"


# ---- Into the pages -----------------------------------------------------------------------------


class LedgerDirective(SphinxDirective):
    """``{check-ledger}``, ``{finding-ledger}`` and ``{equation-index}``: tables of the whole book.

    With the option ``:totals:`` only how many rows there are.
    """

    option_spec: ClassVar[dict[str, Any]] = {"totals": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Leave a place that is filled when all pages are known."""
        return [Ledger(of=self.name, totals="totals" in self.options)]


class ShowChecks(SphinxPostTransform):
    """Put a mark beside each checked equation, and fill the ledgers."""

    default_priority = 5  # before cross-references, the ledger's among them, are resolved

    def run(self, **kwargs: Any) -> None:
        """Change the page; in formats other than HTML the ledger is left out."""
        ledger = self.env.book_ledger  # type: ignore[attr-defined]
        rows = ledger["checks"]
        html = self.app.builder.format == "html"
        for place in list(self.document.findall(Ledger)):
            if place["of"] == "check-ledger":
                said, table = totals(rows), self.check_table(rows)
            elif place["of"] == "equation-index":
                said, table = f"{count(len(rows), 'equation')}.", self.index(rows)
            else:
                said = f"{count(len(ledger['findings']), 'finding')}."
                table = self.finding_table(ledger["findings"])
            total = nodes.paragraph("", said, classes=["ledger-totals"])
            shown = [total] if place["totals"] else [total, table]
            place.replace_self(shown if html else [])
        checks = {r["label"]: r["checks"][0] for r in rows if r["docname"] == self.env.docname}
        for label, node in lints.equations(self.document).items() if html else ():
            if label in checks:
                said = summary(checks[label])
                tick = tag("span", "✓", aria_hidden="true")
                href = f"#{checks[label]['anchor']}"
                mark = tag("a", tick, class_="check-mark", href=href, aria_label=said, title=said)
                marked = tag("div", mark, class_="checked-equation")
                node.parent.replace(node, marked)  # replace_self would give it the node's id too
                marked.insert(0, node)

    def check_table(self, rows: list[dict[str, Any]]) -> Tag:
        """Return the table of all checks."""
        caption = "Every labelled equation of the book and the checks that ran."
        body = [tr for row in rows for tr in self.check_rows(row)]
        return self.table("The ledger of checks", caption, CHECK_HEADINGS, body)

    def finding_table(self, rows: list[dict[str, Any]]) -> Tag:
        """Return the table of all findings."""
        caption = "What the runs of this book show, each with the bound that its mean clears."
        body = [self.finding_row(row) for row in rows]
        return self.table("The ledger of findings", caption, FINDING_HEADINGS, body)

    def table(self, name: str, caption: str, headings: list[str], body: list[Tag]) -> Tag:
        """Return a table; it scrolls alone where it is wider than the page."""
        header = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
        parts = tag("caption", caption), tag("thead", header), tag("tbody", *body)
        about = {"role": "region", "tabindex": "0", "aria_label": name}
        return tag("div", tag("table", *parts), class_="check-ledger table-scroll", **about)

    def finding_row(self, row: dict[str, Any]) -> Tag:
        """Return one finding's row."""
        page = self.app.builder.get_relative_uri(self.env.docname, row["docname"])
        link = tag("a", row["name"], href=f"{page}#{row['anchor']}")
        section = self.xref("std", "doc", f"/{row['docname']}", row["docname"])
        cells = [row[key] for key in ("effect", "interval", "over", "bound")]
        cells += [f"{row['margin']} standard errors"]
        return tag(
            "tr", tag("th", link, scope="row"), tag("td", section), *(tag("td", x) for x in cells)
        )

    def check_rows(self, row: dict[str, Any]) -> list[Tag]:
        """Return one row a check; the equation stands in the first and spans them all."""
        page = self.app.builder.get_relative_uri(self.env.docname, row["docname"])
        span = {"rowspan": str(len(row["checks"]))}
        # No label and no number: both belong to the equation in its section.
        formula = nodes.math_block("", row["latex"], nowrap=False, number=None, label=None)
        number = self.xref("math", "eq", row["label"], row["docname"])
        section = self.xref("std", "doc", f"/{row['docname']}", row["docname"])
        cells = [
            tag("th", number, scope="row", **span),
            tag("td", formula, **span),
            tag("td", section, **span),
        ]
        result = []
        for check in row["checks"]:
            link = tag("a", check["kind"], href=f"{page}#{check['anchor']}")
            mistakes = [tag("li", f"{name}: {off}") for name, off in check["mistakes"].items()]
            cells += [tag("td", link), tag("td", check["tolerance"])]
            result.append(tag("tr", *cells, tag("td", tag("ul", *mistakes))))
            cells = []
        return result

    def index(self, rows: list[dict[str, Any]]) -> Tag:
        """Return all equations by section: a list of the sections, and a table."""
        links, body = [], []
        for docname, group in groupby(rows, key=lambda row: str(row["docname"])):
            equations = list(group)
            number = ".".join(map(str, (equations[0]["number"] or ())[:-1]))
            name, title = f"equations-of-{nodes.make_id(docname)}", equations[0]["section"]
            links.append(tag("li", tag("a", f"{number} {title}".strip(), href=f"#{name}")))
            section = self.xref("std", "doc", f"/{docname}", docname)
            before = [f"{number} "] if number else []
            heading = tag("th", *before, section, colspan="3", scope="rowgroup")
            heading["ids"] = [name]
            body.append(tag("tbody", tag("tr", heading), *map(self.index_row, equations)))
        hidden = tag("caption", "Every labelled equation, with its number and its check")
        names = (tag("th", each, scope="col") for each in ("Number", "Equation", "Check"))
        table = tag("table", hidden, tag("thead", tag("tr", *names)), *body)
        return tag("div", tag("ul", *links), table, class_="equation-index")

    def index_row(self, row: dict[str, Any]) -> Tag:
        """Return one equation's row: its number, the formula, and the mark that leads to its check."""
        page = self.app.builder.get_relative_uri(self.env.docname, row["docname"])
        check, said = row["checks"][0], summary(row["checks"][0])
        tick, href = tag("span", "✓", aria_hidden="true"), f"{page}#{check['anchor']}"
        mark = tag("a", tick, class_="mark", href=href, aria_label=said, title=said)
        number = self.xref("math", "eq", row["label"], row["docname"])
        formula = nodes.math_block("", row["latex"], nowrap=False, number=None, label=None)
        cells = tag("th", number, scope="row"), tag("td", formula), tag("td", mark)
        return tag("tr", *cells)

    def xref(self, domain: str, kind: str, target: str, text: str) -> addnodes.pending_xref:
        """Return a reference whose text, an equation's number or a title, Sphinx puts in."""
        options = {"refdomain": domain, "reftype": kind, "reftarget": target, "refwarn": True}
        options |= {"refdoc": self.env.docname, "refexplicit": False}
        return addnodes.pending_xref("", nodes.inline("", text), **options)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("extensions.quotes")
    app.add_config_value("book_least_exercises", 3, "", int)
    app.add_config_value("book_locks", "", "", str)
    app.add_node(Tag, html=(visit_tag, depart_tag))
    app.add_node(Ledger)
    app.add_directive("check-ledger", LedgerDirective)
    app.add_directive("finding-ledger", LedgerDirective)
    app.add_directive("equation-index", LedgerDirective)
    app.add_post_transform(ShowChecks)
    app.connect("env-get-updated", survey, priority=900)  # after equations have their numbers
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
