from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from server_harness import Gate, Held, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["sync", "aio"])
def stack(request: pytest.FixtureRequest) -> str:
    """``grpc.server`` or ``grpc.aio.server``."""
    return request.param


@pytest.fixture(params=["def", "async def"])
def handler_keyword(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def serve(stack: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Starts servers of the stack, and stops them when the test is over."""
    if "store" in request.fixturenames:
        request.getfixturevalue("store")  # it goes after them
    with contextlib.ExitStack() as servers:
        yield lambda *args, **named: servers.enter_context(serving(stack, *args, **named))


@pytest.fixture
def held(serve: Callable[..., Server], handler_keyword: str) -> Iterator[Held]:
    """A handler that goes on at the end of the test, before its server is stopped."""
    held = Held(handler_keyword)
    yield held
    held.gate.open()


@pytest.fixture
def gate(serve: Callable[..., Server]) -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'operations.db'}"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store's URL; see also ``every_store``."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres")
    return "memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'operations.db'}"
