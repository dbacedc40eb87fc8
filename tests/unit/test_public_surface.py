"""The names that a user may import, where they are documented, and what an import loads."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import grpc.aio
import pytest

import lro_grpc
import lro_grpc.testing
from lro.example.v1 import fleet_service_lro
from lro_grpc import _errors
from lro_grpc._server.rpc import registrar

ROOT = Path(lro_grpc.__file__).parent
REPOSITORY = Path(__file__).parents[2]
PUBLIC = sorted(
    {"lro_grpc"} | {f"lro_grpc.{file.stem}" for file in ROOT.glob("*.py") if file.stem[0] != "_"}
)
"""The modules that users import from: the files at the top without an underscore."""

OPTIONAL = [
    "typer",
    "rich",
    "grpc_tools",
    "grpc_health",
    "grpc_reflection",
    "starlette",
    "uvicorn",
    "jinja2",
    "opentelemetry",
    "google.api_core",
]


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def surface(name: str) -> list[str]:
    return list(module(name).__all__)


# __all__


@pytest.mark.parametrize("name", PUBLIC)
def test_all_names_each_once(name: str) -> None:
    """Their order is the linter's to keep."""
    names = surface(name)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", PUBLIC)
def test_all_is_complete(name: str) -> None:
    """What a public module defines without an underscore is public."""
    path = inspect.getsourcefile(module(name))
    assert path is not None
    defined = {
        found
        for statement in ast.parse(Path(path).read_text(encoding="utf-8")).body
        for found in _defined(statement)
        if not found.startswith("_")
    }
    assert defined <= set(surface(name))
    assert all(hasattr(module(name), one) for one in surface(name))


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    if isinstance(statement, ast.Assign):
        return [one.id for one in statement.targets if isinstance(one, ast.Name)]
    return []


