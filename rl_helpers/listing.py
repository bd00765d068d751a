"""`show`: the source of helpers, on the page.

Shown is what computes: the signature, the docstring's first line, and the body without its
argument checks. The whole source is folded below.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

CHECKS = re.compile(r"require(_\w+)?|check_policy")
WHOLE = "Whole source: docstrings and argument checks in full"
# JupyterLab's MyST takes the triangle away from every fold; this is the browser's own again.
SUMMARY = '<summary style="list-style: revert; cursor: pointer">'


class show:
    """Show the source of helpers, highlighted: the very code that the book runs.

    Args:
        *helpers: functions or classes.
    """

    def __init__(self, *helpers: Callable[..., Any]) -> None:
        if not helpers:
            raise ValueError("show() got no helpers; name at least one function")
        sources = [textwrap.dedent(inspect.getsource(helper)).rstrip() for helper in helpers]
        self.source = "\n\n".join(sources)
        self.listing = "\n\n".join(map(shortened, sources))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        page = _highlighted(self.listing)
        if self.listing != self.source:
            page += f"<details>{SUMMARY}{WHOLE}</summary>{_highlighted(self.source)}</details>"
        return {"text/html": page, "text/plain": self.listing}


def shortened(source: str) -> str:
    """The lines of a function or class that are read first, each as it stands in the source.

    Docstrings keep their first line. At the top level of a body argument checks go: calls of
    `require…` and `check_policy`, conditions and loops that can only raise `ValueError` or
    `TypeError`, assignments that only these read, and comments right above. A method with nothing
    else in it goes altogether; a function with nothing else in it stays.

    Args:
        source: one definition, not indented.
    """
    lines, dropped = source.splitlines(), set[int]()
    whole = ast.parse(source).body[0]
    for part in [whole, *whole.body] if isinstance(whole, ast.ClassDef) else [whole]:
        if not isinstance(part, ast.FunctionDef | ast.ClassDef):
            continue
        body: list[ast.stmt] = part.body
        if ast.get_docstring(part) is not None:
            docstring, *body = body
            first, *further = _extent(docstring, lines)
            if further:
                lines[first - 1] += '"""'
                dropped.update(further)
        checks = _checks(body)
        if checks and len(checks) == len(body):
            checks = [] if part is whole else [part]
        for check in checks:
            dropped.update(_extent(check, lines))
    kept = (line for number, line in enumerate(lines, start=1) if number not in dropped)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).rstrip()


def _highlighted(source: str) -> str:
    """Source as HTML, whose classes get their colours from the book's page and from JupyterLab."""
    return highlight(source, PythonLexer(), HtmlFormatter())


def _checks(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements that check arguments, and the assignments that only they read."""
    checks = [statement for statement in body if _is_check(statement)]
    while True:
        rest = [statement for statement in body if statement not in checks]
        helping = [
            statement
            for statement in rest
            if (names := _assigned(statement)) & _read(checks) and not names & _read(rest)
        ]
        if not helping:
            return checks
        checks += helping


def _is_check(statement: ast.stmt, inside: bool = False) -> bool:
    match statement:
        case ast.Expr(ast.Call(ast.Name(name) | ast.Attribute(attr=name))):
            return bool(CHECKS.fullmatch(name))
        case ast.If(body=body, orelse=[]) | ast.For(body=body, orelse=[]):
            return all(_is_check(step, inside=True) for step in body)
        case ast.Raise(ast.Call(ast.Name("ValueError" | "TypeError"))):
            return inside
    return False


def _assigned(statement: ast.stmt) -> set[str]:
    """The names that a plain assignment gives values to."""
    match statement:
        case ast.Assign([ast.Name(name)]):
            return {name}
        case ast.Assign([ast.Tuple(parts)]) if all(isinstance(part, ast.Name) for part in parts):
            return {part.id for part in parts if isinstance(part, ast.Name)}
    return set()


def _read(statements: Sequence[ast.stmt]) -> set[str]:
    """The names that statements read."""
    nodes = (node for statement in statements for node in ast.walk(statement))
    return {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _extent(statement: ast.stmt, lines: Sequence[str]) -> range:
    """The numbers of a statement's lines, with its decorators and the comments right above."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    start = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    while lines[start - 2].lstrip().startswith("#"):
        start -= 1
    return range(start, (statement.end_lineno or start) + 1)
