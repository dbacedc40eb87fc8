"""Adding servicers: what is refused at start-up, and what goes through."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import pytest
from declared import Declared, Rpc, message_class
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from server_harness import (
    FLEET,
    OPERATIONS,
    PARENT,
    SECONDS,
    Instance,
    defined_with,
    errors_logged,
    fleet,
    metadata_of,
    refused,
    response_of,
    serving,
    serving_bare,
    serving_unstarted,
    uuid_of,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2, fleet_service_pb2_grpc

Serve = Any


def long_running(**methods: Any) -> Any:
    """Returns a servicer whose methods are long-running."""
    return type("Things", (), {name: lro_grpc.method(run) for name, run in methods.items()})()


async def never_run(self: Any, request: Any, op: Any) -> Any:
    raise AssertionError("it must not run")


async def done_at_once(self: Any, request: Any, op: Any) -> Any:
    return Instance(name="done")


def start_up_error(stack: str, declared: Declared, servicer: Any, add: Any = None) -> str:
    """Returns the text of the error with which the start-up ends."""
    with (
        pytest.raises(lro_grpc.ConfigurationError) as raised,
        serving(stack, servicer, add=add or declared.add),
    ):
        pass
    assert raised.value.domain == "lro-grpc"
    return raised.value.message


# A long-running method without what it needs stops the start-up (D1, D2, D7)


@pytest.fixture(params=["present adder", "old adder"])
def adder(request: pytest.FixtureRequest) -> str:
    return "add" if request.param == "present adder" else "add_old_style"


@pytest.mark.parametrize("name", ["Make", "BatchCreateThings"])
def test_without_operation_info(stack: str, adder: str, name: str) -> None:
    declared = Declared({name: Rpc(info=None)})
    message = start_up_error(
        stack, declared, long_running(**{name: never_run}), getattr(declared, adder)
    )
    assert declared.method(name) in message
    assert declared.file in message
    assert "option (google.longrunning.operation_info) = {" in message
    assert 'response_type: "' in message
    assert 'metadata_type: "' in message


@pytest.mark.parametrize(
    ("info", "missing", "there"),
    [
        (("Thing", ""), "metadata_type", "response_type"),
        (("", "Progress"), "response_type", "metadata_type"),
    ],
)
def test_with_half_an_operation_info(
    stack: str, info: tuple[str, str], missing: str, there: str
) -> None:
    declared = Declared({"Make": Rpc(info=info)})
    message = start_up_error(stack, declared, long_running(Make=never_run))
    assert declared.method("Make") in message
    assert f'{missing}: "' in message
    assert f'{there}: "' not in message


@pytest.mark.parametrize(
    ("info", "field", "name"),
    [
        (("NoSuch", "Progress"), "response_type", "NoSuch"),
        (("Thing", "nobody.knows.v1.Metadata"), "metadata_type", "nobody.knows.v1.Metadata"),
    ],
)
def test_with_a_type_that_nobody_has_imported(
    stack: str, info: tuple[str, str], field: str, name: str
) -> None:
    declared = Declared({"Make": Rpc(info=info)})
    message = start_up_error(stack, declared, long_running(Make=never_run))
    assert declared.method("Make") in message
    assert field in message
    assert name in message
    assert "import" in message
    assert declared.file in message


def test_a_method_that_returns_no_operation(stack: str, adder: str) -> None:
    declared = Declared({"Make": Rpc(output="Thing")})
    message = start_up_error(
        stack, declared, long_running(Make=never_run), getattr(declared, adder)
    )
    assert declared.method("Make") in message
    assert f"{declared.package}.Thing" in message
    assert "google.longrunning.Operation" in message


@pytest.mark.parametrize(
    "rpc",
    [
        Rpc(server_streaming=True),
        Rpc(client_streaming=True),
        Rpc(client_streaming=True, server_streaming=True),
    ],
    ids=["server", "client", "both"],
)
def test_a_method_that_streams(stack: str, adder: str, rpc: Rpc) -> None:
    """S2: the response of a long-running method does not stream."""
    declared = Declared({"Make": rpc})
    message = start_up_error(
        stack, declared, long_running(Make=never_run), getattr(declared, adder)
    )
    assert declared.method("Make") in message
    assert "stream" in message


def test_the_wrong_method_among_right_ones_is_named(stack: str) -> None:
    declared = Declared({"Make": Rpc(), "Break": Rpc(info=None), "Mend": Rpc()})
    servicer = long_running(Make=never_run, Break=never_run, Mend=never_run)
    message = start_up_error(stack, declared, servicer)
    assert declared.method("Break") in message
    assert declared.method("Make") not in message


def test_a_service_that_no_imported_module_declares(stack: str) -> None:
    """Its types cannot be known; were it let through, each call would fail instead."""
    handler = grpc.unary_unary_rpc_method_handler(long_running(Make=never_run).Make)
    generic = grpc.method_handlers_generic_handler("nobody.knows.v1.Things", {"Make": handler})

    def add(servicer: Any, server: Any) -> None:
        server.add_generic_rpc_handlers((generic,))
        server.add_registered_method_handlers("nobody.knows.v1.Things", {"Make": handler})

    with (
        pytest.raises(lro_grpc.ConfigurationError, match=r"/nobody\.knows\.v1\.Things/Make"),
        serving(stack, object(), add=add),
    ):
        pass


@pytest.mark.parametrize(
    ("info", "response", "metadata"),
    [
        (("Thing", "Progress"), "{package}.Thing", "{package}.Progress"),
        (("{package}.Thing", "{package}.Progress"), "{package}.Thing", "{package}.Progress"),
        ((".{package}.Thing", ".{package}.Progress"), "{package}.Thing", "{package}.Progress"),
        (("v1.Thing", "v1.Progress"), "{package}.Thing", "{package}.Progress"),
        (
            ("Thing.Part", "lro.v1.OperationMetadata"),
            "{package}.Thing.Part",
            "lro.v1.OperationMetadata",
        ),
    ],
)
def test_types_are_found_by_short_and_full_names(
    serve: Serve, info: tuple[str, str], response: str, metadata: str
) -> None:
    """P11, D2: fully qualified if in another package."""
    declared = Declared({"Make": Rpc(info=info)})
    expected = response.format(package=declared.package)

    async def run(self: Any, request: Any, op: Any) -> Any:
        return message_class(expected)(name=f"of {request.name}")

    server = serve(long_running(Make=run), add=declared.add)
    started = server.start(declared.method("Make"), declared.message("Ask")(name="x"))
    ended = server.done(started.name)
    assert ended.response.TypeName() == expected
    assert ended.metadata.TypeName() == metadata.format(package=declared.package)


# The Operations service itself


def test_every_method_of_google_longrunning_operations_is_served(serve: Serve) -> None:
    """S1, P6: whatever else the server has or lacks."""
    server = serve()
    service = operations_pb2.DESCRIPTOR.services_by_name["Operations"]
    for method in service.methods:
        failure = refused(lambda method=method: server.call(f"/{OPERATIONS}/{method.name}", b""))
        assert failure.code is grpc.StatusCode.INVALID_ARGUMENT, method.name


# Bare servers and old adders


@pytest.mark.parametrize("handler", ["def", "async def"])
def test_on_a_bare_server_a_long_running_method_says_what_to_do(stack: str, handler: str) -> None:
    """Nobody has called attach: the call fails, and its text says so."""
    servicer = fleet("CreateInstance", defined_with(handler, lambda self, request, op: Instance()))
    with serving_bare(stack, servicer) as stub:
        request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT)
        failure = refused(lambda: stub.CreateInstance(request, timeout=SECONDS))
    assert "attach" in failure.message


def test_an_old_style_adder_works(serve: Serve) -> None:
    declared = Declared({"Make": Rpc(), "Look": Rpc(info=None, output="Thing")})
    thing = declared.message("Thing")

    async def make(self: Any, request: Any, op: Any) -> Any:
        return thing(name=f"made {request.name}")

    servicer = long_running(Make=make)
    servicer.Look = lambda request, context: thing(name=f"saw {request.name}")
    server = serve(servicer, add=declared.add_old_style)
    ask = declared.message("Ask")(name="x")
    ended = server.done(server.start(declared.method("Make"), ask).name)
    assert thing.FromString(ended.response.value).name == "made x"
    seen = server.call(declared.method("Look"), ask.SerializeToString())
    assert thing.FromString(seen).name == "saw x"


# Unmarked methods go through untouched


class Mixed(fleet_service_pb2_grpc.FleetServiceServicer):
    """Long-running and plain methods side by side."""

    @lro_grpc.method
    async def CreateInstance(self, request: Any, op: Any) -> Any:
        return Instance(name="long-running")

    def GetInstance(self, request: Any, context: Any) -> Any:
        if request.name == "none":
            context.abort(grpc.StatusCode.NOT_FOUND, "there is none")
        return Instance(name=request.name)


class MixedAsync(Mixed):
    async def GetInstance(self, request: Any, context: Any) -> Any:
        if request.name == "none":
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is none")
        return Instance(name=request.name)


def test_plain_methods_of_the_same_servicer_are_served_as_ever(serve: Serve, stack: str) -> None:
    server = serve(Mixed() if stack == "sync" else MixedAsync())
    get = fleet_service_pb2.GetInstanceRequest
    assert server.fleet.GetInstance(get(name="i"), timeout=SECONDS).name == "i"
    failure = refused(lambda: server.fleet.GetInstance(get(name="none"), timeout=SECONDS))
    assert (failure.code, failure.message) == (grpc.StatusCode.NOT_FOUND, "there is none")
    assert response_of(server.done(server.create().name)).name == "long-running"
    nothing = refused(
        lambda: server.fleet.ListInstances(
            fleet_service_pb2.ListInstancesRequest(), timeout=SECONDS
        )
    )
    assert nothing.code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("stack", ["aio"], indirect=True)
def test_a_plain_def_on_grpc_aio_is_served_as_ever(serve: Serve) -> None:
    server = serve(Mixed())
    get = fleet_service_pb2.GetInstanceRequest
    assert server.fleet.GetInstance(get(name="i"), timeout=SECONDS).name == "i"


def test_a_service_without_any_long_running_method_goes_through(serve: Serve, stack: str) -> None:
    declared = Declared(
        {
            "Look": Rpc(info=None, output="Thing"),
            "Start": Rpc(),  # it returns Operations that the service makes by hand
            "Watch": Rpc(info=None, output="Thing", server_streaming=True),
        }
    )
    thing = declared.message("Thing")

    class Sync:
        def Look(self, request: Any, context: Any) -> Any:
            return thing(name="looked")

        Start = Look

        def Watch(self, request: Any, context: Any) -> Any:
            yield thing(name="one")
            yield thing(name="two")

    class Async:
        async def Look(self, request: Any, context: Any) -> Any:
            return thing(name="looked")

        Start = Look

        async def Watch(self, request: Any, context: Any) -> Any:
            yield thing(name="one")
            yield thing(name="two")

    server = serve(Sync() if stack == "sync" else Async(), add=declared.add)
    for method in ("Look", "Start"):
        assert thing.FromString(server.call(declared.method(method), b"")).name == "looked"
    watched = server.channel.unary_stream(declared.method("Watch"))(b"", timeout=SECONDS)
    assert [thing.FromString(one).name for one in watched] == ["one", "two"]


def test_two_services_on_one_server(serve: Serve) -> None:
    one, two = Declared({"Make": Rpc()}), Declared({"Make": Rpc()})

    def making(declared: Declared) -> Any:
        async def run(self: Any, request: Any, op: Any) -> Any:
            return declared.message("Thing")(name=declared.package)

        return long_running(Make=run)

    def add(servicer: Any, registrar: Any) -> None:
        one.add(making(one), registrar)
        two.add(making(two), registrar)

    server = serve(object(), add=add)
    for declared in (one, two):
        ended = server.done(server.start(declared.method("Make"), declared.message("Ask")()).name)
        thing = declared.message("Thing").FromString(ended.response.value)
        assert thing.name == declared.package


def test_two_servicers_of_one_class_keep_their_own_state(serve: Serve, stack: str) -> None:
    class Named(fleet_service_pb2_grpc.FleetServiceServicer):
        def __init__(self, name: str) -> None:
            self.name = name

        @lro_grpc.method
        def CreateInstance(self, request: Any, op: Any) -> Any:
            return Instance(name=self.name)

        @CreateInstance.prepare
        def prepare_create_instance(self, request: Any, context: Any) -> Any:
            return lro_grpc.Prepared(target=self.name)

    for name in ("a", "b"):
        with serving(stack, Named(name)) as server:
            ended = server.done(server.create().name)
            assert response_of(ended).name == metadata_of(ended).target == name


def test_a_subclass_overrides_what_its_base_has_decorated(serve: Serve) -> None:
    class Base(fleet_service_pb2_grpc.FleetServiceServicer):
        @lro_grpc.method
        def CreateInstance(self, request: Any, op: Any) -> Any:
            return Instance(name="base")

    class Derived(Base):
        @lro_grpc.method
        def CreateInstance(self, request: Any, op: Any) -> Any:
            return Instance(name="derived")

    server = serve(Derived())
    assert response_of(server.done(server.create().name)).name == "derived"


def test_the_decorator_keeps_the_methods_documentation() -> None:
    class Documented:
        @lro_grpc.method(concurrency=3)
        async def Make(self, request: Any, op: Any) -> Any:
            """Makes it."""

    assert Documented.Make.__doc__ == "Makes it."


def test_services_names_all_that_is_served(serve: Serve) -> None:
    """As health and reflection want it."""
    declared = Declared({"Make": Rpc(), "Look": Rpc(info=None, output="Thing")})

    def add(servicer: Any, registrar: Any) -> None:
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(servicer, registrar)
        things = long_running(Make=done_at_once)
        things.Look = lambda request, context: None
        declared.add(things, registrar)

    def configure(operations: lro_grpc.Operations) -> None:
        types = {"request": Instance, "response": Instance}
        operations.add_method("/other.v1.Other/Make", done_at_once, **types)

    server = serve(fleet("CreateInstance", done_at_once), add=add, configure=configure)
    own = ["google.longrunning.Operations", "lro.v1.OperationControlService"]
    assert sorted(server.operations.services) == sorted(
        [*own, FLEET, declared.service, "other.v1.Other"]
    )


@pytest.mark.parametrize(
    "method",
    [
        f"/{FLEET}/CreateInstance",
        "/google.longrunning.Operations/GetOperation",
        "/lro.v1.OperationControlService/WatchOperation",
    ],
)
def test_a_server_whose_operations_were_not_started_says_so(stack: str, method: str) -> None:
    before = {*threading.enumerate()}
    with serving_unstarted(stack, fleet("CreateInstance", done_at_once)) as call:
        failure = refused(lambda: call(method, b""))
    assert failure.code is grpc.StatusCode.UNAVAILABLE
    assert failure.info.reason == "NOT_STARTED"
    assert "operations.run(server)" in failure.message
    left = {*threading.enumerate()} - before
    assert not [one for one in left if one.name == "lro-loop"], "nobody would ever end it"


# add_method: without a generated servicer


def test_add_method_serves_without_a_servicer(serve: Serve, handler_keyword: str) -> None:
    def run(request: Any, op: Any) -> Any:
        return empty_pb2.Empty()

    def prepare(request: Any, context: Any) -> Any:
        if not request.name:
            raise lro_grpc.InvalidArgumentError("name is empty", reason="NAME_MISSING")
        return lro_grpc.Prepared(target=request.name)

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            "/acme.things.v2beta1.Things/DeleteThing",
            defined_with(handler_keyword, run),
            request=fleet_service_pb2.DeleteInstanceRequest,
            response=empty_pb2.Empty,
            prepare=prepare,
        )

    server = serve(configure=configure)
    request = fleet_service_pb2.DeleteInstanceRequest(
        name=f"{PARENT}/things/t", request_id=uuid_of("r")
    )
    started = server.start("/acme.things.v2beta1.Things/DeleteThing", request)
    assert started.name.startswith(f"{PARENT}/operations/")
    ended = server.done(started.name)
    assert ended.response.TypeName() == "google.protobuf.Empty"
    metadata = metadata_of(ended)
    assert (metadata.verb, metadata.api_version) == ("delete", "v2beta1")
    assert metadata.target == request.name
    again = server.start("/acme.things.v2beta1.Things/DeleteThing", request)
    assert again.name == started.name
    failure = refused(lambda: server.call("/acme.things.v2beta1.Things/DeleteThing", b""))
    assert failure.info.reason == "NAME_MISSING"


def test_add_method_and_a_servicer_share_the_server(serve: Serve) -> None:
    def configure(operations: lro_grpc.Operations) -> None:
        async def run(request: Any, op: Any) -> Any:
            return Instance(name="added")

        operations.add_method(
            "/acme.v1.Snapshots/TakeSnapshot",
            run,
            request=fleet_service_pb2.TakeSnapshotRequest,
            response=Instance,
        )

    server = serve(fleet("CreateInstance", done_at_once), configure=configure)
    request = fleet_service_pb2.TakeSnapshotRequest()
    added = server.start("/acme.v1.Snapshots/TakeSnapshot", request)
    assert response_of(server.done(added.name)).name == "added"
    assert response_of(server.done(server.create().name)).name == "done"


@pytest.mark.parametrize(
    "method",
    [
        "",
        "/",
        "//",
        "Make",
        "pkg.Service/Make",
        "/pkg.Service",
        "/pkg.Service/",
        "/a/b/c",
        "//Make",
    ],
)
def test_a_malformed_method_name_is_refused(method: str) -> None:
    operations = lro_grpc.Operations("memory:")
    with pytest.raises(lro_grpc.ConfigurationError, match=r"/pkg\.Service/Method"):
        operations.add_method(method, lambda request, op: None, request=Instance, response=Instance)


def test_what_is_added_twice_is_refused(stack: str) -> None:
    def twice(servicer: Any, registrar: Any) -> None:
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(servicer, registrar)
        fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(servicer, registrar)

    with (
        pytest.raises(
            lro_grpc.ConfigurationError, match=f"/{FLEET}/CreateInstance was added twice"
        ),
        serving(stack, fleet("CreateInstance", done_at_once), add=twice),
    ):
        pass


@pytest.mark.parametrize(
    "method",
    [
        f"/{FLEET}/CreateInstance",
        "/google.longrunning.Operations/GetOperation",
        "/lro.v1.OperationControlService/WatchOperation",
        "/lro.v1.OperationControlService/WatchOperations",
    ],
)
def test_add_method_refuses_what_is_served_already(stack: str, method: str) -> None:
    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(method, lambda request, op: None, request=Instance, response=Instance)

    with (
        pytest.raises(lro_grpc.ConfigurationError, match="twice"),
        serving(stack, fleet("CreateInstance", done_at_once), configure=configure),
    ):
        pass


def test_a_failed_start_up_leaves_nothing_behind(
    stack: str, file_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The file is free for the next try."""
    declared = Declared({"Make": Rpc(info=None)})
    with (
        pytest.raises(lro_grpc.ConfigurationError),
        serving(stack, long_running(Make=never_run), add=declared.add, store=file_url),
    ):
        pass
    with serving(stack, fleet("CreateInstance", done_at_once), store=file_url) as server:
        assert server.done(server.create().name).HasField("response")
    assert errors_logged(caplog) == []
