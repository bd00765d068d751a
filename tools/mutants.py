"""Mutants of Python source: single small changes of the kind a person makes by mistake.

Of the libraries for this, cosmic-ray changes operators without regard to types (a product of arrays
becomes a shift: an error that any test notices), and mutmut runs all tests in one process, which
the type checks at import do not allow. So the changes are chosen here, on the syntax tree.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARED: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
COMBINED: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
PAIRS = (
    "min max", "minimum maximum", "argmin argmax", "any all", "sum mean", "zeros ones",
    "zeros_like ones_like", "std var", "median mean", "sin cos", "exp log", "floor ceil",
)  # fmt: skip
NAMES = {a: b for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
DROPPED = {"detach", "abs", "clip", "clamp", "sqrt", "sqrt_", "copy", "clone", "T", "mT", "sorted"}


@dataclass(frozen=True)
class Mutant:
    """One changed place of a file: `source[start:end]`, in bytes, becomes `became`."""

    file: str
    line: int
    start: int
    end: int
    was: str
    became: str

    def applied(self, source: str) -> str:
        """The file's source with the change."""
        code = source.encode()
        return (code[: self.start] + self.became.encode() + code[self.end :]).decode()


def changes(node: ast.AST) -> Iterator[str]:
    """What may stand in a node's place."""
    match node:
        case ast.Compare(left, [op], [right]) if type(op) in COMPARED:
            yield ast.unparse(ast.Compare(left, [COMPARED[type(op)]()], [right]))
        case ast.BinOp(left, op, right) if type(op) in COMBINED:
            yield ast.unparse(ast.BinOp(left, COMBINED[type(op)](), right))
        case ast.BoolOp(op, values):
            yield ast.unparse(ast.BoolOp(COMBINED[type(op)](), values))
        case ast.UnaryOp(_, operand):
            yield ast.unparse(operand)
        case ast.IfExp(test, body, orelse):
            yield ast.unparse(ast.IfExp(test, orelse, body))
        case ast.Constant(bool(value)):
            yield str(not value)
        case ast.Constant(int(value)):
            yield str(value + 1)
        case ast.Constant(float(value)):
            yield str(2 * value if value else 1.0)
        case ast.Name(name) if name in NAMES:
            yield NAMES[name]
        case ast.Attribute(value, name) if name in NAMES:
            yield ast.unparse(ast.Attribute(value, NAMES[name]))
        case ast.Attribute(value, name) if name in DROPPED and name.endswith("T"):
            yield ast.unparse(value)
        case ast.Call(ast.Attribute(value, name), args, _) if name in DROPPED:
            module = isinstance(value, ast.Name) and value.id in ("np", "torch", "math")
            yield ast.unparse(args[0] if module else value)
        case ast.Call(function, [first, second, *rest], keywords) if ast.dump(first) != ast.dump(
            second
        ):
            if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
                yield ast.unparse(ast.Call(function, [second, first, *rest], keywords))
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            kept = [other for other in node.keywords if other is not keyword]
            yield ast.unparse(ast.Call(node.func, node.args, kept))


def expressions(node: ast.AST) -> Iterator[ast.AST]:
    """Every node inside, but for types, decorators, docstrings and what an error says."""
    skipped = {id(x) for x in getattr(node, "decorator_list", ())}
    skipped |= {id(getattr(node, name, None)) for name in ("annotation", "returns", "msg")}
    for child in ast.iter_child_nodes(node):
        if id(child) not in skipped and not isinstance(child, ast.Raise | ast.JoinedStr):
            yield child
            yield from expressions(child)


def mutants(file: str, source: str) -> list[Mutant]:
    """All mutants of a file, in its order; none that changes nothing or does not compile."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node in expressions(ast.parse(source)):
        places: list[tuple[ast.AST, str]] = [(node, f"({text})") for text in changes(node)]
        match node:
            case ast.If(test) | ast.While(test):
                places = [(test, f"not ({ast.unparse(test)})")]
            case ast.AugAssign(target, op, value) if type(op) in COMBINED:
                places = [(node, ast.unparse(ast.AugAssign(target, COMBINED[type(op)](), value)))]
            case ast.Expr(ast.Call()):
                places = [(node, "pass")]
        for place, became in places:
            at: ast.expr = place  # type: ignore[assignment]
            start = starts[at.lineno - 1] + at.col_offset
            end = starts[(at.end_lineno or 0) - 1] + (at.end_col_offset or 0)
            was = source.encode()[start:end].decode()
            found.append(Mutant(file, at.lineno, start, end, was, became))
    return found
