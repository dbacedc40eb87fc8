"""The tables of errors: their classes, and the reasons with which this package raises them.

The reasons are read from the code itself: wherever an error is made with a ``reason``, that and the
text of its message stand in the table.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import lro_grpc
from lro_grpc import _errors
from lro_grpc._errors import LIBRARY_DOMAIN, Code, LroError
from tables.markdown import prose, table

PACKAGE = Path(lro_grpc.__file__).parent
ELSEWHERE = ("_example", "_console", "_testing", "_cli")
"""Folders whose errors are no part of what a server or a client answers with."""

CODES = {
    name: kind.default_code.name
    for name, kind in vars(_errors).items()
    if inspect.isclass(kind) and issubclass(kind, LroError)
}
"""The code of each class of errors, unless it is made with another one."""


@dataclass(frozen=True)
class Made:
    """One place in the code where an error is made."""

    reason: str
    code: str
    message: str
    status: str
    """Of an error over HTTP alone."""


def classes() -> str:
    """Returns the table of the classes that have a reason of their own."""
    rows = [
        [f"`{kind.default_reason}`", f"`{name}`, {kind.default_code.name}", prose(_summary(kind))]
        for name, kind in vars(_errors).items()
        if name in CODES and kind.default_reason and kind.default_domain == LIBRARY_DOMAIN
    ]
    return table(["reason", "class, code", "meaning"], sorted(rows))


def _summary(kind: type) -> str:
    return (inspect.getdoc(kind) or "").partition("\n\n")[0]


def reasons() -> str:
    """Returns the table of the other reasons of operations and of RPCs."""
    found = _messages(one for one in _made() if not one.status)
    rows = [[f"`{one.reason}`", one.code, texts] for one, texts in found]
    return table(["reason", "code", "message"], rows)


def http_reasons() -> str:
    """Returns the table of the reasons that a gateway has by itself."""
    found = _messages(one for one in _made() if one.status)
    rows = [[f"`{one.reason}`", one.status, one.code, texts] for one, texts in found]
    return table(["reason", "HTTP", "code", "message"], rows)


def _messages(places: Iterator[Made]) -> list[tuple[Made, str]]:
    """Gathers the messages of each reason, in the order of the reasons."""
    found: dict[tuple[str, ...], list[Made]] = {}
    for one in places:
        found.setdefault((one.reason, one.status, one.code), []).append(one)
    return [(made[0], _shown(one.message for one in made)) for _, made in sorted(found.items())]


def _shown(messages: Iterator[str]) -> str:
    texts = dict.fromkeys(re.sub(r"\s+", " ", text).strip(" :") for text in messages)
    telling = [text for text in texts if re.search(r"[a-z]{2}", text)]
    shown = "; or: ".join(telling) or "whatever the store says"
    return re.sub(r"([<>*_`|])", r"\\\1", shown)


def _made() -> Iterator[Made]:
    """Lists the places where a server, a client or a gateway makes an error with a reason."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] not in ELSEWHERE:
            yield from _made_in(ast.parse(path.read_text(encoding="utf-8")))


def _made_in(tree: ast.Module) -> Iterator[Made]:
    constants = {
        ast.unparse(node.targets[0]): node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        given = {one.arg: one.value for one in node.keywords if one.arg}
        if (name not in CODES and name != "HttpError") or "reason" not in given:
            continue
        code = ast.unparse(given["code"]).rpartition(".")[2] if "code" in given else ""
        status = given.get("status")
        for value in _values(given["reason"]):
            reason = constants.get(value.id) if isinstance(value, ast.Name) else None
            reason = value.value if isinstance(value, ast.Constant) else reason
            if isinstance(reason, str):
                yield Made(
                    reason,
                    code if code in Code.__members__ else CODES.get(name, ""),
                    _text(node.args[0]) if node.args else "",
                    ast.unparse(status) if status is not None else "",
                )


def _values(node: ast.expr) -> list[ast.expr]:
    return [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]


def _text(node: ast.expr) -> str:
    """Returns a message as it stands in the code, with an ellipsis for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one) for one in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "error_classes": classes,
    "error_reasons": reasons,
    "http_reasons": http_reasons,
}
"""The blocks on errors, by name."""
