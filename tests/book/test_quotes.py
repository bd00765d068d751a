"""How quoted numbers look, and what a wrong quote says. Quotes in a built book: test_ledger.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from extensions.quotes import docname_of, parsed, quote, recorded, shown
from tests.book.books import build, executed, html, line_of, section
from tests.book.test_ledger import IMPORT, LEDGER_CONF, exercise, write


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (16, "", "16"), (2_000, "", "2,000"), (-3, "", "−3"),
        (0.4321, ".1f", "0.4"), (-0.4321, ".2f", "−0.43"), (0.4321, "+.1f", "+0.4"),
        (-0.04, ".1f", "0.0"), (12_345.678, ".0f", "12,346"), (7, ".1f", "7.0"),
        (0.126, ".0%", "13\u00a0%"), (-0.5, "+.1%", "−50.0\u00a0%"),
        (1_234, ".2g", "1,200"), (0.01234, ".2g", "0.012"), (-98.7, ".2g", "−99"),
        (99.7, ".2g", "100"), (0, ".2g", "0.0"), (2.5e-7, ".1g", "0.0000002"), (4.04, ".2g", "4.0"),
    ],
)  # fmt: skip
def test_numbers(value: float, form: str, text: str) -> None:
    assert shown(value, form) == text


RECORDS = {
    "drift": {"name": "drift", "value": 0.4321},
    "it-wins": {"name": "it-wins", "mean": 12.34, "effect": "12.3 ± 1.1"},
    "eq-a-2[no b: c]": {"name": "eq-a-2[no b: c]", "effect": "off by 3", "anchor": "check-eq-a-2"},
    "eq-b[d]": {"name": "eq-b[d]", "effect": "off by 4", "anchor": "check-eq-b"},
}


def test_a_finding_is_quoted_whole_or_by_its_mean() -> None:
    assert quote(RECORDS, "it-wins") == "12.3 ± 1.1"
    assert quote(RECORDS, "it-wins:.0f") == "12"
    assert quote(RECORDS, "drift:.2f") == "0.43"


def test_a_mistake_is_quoted_as_its_check_printed_it() -> None:
    assert quote(RECORDS, "eq-a-2[no b: c]") == "off by 3"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("drift", ("", "drift", "")),
        ("drift:.1f", ("", "drift", ".1f")),
        ("ppo#it-wins", ("ppo", "it-wins", "")),
        ("mdp/index#drift:+.1f", ("mdp/index", "drift", "+.1f")),
        ("ppo#eq-a-2[no b: c]", ("ppo", "eq-a-2[no b: c]", "")),
        ("#drift", ("", "#drift", "")),
        ("drift drift", ("", "drift drift", "")),
    ],
)
def test_what_a_quote_says(text: str, parts: tuple[str, str, str]) -> None:
    assert parsed(text) == parts


def test_the_page_that_a_quote_names() -> None:
    pages = ["ppo", "a/sac", "a/index", "b/index", "b/no-ppo"]
    assert docname_of("ppo", pages) == "ppo"
    assert docname_of("sac", pages) == "a/sac"
    assert docname_of("b/index", pages) == "b/index"
    with pytest.raises(ValueError, match="'index' names a/index, b/index; write more of the path"):
        docname_of("index", pages)
    with pytest.raises(ValueError, match="no section is named 'ac'; sections are: index, "):
        docname_of("ac", pages)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drift", "0.4321 needs a format, such as .1f"),
        ("drift:1", "the format '1' does not exist; allowed are .1f, .2g, .0% and +.1f"),
        ("drift:.1e", "the format '.1e' does not exist"),
        (
            "drifts:.1f",
            "nothing is recorded as 'drifts' in this section; names are: drift, it-wins",
        ),
        ("ppo#drifts", "nothing is recorded as 'drifts' in the section ppo; names are: drift, it"),
        ("eq-b[e]", "nothing is recorded as 'eq-b[e]' in this section; names are: eq-b[d]"),
        ("eq-b[d]:.1f", "eq-b[d] is quoted as the check printed it; allowed is no format"),
    ],
)
def test_wrong_quotes(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        quote(RECORDS, text)
    assert message in str(caught.value)


def test_what_a_notebook_records() -> None:
    number = {"metadata": {"rl_number": {"name": "drift", "value": 1}}}
    found = {"metadata": {"rl_finding": {"name": "it-wins", "mean": 1.0}}}
    check = {"label": "eq-a", "anchor": "check-eq-a-2", "mistakes": {"no b": "off by 3"}}
    checked = {"metadata": {"rl_check": check}}
    cells = [{"outputs": [number]}, {}, {"outputs": [{}, found, checked]}]
    assert list(recorded({"cells": cells})) == ["drift", "it-wins", "eq-a-2[no b]"]
    with pytest.raises(ValueError, match="names are: none"):
        quote(recorded({"cells": []}), "drift")


# ---- Quotes of another section, in a built book -------------------------------------------------

RAN = section(
    "Ran", IMPORT, "\n$$\na = b\n$$ (eq-ran)\n",
    "```{code-cell} ipython3\nrecord(drift=0.4321)\nfinding('it-wins')\n"
    "check('eq-ran', wrong='off by 7')\n```\n",
    *map(exercise, "abc"),
)  # fmt: skip
QUOTES = (
    "# Quotes\n\nIt drifts by {run}`ran#drift:.1f`, wins by {run}`part/ran#it-wins`; "
    "without {run}`ran#eq-ran[wrong]`.\n"
)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quoting")
    write(folder, {"aside": QUOTES, "part/ran": RAN}, bib="")
    (folder / "conf.py").write_text(LEDGER_CONF)
    status, log = build(folder, "-W", "--keep-going")
    assert status == 0, log
    return folder


def test_another_section_is_quoted_and_linked(book: Path) -> None:
    page = html(book, "aside")
    assert "It drifts by 0.4, wins by <a" in page
    assert 'href="part/ran.html#finding-it-wins">2.00 ± 0.40</a>' in page
    assert 'href="part/ran.html#check-eq-ran">off by 7</a>' in page


def test_a_page_follows_the_section_that_it_quotes(book: Path) -> None:
    path = book / "part" / "ran.md"
    path.write_text(path.read_text().replace("drift=0.4321", "drift=0.77"))
    status, log = build(book, "-W", "--keep-going")
    assert status == 0, log
    assert executed(log) == ["part/ran"]
    assert "It drifts by 0.8," in html(book, "aside")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ran#drift:.1f", "run#drift:.1f", "no section is named 'run'; sections are: ran"),
        ("ran#drift:.1f", "ran#drit", "nothing is recorded as 'drit' in the section ran; names"),
        ("ran#eq-ran[wrong]", "ran#eq-ran[wrung]", "in the section ran; names are: eq-ran[wrong]"),
    ],
)
def test_a_wrong_quote_of_another_section(book: Path, old: str, new: str, message: str) -> None:
    path = book / "aside.md"
    path.write_text(QUOTES.replace(old, new))
    status, log = build(book, "-W", "--keep-going")
    path.write_text(QUOTES)
    assert status == 1
    (row,) = (row for row in log.splitlines() if "WARNING: {run}`" in row)
    assert f"aside.md:{line_of(book, 'aside', 'It drifts')}: WARNING: {{run}}`{new}`: " in row
    assert message in row
