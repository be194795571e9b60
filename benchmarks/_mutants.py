"""Small faults that a source file could have: every one is a change of one node of its syntax tree.

Not touched: docstrings, type annotations, decorators, imports, what is raised, warned or logged, `__all__`, `__repr__`,
f-strings, and arguments that only guard (`strict`, `stacklevel`).
"""

from __future__ import annotations

import ast
import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from types import CodeType
from typing import Any

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
PAIRS = [
    ("min", "max"),
    ("minimum", "maximum"),
    ("argmin", "argmax"),
    ("clamp_min", "clamp_max"),
    ("sum", "mean"),
    ("any", "all"),
    ("log", "log1p"),
    ("exp", "expm1"),
    ("std", "var"),
    ("zeros", "ones"),
    ("zeros_like", "ones_like"),
    ("floor", "ceil"),
    ("cumsum", "cumprod"),
    ("sigmoid", "tanh"),
    ("rand", "randn"),
    ("rand_like", "randn_like"),
]
TWINS = {a: b for pair in PAIRS for a, b in (pair, pair[::-1])} | {"median": "mean", "mean": "sum", "nanmean": "nansum"}
WORDS = {"left": "right", "right": "left"}
UNWRAPPED = {"detach", "clone", "copy", "abs", "exp", "log", "log1p", "neg", "sqrt", "square", "t", "clip", "clamp"}
AXES = {"axis", "dim"}
GUARDS = {"strict", "stacklevel", "category"}
QUIET = {"warn", "info", "debug", "warning", "error", "simplefilter", "filterwarnings"}


@dataclass(frozen=True)
class Mutant:
    """One fault, named so that it is found again when lines have moved: `occurrence` counts equal ones in a function.

    `line` is where it stood when it was drawn.
    """

    file: str
    function: str
    kind: str
    original: str
    mutated: str
    occurrence: int
    line: int

    @property
    def name(self) -> tuple[Any, ...]:
        return tuple(asdict(self).values())[:-1]


Change = tuple[ast.AST, str, Callable[[ast.AST], ast.AST]]


def _changes(node: ast.AST, parent: ast.AST | None) -> Iterator[Change]:
    """All faults of one node: what is replaced, the kind, and what makes the replacement from a copy."""
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            for other in COMPARISONS[type(op)]:
                yield node, "comparison", lambda n, i=i, o=other: _set(n, ops=[*n.ops[:i], o(), *n.ops[i + 1 :]])
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield node, "arithmetic", lambda n: _set(n, op=ARITHMETIC[type(n.op)]())
    if isinstance(node, ast.BoolOp):
        yield node, "boolean", lambda n: _set(n, op=ast.Or() if isinstance(n.op, ast.And) else ast.And())
    if isinstance(node, ast.UnaryOp):
        yield node, "sign or not", lambda n: n.operand
    if isinstance(node, ast.If | ast.IfExp):
        yield node.test, "condition", lambda n: ast.Constant(True)
        yield node.test, "condition", lambda n: ast.Constant(False)
    if isinstance(node, ast.Constant):
        yield from _constants(node, parent)
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield node, "return", lambda n: _set(n, value=ast.Constant(None))
    if isinstance(node, ast.Tuple) and len(node.elts) > 1 and isinstance(parent, ast.Return):
        yield node, "swap", lambda n: _set(n, elts=[n.elts[1], n.elts[0], *n.elts[2:]])
    if _is_effect(node):
        yield node, "statement", lambda n: ast.Pass()
    if isinstance(node, ast.Slice):
        for part in ("lower", "upper", "step"):
            if getattr(node, part) is not None:
                yield node, "slice", lambda n, part=part: _set(n, **{part: None})
    if isinstance(node, ast.Call):
        if len(node.args) > 1 and not any(isinstance(arg, ast.Starred) for arg in node.args[:2]):
            yield node, "swap", lambda n: _set(n, args=[n.args[1], n.args[0], *n.args[2:]])
        for i, keyword in enumerate(node.keywords):
            if keyword.arg is not None and keyword.arg not in GUARDS:
                yield node, "keyword", lambda n, i=i: _set(n, keywords=[*n.keywords[:i], *n.keywords[i + 1 :]])
        if isinstance(node.func, ast.Attribute) and node.func.attr in TWINS:
            yield node.func, "twin", lambda n: _set(n, attr=TWINS[n.attr])
        if isinstance(node.func, ast.Name) and node.func.id in TWINS:
            yield node.func, "twin", lambda n: _set(n, id=TWINS[n.id])
        if isinstance(node.func, ast.Attribute) and node.func.attr in UNWRAPPED and not _is_module(node.func.value):
            yield node, "call", lambda n: n.func.value
        elif isinstance(node.func, ast.Attribute | ast.Name) and len(node.args) == 1:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if name in UNWRAPPED:
                yield node, "call", lambda n: n.args[0]


