"""``Prepared(batch_targets=…)``: a batch's targets, known and shown before it begins."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import code_pb2
from server_harness import (
    FLEET,
    PARENT,
    Gate,
    Server,
    fleet,
    metadata_of,
    refused,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import batch_create_instances_pb2

Serve = Any
States = batch_create_instances_pb2.BatchCreateInstanceStatus.State

METHOD = f"/{FLEET}/BatchCreateInstances"
TARGETS = [f"{PARENT}/instances/{one}" for one in ("a", "b", "c")]


def states_of(operation: Any) -> dict[str, str]:
    batch = metadata_of(operation).batch_create_instances_metadata
    statuses = {one: batch.instance_statuses[one].state for one in batch.instance_targets}
    return {one: States.Name(state) for one, state in statuses.items()}


class Batches:
    """A fleet that creates batches once its gate is open."""

    def __init__(self, targets: Any = TARGETS) -> None:
        self.gate = Gate()
        self.attempts: list[int] = []
        self.targets: Any = TARGETS
        self.declared = targets
        self.servicer = fleet(
            "BatchCreateInstances",
            lambda _, request, op: self._run(op),
            prepare=lambda _, request, context: self._prepared(request),
            concurrency=1,
        )

    def start(self, server: Server) -> Any:
        return server.start(METHOD, fleet_service_pb2.BatchCreateInstancesRequest(parent=PARENT))

    def _prepared(self, request: Any) -> lro_grpc.Prepared:
        return lro_grpc.Prepared(target=request.parent, batch_targets=self.declared)

    def _run(self, op: Any) -> Any:
        self.attempts.append(op.attempt)
        self.gate.pass_by(op)
        op.batch(self.targets, create=lambda _: None, delete=lambda _: None)
        return fleet_service_pb2.BatchCreateInstancesResponse()


def test_the_first_answer_shows_the_targets(serve: Serve) -> None:
    batches = Batches()
    server = serve(batches.servicer)
    started = batches.start(server)
    assert states_of(started) == dict.fromkeys(TARGETS, "PENDING_CREATE")
    assert list(states_of(started)) == TARGETS
    batches.gate.open()
    assert states_of(server.done(started.name)) == dict.fromkeys(TARGETS, "READY")


def test_a_batch_that_never_began_is_cancelled_at_once(serve: Serve) -> None:
    """Nothing is there to undo: neither in the queue, nor before the handler's ``op.batch``."""
    batches = Batches()
    server = serve(batches.servicer)
    running, queued = batches.start(server).name, batches.start(server).name
    for name in (queued, running):
        server.cancel(name)
        ended = server.done(name)
        assert ended.error.code == code_pb2.CANCELLED
        assert states_of(ended) == dict.fromkeys(TARGETS, "FAILED")
    assert set(batches.attempts) <= {1}


def test_the_handler_is_held_to_the_targets(serve: Serve) -> None:
    batches = Batches()
    batches.targets = TARGETS[:1]
    batches.gate.open()
    server = serve(batches.servicer)
    ended = server.done(batches.start(server).name)
    assert "an operation has one batch" in ended.error.message
    assert states_of(ended) == dict.fromkeys(TARGETS, "FAILED")


def test_more_targets_than_an_operation_can_show_are_refused(serve: Serve) -> None:
    batches = Batches([f"{PARENT}/instances/{number}" for number in range(100)])
    server = serve(batches.servicer, limits=lro_grpc.Limits(operation_bytes=5_000))
    failure = refused(lambda: batches.start(server))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "OPERATION_TOO_LARGE"


WRONG = [
    "instances/a",
    [1],
    ["\ud800"],
    ["instances/a", "instances/a"],
    None,
    iter(TARGETS),
    {"instances/a"},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_targets_that_are_none_are_the_services_mistake(
    serve: Serve, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    batches = Batches(wrong)
    server = serve(batches.servicer)
    assert refused(lambda: batches.start(server)).code is grpc.StatusCode.INTERNAL
    assert "returned batch_targets=" in caplog.text
    assert server.names() == []


@pytest.mark.parametrize("option", ["target", "parent", "verb"])
@pytest.mark.parametrize("wrong", [5, b"instances/a", "\ud800", ["instances/a"]])
def test_a_text_that_is_none_is_the_services_mistake(serve: Serve, option: str, wrong: Any) -> None:
    server = serve(
        fleet(
            "BatchCreateInstances",
            lambda _, request, op: fleet_service_pb2.BatchCreateInstancesResponse(),
            prepare=lambda _, request, context: lro_grpc.Prepared(**{option: wrong}),
        )
    )
    failure = refused(lambda: Batches().start(server))
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.message == f"{option} is {wrong!r}; give a text"
    assert server.names() == []
