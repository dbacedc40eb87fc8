"""One operation at a time on one target (S6)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from server_harness import (
    FLEET,
    PARENT,
    Failure,
    Gate,
    Held,
    Instance,
    async_handler,
    defined_with,
    every_store,
    fleet,
    metadata_of,
    refused,
    response_of,
    together,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import state_pb2
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

Serve = Any

CREATE = f"/{FLEET}/CreateInstance"
TARGET = f"{PARENT}/instances/i"


def assert_in_progress(call: Callable[[], object], name: str, target: str = TARGET) -> None:
    is_in_progress(refused(call), name, target)


def is_in_progress(failure: Failure, name: str, target: str = TARGET) -> None:
    assert (failure.code, failure.info.reason, failure.info.domain) == (
        grpc.StatusCode.ABORTED,
        "OPERATION_IN_PROGRESS",
        "lro-grpc",
    )
    assert dict(failure.info.metadata) == {"target": target, "operation": name}
    assert name in failure.message
    assert target in failure.message


def raising(error: grpc.RpcError) -> Callable[[], object]:
    def call() -> object:
        raise error

    return call


# One wins


@every_store
def test_of_many_starts_at_once_one_has_the_target(serve: Serve, held: Held, store: str) -> None:
    server = serve(held.servicer(exclusive=True), store=store)
    answers = together(20, lambda _: server.create(instance_id="i"))
    errors = [one for one in answers if isinstance(one, grpc.RpcError)]
    (winner,) = (one.name for one in answers if not isinstance(one, grpc.RpcError))
    for error in errors:
        assert_in_progress(raising(error), winner)
    assert server.names() == [winner]
    assert held.next() == winner
    assert held.began.empty()


def test_of_many_starts_at_once_on_many_targets_each_has_one(
    serve: Serve, held: Held, store: str
) -> None:
    server = serve(held.servicer(exclusive=True), store=store)
    answers = together(24, lambda n: server.create(instance_id=f"i{n % 6}"))
    won = [one for one in answers if not isinstance(one, grpc.RpcError)]
    targets = {metadata_of(one).target for one in won}
    assert targets == {f"{PARENT}/instances/i{n}" for n in range(6)}
    assert len(won) == len(server.names()) == 6


def test_the_winners_request_sent_again_gives_the_winner(
    serve: Serve, held: Held, store: str
) -> None:
    """At once or later; another request under the same id is refused for the id (S22)."""
    server = serve(held.servicer(exclusive=True), store=store)
    answers = together(10, lambda _: server.create(instance_id="i", request_id=uuid_of("r")))
    (winner,) = {one.name for one in answers}
    assert server.create(instance_id="i", request_id=uuid_of("r")).name == winner
    assert_in_progress(lambda: server.create(instance_id="i"), winner)
    assert_in_progress(lambda: server.create(instance_id="i", request_id=uuid_of("s")), winner)
    failure = refused(lambda: server.create(instance_id="other", request_id=uuid_of("r")))
    assert failure.info.reason == "REQUEST_ID_REUSED"
    held.gate.open()
    server.done(winner)
    assert server.create(instance_id="i", request_id=uuid_of("r")).name == winner


@async_handler
def test_a_refused_start_leaves_its_request_id_free(serve: Serve, held: Held, store: str) -> None:
    server = serve(held.servicer(exclusive=True), store=store)
    winner = server.create(instance_id="i").name
    assert_in_progress(lambda: server.create(instance_id="i", request_id=uuid_of("r")), winner)
    held.gate.open()
    server.done(winner)
    started = server.create(instance_id="i", request_id=uuid_of("r")).name
    assert started != winner
    assert server.done(started).HasField("response")


@async_handler
def test_other_targets_and_other_methods_are_left_alone(serve: Serve, held: Held) -> None:
    """One that is not exclusive yields to nobody; one that is, to the targets of every method."""

    def names_the_target(self: Any, request: Any, context: Any) -> lro_grpc.Prepared:
        return lro_grpc.Prepared(target=request.name)

    async def wait(self: Any, request: Any, op: Any) -> None:
        await held.gate.pass_by_async()

    delete = lro_grpc.method(exclusive=True)(wait)
    delete.prepare(names_the_target)
    snapshot = lro_grpc.method(wait)
    snapshot.prepare(names_the_target)
    both = type(
        "All",
        (type(held.servicer(exclusive=True)),),
        {"DeleteInstance": delete, "TakeSnapshot": snapshot},
    )()
    server = serve(both)
    winner = server.create(instance_id="i").name
    assert server.create(instance_id="j").name != winner
    deletion = fleet_service_pb2.DeleteInstanceRequest(name=TARGET)
    assert_in_progress(lambda: server.start(f"/{FLEET}/DeleteInstance", deletion), winner)
    taking = fleet_service_pb2.TakeSnapshotRequest(name=TARGET)
    assert server.start(f"/{FLEET}/TakeSnapshot", taking).name
    deletion.name = f"{PARENT}/instances/k"
    assert server.start(f"/{FLEET}/DeleteInstance", deletion).name


# It is free again


@pytest.mark.parametrize("end", ["succeed", "fail", "break", "cancel", "expire", "give up"])
def test_however_the_winner_ends_its_target_is_free(serve: Serve, store: str, end: str) -> None:
    gate = Gate()

    async def run(self: Any, request: Any, op: Any) -> Any:
        if request.request_id != uuid_of("winner"):
            return Instance(seed_rows=op.attempt)
        await gate.pass_by_async()
        if end == "fail":
            raise lro_grpc.LroError("it fails")
        if end == "break":
            raise RuntimeError("it breaks")
        if end == "give up":
            raise lro_grpc.RetryableError("not now")
        return Instance()

    clock = ManualClock()
    servicer = fleet(
        "CreateInstance",
        run,
        prepare=lambda self, request, context: lro_grpc.Prepared(target=TARGET),
        exclusive=True,
        timeout=timedelta(seconds=10),
        max_attempts=1,
    )
    server = serve(servicer, store=store, clock=clock)
    winner = server.create(request_id=uuid_of("winner")).name
    assert_in_progress(server.create, winner)
    if end == "cancel":
        server.cancel(winner)
    elif end == "expire":
        clock.advance(timedelta(seconds=10))
    else:
        gate.open()
    ended = server.done(winner)
    assert ended.HasField("error") == (end != "succeed")
    assert response_of(server.done(server.create().name)).seed_rows == 1


@every_store
@async_handler
def test_one_that_waits_is_paused_or_deleted_keeps_its_target(
    serve: Serve, held: Held, store: str
) -> None:
    servicer = held.servicer(exclusive=True, pausable=True, concurrency=1)
    server = serve(servicer, store=store)
    names = {own: server.create(instance_id=own).name for own in ("i", "waits", "gone")}
    held.next()
    server.pause(names["waits"])
    server.delete(names["gone"])
    for own, name in names.items():
        target = f"{PARENT}/instances/{own}"
        assert_in_progress(lambda: server.create(instance_id=own), name, target)  # noqa: B023
    server.cancel(names["waits"])
    assert server.create(instance_id="waits").name
    held.gate.open()
    server.done(names["i"])
    while held.next() != names["gone"]:
        pass
    for name in server.names():
        server.done(name)
    again = server.create(instance_id="i").name
    assert server.done(again).HasField("response")


@async_handler
def test_a_winner_that_pauses_half_way_keeps_its_target(
    serve: Serve, held: Held, store: str
) -> None:
    """Though nobody works on it."""

    async def run(self: Any, request: Any, op: Any) -> Any:
        held.began.put(op.name)
        await held.gate.pass_by_async()
        await op.checkpoint(b"half of it")
        return Instance(seed_rows=op.attempt)

    servicer = fleet(
        "CreateInstance",
        run,
        prepare=lambda self, request, context: lro_grpc.Prepared(target=TARGET),
        exclusive=True,
        pausable=True,
    )
    server = serve(servicer, store=store)
    winner = server.create().name
    held.next()
    server.pause(winner)
    held.gate.open()
    while metadata_of(server.get(winner)).state != state_pb2.JOB_STATE_PAUSED:
        pass
    assert_in_progress(server.create, winner)
    server.resume(winner)
    assert response_of(server.done(winner)).seed_rows == 2
    server.create()


def test_after_a_restart_the_target_is_as_taken(serve: Serve, file_url: str) -> None:
    held = Held("async def")
    first = serve(held.servicer(exclusive=True), store=file_url)
    winner = first.create(instance_id="i", request_id=uuid_of("r")).name
    done = first.create(instance_id="j").name
    held.next()
    first.stop()
    second = serve(held.servicer(exclusive=True), store=file_url)
    assert_in_progress(lambda: second.create(instance_id="i"), winner)
    assert second.create(instance_id="i", request_id=uuid_of("r")).name == winner
    held.gate.open()
    assert response_of(second.done(winner)).seed_rows == 2
    second.done(done)
    assert second.done(second.create(instance_id="i").name).HasField("response")


# validate_only (S8)


def test_validate_only_makes_the_same_check_and_takes_nothing(
    serve: Serve, held: Held, store: str
) -> None:
    server = serve(held.servicer(exclusive=True), store=store)
    assert server.create(instance_id="i", validate_only=True).done
    assert server.names() == []
    winner = server.create(instance_id="i").name
    live = refused(lambda: server.create(instance_id="i"))
    dry = refused(lambda: server.create(instance_id="i", validate_only=True))
    is_in_progress(live, winner)
    assert dry == live
    assert server.create(instance_id="j", validate_only=True).done
    assert server.names() == [winner]
    held.gate.open()
    server.done(winner)
    assert server.create(instance_id="i", validate_only=True).done


# Without a target


@pytest.mark.parametrize("prepared", [None, lro_grpc.Prepared(), lro_grpc.Prepared(parent=PARENT)])
@pytest.mark.parametrize("validate_only", [False, True])
def test_a_prepare_that_names_no_target_is_refused(
    serve: Serve, handler_keyword: str, prepared: Any, validate_only: bool
) -> None:
    ran: list[Any] = []

    def run(self: Any, request: Any, op: Any) -> Any:
        ran.append(op)
        return Instance()

    def prepare(self: Any, request: Any, context: Any) -> Any:
        return prepared

    servicer = fleet(
        "CreateInstance",
        defined_with(handler_keyword, run),
        prepare=defined_with(handler_keyword, prepare),
        exclusive=True,
    )
    server = serve(servicer)
    failure = refused(lambda: server.create(validate_only=validate_only))
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.INTERNAL, "CONFIGURATION")
    assert CREATE in failure.message
    assert "Prepared(target=" in failure.message
    assert server.names("operations") == server.names() == ran == []


def test_without_a_prepare_the_server_does_not_start(serve: Serve) -> None:
    with pytest.raises(lro_grpc.ConfigurationError) as raised:
        serve(fleet("CreateInstance", lambda self, request, op: Instance(), exclusive=True))
    assert CREATE in raised.value.message
    assert "Prepared(target=" in raised.value.message
