"""Imports point down only, and the package itself needs no optional dependency."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest

import lro_grpc

ROOT = Path(lro_grpc.__file__).parent

LAYERS = [
    {"lro"},  # the generated code
    {"_anys"},
    {"_durations", "_extras"},
    {"_errors"},
    {"_wire", "paging"},
    {"_operation"},
    {"_filtering", "_dialects", "_runtime"},
    {"_stores"},
    {"_engine", "_events"},
    {"_server", "_client"},
    {"_inspection", "_conformance"},
    {
        *("lro_grpc", "conformance", "dialects", "engines", "events", "filtering", "otel"),
        *("stores", "stubs"),
    },
    {"_example", "_http", "_console", "_cli", "_codegen", "_compat", "_testing"},
    {"compat", "console", "example", "http", "testing"},
]
"""A module may import from its own line and from those above it in this list."""

PURE = {
    "_anys",
    "_durations",
    "_errors",
    "_wire",
    "paging",
    "_operation",
    "_filtering",
    "_dialects",
}
"""Of these, none does input or output."""

GRPC = {"_errors", "_wire"}
"""Pure as well, but for the types of gRPC."""

APART = {"_server", "_client"}
"""Of these, neither imports the other."""

IO = {
    "grpc",
    *("asyncio", "threading", "socket", "sqlite3", "subprocess", "concurrent", "multiprocessing"),
    *("os", "pathlib", "io", "tempfile", "shutil", "logging", "time", "random", "secrets"),
}
"""What a pure module does without."""


def name_of(path: Path) -> str:
    parts = ["lro_grpc", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(module: str, *, type_checking: bool = True) -> set[str]:
    """Returns what a module imports, inside its functions too: ``lro_grpc.x.y`` or ``grpc.aio``."""
    path = MODULES[module]
    found = set()
    left: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while left:
        node = left.pop()
        if (
            not type_checking
            and isinstance(node, ast.If)
            and "TYPE_CHECKING" in ast.dump(node.test)
        ):
            left.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node, is_package=path.name == "__init__.py")
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                found.add(submodule if submodule in MODULES else base)
        left.extend(ast.iter_child_nodes(node))
    return found


def _absolute(module: str, node: ast.ImportFrom, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    above = parts[: len(parts) - node.level + is_package]
    return ".".join([*above, *([node.module] if node.module else [])])


def part_of(module: str) -> str:
    """Returns which part of the package a module belongs to: ``stores`` for lro_grpc.stores.x."""
    top, _, below = module.partition(".")
    return below.partition(".")[0] or "lro_grpc" if top == "lro_grpc" else top


def layer_of(module: str) -> int:
    return next(n for n, layer in enumerate(LAYERS) if part_of(module) in layer)


def test_the_architecture_page_has_the_same_layers():
    page = Path(__file__).parents[2] / "ARCHITECTURE.md"
    rows = re.findall(r"^\| (`.*?) \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows[: len(LAYERS)]] == LAYERS


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_layer_and_those_below(module):
    ours = [one for one in imports_of(module) if one.partition(".")[0] in ("lro", "lro_grpc")]
    upward = [one for one in ours if layer_of(one) > layer_of(module)]
    assert upward == []
    across = [one for one in ours if {part_of(one), part_of(module)} == APART]
    assert across == []


@pytest.mark.parametrize("module", [one for one in MODULES if part_of(one) in PURE])
def test_a_pure_module_does_no_input_or_output(module):
    io = IO - {"grpc"} if part_of(module) in GRPC else IO
    assert {one.partition(".")[0] for one in imports_of(module)} & io == set()


def can_be_imported(module: str) -> bool:
    """Returns whether a module is no program, nor of an extra that `make test-speed` alone has."""
    is_of_speed = module == "lro_grpc._http.httptools_connection"
    has_speed = importlib.util.find_spec("httptools") is not None
    return not module.endswith("__main__") and (has_speed or not is_of_speed)


@pytest.mark.parametrize("module", [one for one in MODULES if can_be_imported(one)])
def test_a_module_can_be_imported(module):
    """A type checker follows no circle; an import that runs into one fails."""
    importlib.import_module(module)


def test_no_module_imports_itself_in_a_circle():
    """Nor is there one through the parents that an import runs first, or inside a function."""
    graph = {one: imports_of(one, type_checking=False) & MODULES.keys() for one in MODULES}
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()  # a CycleError names the circle


@pytest.mark.parametrize("module", [one for one in MODULES if part_of(one) == "_example"])
def test_the_example_imports_only_public_modules(module):
    """As a user's own service does."""
    private = {
        one
        for one in imports_of(module) & MODULES.keys()
        if part_of(one).startswith("_") and part_of(one) != "_example"
    }
    assert private == set()


def test_the_package_itself_needs_its_core_dependencies_only():
    """So that ``import lro_grpc`` works without an extra: grpcio, protobuf, the common protos."""
    seen: set[str] = set()
    outside: dict[str, str] = {}
    left = [f"lro_grpc.{home}" for home in lro_grpc._HOMES.values()]
    while left:
        module = left.pop()
        if module in seen:
            continue
        seen.add(module)
        for one in imports_of(module, type_checking=False):
            if one in MODULES:
                parents = [one.rsplit(".", n)[0] for n in range(one.count(".") + 1)]
                left.extend(parents)
            else:
                outside[_distribution(one)] = module
    assert "lro_grpc._server.operations" in seen
    assert "lro_grpc._client.future" in seen
    third_party = outside.keys() - sys.stdlib_module_names - {"lro"}
    core = {"grpc", "google.protobuf", "google.longrunning", "google.rpc", "google.api"}
    assert {one: outside[one] for one in third_party - core} == {}


def _distribution(module: str) -> str:
    """Returns the top of a module's name; under google, where many have a share, the top two."""
    parts = module.split(".")
    return ".".join(parts[:2] if parts[0] == "google" else parts[:1])
