"""Mutants of a module: for each of its nodes, the small changes of the text that could be mistakes.

The text is changed in place, so that a mutant differs from its module in one line, or in the lines
of one expression. Texts that only people read are left alone: docstrings, annotations, messages.
"""

from __future__ import annotations

import ast
import copy
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_COMPARED = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt,
    ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_MEMBERS = {"Code": ("UNKNOWN", "INTERNAL"), "StopReason": ("PAUSE", "CANCEL")}
"""Another member of an enum; the second one in place of the first."""
_SQL = [
    (" AND ", " OR "), (" OR ", " AND "), (" = ", " != "), (" < ", " <= "), (" <= ", " < "),
    (" > ", " >= "), (" >= ", " > "), ("NOT NULL", "NULL"), (" DESC", " ASC"),
    ("min(", "max("), ("max(", "min("),
]  # fmt: skip
_GENERIC = {"Callable", "Coroutine", "Generator", "Iterator", "Mapping", "Sequence"}
_IS_SQL = re.compile(r"\b(SELECT|UPDATE|INSERT|DELETE|WHERE|ORDER BY)\b|\w = \?")
_Test = ast.If | ast.IfExp | ast.While


@dataclass(frozen=True)
class Mutant:
    """A change of a module's text."""

    path: str
    """The module's, from the root of the tree."""
    line: int
    """The first line that differs, from 1."""
    change: str
    """The kind of change."""
    old: str
    """The line as it is, without its indentation; after the one before it, if it is one word."""
    new: str
    """The same as it would be; of several lines, the first that differs."""
    begin: int
    end: int
    """The bytes of the module that are replaced."""
    replacement: str

    def applied(self, text: str) -> str:
        """Returns the module's text, changed."""
        source = text.encode()
        return (source[: self.begin] + self.replacement.encode() + source[self.end :]).decode()

    def compiles(self, text: str) -> bool:
        """Whether a module can be made of it at all."""
        try:
            compile(self.applied(text), self.path, "exec", dont_inherit=True)
        except SyntaxError:
            return False
        return True


def mutants(path: str, text: str) -> list[Mutant]:
    """Returns the mutants of a module, in the order of its lines."""
    source = text.encode()
    lines = source.splitlines(keepends=True)
    starts = [0, *itertools.accumulate(map(len, lines))]
    found: dict[tuple[int, int, str], Mutant] = {}
    for node, change, replacement in _changes(ast.parse(text), text):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        begin = starts[first] + node.col_offset
        end = starts[last] + (node.end_col_offset or 0)
        before = source[starts[first] : starts[last + 1]]
        after = (
            source[starts[first] : begin] + replacement.encode() + source[end : starts[last + 1]]
        )
        at, old, new = _difference(before.decode(), after.decode())
        if old.isalpha():  # a return or a raise is known by what it comes after
            former = lines[first + at - 1].decode().strip()
            old, new = f"{former} {old}", f"{former} {new}"
        mutant = Mutant(path, node.lineno + at, change, old, new, begin, end, replacement)
        found.setdefault((begin, end, replacement), mutant)
    return sorted(found.values(), key=lambda one: (one.line, one.change, one.new))


def _difference(old: str, new: str) -> tuple[int, str, str]:
    """Returns which is the first line that differs, from 0, and that line in both texts."""
    pairs = zip(old.splitlines(), new.splitlines(), strict=False)
    at = next((at for at, pair in enumerate(pairs) if pair[0] != pair[1]), 0)
    return at, old.splitlines()[at].strip(), new.splitlines()[at].strip()


_Change = tuple[ast.expr | ast.stmt, str, str]
"""The node that is replaced, the kind of change, and the text in its place."""


def _changes(tree: ast.Module, text: str) -> Iterator[_Change]:
    for node in _nodes(tree):
        if isinstance(node, ast.stmt):
            yield from _of_statement(node)
        if isinstance(node, ast.expr):
            yield from _of_expression(node, text)
        for test in _tests(node):
            shown = ast.unparse(test)
            yield from ((test, f"condition {one}", one) for one in ("True", "False"))
            yield test, "condition negated", f"(not ({shown}))"


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes that do something; no annotations, docstrings, logs of debugging, types."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment", "decorator_list"):
            continue
        children = value if isinstance(value, list) else [value]
        for child in children:
            if isinstance(child, ast.AST) and not _only_says(child):
                yield from _nodes(child)


def _only_says(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)  # a docstring, or ...
    if isinstance(node, ast.Assign):
        first = node.targets[0]
        if not isinstance(first, ast.Name):
            return False
        return first.id in ("__all__", "__slots__") or _is_type(node.value)
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.JoinedStr) and not _IS_SQL.search(ast.unparse(node))


