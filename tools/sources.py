"""The source of a page: its code cells, its labelled equations, and where each stands."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

CELL = re.compile(r"^(?P<fence>`{3,})\{code-cell\}[^\n]*\n(?P<body>.*?)^(?P=fence) *$", re.M | re.S)
OPTIONS = re.compile(r"---\n(?P<yaml>.*?)^---\n|(?P<colons>(?::\w[^\n]*\n)+)\n?", re.M | re.S)
EQUATION = re.compile(r"\$\$(?P<latex>.*?)\$\$(?:[ \t]*\((?P<label>[\w-]+)\))?", re.S)


@dataclass(frozen=True)
class Cell:
    """A code cell: its code and its options, each with the line, from 1, on which it begins."""

    code: str
    line: int
    options: str
    options_line: int


@dataclass(frozen=True)
class Equation:
    """A labelled equation: its LaTeX, and the line, from 1, on which its label stands."""

    label: str
    latex: str
    line: int


def cells(text: str) -> list[Cell]:
    """The code cells of a page."""
    found = []
    for match in CELL.finditer(text):
        body, line = match["body"], text.count("\n", 0, match.start("body")) + 1
        options = OPTIONS.match(body)
        skipped = options[0] if options else ""
        shown = (options["yaml"] or options["colons"]) if options else ""
        first = line + (1 if skipped.startswith("---") else 0)
        found.append(Cell(body[len(skipped) :], line + skipped.count("\n"), shown or "", first))
    return found


def script(text: str) -> str:
    """The code cells of a page, one after the other."""
    return "\n".join(cell.code for cell in cells(text))


def without_cells(text: str) -> str:
    """A page with its code cells left blank: each line keeps its number."""
    return CELL.sub(lambda match: "\n" * match[0].count("\n"), text)


def equations(text: str) -> list[Equation]:
    """The labelled equations of a page, in order."""
    prose = without_cells(text)
    return [
        Equation(
            match["label"],
            "\n".join(line.rstrip() for line in match["latex"].strip().splitlines()),
            prose.count("\n", 0, match.start("label")) + 1,
        )
        for match in EQUATION.finditer(prose)
        if match["label"]
    ]


def parsed(code: str) -> ast.Module | None:
    """The syntax tree of a cell; none for what is not plain Python, such as a magic command."""
    try:
        return ast.parse(code)
    except SyntaxError:
        return None


def skeleton(node: Any) -> Any:
    """Syntax as nested lists, the same for code that differs in comments and layout only.

    Unlike `ast.dump` it says the same in every version of Python, which add empty fields.
    """
    if isinstance(node, ast.AST):
        fields = [[key, skeleton(value)] for key, value in ast.iter_fields(node) if value != []]
        return [type(node).__name__, *(field for field in fields if field[1] != "None")]
    return [skeleton(item) for item in node] if isinstance(node, list) else repr(node)


def texts(tree: ast.AST) -> Iterator[str]:
    """The texts that stand in code as constants."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
