"""Concurrency keys, at a real server's edge: what a service gives, what runs, and what is seen."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from server_harness import FLEET, PARENT, Held, Server, async_handler, every_store, fleet, refused

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1.operation_description_pb2 import DescribeOperationResponse
from lro_grpc.engines import Temporal

Serve = Any

METHOD = f"/{FLEET}/CreateInstance"
WaitReason = DescribeOperationResponse.WaitReason


def servicer(held: Held, **options: Any) -> Any:
    """Returns a fleet whose instances have the first letters of their ids for keys."""

    def prepare(_: Any, request: Any, context: Any) -> Any:
        return lro_grpc.Prepared(concurrency_key=request.instance_id[:1])

    async def run(_: Any, request: Any, op: Any) -> Any:
        return await held.run(request, op)

    return fleet("CreateInstance", run, prepare=prepare, **options)


def create(server: Server, instance_id: str) -> str:
    name: str = server.create(instance_id=instance_id).name
    return name


@every_store
@async_handler
def test_so_many_of_a_key_run_at_a_time(serve: Serve, held: Held, store: str) -> None:
    server = serve(servicer(held, concurrency_per_key=1), store=store)
    first, second, other = (create(server, one) for one in ("a-1", "a-2", "b-1"))
    assert [held.next(), held.next()] == [first, other]
    assert [server.describe(one).concurrency_key for one in (first, second, other)] == [*"aab"]
    assert server.describe(second).attempts == []
    held.gate.open()
    assert held.next() == second
    assert server.done(second).WhichOneof("result") == "response"


@every_store
@async_handler
def test_it_is_told_that_a_key_is_full(serve: Serve, held: Held, store: str) -> None:
    """Of what waits for it alone: what has another key, or none, waits for a slot."""
    options = {"concurrency": 2, "concurrency_per_key": 1, "pausable": True}
    server = serve(servicer(held, **options), store=store)
    first = create(server, "a-1")
    assert held.next() == first
    second = create(server, "a-2")
    told = server.describe(second)
    assert [*told.wait_reasons] == [WaitReason.CONCURRENCY_KEY]
    assert [*server.describe(first).wait_reasons] == []
    other = create(server, "b-1")
    assert held.next() == other  # so no slot is free
    others = [create(server, one) for one in ("c-1", "")]
    for name in others:
        assert [*server.describe(name).wait_reasons] == [WaitReason.QUEUED]
    server.pause(second)
    assert [*server.describe(second).wait_reasons] == [WaitReason.PAUSED]
    held.gate.open()
    server.done(first)


@async_handler
def test_a_key_without_places_is_never_full(serve: Serve, held: Held) -> None:
    server = serve(servicer(held, concurrency=1))
    first = create(server, "a-1")
    assert held.next() == first
    told = server.describe(create(server, "a-2"))
    assert (told.concurrency_key, [*told.wait_reasons]) == ("a", [WaitReason.QUEUED])


@async_handler
def test_what_has_no_key_has_no_bound(
    serve: Serve, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so once: a caller whom nobody identifies is no key."""
    server = serve(servicer(held, concurrency_per_key=1))
    names = [create(server, "") for _ in range(3)]
    assert sorted(held.next() for _ in names) == sorted(names)
    assert server.describe(names[0]).concurrency_key == ""
    (said,) = [line.getMessage() for line in caplog.records if "no concurrency_key" in line.message]
    assert said.startswith(f"an operation of {METHOD} has no concurrency_key")


@async_handler
def test_the_keys_of_what_waits_outlive_a_restart(serve: Serve, held: Held, file_url: str) -> None:
    """And whoever goes on with them has a bound of its own."""
    first = serve(servicer(held, concurrency_per_key=1), store=file_url)
    names = [create(first, f"a-{number}") for number in range(4)]
    assert held.next() == names[0]
    first.stop()
    second = serve(servicer(held, concurrency_per_key=2), store=file_url)
    assert {held.next(), held.next()} == set(names[:2])
    held.gate.open()
    assert {held.next(), held.next()} == set(names[2:])
    assert second.done(names[3]).WhichOneof("result") == "response"


@async_handler
def test_code_starts_operations_with_the_key_of_prepare(serve: Serve, held: Held) -> None:
    """And a rerun has that of a prepare of its own."""
    server = serve(servicer(held, concurrency_per_key=1))
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="a-1")
    first = server.operations.start_operation_sync(METHOD, request).name
    assert held.next() == first
    second = create(server, "a-2")
    server.cancel(first)
    assert held.next() == second
    again = server.rerun(first).name
    assert server.describe(again).concurrency_key == "a"
    held.gate.open()
    assert held.next() == again


NO_KEYS: Any = [None, 1, b"a", "x" * 201, "two\nlines", "nul\0", "\ud800", "\u200b", ["a"]]


@pytest.mark.parametrize("key", NO_KEYS)
def test_what_is_no_key_is_refused(key: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match=r"concurrency_key is .*; give a text"):
        lro_grpc.Prepared(concurrency_key=key)


@pytest.mark.parametrize("key", ["", " ", "x" * 200, "tenants/ä:1 – x", "\N{SNOWMAN}"])
def test_what_is_printable_is_a_key(key: str) -> None:
    assert lro_grpc.Prepared(concurrency_key=key).concurrency_key == key


@pytest.mark.parametrize("number", [0, -1, True, 1.0, "1", 2**31])
def test_what_is_no_bound_of_a_key_is_refused(number: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match=r"concurrency_per_key is .*; give a"):
        lro_grpc.MethodOptions(concurrency_per_key=number)


def test_a_key_of_prepare_that_is_none_starts_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(_: Any, request: Any, context: Any) -> Any:
        return lro_grpc.Prepared(concurrency_key=request.instance_id)

    server = serve(fleet("CreateInstance", lambda _, request, op: None, prepare=prepare))
    failure = refused(lambda: create(server, "secret\tb"))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "secret" not in str(failure.status), "callers do not see keys"
    assert "concurrency_key is a text with U+0009" in caplog.text
    caplog.clear()
    assert server.names() == []


def test_the_engine_on_temporal_keeps_no_bound_of_a_key() -> None:
    pytest.importorskip("temporalio")
    operations = lro_grpc.Operations("memory:", engine=Temporal("127.0.0.1:1"))
    operations.add_method(
        METHOD,
        lambda request, op: fleet_service_pb2.Instance(),
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
        options=lro_grpc.MethodOptions(concurrency_per_key=1),
    )
    with pytest.raises(lro_grpc.ConfigurationError, match=f"{METHOD} has a concurrency_per_key"):
        operations.start_sync()
