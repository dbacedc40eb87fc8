"""A damaged row of the SQLite file, as the callers of its server see it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from server_harness import PARENT, Held, Server, refused, response_of, uuid_of

if TYPE_CHECKING:
    from pathlib import Path

Serve = Any


@pytest.fixture
def damaged(serve: Serve, held: Held, tmp_path: Path) -> tuple[Server, str, str]:
    """A server on a file with one damaged operation that waits, and one that is sound."""
    url = f"sqlite:///{tmp_path / 'operations.db'}"
    before = serve(held.servicer(concurrency=1), store=url)
    running = before.create(request_id=uuid_of("running")).name
    held.next()
    bad, good = (before.create(request_id=uuid_of(which)).name for which in ("bad", "good"))
    before.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "operations.db")) as file, file:
        file.execute("UPDATE operations SET operation = x'ff', state = 'x' WHERE name = ?", (bad,))
    server = serve(held.servicer(concurrency=1), store=url, authorize=lambda access: True)
    assert held.next() in (running, good)
    held.gate.open()
    return server, bad, good


def test_one_damaged_operation_stops_nothing_else(
    damaged: tuple[Server, str, str], caplog: pytest.LogCaptureFixture
) -> None:
    server, bad, good = damaged
    response_of(server.done(good))
    for call in (server.get, server.wait, server.cancel, server.pause, server.watch):
        failure = refused(lambda call=call: call(bad))
        assert failure.code is grpc.StatusCode.DATA_LOSS
        assert failure.info.reason == "OPERATION_DAMAGED"
        assert bad in failure.message
    assert bad not in server.names()
    assert good in server.names()
    everywhere = server.list("projects/-/locations/-", return_partial_success=True)
    assert list(everywhere.unreachable) == [bad]
    assert server.names() == [one.name for one in everywhere.operations]
    response_of(server.done(server.create(request_id=uuid_of("later")).name))
    failure = refused(lambda: server.create(request_id=uuid_of("bad")))
    assert failure.code is grpc.StatusCode.DATA_LOSS
    logged = [r for r in caplog.records if r.levelname == "ERROR" and "set aside" in r.getMessage()]
    assert {bad in one.getMessage() for one in logged} == {True}


def test_an_operator_deletes_it(damaged: tuple[Server, str, str]) -> None:
    server, bad, _ = damaged
    server.delete(bad)
    assert refused(lambda: server.get(bad)).code is grpc.StatusCode.NOT_FOUND
    again = server.create(request_id=uuid_of("bad")).name
    assert again != bad
    response_of(server.done(again))
    assert again in server.names(PARENT)


@pytest.mark.parametrize("validate_only", [False, True])
def test_its_exclusive_target_is_taken_and_it_is_not_named(
    serve: Serve, held: Held, tmp_path: Path, validate_only: bool
) -> None:
    url = f"sqlite:///{tmp_path / 'operations.db'}"
    before = serve(held.servicer(exclusive=True), store=url)
    name = before.create(instance_id="i").name
    held.next()
    before.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "operations.db")) as file, file:
        file.execute("UPDATE operations SET attempt = 'x' WHERE name = ?", (name,))
    server = serve(held.servicer(exclusive=True), store=url)
    failure = refused(lambda: server.create(instance_id="i", validate_only=validate_only))
    assert failure.code is grpc.StatusCode.ABORTED
    assert dict(failure.info.metadata) == {"target": f"{PARENT}/instances/i"}
