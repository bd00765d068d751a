"""Quotes: numbers in the text that come from the run, and numbers that are facts.

- ``{run}`drift:.1f``` is the number that `record(drift=…)` left in the same section, in prose and in
  captions. Formats: ``.1f`` digits after the point, ``.2g`` significant digits (never with an
  exponent), ``.0%`` per cent, each with ``+`` before it to show the sign; none for whole numbers.
  The name of a finding, without a format, is its mean ± standard error; with one, its mean.
- ``{run}`eq-gae[lambda left out]``` is how far off that mistake of the check of `eq-gae` was; of a
  second check of an equation, `eq-gae-2[…]`, as its anchor says.
- ``{run}`ppo#drift:.1f``` is the number that the section `ppo` recorded; a finding, and a mistake,
  of another section leads to the line that was printed there. When `ppo` runs again, the page that
  quotes it is written again.
- ``{fact}`475``` is a number that no run of the book produces: of the world, or of a cited work.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole

from extensions.execution import notebook_path

TEXT = re.compile(r"((?P<section>[\w/-]+)#)?(?P<name>[\w-]+(\[.+\])?)(:(?P<form>.*))?", re.S)
FORMAT = re.compile(r"(?P<sign>\+?)\.(?P<digits>\d+)(?P<kind>[fg%])")


class Quoted(NamedTuple):
    """What ``{run}`` quotes: a section ("" for its own), a name and a format ("" for none)."""

    section: str
    name: str
    form: str


def parsed(text: str) -> Quoted:
    """Return what the text of a ``{run}`` quotes; a text of no known form is taken for a name."""
    match = TEXT.fullmatch(text)
    if match is None:
        return Quoted("", text, "")
    return Quoted(match["section"] or "", match["name"], match["form"] or "")


def docname_of(section: str, docnames: Collection[str]) -> str:
    """Return the page that a quote names by the end of its path: `ppo`, or `mdp/index`.

    Raises:
        ValueError: no page, or several, are named so.
    """
    found = [name for name in sorted(docnames) if f"/{name}".endswith(f"/{section}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{section!r} names {', '.join(found)}; write more of the path")
    known = ", ".join(sorted({name.rpartition("/")[2] for name in docnames}))
    raise ValueError(f"no section is named {section!r}; sections are: {known}")


def recorded(notebook: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the outputs of a notebook record, by name: numbers, findings and mistakes."""
    records = {}
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            metadata = output.get("metadata", {})
            if found := metadata.get("rl_number") or metadata.get("rl_finding"):
                records[found["name"]] = found
            if check := metadata.get("rl_check"):
                for mistake, off in check["mistakes"].items():
                    name = f"{check['anchor'].removeprefix('check-')}[{mistake}]"
                    records[name] = {"name": name, "effect": off, "anchor": check["anchor"]}
    return records


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Return what an executed notebook records; nothing where there is none."""
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else {}


@functools.lru_cache(maxsize=64)
def _read(path: Path, written: int) -> dict[str, dict[str, Any]]:
    """Return the same once for each state of the file: a page quotes many numbers."""
    return recorded(json.loads(path.read_text("utf8")))


def shown(value: float, form: str) -> str:
    """Return a number as the page shows it: thousands with commas, and a true minus.

    Raises:
        ValueError: a format that does not exist, or none for a number that is not whole.
    """
    match = FORMAT.fullmatch(form)
    if form and match is None:
        raise ValueError(f"the format {form!r} does not exist; allowed are .1f, .2g, .0% and +.1f")
    if match is None:
        if not isinstance(value, int):
            raise ValueError(f"{value:.6g} needs a format, such as .1f")
        return f"{value:,}".replace("-", "−")
    digits, kind = int(match["digits"]), match["kind"]
    if kind == "g":
        place = math.floor(math.log10(abs(value))) if value else 0
        digits, kind = digits - 1 - place, "f"
        value, digits = round(value, digits), max(0, digits)
    text = f"{value:{match['sign']}z,.{digits}{kind}}"
    return text.replace("-", "−").replace("%", "\N{NO-BREAK SPACE}%")


def quote(records: dict[str, dict[str, Any]], text: str) -> str:
    """Return what ``{run}`` says for its text, given the records of the section that it quotes.

    Raises:
        ValueError: nothing is recorded under the name, or the format does not fit.
    """
    section, name, form = parsed(text)
    if name not in records:
        label, is_mistake, _ = name.partition("[")
        alike = (n for n in records if n.startswith(f"{label}[") == bool(is_mistake))
        known = ", ".join(sorted(n for n in alike if is_mistake or "[" not in n)) or "none"
        where = f"the section {section}" if section else "this section"
        raise ValueError(f"nothing is recorded as {name!r} in {where}; names are: {known}")
    record = records[name]
    if "value" in record:
        return shown(record["value"], form)
    if form and "mean" not in record:
        raise ValueError(f"{name} is quoted as the check printed it; allowed is no format")
    return shown(record["mean"], form) if form else str(record["effect"])


def quotes(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line, from 1, and the text of each ``{run}`` of a page, captions included."""
    for number, line in enumerate(text.splitlines(), start=1):
        yield from ((number, said) for said in re.findall(r"\{run\}`([^`]+)`", line))


class Run(SphinxRole):
    """``{run}`name:.1f```: a number of the run, as a section's notebook recorded it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Replace the role by the number; where there is none, `lints.lint_quotes` says so."""
        section, name, _ = parsed(self.text)
        try:
            docname = docname_of(section, self.env.found_docs) if section else self.env.docname
            records = read(notebook_path(self.env.srcdir, docname))
            said = nodes.Text(quote(records, self.text))
        except ValueError:
            return [nodes.Text(self.text)], []
        if not section or "anchor" not in records[name]:
            return [said], []
        page = self.env.app.builder.get_relative_uri(self.env.docname, docname)
        return [nodes.reference("", "", said, refuri=f"{page}#{records[name]['anchor']}")], []


class Fact(SphinxRole):
    """``{fact}`475```: the number itself."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Leave the text."""
        return [nodes.Text(self.text)], []


def outdated(app: Sphinx, env: BuildEnvironment, *changes: set[str]) -> list[str]:
    """Return the pages that quote a section whose outputs changed."""
    changed = env.book_changed  # type: ignore[attr-defined]
    return [docname for docname in env.found_docs if changed & quoted_by(env, docname)]


def quoted_by(env: BuildEnvironment, docname: str) -> set[str]:
    """Return the other pages that a page quotes."""
    text = Path(env.doc2path(docname)).read_text("utf8")
    sections = {parsed(said).section for _, said in quotes(text)} - {""}
    pages = set[str]()
    for section in sections:
        with suppress(ValueError):  # `lints.lint_quotes` says so
            pages.add(docname_of(section, env.found_docs))
    return pages


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("extensions.execution")
    app.add_role("run", Run())
    app.add_role("fact", Fact())
    app.connect("env-get-outdated", outdated, priority=600)  # once the sections are executed
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
