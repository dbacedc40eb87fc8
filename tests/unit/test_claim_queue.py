"""What waits here has a slot, as far as is known: else other processes are told of it."""

from __future__ import annotations

from lro.example.v1 import fleet_service_pb2
from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc._engine.claim_queue import ClaimQueue, Turn
from lro_grpc._engine.handler import Handler
from lro_grpc._engine.key_rounds import KeyedTurn
from lro_grpc._operation import publication
from lro_grpc._stores.store import KeyedClaims
from lro_grpc.stores import MemoryStore
from lro_grpc.testing import ManualClock

METHOD = "/fleet.v1.FleetService/CreateInstance"


class SharedStore(MemoryStore):
    """Is said to be open to other processes, too."""

    exclusive = False


def queue() -> ClaimQueue:
    clock = ManualClock()
    types = (fleet_service_pb2.CreateInstanceRequest, fleet_service_pb2.Instance, OperationMetadata)
    handler = Handler(METHOD, lambda request, op: None, *types, "test.example", 1)
    return ClaimQueue(SharedStore(clock.now), clock, [handler], lambda: None, lambda: 0.5)


def add(made: ClaimQueue, operation_id: str) -> None:
    made.add(
        publication.create(
            parent="",
            operation_id=operation_id,
            method=METHOD,
            request=b"",
            metadata_type="lro.v1.OperationMetadata",
            now=1,
        )
    )


def test_a_look_for_keys_that_nobody_uses_takes_no_slot_from_what_waits() -> None:
    """It would send each start to another process, which happens to be asked in that moment."""
    made = queue()
    assert isinstance(made.take(METHOD, 1), Turn), "what has no key comes first"
    assert isinstance(made.take(METHOD, 1), KeyedTurn)
    add(made, "op-1")
    assert made.all_fit(METHOD, {METHOD: 0}), "the turn's slot is free again in a moment"
    add(made, "op-2")
    assert not made.all_fit(METHOD, {METHOD: 0})
    made.keys.took(METHOD, KeyedClaims((), "", False), is_stuck=False)
    assert not made.all_fit(METHOD, {METHOD: 1})


def test_what_waits_with_a_key_has_a_slot_before_others_are_kept_from_it() -> None:
    made = queue()
    made.take(METHOD, 1)
    made.take(METHOD, 1)
    made.keys.took(METHOD, KeyedClaims((), "", False), is_stuck=False)
    add(made, "op-1")
    assert made.all_fit(METHOD, {METHOD: 1})
    made.place_left(METHOD)
    assert not made.all_fit(METHOD, {METHOD: 1})
    assert made.all_fit(METHOD, {METHOD: 2})
