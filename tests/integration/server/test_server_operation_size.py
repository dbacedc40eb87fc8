"""The size of operations: what is stored can be read, listed and watched by every client."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import wrappers_pb2
from google.rpc import code_pb2, error_details_pb2
from server_harness import (
    PARENT,
    Held,
    Instance,
    Server,
    defined_with,
    error_info,
    every_store,
    fleet,
    metadata_of,
    refused,
    response_of,
)

import lro_grpc
from lro_grpc import Limits
from lro_grpc._operation import publication
from lro_grpc._operation.events import Claim, Report, Succeed
from lro_grpc.stores import open_url

if TYPE_CHECKING:
    from collections.abc import Callable

Serve = Any

GRPC_BYTES = 4 * 1024 * 1024
"""The most bytes of a message that a gRPC client reads unless it is set otherwise."""

LIMIT = 20_000
TOO_LONG = "x" * (LIMIT + 1)

TooLarge = lro_grpc.OperationTooLargeError


@pytest.fixture
def run_fleet(
    serve: Serve, handler_keyword: str, store: str
) -> Callable[[Callable[[Any], Any]], Server]:
    """Serves a fleet whose handler is a plain function of the operation."""

    def start(function: Callable[[Any], Any], **limits: int) -> Server:
        def run(_: Any, request: Any, op: Any) -> Any:
            del request
            return function(op)

        servicer = fleet("CreateInstance", defined_with(handler_keyword, run))
        bound = Limits(**{"operation_bytes": LIMIT, **limits})
        return serve(servicer, store=store, limits=bound)

    return start


def pages(server: Server, parent: str = PARENT, **how: Any) -> list[Any]:
    """Returns all pages of a list."""
    found = [server.list(parent, **how)]
    while token := found[-1].next_page_token:
        found.append(server.list(parent, page_token=token, **how))
    return found


def assert_failed_by_size(operation: operations_pb2.Operation, part: str, limit: int) -> None:
    assert operation.error.code == code_pb2.RESOURCE_EXHAUSTED, operation
    info = error_info(operation.error)
    assert (info.reason, info.domain) == ("OPERATION_TOO_LARGE", "lro-grpc")
    assert info.metadata["part"] == part
    assert info.metadata["limit"] == str(limit)
    assert int(info.metadata["bytes"]) > limit
    assert part in operation.error.message
    assert str(limit) in operation.error.message


@pytest.mark.parametrize("handler_keyword", ["async def"])
def test_a_response_that_no_client_could_read_fails_the_operation(
    serve: Serve, handler_keyword: str, store: str
) -> None:
    run = defined_with(handler_keyword, lambda *_: Instance(name="n" * (GRPC_BYTES + 1)))
    server = serve(fleet("CreateInstance", run), store=store)
    name = server.create().name
    assert_failed_by_size(server.done(name), "response", Limits().operation_bytes)
    assert_failed_by_size(server.get(name), "response", Limits().operation_bytes)
    assert server.names() == [name]
    assert [one.done for one in server.watch(name)][-1]


@every_store
@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_the_largest_operation_that_is_stored_is_got_watched_and_listed(
    serve: Serve, store: str
) -> None:
    most = Limits().operation_bytes
    run = defined_with("async def", lambda *_: Instance(name="n" * (most - 400)))
    server = serve(fleet("CreateInstance", run), store=store)
    name = server.create().name
    done = server.done(name)
    assert most - 400 < done.ByteSize() <= most
    assert response_of(server.get(name)).name == "n" * (most - 400)
    assert server.watch(name)[-1] == done
    assert list(server.list(page_size=2).operations) == [done]


def test_a_response_above_the_limit_fails_the_operation_and_keeps_its_metadata(
    run_fleet: Any,
) -> None:
    def function(op: Any) -> Any:
        op.progress(50, "half way")
        return Instance(name=TOO_LONG)

    server = run_fleet(function)
    done = server.done(server.create().name)
    assert_failed_by_size(done, "response", LIMIT)
    assert metadata_of(done).status_detail == "half way"


def test_an_error_above_the_limit_loses_details_and_never_its_code_and_message(
    run_fleet: Any,
) -> None:
    def function(_: Any) -> Any:
        details = [wrappers_pb2.StringValue(value=TOO_LONG), error_details_pb2.Help()]
        raise lro_grpc.LroError("no more rooms", code=9, reason="FULL", details=details)

    done = (server := run_fleet(function)).done(server.create().name)
    assert (done.error.code, done.error.message) == (9, "no more rooms")
    assert error_info(done.error).reason == "FULL"
    assert done.ByteSize() <= LIMIT
    kinds = [one.TypeName() for one in done.error.details]
    assert "google.protobuf.StringValue" not in kinds
    assert "google.rpc.Help" in kinds


@pytest.mark.parametrize("text", [TOO_LONG, "ü" * LIMIT])
def test_an_error_message_above_the_limit_is_cut_and_keeps_its_code_and_reason(
    run_fleet: Any, text: str
) -> None:
    def function(_: Any) -> Any:
        raise lro_grpc.LroError(text, code=9, reason="FULL")

    done = (server := run_fleet(function)).done(server.create().name)
    assert done.error.code == 9
    assert done.error.message.startswith(text[:1000])
    assert done.error.message.endswith("...")
    assert error_info(done.error).reason == "FULL"
    assert done.ByteSize() <= LIMIT


def test_progress_above_the_limit_raises_in_the_handler_and_changes_nothing(run_fleet: Any) -> None:
    raised: list[Exception] = []

    def function(op: Any) -> Any:
        op.progress(10, "fits")
        with pytest.raises(TooLarge) as failure:
            op.progress(20, TOO_LONG)
        raised.append(failure.value)
        return Instance()

    done = (server := run_fleet(function)).done(server.create().name)
    assert metadata_of(done).status_detail == "fits"
    assert response_of(done) == Instance()
    assert str(LIMIT) in str(raised[0])
    assert "metadata" in str(raised[0])


def test_metadata_above_the_limit_raises_at_progress(run_fleet: Any) -> None:
    def function(op: Any) -> Any:
        op.metadata.partial_failures.add(message=TOO_LONG)
        with pytest.raises(TooLarge):
            op.progress(20)
        del op.metadata.partial_failures[:]
        op.progress(30, "fits again")
        return Instance()

    done = (server := run_fleet(function)).done(server.create().name)
    assert metadata_of(done).status_detail == "fits again"
    assert done.HasField("response")


def test_metadata_above_the_limit_at_the_end_fails_the_operation(run_fleet: Any) -> None:
    def function(op: Any) -> Any:
        op.progress(20, "the last that fits")
        op.metadata.partial_failures.add(message=TOO_LONG)
        return Instance()

    done = (server := run_fleet(function)).done(server.create().name)
    assert_failed_by_size(done, "metadata", LIMIT)
    assert metadata_of(done).status_detail == "the last that fits"


def test_many_small_partial_failures_count_too(run_fleet: Any) -> None:
    def function(op: Any) -> Any:
        for number in range(LIMIT // 10):
            op.metadata.partial_failures.add(code=5, message=f"number {number}")
        return Instance()

    done = (server := run_fleet(function)).done(server.create().name)
    assert_failed_by_size(done, "metadata", LIMIT)


def test_metadata_and_response_count_together(run_fleet: Any) -> None:
    def function(op: Any) -> Any:
        op.metadata.partial_failures.add(message="m" * (LIMIT * 6 // 10))
        return Instance(name="n" * (LIMIT * 5 // 10))

    done = (server := run_fleet(function)).done(server.create().name)
    assert_failed_by_size(done, "metadata", LIMIT)
    assert done.ByteSize() <= LIMIT + 1000


@pytest.mark.parametrize("handler_keyword", ["async def"], indirect=True)
@pytest.mark.parametrize("state", [TOO_LONG.encode(), wrappers_pb2.StringValue(value=TOO_LONG)])
def test_a_checkpoint_above_the_limit_raises_and_keeps_the_former(
    serve: Serve, store: str, handler_keyword: str, state: Any
) -> None:
    async def run(_: Any, request: Any, op: Any) -> Any:
        del request
        await op.checkpoint(b"fits")
        with pytest.raises(TooLarge, match="checkpoint"):
            await op.checkpoint(state)
        return Instance(name=op.checkpoint_state.decode())

    servicer = fleet("CreateInstance", run)
    server = serve(servicer, store=store, limits=Limits(operation_bytes=LIMIT))
    assert response_of(server.done(server.create().name)).name == "fits"


@pytest.mark.parametrize("handler_keyword", ["def"], indirect=True)
@pytest.mark.parametrize("validate_only", [False, True])
def test_a_start_whose_operation_would_be_too_large_is_refused_and_stores_nothing(
    serve: Serve, held: Held, store: str, validate_only: bool
) -> None:
    server = serve(held.servicer(), store=store, limits=Limits(operation_bytes=LIMIT))
    failure = refused(lambda: server.create(instance_id=TOO_LONG, validate_only=validate_only))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "OPERATION_TOO_LARGE"
    assert failure.info.metadata["part"] == "metadata"
    assert server.names() == []


def test_a_batch_whose_targets_are_too_large_is_refused_before_anything_is_created(
    serve: Serve, store: str
) -> None:
    created: list[str] = []

    def run(_: Any, request: Any, op: Any) -> Any:
        del request
        targets = [f"instances/{'i' * 100}{n}" for n in range(LIMIT // 100)]
        op.batch(targets, create=created.append, delete=created.append)
        return Instance()

    server = serve(fleet("CreateInstance", run), store=store, limits=Limits(operation_bytes=LIMIT))
    assert_failed_by_size(server.done(server.create().name), "metadata", LIMIT)
    assert created == []


def test_long_errors_of_many_targets_are_cut_and_the_batch_is_rolled_back(
    serve: Serve, store: str
) -> None:
    deleted: list[str] = []

    def create(target: str) -> None:
        if not target.endswith("/0"):
            raise lro_grpc.LroError(f"{target} {'y' * 5000}", code=9, reason="FULL")

    def run(_: Any, request: Any, op: Any) -> Any:
        del request
        targets = [f"instances/{n}" for n in range(20)]
        op.batch(targets, create=create, delete=deleted.append, parallelism=20)
        return Instance()

    server = serve(fleet("CreateInstance", run), store=store, limits=Limits(operation_bytes=LIMIT))
    done = server.done(server.create().name)
    assert done.error.code == 9
    assert done.ByteSize() <= LIMIT
    assert deleted == ["instances/0"]
    statuses = metadata_of(done).batch_create_instances_metadata.instance_statuses
    assert all(
        statuses[f"instances/{n}"].error.code == 9
        and statuses[f"instances/{n}"].error.message.startswith(f"instances/{n} ")
        for n in range(1, 20)
    )


def test_errors_of_very_many_targets_are_codes_alone_where_more_has_no_room(
    serve: Serve, store: str
) -> None:
    def create(target: str) -> None:
        raise lro_grpc.LroError(f"{target} {'y' * 500}", code=9, reason="FULL")

    def run(_: Any, request: Any, op: Any) -> Any:
        del request
        targets = [f"instances/{n}" for n in range(300)]
        op.batch(targets, create=create, delete=lambda _: None)
        return Instance()

    server = serve(fleet("CreateInstance", run), store=store, limits=Limits(operation_bytes=LIMIT))
    done = server.done(server.create().name)
    assert done.error.code == 9
    assert done.error.message.startswith("instances/0 ")
    assert done.ByteSize() <= LIMIT
    statuses = metadata_of(done).batch_create_instances_metadata.instance_statuses
    assert len(statuses) == 300
    assert all(status.error.code for status in statuses.values())


@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_a_batch_is_begun_only_if_it_fits_when_all_its_targets_fail(
    serve: Serve, store: str
) -> None:
    began: set[str] = set()

    def run(_: Any, request: Any, op: Any) -> Any:
        def create(target: str) -> None:
            began.add(op.name)
            raise lro_grpc.LroError(f"{target} {'y' * 500}", code=9, reason="FULL")

        targets = [f"instances/{n}" for n in range(int(request.instance_id.strip("n")))]
        op.batch(targets, create=create, delete=lambda _: None)
        return Instance()

    server = serve(fleet("CreateInstance", run), store=store, limits=Limits(operation_bytes=LIMIT))
    numbers = range(LIMIT // 50, LIMIT // 25, LIMIT // 1000)
    for name in [server.create(instance_id=f"n{number}").name for number in numbers]:
        done = server.done(name)
        assert done.ByteSize() <= LIMIT
        if name in began:
            assert done.error.code == 9
        else:
            assert_failed_by_size(done, "metadata", LIMIT)
    assert 0 < len(began) < len(numbers)


def test_a_batch_that_may_begin_may_be_terminated_and_read(
    serve: Serve, store: str, held: Held
) -> None:
    def run(_: Any, request: Any, op: Any) -> Any:
        del request

        def create(_: str) -> None:
            held.began.put(op.name)
            held.gate.pass_by(op)

        op.batch([f"instances/{n}" for n in range(30_000)], create=create, delete=lambda _: None)
        return Instance()

    server = serve(fleet("CreateInstance", run), store=store)
    name = server.create().name
    assert held.next() == name
    server.terminate(name, "é" * 1000)
    done = server.done(name)
    assert done.ByteSize() < GRPC_BYTES
    statuses = metadata_of(done).batch_create_instances_metadata.instance_statuses
    assert {status.error.code for status in statuses.values()} == {code_pb2.ABORTED}
    assert server.names() == [name]


@every_store
def test_a_batch_is_rolled_back_where_the_response_is_too_large(serve: Serve, store: str) -> None:
    deleted: list[str] = []

    def run(_: Any, request: Any, op: Any) -> Any:
        del request
        op.batch(["instances/a"], create=lambda _: None, delete=deleted.append)
        return Instance(name=TOO_LONG)

    server = serve(fleet("CreateInstance", run), store=store, limits=Limits(operation_bytes=LIMIT))
    assert_failed_by_size(server.done(server.create().name), "response", LIMIT)
    assert deleted == ["instances/a"]


@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_a_list_has_as_many_operations_on_a_page_as_a_client_can_read(
    serve: Serve, store: str
) -> None:
    run = defined_with("async def", lambda *_: Instance(name="n" * 900_000))
    server = serve(fleet("CreateInstance", run), store=store)
    names = [server.done(server.create().name).name for _ in range(7)][::-1]
    listed = pages(server, page_size=1000)
    assert all(page.ByteSize() < GRPC_BYTES for page in listed)
    assert [one.name for page in listed for one in page.operations] == names
    assert len(listed) == 3


def test_a_list_goes_past_what_was_stored_before_there_was_a_limit(
    serve: Serve, file_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def store_them() -> None:
        now = 1_700_000_000_000_000
        store = open_url(file_url, lambda: now)
        await store.open()
        for number in range(3):
            made = publication.create(
                parent=PARENT,
                operation_id=f"op{number}",
                method="/lro.example.v1.FleetService/CreateInstance",
                request=b"",
                metadata_type="lro.v1.OperationMetadata",
                now=now,
                retention=timedelta(days=36500) // timedelta(microseconds=1),
            )
            await store.create(made)
            await store.apply(made.name, Claim(1_000_000))
            response = operations_pb2.Operation()
            response.response.Pack(Instance(name="n" * (GRPC_BYTES if number == 1 else 1)))
            packed = response.response.SerializeToString()
            await store.apply(made.name, Succeed(Report(1), packed))
        await store.close()

    asyncio.run(store_them())
    server = serve(fleet("CreateInstance", lambda *_: Instance()), store=file_url)
    small = [f"{PARENT}/operations/op2", f"{PARENT}/operations/op0"]
    for size in (1, 2, 100):
        assert [
            one.name for page in pages(server, page_size=size) for one in page.operations
        ] == small
    everywhere = pages(server, "projects/-/locations/-", return_partial_success=True)
    assert [name for page in everywhere for name in page.unreachable] == [
        f"{PARENT}/operations/op1"
    ]
    logged = [r for r in caplog.records if r.levelname == "ERROR" and "op1" in r.getMessage()]
    assert len(logged) == 1
