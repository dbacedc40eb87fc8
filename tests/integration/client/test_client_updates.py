from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc.aio
import pytest
from fake_operations import GET, WAIT, WATCH, FakeOperations, FakeServer, operation
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc._client.async_operations import AsyncOperationsClient
from lro_grpc._client.update import OperationUpdate
from lro_grpc._errors import OperationTimeoutError, WrongTypeError
from lro_grpc._operation import states

if TYPE_CHECKING:
    from sides import Side

RESPONSE = Timestamp(seconds=7)
LONG = timedelta(seconds=20)


def step(number: int, **more: Any) -> operations_pb2.Operation:
    return operation(metadata=Timestamp(seconds=number), **more)


def test_the_present_state_comes_first_then_each_change_and_the_end_last(
    side: Side, fake: FakeOperations
) -> None:
    fake.put(step(1))
    updates = side.client().attach("operations/1", metadata=Timestamp).updates(LONG)
    assert side.next(updates).metadata.seconds == 1
    for number in (2, 3):
        fake.put(step(number))
        one = side.next(updates)
        assert (one.name, one.done, one.metadata.seconds) == ("operations/1", False, number)
    fake.put(step(4, response=RESPONSE))
    assert [(one.done, one.metadata.seconds) for one in side.items(updates)] == [(True, 4)]
    assert fake.calls == [WATCH]


def test_updates_and_a_result_share_what_was_seen(side: Side, fake: FakeOperations) -> None:
    fake.put(operation(response=RESPONSE))
    future = side.client().attach("operations/1")
    assert [one.done for one in side.items(future.updates(LONG))] == [True]
    assert [one.done for one in side.items(future.updates(LONG))] == [True]
    assert side.run(future.result(LONG)) == RESPONSE
    assert fake.calls == [WATCH]


def test_updates_that_nobody_takes_make_no_call(side: Side, fake: FakeOperations) -> None:
    side.end(side.client().attach("operations/1").updates())
    assert fake.calls == []


def test_the_stream_ends_when_a_loop_is_left(side: Side, fake: FakeOperations) -> None:
    fake.put(operation())
    future = side.client().attach("operations/1")

    async def look_once() -> None:
        async for _ in future.updates():
            break

    if side.is_async:
        side.run(look_once())
    else:
        for _ in future.updates():
            break
    side.until_gone(fake, WATCH)
    assert fake.calls == [WATCH]


def test_the_stream_ends_when_the_updates_are_closed(side: Side, fake: FakeOperations) -> None:
    fake.put(operation())
    updates = side.client().attach("operations/1").updates()
    side.next(updates)
    side.end(updates)
    side.until_gone(fake, WATCH)
    assert side.items(updates) == []


def test_two_who_look_on_share_a_stream_and_one_may_leave(side: Side, fake: FakeOperations) -> None:
    fake.put(step(1))
    client = side.client()
    one, other = (client.attach("operations/1", metadata=Timestamp).updates() for _ in range(2))
    assert side.next(one) == side.next(other)
    side.end(one)
    fake.put(step(2, response=RESPONSE))
    assert [update.metadata.seconds for update in side.items(other)] == [2]
    assert fake.calls == [WATCH]


def test_updates_end_with_a_timeout(side: Side, fake: FakeOperations) -> None:
    fake.put(operation())
    updates = side.client().attach("operations/1").updates(timedelta(seconds=0.3))
    assert not side.next(updates).done
    with pytest.raises(OperationTimeoutError, match="operations/1"):
        side.next(updates)
    assert side.items(updates) == []
    side.until_gone(fake, WATCH)


def test_updates_in_many_tasks_of_many_operations(server: FakeServer) -> None:
    names = [f"operations/{number}" for number in range(10)]
    for name in names:
        server.fake.put(operation(name, metadata=Timestamp(seconds=1)))

    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            client = AsyncOperationsClient(channel)

            async def follow(name: str) -> list[bool]:
                return [one.done async for one in client.attach(name).updates(LONG)]

            following = [asyncio.ensure_future(follow(name)) for name in names]
            for _ in names:
                await asyncio.to_thread(server.fake.arrived[WATCH].acquire)
            for name in names:
                server.fake.put(operation(name, response=RESPONSE, metadata=RESPONSE))
            for dones in await asyncio.gather(*following):
                assert dones in ([False, True], [True])

    asyncio.run(main())
    assert server.fake.calls == [WATCH] * len(names)


# --- what is in an update ---


OperationMetadata = operation_metadata_pb2.OperationMetadata
OURS = operation_metadata_pb2.OperationMetadata(
    state=state_pb2.JOB_STATE_RUNNING,
    progress_percent=40,
    status_detail="building",
    attempt=3,
)


def update_of(side: Side, fake: FakeOperations, one: Any, declared: Any = None) -> Any:
    fake.put(one)
    updates = side.client().attach("operations/1", metadata=declared).updates(LONG)
    update = side.next(updates)
    side.end(updates)
    return update


