"""Operations of another server, imported: callers find them as before, and none is run."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from google.longrunning import operations_pb2
from old_operations import PARENT, old_operations
from server_harness import (
    SECONDS,
    Instance,
    every_store,
    fleet,
    in_thread,
    metadata_of,
    refused,
    response_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro_grpc import Code

CREATE = "/lro.example.v1.FleetService/CreateInstance"


def import_into(operations: lro_grpc.Operations, twin: str, olds: Any, **how: Any) -> Any:
    """Imports in this thread, whose event loop is not that of operations that have started."""
    if twin == "sync":
        return operations.import_operations_sync(olds, **how)
    return asyncio.run(operations.import_operations(olds, **how))


both_twins = pytest.mark.parametrize("twin", ["async", "sync"])


@every_store
@both_twins
def test_old_operations_are_found_as_they_were(serve: Any, store: Any, twin: str) -> None:
    ran: list[str] = []

    async def run(self: Any, request: Any, op: Any) -> Any:
        ran.append(op.name)
        return Instance(name="ran")

    olds = list(old_operations(350))
    known = [
        lro_grpc.OldOperation(
            old, method=CREATE, request=fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
        )
        for old in olds
    ]
    imported = (350, 0, 0)
    if store != "memory:":  # before a start, to which nothing in memory would last
        operations = lro_grpc.Operations(store)
        assert import_into(operations, twin, known[:200]) == (200, 0, 0)
        imported = (150, 200, 0)
    server = serve(fleet("CreateInstance", run), store=store)
    assert import_into(server.operations, twin, known) == imported
    assert import_into(server.operations, twin, known) == (0, 350, 0)
    for old in olds[:21]:
        found = server.get(old.name)
        if old.done:
            assert found == old
        else:
            assert (found.done, found.error.code) == (True, Code.ABORTED)
            assert b"OPERATION_ABANDONED" in found.SerializeToString()
    assert server.names() == [old.name for old in reversed(olds)]
    made = server.done(server.create(instance_id="new").name)
    assert response_of(made) == Instance(name="ran")
    assert ran == [made.name]


def test_an_import_before_the_start_lasts_in_the_same_operations(serve: Any, file_url: str) -> None:
    def configure(operations: lro_grpc.Operations) -> None:
        assert in_thread(
            lambda: asyncio.run(operations.import_operations(old_operations(5)))
        ).result() == (5, 0, 0)

    server = serve(configure=configure, store=file_url)
    assert [server.get(old.name) for old in old_operations(5)] == list(old_operations(5))


@both_twins
def test_what_is_not_done_may_be_left_out(serve: Any, twin: str) -> None:
    server = serve()
    olds = list(old_operations(7))
    assert import_into(server.operations, twin, olds, unfinished="leave") == (5, 0, 2)
    assert len(server.names()) == 5
    assert import_into(server.operations, twin, olds) == (2, 5, 0)


def test_old_operations_can_be_run_again_and_deleted(serve: Any) -> None:
    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name=request.instance_id)

    server = serve(fleet("CreateInstance", run))
    (old,) = old_operations(1)
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="again")
    known = lro_grpc.OldOperation(old, method=CREATE, request=request)
    import_into(server.operations, "sync", [known])
    again = server.done(server.rerun(old.name).name)
    assert response_of(again) == Instance(name="again")
    assert server.get(old.name) == old
    server.delete(old.name)
    assert server.names() == [again.name]
    assert import_into(server.operations, "sync", [known]) == (1, 0, 0)


def test_an_old_operation_whose_start_nobody_knows_is_not_run_again(serve: Any) -> None:
    server = serve(fleet("CreateInstance", lambda *_: None))
    (old,) = old_operations(1)
    import_into(server.operations, "sync", [lro_grpc.OldOperation(old)])
    failure = refused(lambda: server.rerun(old.name))
    assert f"{old.name} cannot be run again here: its method is not known" in failure.message


def test_filters_find_old_operations_by_their_metadata(serve: Any) -> None:
    server = serve()
    import_into(server.operations, "sync", old_operations(7))
    found = server.list(filter='create_time < "2024-06-01T00:00:00Z" AND target = "instances/i0"')
    assert [one.name for one in found.operations] == [f"{PARENT}/operations/old-0"]
    found = server.list(filter="state = FAILED")
    assert {one.name[-1] for one in found.operations} == {"2", "5", "6"}
    assert metadata_of(server.get(f"{PARENT}/operations/old-5")).target == "instances/i5"


def test_the_end_of_an_old_operation_is_told_to_nobody(serve: Any) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def run(self: Any, request: Any, op: Any) -> Any:
        return Instance()

    servicer = fleet("CreateInstance", run)
    server = serve(servicer, on_done=lambda event: told.put(event.operation.name))
    import_into(server.operations, "sync", old_operations(7))
    new = server.create()
    assert told.get(timeout=SECONDS) == new.name


def test_another_operation_of_the_name_stops_the_import(serve: Any) -> None:
    server = serve()
    olds = list(old_operations(300))
    import_into(server.operations, "sync", olds[:1])
    olds[0].response.value = b"other"
    with pytest.raises(lro_grpc.LroError, match=r"'.*/old-0' is stored already") as raised:
        import_into(server.operations, "sync", olds)
    assert raised.value.code is Code.ALREADY_EXISTS
    assert server.get(olds[0].name) != olds[0]
    assert len(server.names()) <= 100


def test_an_operation_that_runs_here_is_another_one(serve: Any, held: Any) -> None:
    server = serve(held.servicer())
    running = server.create()
    old = operations_pb2.Operation()
    old.CopyFrom(next(old_operations(1)))
    old.name = running.name
    with pytest.raises(lro_grpc.LroError, match="is stored already, and is not the same"):
        import_into(server.operations, "sync", [old])


def test_operations_may_come_from_an_asynchronous_iterable(serve: Any) -> None:
    async def read() -> AsyncIterator[operations_pb2.Operation]:
        for old in old_operations(250):
            await asyncio.sleep(0)
            yield old

    server = serve()
    assert import_into(server.operations, "async", read()) == (250, 0, 0)


def test_operations_are_read_as_they_are_stored(serve: Any) -> None:
    server = serve()
    read: list[str] = []

    def reading() -> Iterator[operations_pb2.Operation]:
        for old in old_operations(350):
            stored = len(server.names())
            assert len(read) - stored <= 100
            read.append(old.name)
            yield old

    assert import_into(server.operations, "sync", reading()).stored == 350


@both_twins
@pytest.mark.parametrize(
    ("olds", "how", "said"),
    [
        ([7], {}, "7 is no operation"),
        ([lro_grpc.OldOperation(7)], {}, "is no operation"),  # type: ignore[arg-type]
        ([], {"unfinished": "keep"}, "unfinished is 'keep'"),
        ([], {"retention": -1}, "retention is -1"),
    ],
)
def test_what_is_none_is_refused(twin: str, olds: Any, how: Any, said: str) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match=said):
        import_into(lro_grpc.Operations("memory:"), twin, olds, **how)


@both_twins
def test_operations_that_have_stopped_import_nothing(serve: Any, twin: str) -> None:
    server = serve()
    server.stop()
    with pytest.raises(lro_grpc.UnavailableError, match="have not started, or drain"):
        import_into(server.operations, twin, [])


def test_the_event_loop_has_its_turns_while_a_group_is_checked() -> None:
    async def turn_meanwhile() -> None:
        operations = lro_grpc.Operations("memory:")
        importing = asyncio.create_task(operations.import_operations(old_operations(100)))
        turns = 0
        while not importing.done():
            await asyncio.sleep(0)
            turns += 1
        assert (await importing).stored == 100
        assert turns >= 100

    asyncio.run(turn_meanwhile())


def test_a_start_waits_for_the_end_of_an_import() -> None:
    async def start_meanwhile() -> None:
        operations = lro_grpc.Operations("memory:")

        async def read() -> AsyncIterator[operations_pb2.Operation]:
            with pytest.raises(lro_grpc.ConfigurationError, match="are being imported"):
                await operations.start()
            for old in old_operations(1):
                yield old

        assert (await operations.import_operations(read())).stored == 1
        await operations.start()
        await operations.stop(lambda: asyncio.sleep(0))

    asyncio.run(start_meanwhile())


def test_the_sync_twin_says_that_it_would_wait_for_itself() -> None:
    async def call_it() -> None:
        operations = lro_grpc.Operations("memory:")
        await operations.start()
        try:
            with pytest.raises(lro_grpc.ConfigurationError, match="await import_operations"):
                operations.import_operations_sync([])
        finally:
            await operations.stop(lambda: asyncio.sleep(0))

    asyncio.run(call_it())
