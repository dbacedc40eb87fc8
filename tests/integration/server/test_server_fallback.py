"""A fallback: another servicer's operations beside those of the store, on both kinds of server."""

from __future__ import annotations

import inspect
import queue
import threading
from collections.abc import Callable
from concurrent import futures
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from server_harness import (
    PARENT,
    Gate,
    Held,
    Instance,
    errors_logged,
    refused,
    response_of,
)

import lro_grpc

Serve = Any

OLD = [
    f"{PARENT}/operations/old-1",
    f"{PARENT}/operations/old-2",
    "operations/42",
    "reports/7/builds/blue",
    "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
]
"""Names as servicers make them, whatever their form."""


class Old(operations_pb2_grpc.OperationsServicer):
    """A servicer with a dictionary, of which each method is a ``def``."""

    def __init__(self) -> None:
        self.operations = {name: operations_pb2.Operation(name=name) for name in OLD}
        self.calls: list[str] = []
        self.waits: queue.SimpleQueue[str] = queue.SimpleQueue()
        """The names of the Waits that have come."""
        self.gate = Gate()
        self.page_size = 1000
        self.filters: list[str] = []

    def _find(self, request: Any, context: Any) -> Any:
        self.calls.append(f"{type(request).__name__.removesuffix('Request')} {request.name}")
        found = self.operations.get(request.name)
        if found is None:
            context.set_trailing_metadata((("old", "yes"),))
            context.abort(grpc.StatusCode.NOT_FOUND, f"no {request.name} in the dictionary")
        if isinstance(request, operations_pb2.WaitOperationRequest):
            self.waits.put(request.name)
        return found

    def end(self, name: str) -> None:
        operation = self.operations[name]
        operation.done = True
        operation.response.Pack(Instance(name="old"))

    def GetOperation(self, request: Any, context: Any) -> Any:
        return self._find(request, context)

    def WaitOperation(self, request: Any, context: Any) -> Any:
        found = self._find(request, context)
        self.gate.block()
        return found

    def CancelOperation(self, request: Any, context: Any) -> Any:
        self._find(request, context).metadata.Pack(empty_pb2.Empty())
        return empty_pb2.Empty()

    def DeleteOperation(self, request: Any, context: Any) -> Any:
        del self.operations[self._find(request, context).name]
        return empty_pb2.Empty()

    def ListOperations(self, request: Any, context: Any) -> Any:
        self.calls.append(f"ListOperations {request.name}")
        self.filters.append(request.filter)
        if request.filter == "unknown = 1":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no filters here")
        first = int(request.page_token or 0)
        names = [name for name in self.operations if name.startswith(f"{request.name}/")]
        last = first + min(request.page_size, self.page_size)
        return operations_pb2.ListOperationsResponse(
            operations=[self.operations[name] for name in names[first:last]],
            next_page_token=str(last) if last < len(names) else "",
        )


def async_twin(old: Old) -> operations_pb2_grpc.OperationsServicer:
    """Returns a servicer that does the same in coroutine functions."""

    class Context:
        """Of the few methods that the servicer above uses, the one that differs."""

        def __init__(self, context: Any) -> None:
            self._context = context
            self.aborted: Any = None

        def __getattr__(self, name: str) -> Any:
            return getattr(self._context, name)

        def abort(self, code: Any, details: str) -> None:
            self.aborted = (code, details)
            raise LookupError

    def twin(name: str) -> Callable[..., Any]:
        async def call(self: Any, request: Any, context: Any) -> Any:
            assert inspect.iscoroutinefunction(context.abort)
            plain, waits = Context(context), name == "WaitOperation"
            try:
                answer = (old._find if waits else getattr(old, name))(request, plain)
            except LookupError:
                return await context.abort(*plain.aborted)
            if waits:
                await old.gate.pass_by_async()
            return answer

        return call

    names = [name for name in vars(Old) if name.endswith(("Operation", "Operations"))]
    kind = type("AsyncOld", (operations_pb2_grpc.OperationsServicer,), {n: twin(n) for n in names})
    return kind()


