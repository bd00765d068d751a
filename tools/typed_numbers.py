"""Typed numbers: what a run may have produced, but the text says by itself.

    python -m tools.typed_numbers [chapters/…/section.md …]

lists, with file and line, each number in prose, in a caption or in alt text that

- is neither quoted from the run (``{run}``) nor marked as a fact (``{fact}``);
- stands in no formula of the page, and in none of its code cells as a number (layout and indices do
  not count: what is in functions that draw figures, in brackets after a name, or an axis or size);
- is not excused: 0 and 1, years, ordinals (10th), the names of things (step 3, section 2.1, arm 4),
  list markers and the minutes of an exercise.

A percentage may stand in code as its fraction. In alt text a number is computed: ``f"{x:.1f}"``.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools import leftovers, sources

NAMED = (
    "actions?|algorithms?|appendix|arms?|chapters?|details?|equations?|exercises?|figures?|issues?|lemmas?|"
    "lines?|listings?|pages?|parts?|pull requests?|sections?|states?|steps?|tables?|theorems?|volumes?"
)
DIRECTIVE = re.compile(r"^(?P<fence>`{3,})\{[^\n]*\n(?P<body>.*?)^(?P=fence) *$", re.M | re.S)
CODE = [
    r"\A---\n.*?^---$",  # the page's header
    r"^(?P<fence>`{3,})(?!\{)[^\n]*\n.*?^(?P=fence) *$",
    r"\{[\w:+-]+\}`[^`]*`",  # a role
    r"`[^`]*`",
]
FORMULA = r"\$\$.*?\$\$|(?<!\\)\$[^$]+?(?<!\\)\$"
MARKUP = [
    r"^(`{3,}|:{3,})(\{[\w:-]+\})?",  # where a directive begins or ends
    r"^:(?!alt:)[\w-]+:[^\n]*",  # its options
    r"^\([^)\n]*\)=$",  # a label
    r"^%[^\n]*",  # a comment
    r"\]\([^)\n]*\)|<[^>\n]*>|https?://\S+",
    r"^[ >]*\d+[.)] ",  # the marker of a list
]
NAMES = [
    r"\((easy|medium|hard), \d+ minutes?\)",
    rf"\b({NAMED})\s+\d+(\.\d+)*\b(?!,\d)((,| and| or| to|–)\s*\d+(\.\d+)*\b)*",
    r"(?<![\w.,])(1[89]|20)\d\d(?![\w]|[.,]\d)",  # a year
]
NUMBER = re.compile(
    r"(?<![\w.])(?P<digits>(\d{1,3}(,\d{3})+|\d+)(\.\d+)?(e[-−+]?\d+)?)(?!\w|,\d{3}|\.\d)"
    r"(?P<percent>\s?%)?"
)
EXCUSED = {0.0, 1.0}


class Typed(NamedTuple):
    """A typed number: the line on which it stands, from 1, the number, and in what it stands."""

    line: int
    number: str
    place: str


class Page(NamedTuple):
    """The parts of a page: its cells with their syntax, its drawing functions, its text."""

    cells: list[tuple[sources.Cell, ast.Module | None]]
    drawing: set[str]
    prose: str


def parts_of(text: str) -> Page:
    """Return the parts of a page."""
    cells = [(cell, sources.parsed(cell.code)) for cell in sources.cells(text)]
    drawing = {name for _, tree in cells if tree for name in drawn(tree)}
    return Page(cells, drawing, blanked(unfenced(sources.without_cells(text)), CODE))


def unfenced(text: str) -> str:
    """Return a text without the fences of its directives: what is left in fences is code."""
    return DIRECTIVE.sub(lambda match: "\n" + unfenced(match["body"]), text)


def typed_numbers(text: str) -> list[Typed]:
    """Return the typed numbers of a page, in order."""
    page = parts_of(text)
    known = known_numbers(page)
    return [typed for typed in numbers_of(page, text.splitlines()) if not known & values(typed)]


def written_numbers(text: str) -> list[Typed]:
    """Return every number that a page's text says by itself, in order, known from code or not."""
    return numbers_of(parts_of(text), text.splitlines())


