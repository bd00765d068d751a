"""Errata name what guards against them, and the build asks whether it exists."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from extensions import errata
from tests.book.books import CONF, build, cell, html, project, section
from tests.book.test_ledger import HELPERS, IMPORT, equation
from tools.environment import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")

ERRATA_CONF = (
    CONF.replace('["extensions.execution"]', '["extensions.ledger", "extensions.errata"]')
    + 'book_errata = "errata.yml"\nbook_least_exercises = 0\n'
    + 'myst_enable_extensions = ["deflist", "dollarmath"]\nnumfig = True\n'
)
PAGE = section(
    "A page",
    "See {eq}`eq-one`.",
    IMPORT,
    equation("eq-one"),
    cell('check("eq-one", wrong="off by 0.5")\nfinding("one-wins")'),
)
ENTRY = """\
- date: 2026-11-26
  page: page
  wrong: It was said that $a = c$.
  right: It is $a = b$.
  guard: {equation: eq-one}
- date: 2026-11-27
  page: page
  wrong: One was said to lose.
  right: It wins.
  guard: {finding: one-wins}
- date: 2026-11-25
  page: page
  wrong: Two and two were five.
  right: They are four.
  guard: {test: "tests/test_sums.py::test_sum"}
"""


def book(folder: Path, entries: str) -> tuple[int, str]:
    project(
        folder, {"page": PAGE, "errata": "# Errata\n\n```{errata}\n```\n"}, ERRATA_CONF, HELPERS
    )
    (folder / "errata.yml").write_text(entries)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_sums.py").write_text(
        "def test_sum() -> None:\n    assert 2 + 2 == 4\n"
    )
    return build(folder, "-W", "--keep-going")


def test_entries_are_listed_the_newest_first(tmp_path: Path) -> None:
    status, log = book(tmp_path, ENTRY)
    assert status == 0, log
    page = html(tmp_path, "errata")
    days = [page.index(day) for day in ("2026-11-27", "2026-11-26", "2026-11-25")]
    assert days == sorted(days)
    assert "page.html#equation-eq-one" in page, "its guard is a link"
    assert "test_sum" in page
    assert "one-wins" in page


PLANTED = {
    "eq-one}": "eq-two}: entry 1: its guard does not exist: no equation 'eq-two'",
    "one-wins}": "one-draws}: entry 2: its guard does not exist: no finding 'one-draws'",
    "::test_sum": "::test_product: entry 3: its guard does not exist: no test 'tests/test_sums.py::",
    "2026-11-26": "yesterday: entry 1: date is 'yesterday'",
    "  right: It wins.\n": ": entry 2: fields are date, guard, page, right, wrong; missing or unknown: right",
    "{finding: one-wins}": "trust: entry 2: guard is 'trust'; allowed is one of equation, finding, test",
}  # fmt: skip


@pytest.mark.parametrize("part", PLANTED)
def test_a_mistake_in_the_file_names_its_entry(part: str, tmp_path: Path) -> None:
    instead, _, said = PLANTED[part].partition(": ")
    status, log = book(tmp_path, ENTRY.replace(part, instead, 1))
    assert status != 0
    assert said in log
    number = int(said.split()[1].rstrip(":"))
    lines = ENTRY.replace(part, instead, 1).splitlines()
    starts = [n for n, line in enumerate(lines, start=1) if line.startswith("- ")]
    assert f"errata.yml:{starts[number - 1]}: WARNING: entry {number}" in log


def test_a_page_that_is_not_there() -> None:
    entry: dict[str, Any] = {
        "date": datetime.date(2026, 11, 26), "page": "nowhere", "wrong": "", "right": "",
        "guard": {"test": "tests/book/test_errata.py::test_a_page_that_is_not_there"},
    }  # fmt: skip
    assert list(errata.faults(entry, [], ROOT)) == ["there is no page 'nowhere'"]


def test_entries_of_the_book_are_in_order() -> None:
    days = [entry["date"] for _, entry in errata.load(ROOT / "chapters" / "errata.yml")]
    assert days == sorted(days)
