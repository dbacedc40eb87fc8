"""A process that works on the operations that others serve, and serves nothing itself."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from server_harness import Held, Instance, defined_with, fleet, in_thread, response_of

import lro_grpc
from lro.example.v1 import fleet_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

Serve = Any
Work = Any

add_fleet = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server


def _work(operations: lro_grpc.Operations, ready: Callable[[], object]) -> None:
    asyncio.run(operations.work(ready=ready))


def _work_sync(operations: lro_grpc.Operations, ready: Callable[[], object]) -> None:
    operations.work_sync(ready=ready)


def _signal() -> None:
    """Sends this process a signal, by the main thread.

    Any other thread may be interrupted by one that is sent to the process. It might be held up, and
    write to the loop that wakes up for signals when that is the next test's already.
    """
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


both = pytest.mark.parametrize("work", [_work, _work_sync], ids=["work", "work_sync"])


@both
def test_it_runs_what_a_server_has_no_room_for_until_a_signal_comes(
    stack: str, serve: Serve, handler_keyword: str, postgres: str, work: Work
) -> None:
    held = Held(handler_keyword)
    server = serve(held.servicer(concurrency=1), store=postgres)
    first = server.create(instance_id="first").name
    assert held.next() == first
    second = server.create(instance_id="second").name

    def run(_: Any, request: Any, op: Any) -> Any:
        return Instance(name="by the worker", seed_rows=op.attempt)

    operations = lro_grpc.Operations(postgres)
    add_fleet(fleet("CreateInstance", defined_with(handler_keyword, run)), operations.registrar())

    def end_it_then() -> Any:
        try:
            return server.done(second)
        finally:
            _signal()

    waiting = []
    work(operations, ready=lambda: waiting.append(in_thread(end_it_then)))
    assert waiting, "a signal came before it was ready"
    assert response_of(waiting[0].result()) == Instance(name="by the worker", seed_rows=1)
    held.gate.open()
    assert response_of(server.done(first)).seed_rows == 1


@both
def test_a_drain_gives_back_what_it_runs(
    serve: Serve, handler_keyword: str, postgres: str, work: Work
) -> None:
    held = Held(handler_keyword)
    by_server = Held("def")
    server = serve(by_server.servicer(concurrency=1), store=postgres)
    server.create(instance_id="first")
    by_server.next()
    operations = lro_grpc.Operations(postgres)
    add_fleet(held.servicer(), operations.registrar())

    def end_it_while_it_runs() -> Any:
        try:
            name = server.create(instance_id="second").name
            assert held.next() == name
            return name
        finally:
            _signal()

    waiting = []
    work(operations, ready=lambda: waiting.append(in_thread(end_it_while_it_runs)))
    assert waiting, "a signal came before it was ready"
    by_server.gate.open()
    assert response_of(server.done(waiting[0].result())).seed_rows == 2


@both
@pytest.mark.parametrize("store", ["memory:", "sqlite:///{}/operations.db"])
def test_a_store_of_one_process_is_refused_before_it_is_opened(
    tmp_path: Any, work: Work, store: str
) -> None:
    operations = lro_grpc.Operations(store.format(tmp_path))
    with pytest.raises(lro_grpc.ConfigurationError, match="belongs to one process alone"):
        work(operations, ready=lambda: None)
    assert list(tmp_path.iterdir()) == []


def test_a_registrar_without_a_server_listens_nowhere() -> None:
    operations = lro_grpc.Operations("memory:")
    registrar: Any = operations.registrar()
    add_fleet(Held("def").servicer(), registrar)
    assert list(operations.requests) == ["/lro.example.v1.FleetService/CreateInstance"]
    for call in (
        lambda: registrar.add_insecure_port("127.0.0.1:0"),
        lambda: registrar.add_secure_port("127.0.0.1:0", None),
    ):
        with pytest.raises(lro_grpc.ConfigurationError, match="serves nothing"):
            call()