def test_the_package_loads_each_of_its_names_from_where_it_is_imported_for_types() -> None:
    """One table at run time, and imports that only a type checker sees: they must agree."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    (checked,) = [one for one in tree.body if isinstance(one, ast.If) and not one.orelse][:1]
    imported = {
        alias.name: str(one.module).removeprefix("lro_grpc.")
        for one in checked.body
        if isinstance(one, ast.ImportFrom)
        for alias in one.names
    }
    assert imported == lro_grpc._HOMES
    assert sorted(imported) == sorted(lro_grpc.__all__)


def test_the_package_loads_nothing_until_it_is_asked_for() -> None:
    """The parent of worker processes must not load gRPC, which does not survive a fork."""
    script = "import sys, lro_grpc; assert 'grpc' not in sys.modules, 'gRPC is loaded'"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def loaded_by_lro(*arguments: str) -> set[str]:
    script = (
        "import contextlib, io, sys; from lro_grpc._cli.app import app\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()),"
        f" contextlib.redirect_stdout(io.StringIO()): app({arguments!r})\n"
        "print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_lro_loads_no_command_to_list_them() -> None:
    loaded = loaded_by_lro("--help")
    assert "typer" in loaded
    assert [
        one for one in loaded if one.startswith(("grpc.", "rich.", "lro_grpc._cli.commands"))
    ] == []


def test_lro_loads_a_store_only_for_a_command_that_opens_one() -> None:
    loaded = loaded_by_lro("list", "--timeout", "0")
    assert "lro_grpc._cli.commands.list_operations" in loaded
    assert (
        loaded & {"lro_grpc._engine", "lro_grpc._stores.memory", "lro_grpc._stores.store"} == set()
    )


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'lro_grpc' has no attribute 'Nothing'"):
        lro_grpc.Nothing  # noqa: B018


def test_every_error_is_public() -> None:
    kinds = [
        kind.__name__
        for _, kind in inspect.getmembers(_errors, inspect.isclass)
        if issubclass(kind, BaseException) and kind.__module__ == "lro_grpc"
    ]
    assert set(kinds) <= set(surface("lro_grpc"))
    assert set(surface("lro_grpc")) >= {"Code", "StopReason"}


@pytest.mark.parametrize(
    "annotated",
    [
        *(one for name in lro_grpc.__all__ if inspect.isclass(one := getattr(lro_grpc, name))),
        lro_grpc.Operations.__init__,
    ],
)
def test_types_can_be_resolved_at_run_time(annotated: object) -> None:
    """Documentation tools do so, in the module that a class says that it is from."""
    typing.get_type_hints(annotated)


def test_a_name_is_importable_from_one_public_path_only() -> None:
    """But for what generated code imports: it is of use to nobody else."""
    names = [name for path in PUBLIC if path != "lro_grpc.stubs" for name in surface(path)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", [f"{path}.{name}" for path in PUBLIC for name in surface(path)])
def test_every_public_name_says_what_it_is(name: str) -> None:
    path, _, attribute = name.rpartition(".")
    thing = getattr(module(path), attribute)
    if inspect.isclass(thing) or inspect.isroutine(thing):
        assert inspect.getdoc(thing)
    for member, value in vars(thing).items() if inspect.isclass(thing) else ():
        if not member.startswith("_") and (
            inspect.isfunction(value) or isinstance(value, property)
        ):
            assert inspect.getdoc(getattr(thing, member)), f"{name}.{member}"


def test_what_a_public_constructor_asks_for_is_public() -> None:
    """A class that a user has to make for an argument must not be found in the inside only."""
    ours = {
        name
        for found in pkgutil.walk_packages(lro_grpc.__path__, "lro_grpc.")
        if not re.search(r"\.(cli|codegen|example|http|__main__|httptools_\w+)\b", found.name)
        for name, kind in inspect.getmembers(module(found.name), inspect.isclass)
        if kind.__module__ == found.name and not getattr(kind, "_is_protocol", False)
    }
    public = {name for path in PUBLIC for name in surface(path)}
    made_by_users: list[Any] = [
        lro_grpc.AsyncOperationsClient,
        lro_grpc.LroError,
        lro_grpc.Operations,
        lro_grpc.OperationsClient,
        lro_grpc.Prepared,
        lro_grpc.method,
        lro_grpc.testing.ManualClock,
        lro_grpc.testing.serve,
        lro_grpc.testing.serve_async,
    ]
    asked = {
        word
        for made in made_by_users
        for parameter in inspect.signature(made).parameters.values()
        for word in re.findall(r"\w+", str(parameter.annotation))
    }
    assert asked & ours <= public


# What the documentation names


DOCUMENTATION = [
    REPOSITORY / "README.md",
    *(
        page
        for page in sorted((REPOSITORY / "docs").glob("**/*.md"))
        if page.parent.name != "design" or page.name in ("conformance.md", "engines.md")
    ),
]
"""The pages for users. Those on how the package is made name what is private, too."""

REFERENCE = REPOSITORY / "docs" / "reference"

LOGGERS = {"lro_grpc.handler"}
"""Names of loggers, which look like those of modules."""


def reference() -> dict[str, list[str]]:
    """Returns what docs/reference/ lists: the names of each module, by the module."""
    found: dict[str, list[str]] = {}
    cells = re.compile(r"^\| (`.*?) \|", re.MULTILINE)
    for page in sorted(REFERENCE.glob("*.md")):
        parts = re.split(
            r"^## `(lro_grpc.*)`$", page.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        for module, body in zip(parts[1::2], parts[2::2], strict=True):
            names = [name for cell in cells.findall(body) for name in re.findall(r"`(\w+)`", cell)]
            found.setdefault(module, []).extend(names)
    return found


def test_the_reference_lists_every_public_module() -> None:
    assert sorted(reference()) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_the_reference_lists_every_public_name(name: str) -> None:
    assert sorted(reference().get(name, [])) == sorted(surface(name)), "see docs/reference/"


def test_the_reference_gives_each_error_its_code() -> None:
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+Error`.*?) \| ([A-Z_]+)\b", text, re.MULTILINE)
    codes = {name: code for names, code in rows for name in re.findall(r"`(\w+)`", names)}
    assert len(codes) > 15
    assert {name: getattr(lro_grpc, name).default_code.name for name in codes} == codes


def named_in(page: Path) -> set[str]:
    """Returns the dotted names below ``lro_grpc`` in a page's code, written out or imported."""
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    found = set(re.findall(r"(?<![\w/.])lro_grpc(?:\.\w+)+", code))
    for module, names in re.findall(r"from (lro_grpc[\w.]*) import ([\w, ]+)", code):
        found |= {f"{module}.{name.split()[0]}" for name in names.split(",")}
    return found - LOGGERS


def is_public(name: str) -> bool:
    """Whether a dotted name is a public module, a name of one, or a member of what that names."""
    first_two = ".".join(name.split(".")[:2])
    path = first_two if first_two in PUBLIC else "lro_grpc"
    if name == path:
        return True
    attribute, *members = name.removeprefix(f"{path}.").split(".")
    if attribute not in surface(path):
        return False
    return not members or hasattr(getattr(module(path), attribute), members[0])