def _constants(node: ast.Constant, parent: ast.AST | None) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield node, "constant", lambda n: ast.Constant(not value)
    elif isinstance(value, int) and isinstance(parent, ast.keyword) and parent.arg in AXES and value in (0, 1):
        yield node, "axis", lambda n: ast.Constant(1 - value)
    elif isinstance(value, int):
        yield node, "constant", lambda n: ast.Constant(value + 1)
        yield node, "constant", lambda n: ast.Constant(value - 1)
    elif isinstance(value, float):
        yield node, "constant", lambda n: ast.Constant(value * 2 if value else 1.0)
        yield node, "constant", lambda n: ast.Constant(-value if value else -1.0)
    elif isinstance(value, str) and value in WORDS:
        yield node, "constant", lambda n: ast.Constant(WORDS[value])


def _set(node: ast.AST, **fields: Any) -> ast.AST:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def _is_module(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in {"np", "torch", "sp", "math", "F", "pd"}


def _is_effect(node: ast.AST) -> bool:
    """A statement without which the function still runs: a call, an update, an item or attribute that is set."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Call)
    if isinstance(node, ast.AugAssign):
        return True
    if not isinstance(node, ast.Assign):
        return False
    targets = [t for target in node.targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
    used = {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
    return all(
        isinstance(t, ast.Subscript | ast.Attribute) or (isinstance(t, ast.Name) and t.id in used) for t in targets
    )


def _is_talk(node: ast.AST) -> bool:
    """Errors, warnings, logs, types and other things that are no calculation."""
    if isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Assert | ast.AnnAssign):
        return not (isinstance(node, ast.AnnAssign) and node.value is not None)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return name in QUIET or name.endswith(("Error", "Warning", "TypeVar", "cast"))
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return True
    if isinstance(node, ast.Assign):
        return any(getattr(target, "id", None) == "__all__" for target in node.targets)
    return isinstance(node, ast.FunctionDef) and node.name in {"__repr__", "__str__", "_repr_html_"}


def _walk(node: ast.AST, parent: ast.AST | None, function: str) -> Iterator[tuple[ast.AST, ast.AST | None, str]]:
    if _is_talk(node):
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    yield node, parent, function
    for field, value in ast.iter_fields(node):
        if field in {"decorator_list", "annotation", "returns", "bases", "type_comment"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.keyword) and child.arg in GUARDS:
                continue
            if isinstance(child, ast.AST):
                yield from _walk(child, node, function)


def _faults(tree: ast.AST, file: str) -> Iterator[tuple[Mutant, ast.AST, Callable[[ast.AST], ast.AST]]]:
    seen: Counter[tuple[str, ...]] = Counter()
    for node, parent, function in _walk(tree, None, ""):
        for target, kind, change in _changes(node, parent):
            original = ast.unparse(target)
            mutated = ast.unparse(ast.fix_missing_locations(change(copy.deepcopy(target))))
            if original == mutated:
                continue
            key = (function, kind, original, mutated)
            yield Mutant(file, function, kind, original, mutated, seen[key], target.lineno), target, change
            seen[key] += 1


def mutants(source: str, file: str) -> list[Mutant]:
    """Every fault of a source file."""
    return [mutant for mutant, _, _ in _faults(ast.parse(source), file)]


def mutate(source: str, mutant: Mutant, path: str) -> tuple[CodeType, range | None] | None:
    """Code of the file with its fault, and the lines that it touches; None if the file has no such place."""
    tree = ast.parse(source)
    for found, target, change in _faults(tree, mutant.file):
        if found.name == mutant.name:
            lines = _lines(tree, target)
            tree = _Replace(target, change).visit(tree)
            return compile(ast.fix_missing_locations(tree), path, "exec"), lines
    return None


def _lines(tree: ast.Module, target: ast.AST) -> range | None:
    """Lines of the statement around a node, of a function for its defaults; None for what runs at import."""
    around = [tree]
    while around[-1] is not target:
        inner = [n for n in ast.iter_child_nodes(around[-1]) if n is target or any(m is target for m in ast.walk(n))]
        around.append(inner[0])
    statement = next(node for node in reversed(around) if isinstance(node, ast.stmt))
    scopes = [node for node in around if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)]
    if not scopes or isinstance(scopes[-1], ast.ClassDef):
        return None
    if isinstance(statement, ast.FunctionDef):
        return range(statement.body[0].lineno, statement.end_lineno + 1)
    body = getattr(statement, "body", None)
    return range(statement.lineno, max(body[0].lineno, statement.lineno + 1) if body else statement.end_lineno + 1)


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, change: Callable[[ast.AST], ast.AST]):
        self.target, self.change = target, change

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.target:
            return ast.copy_location(self.change(copy.deepcopy(node)), node)
        return self.generic_visit(node)


def draw(points: dict[str, list[Mutant]], n: int, seed: int) -> list[Mutant]:
    """Draw `n` faults, in every file as many as its share of all (at least one), in random order."""
    total = sum(map(len, points.values()))
    share = {file: len(found) * n / total for file, found in points.items()}
    number = {file: max(1, int(value)) for file, value in share.items()}
    for file in sorted(share, key=lambda file: (int(share[file]) - share[file], file)):
        if sum(number.values()) >= n:
            break
        number[file] += share[file] > 1
    drawn = [
        mutant
        for file, found in sorted(points.items())
        for mutant in random.Random(f"{seed} {file}").sample(found, min(number[file], len(found)))
    ]
    random.Random(seed).shuffle(drawn)
    return drawn