@pytest.fixture
def old() -> Any:
    old = Old()
    yield old
    old.gate.open()


@pytest.fixture
def servicer(old: Old, handler_keyword: str) -> operations_pb2_grpc.OperationsServicer:
    """The servicer, of functions or of coroutine functions."""
    return old if handler_keyword == "def" else async_twin(old)


@pytest.fixture
def server(serve: Serve, held: Held, servicer: Any) -> Any:
    return serve(held.servicer(), attach={"fallback": servicer})


# One operation


@pytest.mark.parametrize("name", OLD)
def test_an_operation_of_the_other_servicer_is_served_to_its_end(
    server: Any, old: Old, name: str
) -> None:
    assert not server.get(name).done
    waiting = server.waiting(name, 60)
    server.cancel(name)
    assert old.operations[name].metadata.Is(empty_pb2.Empty.DESCRIPTOR)
    old.end(name)
    old.gate.open()
    assert response_of(waiting.result(20)).name == "old"
    assert response_of(server.get(name)).name == "old"
    server.delete(name)
    assert name not in old.operations


def test_an_operation_of_the_store_is_its_own_matter(server: Any, held: Held, old: Old) -> None:
    name = server.create(instance_id="new").name
    held.next()
    server.get(name)
    server.wait(name, 0)
    held.gate.open()
    assert response_of(server.done(name)).name.endswith("new")
    server.cancel(name)
    server.delete(name)
    assert old.calls == []
    assert refused(lambda: server.get(name)).message.startswith("no projects/")
    assert old.calls == [f"GetOperation {name}"]  # it is in neither


