"""The parts that the tests of all vendors' clients share, and the table of each client's cases.

A test that belongs into the table is marked ``case("success")``. It runs once for each of the
module's ``SDKS``, whose names are those in the table; or the mark names the one that it is for:
``case("success", sdk="google-api-core (gRPC)")``.
"""

from __future__ import annotations

import asyncio
import collections
import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lro_grpc import testing

CASES = ("success", "failure", "cancel", "list", "missing", "denied")

_Table = collections.defaultdict[tuple[str, str], collections.Counter[str]]
_TABLE = pytest.StashKey[_Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = collections.defaultdict(collections.Counter)
    config.addinivalue_line("markers", "case(what, sdk=None): what of the table of SDKs a test is")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "sdk" in metafunc.fixturenames:
        metafunc.parametrize("sdk", metafunc.module.SDKS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    report = yield
    mark = item.get_closest_marker("case")
    if mark is not None and (report.when == "call" or not report.passed):
        parameters = getattr(item, "callspec", None)
        sdk = mark.kwargs.get("sdk") or parameters.params["sdk"]
        assert mark.args[0] in CASES, f"{item.nodeid}: {mark.args[0]!r} is not one of {CASES}"
        item.config.stash[_TABLE][sdk, mark.args[0]][report.outcome] += 1
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = config.stash[_TABLE]
    if not table:
        return
    sdks = list(dict.fromkeys(sdk for sdk, _ in table))
    width = max(map(len, sdks))
    terminalreporter.section("the vendors' own SDKs, unmodified, against our servers")
    terminalreporter.line(" " * width + "".join(f"{case:>10}" for case in CASES))
    for sdk in sdks:
        cells = "".join(f"{_cell(table.get((sdk, case))):>10}" for case in CASES)
        terminalreporter.line(f"{sdk:<{width}}{cells}")


def _cell(outcomes: collections.Counter[str] | None) -> str:
    if not outcomes:
        return "not run"
    return next(word for word in ("failed", "skipped", "passed") if outcomes[word])


@pytest.fixture
def client(
    sdk: str,
    served: testing.Served,
    loop: asyncio.AbstractEventLoop,
    request: pytest.FixtureRequest,
) -> Iterator[Any]:
    """The vendor's own client."""
    with request.module.SDKS[sdk](served, loop) as client:
        yield client


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop of an asyncio client; it runs while a test awaits something."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture
def awaited(loop: asyncio.AbstractEventLoop) -> Callable[[Any], Any]:
    """Returns what it is given, or what comes of it: so a test reads the same for both stacks."""

    def awaited(value: Any) -> Any:
        if not inspect.isawaitable(value):
            return value

        async def result() -> Any:
            return await value

        return loop.run_until_complete(result())

    return awaited
