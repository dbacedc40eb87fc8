"""Everything without an underscore has a docstring, below the private folders, too.

ruff's docstring rules hold for public modules only, and take every module of a private folder for
private. Here a name is judged by itself.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

import lro_grpc

ROOT = Path(lro_grpc.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(node: ast.AST) -> Iterator[Definition]:
    """Yields what has no underscore, in a module and in its classes; nothing within functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Definition) and child.name.startswith("_"):
            continue
        if isinstance(child, Definition):
            yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from definitions(child)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_has_no_underscore_has_a_docstring(file: Path) -> None:
    """A method may have that of its protocol, if the protocol stands in the same module."""
    module = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(module)
    found = list(definitions(module))
    documented = {one.name for one in found if ast.get_docstring(one)}
    assert [one.name for one in found if one.name not in documented] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_everything_is_introduced_by_a_noun_or_a_verb(file: Path) -> None:
    """A question gives the reader no name for a module, a function or a field."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    values = (node.value for node in nodes if isinstance(node, ast.Expr))
    texts = [one.value for one in values if isinstance(one, ast.Constant)]
    docstrings = [one for one in texts if isinstance(one, str)]
    assert [one for one in docstrings if one.startswith(("What ", "How ", "Who ", "Which "))] == []


RECORDS = [one for one in lro_grpc.__all__ if dataclasses.is_dataclass(getattr(lro_grpc, one))]


@pytest.mark.parametrize("name", RECORDS)
def test_help_has_every_field(name: str) -> None:
    """``help()`` shows a class's docstring, and no string that stands below a field."""
    record = getattr(lro_grpc, name)
    missing = [
        one.name for one in dataclasses.fields(record) if f"    {one.name}: " not in record.__doc__
    ]
    assert not missing