@pytest.mark.parametrize("method", ["get", "wait", "cancel", "delete"])
@pytest.mark.parametrize("name", ["operations/no-such", "no such name", "../x"])
def test_the_servicers_own_refusal_is_that_of_the_call(
    server: Any, old: Old, method: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        getattr(server, method)(name)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == f"no {name} in the dictionary"
    assert ("old", "yes") in tuple(tuple(pair) for pair in raised.value.trailing_metadata())
    assert errors_logged(caplog) == []


@pytest.mark.parametrize("method", ["get", "wait", "cancel", "delete"])
def test_an_empty_name_is_refused_as_ever(server: Any, old: Old, method: str) -> None:
    failure = refused(lambda: getattr(server, method)(""))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.info.domain == "lro-grpc"
    assert old.calls == []


def test_the_control_rpcs_are_for_the_stores_operations_alone(server: Any, old: Old) -> None:
    terminate = partial(server.terminate, reason="why")
    for call in (server.pause, server.resume, server.watch, terminate, server.rerun):
        failure = refused(lambda call=call: call(OLD[0]))
        assert failure.code is grpc.StatusCode.NOT_FOUND
        assert failure.info.domain == "lro-grpc"
    assert old.calls == []


def test_what_the_servicer_has_not_is_unimplemented(
    serve: Serve, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    """As before: few have WaitOperation, and clients poll then."""

    class Few(operations_pb2_grpc.OperationsServicer):
        def GetOperation(self, request: Any, context: Any) -> Any:
            return operations_pb2.Operation(name=request.name)

    server = serve(held.servicer(), attach={"fallback": Few()})
    assert refused(lambda: server.wait(OLD[0], 1)).code is grpc.StatusCode.UNIMPLEMENTED
    assert refused(lambda: server.cancel(OLD[0])).code is grpc.StatusCode.UNIMPLEMENTED
    name = server.create(instance_id="new").name
    assert server.names() == [name]  # nor has it a List
    assert errors_logged(caplog) == []


def test_an_error_of_the_servicers_own_is_an_incident(
    serve: Serve, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(operations_pb2_grpc.OperationsServicer):
        def GetOperation(self, request: Any, context: Any) -> Any:
            raise KeyError(request.name)

        async def CancelOperation(self, request: Any, context: Any) -> Any:
            raise lro_grpc.LroError("not now", code=lro_grpc.Code.ABORTED)

        def DeleteOperation(self, request: Any, context: Any) -> Any:
            return None

    server = serve(held.servicer(), attach={"fallback": Broken()})
    failure = refused(lambda: server.get(OLD[0]))
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.INTERNAL, "UNEXPECTED")
    assert "KeyError" not in failure.message
    failure = refused(lambda: server.cancel(OLD[0]))
    assert (failure.code, failure.message) == (grpc.StatusCode.ABORTED, "not now")
    assert refused(lambda: server.delete(OLD[0])).code is grpc.StatusCode.INTERNAL
    assert len(errors_logged(caplog)) == 2


@pytest.mark.parametrize("handler_keyword", ["def"], indirect=True)
@pytest.mark.parametrize("wrong", [empty_pb2.Empty(), Instance(name="no operation"), b"", None])
def test_an_answer_of_another_type_is_no_answer(
    serve: Serve, held: Held, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(operations_pb2_grpc.OperationsServicer):
        def GetOperation(self, request: Any, context: Any) -> Any:
            return wrong

        async def ListOperations(self, request: Any, context: Any) -> Any:
            return wrong

    server = serve(held.servicer(), attach={"fallback": Wrong()})
    for call, declared in (
        (lambda: server.get(OLD[0]), "google.longrunning.Operation"),
        (lambda: server.list(), "google.longrunning.ListOperationsResponse"),
    ):
        failure = refused(call)
        assert failure.code is grpc.StatusCode.INTERNAL
        assert failure.message.endswith(f"returned {type(wrong).__name__}; return {declared}")


@pytest.mark.parametrize("handler_keyword", ["def"], indirect=True)
def test_a_context_is_that_of_the_method_whatever_the_server(serve: Serve, held: Held) -> None:
    over: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Uses(operations_pb2_grpc.OperationsServicer):
        def GetOperation(self, request: Any, context: Any) -> Any:
            context.send_initial_metadata((("sent-by", "get"),))
            assert context.add_callback(lambda: over.put("get"))
            return operations_pb2.Operation(name=request.name)

        async def CancelOperation(self, request: Any, context: Any) -> Any:
            await context.send_initial_metadata((("sent-by", "cancel"),))
            assert (context.done(), context.cancelled()) == (False, False)
            context.add_done_callback(lambda _: over.put("cancel"))
            return empty_pb2.Empty()

        def DeleteOperation(self, request: Any, context: Any) -> Any:
            context.send_initial_metadata((("sent-by", "delete"),))
            context.abort(grpc.StatusCode.ABORTED, "not yet")

    server = serve(held.servicer(), attach={"fallback": Uses()})
    stub = operations_pb2_grpc.OperationsStub(server.channel)
    for method in ("Get", "Cancel"):
        request = getattr(operations_pb2, f"{method}OperationRequest")(name=OLD[0])
        _, call = getattr(stub, f"{method}Operation").with_call(request, timeout=20)
        assert ("sent-by", method.lower()) in call.initial_metadata()
        assert over.get(timeout=20) == method.lower()
    call = stub.DeleteOperation.future(
        operations_pb2.DeleteOperationRequest(name=OLD[0]), timeout=20
    )
    assert call.code() is grpc.StatusCode.ABORTED
    assert ("sent-by", "delete") in call.initial_metadata()


@pytest.mark.parametrize("handler_keyword", ["def"], indirect=True)
@pytest.mark.parametrize("messages", [False, True])
def test_trailing_metadata_are_those_of_the_call(serve: Serve, held: Held, messages: bool) -> None:
    class Trails(operations_pb2_grpc.OperationsServicer):
        def GetOperation(self, request: Any, context: Any) -> Any:
            context.set_details("nobody sees it")
            context.set_trailing_metadata([("took", "1 ms"), ("by-bin", b"\x00")])
            assert context.details() == "nobody sees it"
            assert context.trailing_metadata() == (("took", "1 ms"), ("by-bin", b"\x00"))
            return operations_pb2.Operation(name=request.name)

        async def CancelOperation(self, request: Any, context: Any) -> Any:
            context.set_trailing_metadata((("took", "2 ms"),))
            return empty_pb2.Empty()

    server = serve(held.servicer(), attach={"fallback": Trails(), "messages": messages})
    stub = operations_pb2_grpc.OperationsStub(server.channel)
    request = operations_pb2.GetOperationRequest(name=OLD[0])
    _, call = stub.GetOperation.with_call(request, timeout=20)
    trailers = [tuple(pair) for pair in call.trailing_metadata()]
    assert trailers == [("took", "1 ms"), ("by-bin", b"\x00")]
    cancel = operations_pb2.CancelOperationRequest(name=OLD[0])
    _, call = stub.CancelOperation.with_call(cancel, timeout=20)
    assert [tuple(pair) for pair in call.trailing_metadata()] == [("took", "2 ms")]


@pytest.mark.parametrize("handler_keyword", ["def"], indirect=True)
def test_a_wait_is_woken_when_its_caller_is_gone(
    serve: Serve, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    began, ended = threading.Event(), threading.Event()

    class Waits(operations_pb2_grpc.OperationsServicer):
        def WaitOperation(self, request: Any, context: Any) -> Any:
            context.add_callback(ended.set)
            context.add_callback(lambda: 1 / 0)
            began.set()
            assert ended.wait(20)
            return operations_pb2.Operation()

    server = serve(held.servicer(), attach={"fallback": Waits()})
    waiting = server.waiting(OLD[0], 600)
    assert began.wait(20)
    waiting.cancel()
    assert ended.wait(20)
    assert len(errors_logged(caplog)) == 1


@pytest.mark.parametrize("handler_keyword", ["def"], indirect=True)
def test_waits_for_old_operations_leave_places_for_others(
    serve: Serve, held: Held, old: Old, stack: str
) -> None:
    """A Wait that finds no place is answered with the operation as it is."""
    limits = {"limits": lro_grpc.Limits(waiters=2)} if stack == "aio" else {"max_waiters": 2}
    server = serve(held.servicer(), attach={"fallback": old}, **limits)
    waiting = [server.waiting(OLD[0], 60) for _ in range(2)]
    for _ in waiting:
        assert old.waits.get(timeout=20) == OLD[0]
    assert not server.wait(OLD[1], 60).done
    assert old.calls[-1] == f"GetOperation {OLD[1]}"
    old.gate.open()
    for one in waiting:
        assert one.result(20).name == OLD[0]


def test_a_wait_sees_that_its_caller_is_gone(
    serve: Serve, held: Held, handler_keyword: str
) -> None:
    """By ``context.is_active``, which a ``def`` may ask on either kind of server."""
    began, ended = threading.Event(), threading.Event()

    class Waits(operations_pb2_grpc.OperationsServicer):
        def WaitOperation(self, request: Any, context: Any) -> Any:
            began.set()
            while context.is_active():
                threading.Event().wait(0.01)
            ended.set()
            return operations_pb2.Operation()

    server = serve(held.servicer(), attach={"fallback": Waits()})
    waiting = server.waiting(OLD[0], 600)
    assert began.wait(20)
    assert not ended.is_set()
    waiting.cancel()
    assert ended.wait(20)


@pytest.mark.parametrize("handler_keyword", ["def", "async def"], indirect=True)
def test_a_wait_for_an_old_operation_is_answered_when_the_server_goes_down(
    server: Any, old: Old
) -> None:
    waiting = server.waiting(OLD[0], 600)
    assert old.waits.get(timeout=20) == OLD[0]
    server.close()
    assert waiting.result(20) == operations_pb2.Operation(name=OLD[0])
    assert old.calls[-1] == f"GetOperation {OLD[0]}"


@pytest.mark.parametrize("name", [OLD[0], "operations/no-such"])
def test_the_error_of_a_call_that_the_servicer_makes_is_that_of_the_rpc(
    serve: Serve, held: Held, old: Old, name: str
) -> None:
    """As of one that passes calls on to the server that still has the old operations."""

    class PassesOn(operations_pb2_grpc.OperationsServicer):
        def GetOperation(self, request: Any, context: Any) -> Any:
            return first.lro.GetOperation(request)

        async def CancelOperation(self, request: Any, context: Any) -> Any:
            async with grpc.aio.insecure_channel(first.target) as channel:
                return await operations_pb2_grpc.OperationsStub(channel).CancelOperation(request)

        def DeleteOperation(self, request: Any, context: Any) -> Any:
            with grpc.insecure_channel("127.0.0.1:1") as nobody:
                return operations_pb2_grpc.OperationsStub(nobody).DeleteOperation(request)

    first = serve(held.servicer(), attach={"fallback": old})
    second = serve(held.servicer(), attach={"fallback": PassesOn()})
    assert refused(lambda: second.delete(name)).code is grpc.StatusCode.UNAVAILABLE
    if name == OLD[0]:
        assert second.get(name).name == name
        second.cancel(name)
        assert first.get(name).HasField("metadata")
        return
    for call in (second.get, second.cancel):
        failure = refused(lambda call=call: call(name))
        assert failure.code is grpc.StatusCode.NOT_FOUND
        assert failure.message == f"no {name} in the dictionary"


# The guard


def test_the_guard_is_asked_before_the_servicer(serve: Serve, held: Held, servicer: Any, old: Old):
    asked: list[tuple[str, str, Any]] = []

    def authorize(access: lro_grpc.Access) -> bool:
        asked.append((access.permission, access.resource, access.operation))
        return access.resource != OLD[1]

    server = serve(held.servicer(), attach={"fallback": servicer}, authorize=authorize)
    old.gate.open()
    for call, permission in (
        (server.get, "get"),
        (lambda name: server.wait(name, 1), "wait"),
        (server.cancel, "cancel"),
        (server.delete, "delete"),
    ):
        failure = refused(lambda call=call: call(OLD[1]))
        assert failure.code is grpc.StatusCode.PERMISSION_DENIED
        call(OLD[0])
        operation = f"operations.{permission}"
        assert asked == [(operation, OLD[1], None), (operation, OLD[0], None)]
        asked.clear()
    server.list(PARENT)
    assert asked == [("operations.list", PARENT, None)]
    assert not [call for call in old.calls if OLD[1] in call]


@pytest.mark.parametrize("hook", ["identify", "authorize"])
def test_a_hook_that_says_not_found_is_believed(
    serve: Serve, held: Held, servicer: Any, old: Old, hook: str
) -> None:
    """It hides what exists; the servicer must not show it."""

    def hide(_: Any) -> Any:
        raise lro_grpc.OperationNotFoundError("nothing to see")

    server = serve(held.servicer(), attach={"fallback": servicer}, **{hook: hide})
    assert refused(lambda: server.get(OLD[0])).message == "nothing to see"
    assert old.calls == []


@pytest.mark.parametrize("handler_keyword", ["def"], indirect=True)
def test_the_guard_is_asked_again_before_a_long_wait_is_answered(
    serve: Serve, held: Held, old: Old
) -> None:
    allowed = [True]
    server = serve(
        held.servicer(),
        attach={"fallback": old},
        authorize=lambda _: allowed[0],
        watch_resend=timedelta(microseconds=1),
    )
    waiting = server.waiting(OLD[0], 600)
    assert old.waits.get(timeout=20) == OLD[0]
    allowed[0] = False
    old.gate.open()
    assert waiting.exception(20).code() is grpc.StatusCode.PERMISSION_DENIED


# Lists


def every_page(server: Any, size: int, **fields: Any) -> tuple[list[str], int]:
    """Returns the names of all pages, and how many pages there were."""
    names, token, pages = [], "", 0
    while True:
        page = server.list(PARENT, page_size=size, page_token=token, **fields)
        assert len(page.operations) <= size
        names += [operation.name for operation in page.operations]
        token, pages = page.next_page_token, pages + 1
        if not token:
            return names, pages


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
@pytest.mark.parametrize("most_of_old", [1, 1000])
def test_a_list_has_the_stores_operations_and_then_the_servicers(
    server: Any, old: Old, size: int, most_of_old: int
) -> None:
    old.page_size = most_of_old
    new = [server.create(instance_id=f"new-{number}").name for number in range(3)]
    names, pages = every_page(server, size)
    assert names == [*reversed(new), *OLD[:2]]
    assert pages <= 5 // size + 2


def test_one_page_has_both_where_there_is_room(server: Any) -> None:
    """A client that does not know of pages sees all it saw before."""
    name = server.create(instance_id="new").name
    assert [one.name for one in server.list(PARENT).operations] == [name, *OLD[:2]]


def test_a_parent_that_is_only_the_servicers_is_listed(server: Any, old: Old) -> None:
    assert server.names("operations") == ["operations/42"]
    assert server.names("reports/7/builds") == ["reports/7/builds/blue"]
    odd = "a parent/of its own"
    old.operations = {f"{odd}/{n}": operations_pb2.Operation(name=f"{odd}/{n}") for n in "123"}
    page = server.list(odd, page_size=2)
    assert [one.name for one in page.operations] == [f"{odd}/1", f"{odd}/2"]
    page = server.list(odd, page_size=2, page_token=page.next_page_token)
    assert [one.name for one in page.operations] == [f"{odd}/3"]


def test_an_empty_parent_is_refused_as_ever(server: Any, old: Old) -> None:
    assert refused(lambda: server.list("")).code is grpc.StatusCode.INVALID_ARGUMENT
    assert old.calls == []


def test_a_page_token_is_for_its_request_alone(server: Any) -> None:
    server.create(instance_id="new")
    for size in (1, 2):
        token = server.list(PARENT, page_size=size).next_page_token
        assert token
        for other in (
            {"filter": "done = false", "page_token": token},
            {"page_token": f"{token}AAAA"},
            {"page_token": "1"},
        ):
            failure = refused(lambda other=other: server.list(PARENT, **other))
            assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
            assert failure.info.reason == "INVALID_PAGE_TOKEN"
        assert refused(lambda t=token: server.list("p/1", page_token=t)).info.reason == (
            "INVALID_PAGE_TOKEN"
        )


def test_the_servicer_is_given_the_filter_once_it_is_one(server: Any, old: Old) -> None:
    server.list(PARENT, filter="done = false")
    assert old.filters == ["done = false"]
    failure = refused(lambda: server.list(PARENT, filter="done ="))
    assert failure.info.reason == "INVALID_FILTER"
    assert old.filters == ["done = false"]


@pytest.mark.parametrize("size", [-1, -(2**31)])
def test_a_negative_page_size_is_refused_as_ever(server: Any, old: Old, size: int) -> None:
    failure = refused(lambda: server.list(PARENT, page_size=size))
    assert failure.info.reason == "INVALID_PAGE_SIZE"
    assert old.calls == []


# What is no fallback


@pytest.mark.parametrize("wrong", [object(), Old, "old"])
def test_what_is_no_servicer_is_refused(wrong: Any) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    with pytest.raises(lro_grpc.ConfigurationError, match="fallback is"):
        lro_grpc.Operations("memory:").attach(server, fallback=wrong)
