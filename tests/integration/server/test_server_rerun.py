"""RerunOperation: a new operation from the request of one that is done."""

from __future__ import annotations

import asyncio
import queue
import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue as Text
from pages import Page
from releases import method, release
from server_harness import (
    PARENT,
    Held,
    Instance,
    Server,
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
from lro_grpc.stores import MemoryStore

Serve = Any


class Maker:
    """Makes instances unless it is broken, and may refuse to."""

    def __init__(self, keyword: str) -> None:
        self.is_broken = True
        self.refuses = False
        self.prepared: list[Any] = []
        self.ran: queue.SimpleQueue[tuple[Any, str]] = queue.SimpleQueue()
        self._keyword = keyword

    def servicer(self, **options: Any) -> Any:
        def run(_: Any, request: Any, op: Any) -> Any:
            self.ran.put((request, op.caller))
            if self.is_broken:
                raise lro_grpc.LroError("no disk", code=lro_grpc.Code.RESOURCE_EXHAUSTED)
            return Instance(name=f"{request.parent}/instances/{request.instance_id}")

        def prepare(_: Any, request: Any, context: Any) -> Any:
            self.prepared.append((request, dict(context.invocation_metadata()).get("caller")))
            if self.refuses:
                raise lro_grpc.LroError("it exists by now", code=lro_grpc.Code.ALREADY_EXISTS)
            return lro_grpc.Prepared(target=f"{request.parent}/instances/{request.instance_id}")

        return fleet("CreateInstance", defined_with(self._keyword, run), prepare=prepare, **options)

    def failed(self, server: Server, **fields: Any) -> str:
        """Returns the name of an operation that has failed; the next one will not."""
        self.is_broken = True
        name = server.create(**{"instance_id": "i", **fields}).name
        assert server.done(name).HasField("error")
        self.is_broken = False
        self.ran.get()
        self.prepared.clear()
        return name


@pytest.fixture
def maker(handler_keyword: str) -> Maker:
    return Maker(handler_keyword)


def by_metadata(context: Any) -> str:
    return str(dict(context.invocation_metadata()).get("caller", ""))


@every_store
def test_an_operation_that_has_failed_is_run_again_as_another_one(
    serve: Serve, maker: Maker, store: str
) -> None:
    server = serve(maker.servicer(), store=store)
    name = maker.failed(server, request_id=uuid_of("r"))
    failed = server.get(name)
    first, second = server.rerun(name), server.rerun(name)
    assert len({name, first.name, second.name}) == 3
    assert {one.name.rpartition("/operations/")[0] for one in (first, second)} == {PARENT}
    for rerun in (first, second):
        done = server.done(rerun.name)
        assert response_of(done).name == f"{PARENT}/instances/i"
        assert metadata_of(done).target == f"{PARENT}/instances/i"
        request, _ = maker.ran.get()
        assert (request.instance_id, request.request_id) == ("i", "")
    assert server.get(name) == failed
    again = server.create(instance_id="i", request_id=uuid_of("r"))
    assert again == failed, "the request_id stays that of the operation that it has started"
    of_rerun = server.rerun(first.name)
    assert response_of(server.done(of_rerun.name)) == response_of(server.get(first.name))


@async_handler
def test_the_new_operation_is_the_first_callers_and_the_operator_is_noted(
    serve: Serve, maker: Maker
) -> None:
    store = MemoryStore(lambda: 1_800_000_000_000_000)
    server = serve(maker.servicer(), store=store, identify=by_metadata)
    name = maker.failed(server.client(("caller", "ann")))
    rerun = server.client(("caller", "oncall")).rerun(name).name
    server.done(rerun)
    assert maker.ran.get()[1] == "ann"
    assert maker.prepared[-1][1] == "oncall"  # it is prepare with the context of this RPC
    record = asyncio.run(store.read(rerun))
    assert (record.caller, record.operator, record.source_operation) == ("ann", "oncall", name)
    assert asyncio.run(store.latest_rerun(name)) == rerun


def test_what_prepare_refuses_by_now_is_the_error_of_the_rpc(serve: Serve, maker: Maker) -> None:
    server = serve(maker.servicer())
    name = maker.failed(server)
    maker.refuses = True
    for how in ({}, {"request_id": uuid_of("r")}, {"validate_only": True}):
        failure = refused(lambda how=how: server.rerun(name, **how))
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
        assert failure.message == "it exists by now"
    assert server.names() == [name]


@every_store
@async_handler
def test_one_request_id_runs_an_operation_again_once(
    serve: Serve, maker: Maker, store: str
) -> None:
    """Though its target is taken, and ``prepare`` refuses what has been made meanwhile."""
    server = serve(maker.servicer(exclusive=True), store=store)
    name = maker.failed(server)
    answers = together(10, lambda _: server.rerun(name, request_id=uuid_of("r")))
    (rerun,) = {one.name for one in answers}
    server.done(rerun)
    maker.refuses = True
    assert server.rerun(name, request_id=uuid_of("r")) == server.get(rerun)
    assert server.names() == [rerun, name]
    maker.refuses = False
    assert server.rerun(name, request_id=uuid_of("s")).name not in (rerun, name)


def test_a_rerun_that_was_deleted_and_still_runs_is_not_begun_beside_itself(
    serve: Serve, held: Held
) -> None:
    server = serve(held.servicer())
    name = server.create(instance_id="i").name
    held.next()
    server.terminate(name, "to run it again")
    rerun = server.rerun(name, request_id=uuid_of("r")).name
    assert held.next() == rerun
    server.delete(rerun)
    failure = refused(lambda: server.rerun(name, request_id=uuid_of("r")))
    assert (failure.code, failure.info.reason) == (
        grpc.StatusCode.ABORTED,
        "DELETED_OPERATION_IN_PROGRESS",
    )


def test_what_cannot_be_run_again_is_refused(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(exclusive=True))
    source, name = (server.create(instance_id=one).name for one in ("a", "b"))
    for _ in range(2):
        held.next()
    failure = refused(lambda: server.rerun(source))
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_DONE")
    assert "is RUNNING, and" in failure.message
    failure = refused(lambda: server.rerun(source, request_id="r"))
    assert failure.info.reason == "INVALID_REQUEST_ID"
    server.terminate(source, "to run it again")
    rerun = server.rerun(source).name
    for validate_only in (False, True):
        failure = refused(lambda only=validate_only: server.rerun(source, validate_only=only))
        assert failure.code is grpc.StatusCode.ABORTED
        assert failure.info.reason == "OPERATION_IN_PROGRESS"
        assert failure.info.metadata["operation"] == rerun
    server.delete(source)
    assert refused(lambda: server.rerun(source)).code is grpc.StatusCode.NOT_FOUND
    server.cancel(name)


def test_validate_only_makes_the_checks_alone(serve: Serve, maker: Maker) -> None:
    server = serve(maker.servicer())
    name = maker.failed(server)
    answer = server.rerun(name, validate_only=True)
    assert (answer.name, answer.done) == ("", True)
    assert [request.instance_id for request, _ in maker.prepared] == ["i"]
    assert server.names() == [name]


def test_a_rerun_takes_its_place_in_the_queue(serve: Serve, held: Held) -> None:
    server = serve(held.servicer(concurrency=1), limits=lro_grpc.Limits(queue=1))
    source = server.create().name
    held.next()
    server.terminate(source, "to run it again")
    runs = server.rerun(source).name
    assert held.next() == runs
    waits = server.rerun(source, request_id=uuid_of("r"))
    assert server.rerun(source, request_id=uuid_of("r")).name == waits.name
    failure = refused(lambda: server.rerun(source))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_both_permissions_are_needed_that_of_the_rerun_first(serve: Serve, maker: Maker) -> None:
    accesses: list[lro_grpc.Access] = []
    shut: set[str] = set()

    def authorize(access: lro_grpc.Access) -> bool:
        accesses.append(access)
        return access.permission not in shut

    server = serve(maker.servicer(), authorize=authorize)
    name = maker.failed(server)
    accesses.clear()
    for permission, asked in (("rerun", 1), ("start", 2)):
        shut = {f"operations.{permission}"}
        failure = refused(lambda: server.rerun(name))
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED
        assert failure.info.metadata["permission"] == f"operations.{permission}"
        assert [access.permission for access in accesses] == [
            "operations.rerun",
            "operations.start",
        ][:asked]
        assert accesses[0].resource == name
        assert accesses[0].operation is not None
        if asked == 2:
            assert accesses[1].request.instance_id == "i"
            assert (accesses[1].resource, accesses[1].operation) == (PARENT, None)
        accesses.clear()
    assert maker.prepared == []
    assert server.names() == [name]


def test_a_former_name_will_do_and_a_method_that_is_gone_is_refused(
    serve: Serve, file_url: str
) -> None:
    async def run(request: Text, op: Any) -> Text:
        return request

    types = {"request": Text, "response": Text}
    old = serve(configure=release({"Old": run, "Gone": run}, **types), store=file_url)
    names = [old.start(method(one), Text(value="x")).name for one in ("Old", "Gone")]
    for name in names:
        old.done(name)
    old.close()
    new = serve(
        configure=release({"New": run}, former_names=[method("Old")], **types), store=file_url
    )
    assert new.done(new.rerun(names[0]).name).HasField("response")
    failure = refused(lambda: new.rerun(names[1]))
    assert (failure.code, failure.info.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "METHOD_NOT_SERVED",
    )


def test_the_block_of_the_page_runs_it_again(
    serve: Serve, maker: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(maker.servicer())
    name = maker.failed(server)
    blocks = Page("deploy/on-call.md").texts("python")
    (block,) = [one for one in blocks if "rerun" in one]
    client = lro_grpc.OperationsClient(server.channel)
    exec(block, {"client": client, "name": name, "uuid": uuid})
    assert server.done(capsys.readouterr().out.strip()).HasField("response")


@async_handler
def test_an_id_of_the_services_own_making_is_no_obstacle(serve: Serve, maker: Maker) -> None:
    """It may be the same for the same request, and the operation that has it is kept."""
    server = serve(maker.servicer(), new_id=lambda request: request.instance_id)
    name = maker.failed(server)
    assert name == f"{PARENT}/operations/i"
    assert response_of(server.done(server.rerun(name).name)).name == f"{PARENT}/instances/i"