@pytest.mark.parametrize("page", DOCUMENTATION, ids=lambda page: page.name)
def test_what_the_documentation_names_is_public(page: Path) -> None:
    assert [name for name in sorted(named_in(page)) if not is_public(name)] == []


# What an import brings along


EXTRAS = {"lro_grpc.compat", "lro_grpc.console", "lro_grpc.http", "lro_grpc.otel"}
"""The modules that say which extra they need."""


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in EXTRAS])
def test_importing_it_needs_no_optional_dependency(name: str) -> None:
    """``None`` in ``sys.modules`` makes an import fail; gRPC itself tries some and goes on."""
    script = f"import sys\nfor m in {OPTIONAL!r}: sys.modules[m] = None\nimport {name}"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


# Pairs of a sync and an async thing


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Returns names, kinds and defaults; two functions to sleep with are the same default."""
    return [
        (p.name, p.kind, "a function" if callable(p.default) else p.default)
        for p in inspect.signature(function).parameters.values()
    ]


def public_members(kind: type) -> dict[str, Any]:
    found = {name: inspect.getattr_static(kind, name) for name in dir(kind)}
    return {name: value for name, value in found.items() if not name.startswith("_")}


PAIRS = [
    (lro_grpc.OperationContext, lro_grpc.AsyncOperationContext),
    (lro_grpc.OperationsClient, lro_grpc.AsyncOperationsClient),
    (lro_grpc.OperationFuture, lro_grpc.AsyncOperationFuture),
    (fleet_service_lro.FleetServiceClient, fleet_service_lro.AsyncFleetServiceClient),
    (fleet_service_lro.FleetServiceServicer, fleet_service_lro.AsyncFleetServiceServicer),
]


@pytest.mark.parametrize(("plain", "asynchronous"), PAIRS, ids=lambda kind: kind.__name__)
def test_sync_and_async_have_the_same_members(plain: type, asynchronous: type) -> None:
    assert asynchronous.__name__ == f"Async{plain.__name__}"
    ours, theirs = public_members(plain), public_members(asynchronous)
    assert set(ours) == set(theirs)
    for name, one in ours.items():
        assert type(one) is type(theirs[name]), name
        if inspect.isfunction(one):
            assert parameters(one) == parameters(theirs[name]), name
    assert parameters(plain) == parameters(asynchronous)


@pytest.mark.parametrize("name", sorted(public_members(lro_grpc.OperationContext)))
def test_contexts_differ_only_in_what_must_be_awaited(name: str) -> None:
    plain = inspect.getattr_static(lro_grpc.OperationContext, name)
    other = inspect.getattr_static(lro_grpc.AsyncOperationContext, name)
    waits = name in ("batch", "checkpoint", "start_operation")
    assert not inspect.iscoroutinefunction(plain)
    assert inspect.iscoroutinefunction(other) == waits
    assert waits or name == "updating" or other is plain  # what need not wait is the very same


def test_the_harness_is_the_same_sync_and_async() -> None:
    serve, serve_async = lro_grpc.testing.serve, lro_grpc.testing.serve_async
    assert parameters(serve) == parameters(serve_async)
    served, async_served = lro_grpc.testing.Served, lro_grpc.testing.AsyncServed
    assert parameters(served) == parameters(async_served)


@pytest.mark.parametrize("name", ["start", "stop"])
def test_operations_have_the_same_calls_sync_and_async(name: str) -> None:
    plain = getattr(lro_grpc.Operations, f"{name}_sync")
    assert parameters(plain) == parameters(getattr(lro_grpc.Operations, name))


@pytest.mark.parametrize(
    ("stand_in", "server"),
    [(registrar.SyncRegistrar, grpc.Server), (registrar.AioRegistrar, grpc.aio.Server)],
    ids=["sync", "aio"],
)
def test_what_attach_returns_stands_in_for_all_of_a_server(stand_in: type, server: type) -> None:
    """A method that is not passed on would do nothing, or raise, where the server does its job."""
    assert issubclass(stand_in, server)
    for name, method in public_members(server).items():
        ours = inspect.getattr_static(stand_in, name)
        assert ours is not method, f"{name} is not passed on"
        assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(method), name
        assert [p[0] for p in parameters(ours)] == [p[0] for p in parameters(method)], name
