"""Operations that begin later, at a real server's edge."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import grpc
import pytest
from server_harness import (
    FLEET,
    PARENT,
    Held,
    Instance,
    Server,
    every_store,
    fleet,
    metadata_of,
    refused,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import state_pb2
from lro.v1.operation_description_pb2 import DescribeOperationResponse

Serve = Any

METHOD = f"/{FLEET}/CreateInstance"
HOUR = timedelta(hours=1)
WaitReason = DescribeOperationResponse.WaitReason


def from_now(delay: timedelta) -> datetime:
    return datetime.now(timezone.utc) + delay


class Service:
    """Notes which instances it makes; their operations begin when a test says."""

    def __init__(self, schedule_time: Any = None) -> None:
        self.schedule_time = schedule_time
        self.made: list[str] = []

    def servicer(self, **options: Any) -> Any:
        def prepare(_: Any, request: Any, context: Any) -> Any:
            target = f"{PARENT}/instances/one"
            return lro_grpc.Prepared(target=target, schedule_time=self.schedule_time)

        def run(_: Any, request: Any, op: Any) -> Any:
            self.made.append(request.instance_id)
            return Instance(name=request.instance_id)

        return fleet("CreateInstance", run, prepare=prepare, **options)


def state_of(server: Server, name: str) -> str:
    return state_pb2.JobState.Name(metadata_of(server.get(name)).state).removeprefix("JOB_STATE_")


def start(server: Server, instance_id: str, **how: Any) -> str:
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=instance_id)
    name: str = server.operations.start_operation_sync(METHOD, request, **how).name
    return name


@every_store
def test_an_operation_waits_for_its_time_and_says_so(serve: Serve, store: str) -> None:
    later = from_now(HOUR)
    service = Service(later)
    server = serve(service.servicer(timeout=60), store=store)
    name = server.create(instance_id="late").name
    service.schedule_time = None
    server.done(server.create(instance_id="early").name)
    assert service.made == ["early"]
    told = server.describe(name)
    assert [*told.wait_reasons] == [WaitReason.SCHEDULED]
    assert told.schedule_time.ToDatetime(tzinfo=timezone.utc) == later
    assert told.deadline_time.ToDatetime(tzinfo=timezone.utc) == later + timedelta(minutes=1)
    assert metadata_of(server.get(name)).schedule_time == told.schedule_time
    assert state_of(server, name) == "QUEUED"
    at = (later - timedelta(minutes=1)).isoformat()
    assert [one.name for one in server.list(filter=f'schedule_time > "{at}"').operations] == [name]
    server.cancel(name)
    assert server.done(name).error.code == grpc.StatusCode.CANCELLED.value[0]
    assert service.made == ["early"]


@every_store
def test_its_first_attempt_begins_once_its_time_has_come(serve: Serve, store: str) -> None:
    service = Service(from_now(timedelta(seconds=1)))
    server = serve(service.servicer(), store=store)
    name = server.create(instance_id="late").name
    assert service.made == []
    begun = metadata_of(server.done(name))
    assert begun.start_time.ToNanoseconds() >= begun.schedule_time.ToNanoseconds()
    assert begun.schedule_time.ToDatetime(tzinfo=timezone.utc) == service.schedule_time


def test_a_time_that_has_come_delays_nothing(serve: Serve) -> None:
    service = Service(from_now(-HOUR))
    server = serve(service.servicer())
    ended = metadata_of(server.done(server.create(instance_id="at once").name))
    assert not ended.HasField("schedule_time")


@every_store
def test_who_resumes_it_before_its_time_does_not_begin_it(serve: Serve, store: str) -> None:
    later = from_now(HOUR)
    service = Service(later)
    server = serve(service.servicer(pausable=True), store=store)
    name = server.create(instance_id="late").name
    server.pause(name)
    assert state_of(server, name) == "PAUSED"
    server.resume(name)
    told = server.describe(name)
    assert [*told.wait_reasons] == [WaitReason.SCHEDULED]
    assert told.schedule_time.ToDatetime(tzinfo=timezone.utc) == later
    server.delete(name)
    assert name not in server.names()
    assert service.made == []


def test_it_has_its_exclusive_target_from_its_start_on(serve: Serve) -> None:
    service = Service(from_now(HOUR))
    server = serve(service.servicer(exclusive=True))
    name = server.create(instance_id="late").name
    service.schedule_time = None
    failure = refused(lambda: server.create(instance_id="early"))
    assert failure.code == grpc.StatusCode.ABORTED
    server.cancel(name)
    server.done(server.create(instance_id="early").name)


@every_store
def test_code_delays_what_it_starts_whatever_prepare_says(serve: Serve, store: str) -> None:
    service = Service(from_now(2 * HOUR))
    server = serve(service.servicer(), store=store)
    delayed = server.describe(start(server, "late", delay=HOUR))
    seconds = delayed.schedule_time.seconds - delayed.metadata.create_time.seconds
    assert seconds in (3599, 3600)
    server.done(start(server, "early", delay=0))
    assert service.made == ["early"]


@pytest.mark.parametrize("delay", [-0.001, timedelta(days=-1), timedelta(days=366), "1h", True])
def test_what_is_no_delay_starts_nothing(serve: Serve, delay: Any) -> None:
    server = serve(Service().servicer())
    with pytest.raises(lro_grpc.ConfigurationError, match=r"delay is .*at most 365 days"):
        start(server, "never", delay=delay)
    assert server.names() == []


def test_a_time_that_is_too_far_away_is_the_callers_mistake(serve: Serve) -> None:
    service = Service(from_now(timedelta(days=366)))
    server = serve(service.servicer())
    failure = refused(lambda: server.create(instance_id="never"))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.reason == "SCHEDULE_TIME_TOO_LATE"
    assert service.schedule_time.isoformat() in failure.message
    assert server.names() == []


@pytest.mark.parametrize("time", [datetime(2030, 1, 1), "2030-01-01", 1.5])
def test_what_is_no_time_of_a_zone_is_refused(time: Any) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="schedule_time is"):
        lro_grpc.Prepared(schedule_time=time)


@every_store
def test_delayed_starts_have_a_limit_of_their_own(serve: Serve, held: Held, store: str) -> None:
    server = serve(
        held.servicer(concurrency=1),
        limits=lro_grpc.Limits(queue=1, scheduled=2),
        store=store,
    )
    running = server.create().name
    held.next()
    delayed = [start(server, f"late-{number}", delay=HOUR) for number in range(2)]
    with pytest.raises(
        lro_grpc.LimitReachedError, match=r"wait for their time.*limit is 2"
    ) as full:
        start(server, "late", delay=HOUR)
    assert full.value.metadata == {"subject": METHOD}
    server.create(instance_id="queued")
    with pytest.raises(lro_grpc.LimitReachedError, match="wait to be run"):
        start(server, "too many")
    server.cancel(delayed[0])
    start(server, "late", delay=HOUR)
    server.cancel(running)