def test_the_fields_of_an_update_come_from_the_metadata(side: Side, fake: FakeOperations) -> None:
    assert update_of(side, fake, operation(metadata=OURS)) == OperationUpdate(
        name="operations/1",
        done=False,
        state=states.JOB.states[state_pb2.JOB_STATE_RUNNING],
        progress_percent=40,
        status_detail="building",
        attempt=3,
        metadata=OURS,
    )


def test_metadata_of_others_has_what_it_has(side: Side, fake: FakeOperations) -> None:
    update = update_of(side, fake, step(1), Timestamp)
    assert update == OperationUpdate(
        name="operations/1",
        done=False,
        state=states.JOB.states[state_pb2.JOB_STATE_RUNNING],
        progress_percent=None,
        status_detail="",
        attempt=None,
        metadata=Timestamp(seconds=1),
    )


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "JOB_STATE_SUCCEEDED"),
        (5, "JOB_STATE_FAILED"),
        (1, "JOB_STATE_CANCELLED"),
        (0, "JOB_STATE_FAILED"),
    ],
)
def test_the_state_at_the_end_is_known_without_metadata(
    side: Side, fake: FakeOperations, error: int | None, state: str
) -> None:
    one = operation(response=RESPONSE) if error is None else operation(error=error)
    update = update_of(side, fake, one)
    assert update.state.name == state
    assert update.state.terminal
    assert update.done


@pytest.mark.parametrize(
    ("metadata", "declared", "state"),
    [
        (None, None, "JOB_STATE_RUNNING"),
        (None, OperationMetadata, "JOB_STATE_RUNNING"),
        (Timestamp(seconds=1), Timestamp, "JOB_STATE_RUNNING"),
        (OperationMetadata(), OperationMetadata, "JOB_STATE_QUEUED"),
        (OperationMetadata(start_time={"nanos": 1}), None, "JOB_STATE_RUNNING"),
        (OperationMetadata(cancel_requested=True), None, "JOB_STATE_CANCELLING"),
        (OperationMetadata(state=state_pb2.JOB_STATE_PAUSED), None, "JOB_STATE_PAUSED"),
        (OperationMetadata(state=state_pb2.JOB_STATE_FAILED), None, "JOB_STATE_QUEUED"),
    ],
)
def test_the_state_before_the_end_follows_from_what_the_metadata_has(
    side: Side, fake: FakeOperations, metadata: Any, declared: Any, state: str
) -> None:
    update = update_of(side, fake, operation(metadata=metadata), declared)
    assert update.state.name == str(update.state) == f"{update.state}" == state
    assert not update.done


def test_every_update_of_a_foreign_server_can_be_printed_as_the_readme_does(
    side: Side, fake: FakeOperations
) -> None:
    """Its metadata have a progress and nothing else that is conventional."""
    fake.script(WATCH, [step(1), step(2), step(3, response=RESPONSE)])
    updates = side.items(side.client().future(operation()).updates())
    *before, last = [update.state.name for update in updates]  # one on the way may be left out
    assert set(before) == {"JOB_STATE_RUNNING"}
    assert last == "JOB_STATE_SUCCEEDED"


def test_no_metadata_is_an_empty_message(side: Side, fake: FakeOperations) -> None:
    assert update_of(side, fake, operation()).metadata == empty_pb2.Empty()
    assert update_of(side, fake, operation(), Timestamp).metadata == Timestamp()


def test_metadata_of_another_type_than_declared_is_an_error(
    side: Side, fake: FakeOperations
) -> None:
    fake.put(step(1))
    with pytest.raises(WrongTypeError):
        side.items(side.client().attach("operations/1", metadata=Duration).updates(LONG))
    side.until_gone(fake, WATCH)


def test_progress_is_what_was_seen_last(side: Side, fake: FakeOperations) -> None:
    client = side.client()
    future = client.attach("operations/1")
    assert future.progress is None
    fake.put(operation(metadata=OURS))
    assert not side.run(future.done())
    assert future.progress == 40
    assert future.metadata == OURS
    assert fake.calls == [GET]
    other = client.future(step(1))
    assert other.progress == 40  # the same operation, and its latest state
    with pytest.raises(WrongTypeError):
        _ = client.future(operation("operations/2", metadata=RESPONSE), metadata=Duration).progress


def test_a_wait_that_was_there_before_is_given_up_for_a_watch(
    server: FakeServer,
) -> None:
    server.fake.put(operation())

    async def main() -> None:
        async with grpc.aio.insecure_channel(server.target) as channel:
            future = AsyncOperationsClient(channel).attach("operations/1")
            waiting = asyncio.ensure_future(future.result(LONG))
            await asyncio.to_thread(server.fake.arrived[WAIT].acquire)
            updates = future.updates(LONG)
            await anext(updates)
            server.fake.put(operation(response=RESPONSE))
            assert await waiting == RESPONSE
            assert [one.done async for one in updates] == [True]

    asyncio.run(main())
    assert server.fake.calls == [WAIT, WATCH]
