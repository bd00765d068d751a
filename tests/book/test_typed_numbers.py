"""No number that a run may have produced is typed: the rule on small texts, and on the book."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.book.books import cell, section
from tests.book.contents import WRITTEN, text
from tools.typed_numbers import Typed, main, typed_numbers


def numbers(said: str, *cells: str) -> list[str]:
    return [found.number for found in typed_numbers(section("A", said, *cells))]


TYPED = [
    ("It drifts by 0.43 m.", ["0.43"]),
    ("From −0.71 to 2,500, 16-fold; 39 % of 7% (12).", ["0.71", "2,500", "16", "39 %", "7%", "12"]),
    ("It ends at 13.", ["13"]),
    ("It ends at 13, then 14; 15.5.", ["13", "14", "15.5"]),
    ("About 1e-9 or 2.5e−3.", ["1e-9", "2.5e−3"]),
    ("- a list with 37\n- and 38", ["37", "38"]),
    ("| seeds | 64 |", ["64"]),
    (":::{note} Boxes with 64\nand 65 inside\n:::", ["64", "65"]),
    (":::{figure} a.png\n:alt: Rises to 31\n:name: fig-32\n\nOf 33 runs\n:::", ["31", "33"]),
    ("In 2500 steps and 1800.5 m", ["2500", "1800.5"]),
]


@pytest.mark.parametrize(("said", "found"), TYPED)
def test_typed(said: str, found: list[str]) -> None:
    assert numbers(said) == found


EXCUSED = [
    "0 or 1, 0.0 and 1.0, the 10th and 90th percentile",
    "A2C, CartPole-v1, k3, x_2 and step3",
    "In 1933, and since 2016: years. {cite:p}`sutton2018`",
    "Step 3 leaves it out; steps 3 and 4, Sections 13.3, 13.4 or 2, arm 4 and details 7 to 9",
    "Issue 284, pull request 34191",
    "{run}`drift:.1f`, {fact}`475`, `range(12)`, {ref}`section 9 <sec-nine>`",
    "The value $V = 7.8$ is a formula.\n\n$$\nx = 12\n$$ (eq-a)\n\nSo 7.8 and 12 are known.",
    "Where $a < 3$ and $b > 4$",
    "2. the second\n10. the tenth",
    "```{exercise-start} By hand (easy, 12 minutes)\n:label: ex-12\n```",
    "(fig-12)=\n% a comment of 12",
    "[a link](page-12.html), https://example.org/12 and <b class='x12'>bold</b>",
    "```sh\nmake PORT=8001\n```",
]


@pytest.mark.parametrize("said", EXCUSED)
def test_excused(said: str) -> None:
    assert numbers(said) == []


CODE = cell("SEEDS, GAMMA = 2_000, 0.98\nSIZES = [x[37], np.sum(x, axis=38)]\nNAME = '39'\n# 40")


def test_numbers_of_the_code_are_settings() -> None:
    assert numbers("Over 2,000 seeds, γ = 0.98; that is 98 %.", CODE) == []
    assert numbers("An index 37, an axis 38, a name 39, a comment 40.", CODE) == [
        "37",
        "38",
        "39",
        "40",
    ]
    assert numbers("2,000.5 and 200", CODE) == ["2,000.5", "200"]


DRAW = """\
def draw(fig, k):
    fig.set(ylim=(0, 55))
    best = {"a": 12}
    return ("Rises to 41, "
            f"at {k:.3f} to {best['44']}, "
            "and 42.")

def helper():
    return "a text of 43"

Explore("x", draw, k=[2, 3], size=(6, 56))
"""
FIGURE = (
    '---\nmystnb:\n  figure:\n    name: fig-51\n    caption: "Median of 16 seeds,\n'
    '      {run}`a` of 17; $x = 18$."\n---\n'
)


def test_captions_and_alt_texts() -> None:
    said = section("A", cell(DRAW, FIGURE), "So 55, 56, 12, 2 and 3.")
    lines = said.splitlines()
    found = [
        (lines[line - 1].strip(), number, place) for line, number, place in typed_numbers(said)
    ]
    assert found == [
        ('caption: "Median of 16 seeds,', "16", "caption"),
        ('{run}`a` of 17; $x = 18$."', "17", "caption"),
        ('return ("Rises to 41, "', "41", "alt text"),
        ('"and 42.")', "42", "alt text"),
        ("So 55, 56, 12, 2 and 3.", "55", "prose"),
        ("So 55, 56, 12, 2 and 3.", "56", "prose"),
        ("So 55, 56, 12, 2 and 3.", "12", "prose"),
    ]


def test_the_line_is_named() -> None:
    assert typed_numbers("# A\n\nOne\ntwo\nand 37\n") == [Typed(5, "37", "prose")]


def test_captions_in_one_line() -> None:
    options = ':mystnb: {figure: {caption: "Over 37 runs", name: fig-38}}\n\n'
    assert numbers("", cell("x", options)) == ["37"]


def test_the_command_lists_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.md"
    path.write_text("# A\n\n37\n")
    assert main([str(path)]) == 1
    assert capsys.readouterr().out == f"{path}:3: 37 in prose\n1 typed number\n"
    path.write_text("# A\n")
    assert main([str(path)]) == 0
    assert capsys.readouterr().out == "0 typed numbers\n"


def test_exercises_and_solutions_are_read() -> None:
    """The fence that ends a directive begins no code."""
    gate = (
        "```{{{0}-start}} By hand (easy, 5 minutes)\n:label: {0}-7\n```\nWith 12 arms.\n"
        "```{{{0}-end}}\n```\n"
    )
    said = (
        gate.format("exercise")
        + "Then 13.\n"
        + gate.format("solution")
        + "```\nx = 14\n```\nAnd 15.\n"
    )
    assert numbers(said) == ["12", "13", "12", "15"]
    nested = (
        "````{exercise} By hand\n:label: ex-a\n\nWith 16 arms:\n```\nx = 17\n```\nand 18.\n````\n"
    )
    assert numbers(nested) == ["16", "18"]


@pytest.mark.parametrize("name", WRITTEN)
def test_no_typed_number(name: str) -> None:
    found = typed_numbers(text(name))
    listed = "\n".join(f"{name}.md:{line}: {number} in {place}" for line, number, place in found)
    assert not found, f"quote with {{run}}, compute in alt text, or mark as {{fact}}:\n{listed}"
