"""Quotes: numbers in the text that come from the run, and numbers that are facts.

- ``{run}`drift:.1f``` is the number that `record(drift=…)` left in the same section, in prose and in
  captions. Formats: ``.1f`` digits after the point, ``.2g`` significant digits (never with an
  exponent), ``.0%`` per cent, each with ``+`` before it to show the sign; none for whole numbers.
  The name of a finding, without a format, is its mean ± standard error; with one, its mean.
- ``{fact}`475``` is a number that no run of the book produces: of the world, or of a cited work.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

from extensions.execution import notebook_path

FORMAT = re.compile(r"(?P<sign>\+?)\.(?P<digits>\d+)(?P<kind>[fg%])")


def recorded(notebook: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the outputs of a notebook record: numbers and findings, by name."""
    outputs = (output for cell in notebook["cells"] for output in cell.get("outputs", []))
    records = (output.get("metadata", {}) for output in outputs)
    found = (record.get("rl_number") or record.get("rl_finding") for record in records)
    return {record["name"]: record for record in found if record}


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
    """Return what ``{run}`` says for its text, a name with or without a format.

    Raises:
        ValueError: nothing is recorded under the name, or the format does not fit.
    """
    name, _, form = text.partition(":")
    if name not in records:
        known = ", ".join(sorted(records)) or "none"
        raise ValueError(f"nothing is recorded as {name!r} in this section; names are: {known}")
    record = records[name]
    if "value" in record:
        return shown(record["value"], form)
    return shown(record["mean"], form) if form else record["effect"]


def quotes(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line, from 1, and the text of each ``{run}`` of a page, captions included."""
    for number, line in enumerate(text.splitlines(), start=1):
        yield from ((number, said) for said in re.findall(r"\{run\}`([^`]+)`", line))


class Run(SphinxRole):
    """``{run}`name:.1f```: a number of the run, as the section's notebook recorded it."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Replace the role by the number; where there is none, `lints.lint_quotes` says so."""
        path = notebook_path(self.env.srcdir, self.env.docname)
        notebook = json.loads(path.read_text("utf8")) if path.is_file() else {"cells": []}
        with suppress(ValueError):
            return [nodes.Text(quote(recorded(notebook), self.text))], []
        return [nodes.Text(self.text)], []


class Fact(SphinxRole):
    """``{fact}`475```: the number itself."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Leave the text."""
        return [nodes.Text(self.text)], []


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("extensions.execution")
    app.add_role("run", Run())
    app.add_role("fact", Fact())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
