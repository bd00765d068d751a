"""The page of real mistakes: each is sourced and rejected somewhere, and each section's box is linked."""

from __future__ import annotations

import re

import pytest

from tests.book.contents import SECTIONS, text

PAGE = "chapters/outlook/wrong-on-purpose"
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in text(PAGE).splitlines()
    if line.startswith("| ") and not re.match(r"\| (mistake|---)", line)
]
BOX = re.compile(r"^:::\{admonition\} Wrong on purpose: ", re.M)


def test_there_are_many() -> None:
    assert len(ROWS) >= 12


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_mistake_is_sourced_measured_and_rejected(row: list[str]) -> None:
    mistake, where, does, rejected = row
    assert mistake
    assert re.search(
        r"\{cite:[tp]\}`|\]\(https://github\.com/\S+/(issues|pull)/\d+\)|the same", where
    )
    assert "{run}`" in does
    assert re.search(r"\{eq\}`eq-[\w-]+`", rejected)


@pytest.mark.parametrize("name", [name for name in SECTIONS if "/outlook/" not in name])
def test_the_box_of_a_section_is_linked(name: str) -> None:
    assert BOX.search(text(name)), "each section runs one mistake to its end"
    assert f"{{ref}}`sec-{name.rpartition('/')[2]}`" in text(PAGE)
