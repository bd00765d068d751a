"""One sentence a line in chapters: the rule on small texts, and on the book."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.book.books import cell, section
from tests.book.test_book import WRITTEN, text
from tools import sources
from tools.typed_numbers import FORMULA, unfenced

# What stands for one word: a blank in its place would hide that a sentence begins with it.
WORDS = [
    r"\{[\w:+-]+\}`[^`]*`",  # a role
    r"`[^`\n]*`",
    r"!?\[[^\]\n]*\]\([^)\n]*\)",  # a link
]
# What is no prose.
LEFT_OUT = [
    r"\A---\n.*?^---$",
    r"^(?P<fence>`{3,}).*?^(?P=fence) *$",  # code; directives have lost their fences
    r"^ *:{3,}[^\n]*",
    r"^ *:[\w-]+:(?!`)[^\n]*",  # the option of a directive
    r"^ *\|[^\n]*",  # a table
    r"^#[^\n]*",
    r"^%[^\n]*",
    r"^\([^)\n]*\)=$",
    r"<!--.*?-->",
]
ABBREVIATIONS = re.compile(
    r"(?:^|[\s(“\"'*_–—-])(?:e\.g|i\.e|cf|vs|etc|et al|resp|approx|ca|no|nos|pp?|vol|ed|eds|ch|chap|"
    r"sec|secs|fig|figs|eq|eqs|eqn|thm|lem|def|ex|app|ref|refs|dr|mr|mrs|prof|st|jr|(?<!part )[a-z])\.$",
    re.IGNORECASE,
)
MARKER = re.compile(
    r"^[ >]*(?:[-*+]\s+)?[*_]*(?:\d+[a-z]?[.)]\s+)?"
)  # of a list, or a step's number
# An end, what may close with it, a space, what may open with the next sentence, and its first letter.
BREAK = re.compile(r"(?P<end>[.!?…][)\]”’\"'*_]*)\s+(?=[(\[“‘\"'*_]*(?:[^\W_a-zα-ω]|[±−]))")


def crowded(page: str) -> Iterator[tuple[int, str]]:
    """Yield the line, from 1, and the second sentence of each line of a page that has two."""
    prose = unfenced(sources.without_cells(page))
    for pattern in LEFT_OUT:
        prose = _replaced(prose, pattern, " ")
    prose = _replaced(prose, r"\$\$.*?\$\$( *\([\w-]+\))?", " ")
    for pattern in [FORMULA, *WORDS]:
        prose = _replaced(prose, pattern, "X")
    for number, line in enumerate(prose.splitlines(), start=1):
        marker = MARKER.match(line)
        assert marker is not None
        start = marker.end()
        for found in BREAK.finditer(line, start):
            before = line[start : found.end("end")].rstrip(")]”’\"'*_")
            if not ABBREVIATIONS.search(before):
                yield number, page.splitlines()[number - 1][found.end() :]
                break


def _replaced(prose: str, pattern: str, by: str) -> str:
    """A text in which another character stands for each one that matches; its lines stay."""
    whole = re.compile(pattern, re.MULTILINE | re.DOTALL)
    return whole.sub(lambda match: re.sub(r"[^\n]", by, match[0]), prose)


def lines(said: str, *cells: str) -> list[int]:
    page = section("A", said, *cells)
    first = page[: page.index(said)].count("\n")
    return [number - first for number, _ in crowded(page)]


TWO = [
    "It falls. Then it rises.",
    "Does it fall? It does.",
    "It falls (by much). It rises.",
    "It “falls.” It rises.",
    "*Credit.* The paper has none.",
    "It falls ({numref}`fig-a`). It rises.",
    "It falls. {numref}`fig-a` shows it.",
    "It falls. $x$ is less.",
    "It is $x$. It rises.",
    "It falls. `train` says so.",
    "It falls. [A page](a.html) says so.",
    "It falls. (± is one standard error.)",
    "It falls. Ω is the set.",
    "It falls. Émile knew.",
    "It falls … It rises.",
    "It has 3 of type A, see B! It rises.",
    "- It falls. It rises.",
    "2. It falls. It rises.",
    "> It falls. It rises.",
    "It falls, e.g. here. It rises.",
    "Figure 2. It rises.",
    "It falls. 12 seeds rise.",
]


@pytest.mark.parametrize("said", TWO)
def test_two_sentences(said: str) -> None:
    assert lines(said) == [1]


ONE = [
    "It falls.\nIt rises.",
    "It falls, e.g. A does, i.e. B, cf. C, vs. D, etc. Eve too.",
    "See Fig. X, Eq. Y, Sec. Z, and (cf. Abel) pp. XII, No. V and vol. XI.",
    "{cite:t}`a2020` et al. Others follow R. S. Sutton and A. Barto.",
    "It is 0.5 A, from 1. to 3., and a . b",
    "So $f(x. Y) = 1. A$ and `a. B` and {ref}`it. Ends <sec-a>`.",
    "$$\nx. Y. Z\n$$ (eq-a)",
    "$$ x. Y $$ (eq-a)",
    "| a. B | C. D |\n| --- | --- |\n| e. F | g |",
    "# A. B",
    "2. It falls.\n10. It rises.",
    "*2b. It falls.*\nIt rises.",
    "- **Dead steps.**\n  They do not count.",
    "```sh\necho a. B\n```",
    "```{note}\n:class: a. B\nIt falls.\n```",
    ":::{prf:theorem} One. Two\n:label: thm-a\n\nIt falls.\n:::",
    "```{exercise-start} By hand. Twice (easy, 10 minutes)\n:label: ex-a\n```",
    "(sec-a)=\n% A. B\n<!-- A. B -->",
    "[A. B](a.html) and ![A. B](a.png)",
    "It falls … and “falls.” and rises",
]


@pytest.mark.parametrize("said", ONE)
def test_one_sentence(said: str) -> None:
    assert lines(said) == []


def test_the_line_is_named() -> None:
    code = cell("# A. B\nx = 1  # C. D")
    said = "One.\n\n:::{note} Title\nTwo.\nThree. Four.\n:::\n\n- Five\n  goes on. Six."
    assert lines(said, code) == [5, 9]
    assert lines(f"{code}\n{said}") == [11, 15]
    assert [rest for _, rest in crowded(section("A", code, said))] == ["Four.", "Six."]


def test_in_directives_too() -> None:
    assert lines("```{solution-start} ex-a\n:label: sol-a\n```\nIt falls. It rises.") == [4]
    assert lines("````{note}\nIt falls. It rises.\n```{tip}\nIt falls. It rises.\n```\n````") == [
        2,
        4,
    ]


@pytest.mark.parametrize("name", WRITTEN)
def test_one_sentence_a_line(name: str) -> None:
    found = "\n".join(f"{name}.md:{number}: {rest}" for number, rest in crowded(text(name)))
    assert not found, f"one sentence a line; a second one begins here:\n{found}"


def test_a_planted_sentence_is_found() -> None:
    page = text("chapters/policy-gradients/ppo")
    line = "Using samples twice"
    assert f"## {line}\n" in page
    number = page[: page.index(f"## {line}\n")].count("\n") + 3
    rows = page.splitlines()
    rows[number - 1] += " Nobody saw it."
    assert list(crowded("\n".join(rows))) == [(number, "Nobody saw it.")]
