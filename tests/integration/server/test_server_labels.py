"""Labels, at a real server's edge: given by ``prepare`` and by code, described, and listed by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue as Text
from server_harness import (
    FLEET,
    PARENT,
    Instance,
    Server,
    every_store,
    fleet,
    refused,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2

Serve = Any

METHOD = f"/{FLEET}/CreateInstance"


def request(instance_id: str = "i", **fields: Any) -> Any:
    return fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id=instance_id, **fields)


class Service:
    """Makes an instance at once, and gives its operation the labels that a test says."""

    def __init__(self, given: Any = ()) -> None:
        self.given: Any = dict(given)

    def servicer(self) -> Any:
        def prepare(_: Any, request: Any, context: Any) -> Any:
            return lro_grpc.Prepared(labels=self.given)

        def run(_: Any, request: Any, op: Any) -> Any:
            return Instance(name=request.instance_id)

        return fleet("CreateInstance", run, prepare=prepare)


def labels_of(server: Server, name: str) -> dict[str, str]:
    return dict(server.describe(name).labels)


def listed(server: Server, filter_: str) -> list[str]:
    return [one.name for one in server.list(filter=filter_, page_size=1000).operations]


@every_store
def test_an_operation_is_described_with_its_labels_and_listed_by_them(
    serve: Serve, store: str
) -> None:
    service = Service({"env": "prod", "cost-center": "7"})
    server = serve(service.servicer(), store=store)
    first = server.create(instance_id="a").name
    service.given = {"env": "dev"}
    second = server.create(instance_id="b").name
    service.given = {}
    third = server.create(instance_id="c").name
    for name in (first, second, third):
        server.done(name)
    assert labels_of(server, first) == {"env": "prod", "cost-center": "7"}
    assert labels_of(server, second) == {"env": "dev"}
    assert labels_of(server, third) == {}
    assert listed(server, "labels.env = prod") == [first]
    assert listed(server, 'labels."cost-center" = "7" AND done = true') == [first]
    assert listed(server, "labels:env") == [second, first]
    assert listed(server, "labels.env != prod") == [second]
    assert listed(server, "NOT labels.env = prod") == [third, second]


def test_the_same_request_is_answered_with_the_labels_of_its_operation(serve: Serve) -> None:
    service = Service({"env": "prod"})
    server = serve(service.servicer())
    name = server.create(request_id=uuid_of("r")).name
    service.given = {"env": "dev"}
    assert server.create(request_id=uuid_of("r")).name == name
    assert labels_of(server, name) == {"env": "prod"}


def test_a_rerun_has_the_labels_of_its_own_prepare(serve: Serve) -> None:
    service = Service({"env": "prod", "run": "first"})
    server = serve(service.servicer())
    name = server.create().name
    server.done(name)
    service.given = {"env": "dev"}
    again = server.rerun(name).name
    assert labels_of(server, again) == {"env": "dev"}
    assert labels_of(server, name) == {"env": "prod", "run": "first"}


@pytest.mark.parametrize("given", [{"Env": "prod"}, {"env": 1}, ["env"], {"env": "x" * 64}])
def test_labels_of_prepare_that_are_none_start_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture, given: Any
) -> None:
    service = Service()
    service.given = given
    server = serve(service.servicer())
    failure = refused(lambda: server.create())
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "label" in caplog.text
    caplog.clear()
    assert server.names() == []


def test_labels_that_are_changed_after_their_check_are_checked_once_more(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(_: Any, request: Any, context: Any) -> Any:
        given = {"env": "prod"}
        prepared = lro_grpc.Prepared(labels=given)
        given["env"] = "a,b=c"
        return prepared

    server = serve(fleet("CreateInstance", lambda _, request, op: Instance(), prepare=prepare))
    assert refused(lambda: server.create()).code is grpc.StatusCode.INTERNAL
    assert f"the labels of an operation of {METHOD} are none: the label 'env'" in caplog.text
    caplog.clear()
    assert server.names() == []


both_twins = pytest.mark.parametrize("twin", ["async", "sync"])


def start(twin: str, server: Server, given: Any) -> str:
    operations = server.operations
    if twin == "sync":
        return operations.start_operation_sync(METHOD, request(), labels=given).name
    return asyncio.run(operations.start_operation(METHOD, request(), labels=given)).name


@both_twins
def test_code_gives_labels_beside_those_of_prepare(serve: Serve, twin: str) -> None:
    server = serve(Service({"env": "prod", "by": "prepare"}).servicer())
    name = start(twin, server, {"by": "code", "cause": "cron"})
    assert labels_of(server, name) == {"env": "prod", "by": "code", "cause": "cron"}
    assert labels_of(server, start(twin, server, None)) == {"env": "prod", "by": "prepare"}


@both_twins
@pytest.mark.parametrize("given", [{"Env": "prod"}, {"env": None}, [("env", "prod")], "env"])
def test_code_whose_labels_are_none_is_refused_at_once(serve: Serve, twin: str, given: Any) -> None:
    server = serve(Service().servicer())
    with pytest.raises(lro_grpc.ConfigurationError, match="label"):
        start(twin, server, given)
    assert server.names() == []


def test_labels_of_code_and_of_prepare_are_64_together(serve: Serve) -> None:
    server = serve(Service({"env": "prod"}).servicer())
    most: Mapping[str, str] = {f"k{number}": "v" for number in range(63)}
    assert len(labels_of(server, start("sync", server, most))) == 64
    with pytest.raises(lro_grpc.ConfigurationError, match="there are 65 labels; give at most 64"):
        start("sync", server, {**most, "one-more": ""})


def test_a_handler_gives_labels_to_what_it_starts(serve: Serve, handler_keyword: str) -> None:
    async def run_async(asked: Any, op: Any) -> Any:
        child = await op.start_operation(METHOD, request(), key="k", labels={"by": "parent"})
        return Text(value=child.name)

    def run_sync(asked: Any, op: Any) -> Any:
        child = op.start_operation(METHOD, request(), key="k", labels={"by": "parent"})
        return Text(value=child.name)

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            "/test.v1.Tests/RunParent",
            run_async if handler_keyword == "async def" else run_sync,
            request=Text,
            response=Text,
        )

    server = serve(Service({"env": "prod"}).servicer(), configure=configure)
    parent = server.done(server.start("/test.v1.Tests/RunParent", Text()).name)
    child = Text()
    assert parent.response.Unpack(child)
    assert labels_of(server, child.value) == {"env": "prod", "by": "parent"}
    assert labels_of(server, parent.name) == {}


def test_a_log_line_and_a_served_operation_have_no_labels(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "lro_grpc")
    server = serve(Service({"env": "very-distinct-value"}).servicer())
    done = server.done(server.create().name)
    assert b"very-distinct-value" not in done.SerializeToString()
    assert "very-distinct-value" not in caplog.text


@pytest.mark.parametrize(
    "filter_",
    ["labels.Env = prod", 'labels."" = prod', "labels = prod", "labels.env", "labels.1:*"],
)
def test_a_filter_with_an_odd_key_is_refused(serve: Serve, filter_: str) -> None:
    server = serve(Service().servicer())
    failure = refused(lambda: server.list(filter=filter_, page_size=10))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
