"""``lro_grpc.testing.serve``, with which services are tested."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from pages import Page
from server_harness import PARENT, SECONDS, Instance, defined_with, fleet, metadata_of

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc
from lro_grpc import testing

if TYPE_CHECKING:
    from collections.abc import Iterator

ADD = fleet_service_pb2_grpc.add_FleetServiceServicer_to_server
REQUEST = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="i")


def servicer(handler_keyword: str) -> Any:
    def run(self: Any, request: Any, op: Any) -> Any:
        if not request.instance_id:
            raise lro_grpc.LroError("no id", code=lro_grpc.Code.INVALID_ARGUMENT)
        return Instance(name=request.instance_id)

    return fleet("CreateInstance", defined_with(handler_keyword, run))


def test_serve(handler_keyword: str) -> None:
    with testing.serve(servicer(handler_keyword), ADD) as served:
        stub = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
        future = served.client.future(stub.CreateInstance(REQUEST), response=Instance)
        assert future.result(timeout=timedelta(seconds=10)).name == "i"
        wrong = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
        failed = served.client.future(stub.CreateInstance(wrong), response=Instance)
        with pytest.raises(lro_grpc.OperationFailedError, match="no id"):
            failed.result(timeout=timedelta(seconds=10))
        assert len(list(served.client.list(PARENT))) == 2
    with pytest.raises(ValueError, match="closed"):
        stub.CreateInstance(REQUEST)


def test_serve_async(handler_keyword: str) -> None:
    async def main() -> None:
        async with testing.serve_async(servicer(handler_keyword), ADD) as served:
            stub: Any = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
            future = served.client.future(await stub.CreateInstance(REQUEST), response=Instance)
            assert (await future.result(timeout=timedelta(seconds=10))).name == "i"
            assert len([operation async for operation in served.client.list(PARENT)]) == 1

    asyncio.run(main())


class Old(operations_pb2_grpc.OperationsServicer):
    """Operations of another servicer."""

    def GetOperation(self, request: Any, context: Any) -> operations_pb2.Operation:
        return operations_pb2.Operation(name=request.name, done=True)


def test_a_fallback_is_attached() -> None:
    with testing.serve(servicer("def"), ADD, fallback=Old(), messages=True) as served:
        assert served.client.get("old/1").done
        served.restart()
        assert served.client.get("old/1").done


def test_a_fallback_is_attached_to_grpc_aio() -> None:
    async def main() -> None:
        how: Any = {"fallback": Old(), "messages": True}
        async with testing.serve_async(servicer("async def"), ADD, **how) as served:
            assert (await served.client.get("old/1")).done

    asyncio.run(main())


def test_messages_are_a_flag() -> None:
    async def enter() -> None:
        await testing.serve_async(messages="yes").__aenter__()  # type: ignore[arg-type]

    with pytest.raises(lro_grpc.ConfigurationError, match="messages is 'yes'"):
        testing.serve(messages="yes").__enter__()  # type: ignore[arg-type]
    with pytest.raises(lro_grpc.ConfigurationError, match="messages is 'yes'"):
        asyncio.run(enter())


def test_what_is_no_servicers_is_configured() -> None:
    method = "/test.v1.Things/Make"

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            method, lambda request, op: request, request=Instance, response=Instance
        )

    with testing.serve(configure=configure) as served:
        with grpc.insecure_channel(served.target) as channel:
            body = channel.unary_unary(method)(b"", timeout=10)
        name = operations_pb2.Operation.FromString(body).name
        assert served.client.attach(name, response=Instance).result() == Instance()

    async def main() -> None:
        async with (
            testing.serve_async(configure=configure) as served,
            grpc.aio.insecure_channel(served.target) as channel,
        ):
            call: Any = channel.unary_unary(method)
            name = operations_pb2.Operation.FromString(await call(b"")).name
            assert await served.client.attach(name, response=Instance).result() == Instance()

    asyncio.run(main())


def test_the_clock_moves_by_hand_only(handler_keyword: str) -> None:
    with testing.serve(servicer(handler_keyword), ADD) as served:
        stub = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
        started = [stub.CreateInstance(REQUEST) for _ in range(2)]
        served.clock.advance(timedelta(hours=1))
        started.append(stub.CreateInstance(REQUEST))
        times = [metadata_of(one).create_time.ToMicroseconds() for one in started]
        assert [time - times[0] for time in times] == [0, 0, 3_600_000_000]
        assert times[0] == served.clock.now() - 3_600_000_000


def test_what_another_process_leaves_is_taken_up_though_nobody_moves_the_clock(
    postgres: str,
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def run(self: Any, request: Any, op: Any) -> Any:
        if request.instance_id == "long":
            begun.set()
            go_on.wait(SECONDS)
        return Instance(name=request.instance_id)

    with contextlib.ExitStack() as stack:
        first, _ = (
            stack.enter_context(
                testing.serve(
                    fleet("CreateInstance", run, concurrency=1),
                    ADD,
                    store=postgres,
                )
            )
            for _ in range(2)
        )
        stub = fleet_service_pb2_grpc.FleetServiceStub(first.channel)
        long, other = (
            first.client.future(
                stub.CreateInstance(
                    fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=name)
                ),
                response=Instance,
            )
            for name in ("long", "other")
        )
        assert begun.wait(SECONDS)
        assert other.result(timeout=timedelta(seconds=SECONDS)).name == "other"
        go_on.set()
        assert long.result(timeout=timedelta(seconds=SECONDS)).name == "long"


def test_a_test_that_fails_stops_the_server_all_the_same(handler_keyword: str) -> None:
    before = set(threading.enumerate())

    def failing() -> None:
        with testing.serve(servicer(handler_keyword), ADD) as served:
            fleet_service_pb2_grpc.FleetServiceStub(served.channel).CreateInstance(REQUEST)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert "lro-loop" not in left


def test_two_at_a_time_know_nothing_of_each_other(handler_keyword: str) -> None:
    with (
        testing.serve(servicer(handler_keyword), ADD) as one,
        testing.serve(servicer(handler_keyword), ADD) as other,
    ):
        started = fleet_service_pb2_grpc.FleetServiceStub(one.channel).CreateInstance(REQUEST)
        assert one.client.get(started.name).name == started.name
        with pytest.raises(lro_grpc.OperationNotFoundError):
            other.client.get(started.name)


def test_a_servicer_that_cannot_be_served_is_refused(handler_keyword: str) -> None:
    def twice(servicer: Any, server: grpc.Server) -> None:
        ADD(servicer, server)
        ADD(servicer, server)

    with (
        pytest.raises(lro_grpc.ConfigurationError, match="twice"),
        testing.serve(servicer(handler_keyword), twice),
    ):
        pass


# A crash, and a lost worker


class Builds:
    """A handler that is stuck in its first attempt, and notes how that was stopped."""

    def __init__(self, handler_keyword: str) -> None:
        self.begun = threading.Event()
        self.stopped: list[lro_grpc.StopReason | None] = []
        is_async = handler_keyword == "async def"
        self.servicer = fleet("CreateInstance", self.run_async if is_async else self.run)

    @property
    def run(self) -> Any:
        def run(servicer: Any, request: Any, op: Any) -> Any:
            if op.attempt == 1:
                woken = threading.Event()
                with op.on_stop(lambda _: woken.set()):
                    self.begun.set()
                    assert woken.wait(10)
                self.stopped.append(op.stop_reason)
                if op.cancel_requested:
                    op.raise_if_stopped()
            return Instance(name=f"of attempt {op.attempt}")  # of the first one, it is not stored

        return run

    @property
    def run_async(self) -> Any:
        async def run(servicer: Any, request: Any, op: Any) -> Any:
            if op.attempt == 1:
                try:
                    self.begun.set()
                    await asyncio.sleep(10)
                finally:
                    self.stopped.append(op.stop_reason)
            return Instance(name=f"of attempt {op.attempt}")

        return run


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        postgres: str = request.getfixturevalue("postgres")
        return postgres
    return {"memory": "memory:", "sqlite": f"sqlite:///{tmp_path / 'operations.db'}"}[request.param]


@pytest.mark.parametrize("harm", ["restart", "lose_worker"])
def test_another_attempt_begins_after_a_crash_or_a_lost_worker(
    handler_keyword: str, url: str, harm: str
) -> None:
    builds = Builds(handler_keyword)
    with testing.serve(builds.servicer, ADD, store=url) as served:
        stub = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
        future = served.client.future(stub.CreateInstance(REQUEST), response=Instance)
        assert builds.begun.wait(10)
        before = served.operations
        getattr(served, harm)()
        assert future.result(timeout=timedelta(seconds=20)).name == "of attempt 2"
        assert (served.operations is before) == (harm == "lose_worker")
        assert served.operations.is_serving
        assert before.is_serving == (harm == "lose_worker")
        assert builds.stopped == [lro_grpc.StopReason.LEASE_LOST]
        again = served.client.future(stub.CreateInstance(REQUEST, wait_for_ready=True))
        assert again.name != future.name


@pytest.mark.parametrize("harm", ["restart", "lose_worker"])
def test_another_attempt_begins_on_grpc_aio_too(handler_keyword: str, url: str, harm: str) -> None:
    builds = Builds(handler_keyword)

    async def main() -> None:
        async with testing.serve_async(builds.servicer, ADD, store=url) as served:
            stub: Any = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
            future = served.client.future(await stub.CreateInstance(REQUEST), response=Instance)
            await asyncio.to_thread(builds.begun.wait, 10)
            await getattr(served, harm)()
            made = await future.result(timeout=timedelta(seconds=20))
            assert made.name == "of attempt 2"
        assert builds.stopped == [lro_grpc.StopReason.LEASE_LOST]

    asyncio.run(main())


@contextlib.contextmanager
def taken(target: str) -> Iterator[None]:
    """Has another program listen at an address."""
    host, _, port = target.rpartition(":")
    with socket.create_server((host, int(port))):
        yield


def test_a_restart_whose_port_is_taken_says_so_and_can_be_tried_again(
    handler_keyword: str, url: str
) -> None:
    builds = Builds(handler_keyword)
    with testing.serve(builds.servicer, ADD, store=url) as served:
        stub = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
        future = served.client.future(stub.CreateInstance(REQUEST), response=Instance)
        assert builds.begun.wait(10)
        served.operations._crash_sync(lambda: served._server.stop(None).wait())
        with taken(served.target), pytest.raises(RuntimeError, match="Failed to bind"):
            served.restart()
        assert not served.operations.is_serving
        served.lose_worker()
        served.restart()
        assert future.result(timeout=timedelta(seconds=20)).name.startswith("of attempt ")


def test_a_restart_whose_port_is_taken_is_what_a_test_fails_with(handler_keyword: str) -> None:
    before = set(threading.enumerate())

    def failing() -> None:
        with testing.serve(servicer(handler_keyword), ADD) as served:
            served.operations._crash_sync(lambda: served._server.stop(None).wait())
            with taken(served.target):
                served.restart()

    with pytest.raises(RuntimeError, match="Failed to bind"):
        failing()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert "lro-loop" not in left


def test_a_restart_whose_port_is_taken_on_grpc_aio(url: str) -> None:
    builds = Builds("async def")

    async def main() -> None:
        async with testing.serve_async(builds.servicer, ADD, store=url) as served:
            stub: Any = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
            future = served.client.future(await stub.CreateInstance(REQUEST), response=Instance)
            await asyncio.to_thread(builds.begun.wait, 10)
            await served.operations._crash(lambda: served._server.stop(None))
            with taken(served.target):
                for _ in range(2):
                    with pytest.raises(RuntimeError, match="Failed to bind"):
                        await served.restart()
            await served.lose_worker()
            await served.restart()
            made = await future.result(timeout=timedelta(seconds=20))
            assert made.name.startswith("of attempt ")

    asyncio.run(main())


def test_what_is_closed_begins_no_more(handler_keyword: str) -> None:
    before = set(threading.enumerate())
    with testing.serve(servicer(handler_keyword), ADD) as served:
        pass
    served.lose_worker()
    with pytest.raises(RuntimeError, match="is closed; restart it within"):
        served.restart()
    left = {thread.name for thread in set(threading.enumerate()) - before}
    assert "lro-loop" not in left

    async def main() -> None:
        async with testing.serve_async(servicer(handler_keyword), ADD) as served:
            pass
        await served.lose_worker()
        with pytest.raises(RuntimeError, match="is closed; restart it within"):
            await served.restart()

    asyncio.run(main())


def test_a_restart_tells_of_the_lost_attempts_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with testing.serve(Builds("async def").servicer, ADD) as served:
        stub = fleet_service_pb2_grpc.FleetServiceStub(served.channel)
        names = [stub.CreateInstance(REQUEST).name for _ in range(5)]
        for name in names:
            for update in served.client.attach(name).updates():
                if update.state.name != "JOB_STATE_QUEUED":
                    break
        served.restart()
        lines = [one.getMessage() for one in caplog.records if "lost their worker" in one.message]
        assert len(lines) == 1
        assert lines[0].startswith("5 attempts lost their worker: ")
        assert lines[0].endswith(" and 2 more")


def test_the_page_on_testing(
    handler_keyword: str,
    postgres_server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # the wheel warns where there is none
    blocks = Page("recipes/testing.md").section("Ends in the middle").blocks("python")
    defined: dict[str, Any] = {}
    for block in blocks:
        if block.file != "conftest.py":  # its fixtures are for the first service
            defined |= block.run(**defined)
    tests = [one for name, one in defined.items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        builds = Builds(handler_keyword)

        def start(channel: grpc.Channel) -> Any:
            return fleet_service_pb2_grpc.FleetServiceStub(channel).CreateInstance(REQUEST)

        database = (
            [f"{postgres_server}?application_name=tests"]
            if test.__name__.endswith("_in_postgres")
            else []
        )
        test(builds.servicer, ADD, start, builds.begun, *database)