def known_numbers(page: Page) -> set[float]:
    """Return the numbers that stand in a page's code or formulas, and those that are excused."""
    formulas = " ".join(match[0] for match in re.finditer(FORMULA, page.prose, re.S))
    known = {value(n) for n in re.findall(r"\d[\d,]*\.?\d*", formulas.replace("{,}", ","))}
    trees = (tree for _, tree in page.cells if tree)
    return known | EXCUSED | {n for tree in trees for n in literals(tree, page.drawing)}


def numbers_of(page: Page, lines: list[str]) -> list[Typed]:
    """Return every number in a page's prose, captions and alt texts, in order."""
    places = [(1, blanked(page.prose, [FORMULA, *MARKUP]), "prose")]
    for cell, tree in page.cells:
        line, caption = caption_of(cell)
        places.append((line, blanked(caption, [*CODE, FORMULA]), "caption"))
        if tree:
            alt_texts = alts(tree, page.drawing)
            places += [(cell.line + n - 1, said, "alt text") for n, said in alt_texts]
    found = [
        Typed(first(lines, line + said.count("\n", 0, match.start()), match[0]), match[0], place)
        for line, said, place in places
        for match in NUMBER.finditer(blanked(said, NAMES))
    ]
    return sorted(found, key=lambda number: number.line)


def values(typed: Typed) -> set[float]:
    """Return what a written number may stand for in code: a percentage, its fraction too."""
    match = NUMBER.fullmatch(typed.number)
    assert match is not None
    return {value(match["digits"]), value(match["digits"], bool(match["percent"]))}


def first(lines: list[str], line: int, part: str) -> int:
    """Return the first line from `line` on that has a part: strings know where they begin only."""
    return next((n for n in range(line, len(lines) + 1) if part in lines[n - 1]), line)


def blanked(text: str, patterns: list[str]) -> str:
    """Return a text with spaces for what matches; each line keeps its number."""
    for pattern in patterns:
        whole = re.compile(pattern, re.M | re.S | re.I)
        text = whole.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return text


def value(digits: str, percent: bool = False) -> float:
    """Return a written number's value."""
    number = float(digits.replace(",", "").replace("−", "-").rstrip("."))
    return round(number / 100, 12) if percent else number


def drawn(tree: ast.AST) -> Iterator[str]:
    """Yield the names of the functions that draw a cell's figures: second arguments of Explore."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Explore":
            yield from (arg.id for arg in node.args[1:2] if isinstance(arg, ast.Name))


def literals(tree: ast.AST, drawing: set[str]) -> Iterator[float]:
    """Yield the numbers of code, but for indices and layout."""
    for node in ast.iter_child_nodes(tree):
        layout = (
            (isinstance(node, ast.FunctionDef) and node.name in drawing)
            or (isinstance(node, ast.keyword) and node.arg in ("axis", "size"))
            or (isinstance(tree, ast.Subscript) and node is tree.slice)
        )
        if layout:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            yield float(node.value)
        yield from literals(node, drawing)


def caption_of(cell: sources.Cell) -> tuple[int, str]:
    """Return the caption in a cell's options, with the line on which it begins; or no text."""
    match = re.search(r"""\bcaption:\s*(?:(["'])(.*?)(?<!\\)\1|([^\n]*))""", cell.options, re.S)
    if match is None:
        return cell.options_line, ""
    text = 2 if match[1] else 3
    return cell.options_line + cell.options.count("\n", 0, match.start(text)), match[text]


def alts(tree: ast.AST, drawing: set[str]) -> Iterator[tuple[int, str]]:
    """Yield the constant texts that drawing functions return, each with its line in the cell."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    for function in (function for function in functions if function.name in drawing):
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                yield from constants(node.value)


def constants(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the texts of an expression, each with its line; not those that are computed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.lineno, node.value.replace("\n", " ")
    elif not isinstance(node, ast.FormattedValue | ast.Subscript):
        for child in ast.iter_child_nodes(node):
            yield from constants(child)


def main(names: list[str]) -> int:
    """Print the typed numbers of pages, by default of all; return 1 if there are any."""
    pages = [Path(name) for name in names] or leftovers.pages()
    count = 0
    for page in pages:
        for line, number, place in typed_numbers(page.read_text("utf8")):
            print(f"{page}:{line}: {number} in {place}")
            count += 1
    print(f"{count} typed number{'s' * (count != 1)}")
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
