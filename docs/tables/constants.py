"""Tables of constants with a docstring each: metadata of RPCs, exit codes of the command."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from lro_grpc._cli import exit_codes
from lro_grpc._wire import headers
from tables.markdown import prose, table


def documented(nodes: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Lists the names that are assigned, each with the docstring below it."""
    for node, after in pairwise(nodes):
        is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(node, ast.Assign) and is_text:
            assert isinstance(after, ast.Expr)
            assert isinstance(after.value, ast.Constant)
            yield ast.unparse(node.targets[0]), str(after.value.value)


def metadata() -> str:
    """Returns the table of the metadata by name."""
    tree = ast.parse(Path(headers.__file__).read_text(encoding="utf-8"))
    rows = [[f"`{getattr(headers, name)}`", prose(says)] for name, says in documented(tree.body)]
    return table(["metadata", "meaning"], sorted(rows))


def exits() -> str:
    """Returns the table of the exit codes of the command."""
    tree = ast.parse(Path(exit_codes.__file__).read_text(encoding="utf-8"))
    (body,) = (
        node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Exit"
    )
    rows = [[str(exit_codes.Exit[name].value), prose(says)] for name, says in documented(body)]
    return table(["exit code", "meaning"], rows)


BLOCKS: Mapping[str, Callable[[], str]] = {"headers": metadata, "exit_codes": exits}
"""The blocks on constants with a docstring, by name."""