def _is_type(value: ast.expr) -> bool:
    """Tells whether it is a type with a name of its own, such as ``Callable[[str], bool]``."""
    is_subscript = isinstance(value, ast.Subscript) and isinstance(value.value, ast.Name)
    return is_subscript and ast.unparse(value.value) in _GENERIC


def _tests(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, _Test) and not isinstance(node.test, ast.Constant):
        yield node.test
    if isinstance(node, ast.comprehension):
        yield from node.ifs


def _of_statement(node: ast.stmt) -> Iterator[_Change]:
    if isinstance(node, ast.Return):
        if node.value is None:
            yield node, "dropped return", "pass"
        elif not _is_none(node.value):
            yield node, "return None", "return None"
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Attribute | ast.Subscript) and node.value is not None:
            yield node, "dropped assignment", "pass"
    elif isinstance(node, ast.AugAssign):
        yield node, "dropped assignment", "pass"
        if type(node.op) in (ast.Add, ast.Sub):
            yield node, "other operation", ast.unparse(_with(node, op=_COMPUTED[type(node.op)]()))
    elif isinstance(node, ast.Expr | ast.Raise | ast.Delete | ast.Break | ast.Continue):
        yield node, "dropped statement", "pass"


def _of_expression(node: ast.expr, text: str) -> Iterator[_Change]:
    if isinstance(node, ast.Compare):
        for at, op in enumerate(node.ops):
            ops = [*node.ops[:at], _COMPARED[type(op)](), *node.ops[at + 1 :]]
            yield node, "comparison", ast.unparse(_with(node, ops=ops))
    elif isinstance(node, ast.BoolOp):
        op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node, "and, or", f"({ast.unparse(_with(node, op=op))})"
        for values in _without_one(node.values):
            left = values[0] if len(values) == 1 else _with(node, values=values)
            yield node, "dropped operand", f"({ast.unparse(left)})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, "dropped not", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.BinOp) and type(node.op) in _COMPUTED:
        yield (
            node,
            "other operation",
            f"({ast.unparse(_with(node, op=_COMPUTED[type(node.op)]()))})",
        )
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.List | ast.Tuple | ast.Set) and not _is_stored(node):
        for elts in _without_one(node.elts):
            yield node, "dropped element", ast.unparse(_with(node, elts=elts))
    elif isinstance(node, ast.Dict):
        for pairs in _without_one(list(zip(node.keys, node.values, strict=True))):
            keys, values = [one for one, _ in pairs], [one for _, one in pairs]
            yield node, "dropped element", ast.unparse(_with(node, keys=keys, values=values))
        for key in node.keys:
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key, "other text", repr("XX" + key.value)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        first, second = _MEMBERS.get(node.value.id, ("", ""))
        if first and node.attr.isupper():
            other = second if node.attr == first else first
            yield node, "other member", f"{node.value.id}.{other}"
    elif isinstance(node, ast.Constant | ast.JoinedStr):
        yield from _of_constant(node, text)


def _of_call(node: ast.Call) -> Iterator[_Change]:
    function = node.func
    if isinstance(function, ast.Name) and function.id in _NAMES:
        yield function, "min, max", _NAMES[function.id]
    for keywords in _without_one(node.keywords):
        yield node, "dropped keyword", ast.unparse(_with(node, keywords=keywords))
    is_of_re = isinstance(function, ast.Attribute) and ast.unparse(function.value) == "re"
    if is_of_re and node.args and isinstance(node.args[0], ast.Constant):
        pattern = str(node.args[0].value)
        for at in re.finditer(r"(?<!\\)[+*]", pattern):
            other = "*" if at[0] == "+" else "+"
            changed = f"{pattern[: at.start()]}{other}{pattern[at.end() :]}"
            yield node.args[0], "other quantifier", repr(changed)


def _of_constant(node: ast.Constant | ast.JoinedStr, text: str) -> Iterator[_Change]:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bool):
        yield node, "other truth", str(not value)
    elif isinstance(value, int):
        yield node, "other number", str(value + 1)
        yield node, "other number", f"({value - 1})"
    elif isinstance(value, float):
        yield node, "other number", repr(value * 2 or 1.0)
    elif isinstance(value, str) or value is None:
        segment = ast.get_source_segment(text, node) or ""
        if _IS_SQL.search(segment):
            for old, new in _SQL:
                for at in re.finditer(re.escape(old), segment):
                    yield node, "other SQL", f"{segment[: at.start()]}{new}{segment[at.end() :]}"


def _with(node: ast.AST, **changed: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in changed.items():
        setattr(other, name, value)
    return other


def _without_one(items: list) -> Iterable[list]:
    return ([*items[:at], *items[at + 1 :]] for at in range(len(items)))


def _is_stored(node: ast.List | ast.Tuple | ast.Set) -> bool:
    return not isinstance(node, ast.Set) and isinstance(node.ctx, ast.Store)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
