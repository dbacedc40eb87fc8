"""Callers, and their permissions: ``identify`` and ``authorize`` (S15, S19, P12)."""

from __future__ import annotations

import asyncio
import queue
import re
from collections.abc import Callable
from concurrent import futures
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2, status_pb2
from server_certificates import Authority
from server_harness import (
    FLEET,
    PARENT,
    SECONDS,
    Client,
    Held,
    Instance,
    Server,
    defined_with,
    errors_logged,
    every_store,
    failure_of,
    fleet,
    refused,
    response_of,
    together,
    uuid_of,
    wait_request,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import operation_control_service_pb2 as control_pb2

Serve = Any

CREATE = f"/{FLEET}/CreateInstance"

NAMED: dict[str, Callable[[Client, str], object]] = {
    "operations.get": lambda client, name: client.get(name),
    "operations.wait": lambda client, name: client.wait(name, 0),
    "operations.watch": lambda client, name: client.watch(name),
    "operations.cancel": lambda client, name: client.cancel(name),
    "operations.delete": lambda client, name: client.delete(name),
    "operations.pause": lambda client, name: client.pause(name),
    "operations.resume": lambda client, name: client.resume(name),
    "operations.terminate": lambda client, name: client.terminate(name, "stuck"),
    "operations.rerun": lambda client, name: client.rerun(name),
    "operations.describe": lambda client, name: client.describe(name),
}
"""The calls that name an operation, by the permission that each one needs."""

EVERY: dict[str, Callable[[Client, str], object]] = {
    **NAMED,
    "operations.list": lambda client, name: client.list(PARENT),
    "operations.summarize": lambda client, name: client.summarize(PARENT),
    "operations.start": lambda client, name: client.create(),
}

METHODS = {
    "operations.get": "/google.longrunning.Operations/GetOperation",
    "operations.wait": "/google.longrunning.Operations/WaitOperation",
    "operations.watch": "/lro.v1.OperationControlService/WatchOperation",
    "operations.cancel": "/google.longrunning.Operations/CancelOperation",
    "operations.delete": "/google.longrunning.Operations/DeleteOperation",
    "operations.pause": "/lro.v1.OperationControlService/PauseOperation",
    "operations.resume": "/lro.v1.OperationControlService/ResumeOperation",
    "operations.terminate": "/lro.v1.OperationControlService/TerminateOperation",
    "operations.rerun": "/lro.v1.OperationControlService/RerunOperation",
    "operations.describe": "/lro.v1.OperationControlService/DescribeOperation",
    "operations.list": "/google.longrunning.Operations/ListOperations",
    "operations.summarize": "/lro.v1.OperationControlService/SummarizeOperations",
    "operations.start": CREATE,
}

ILL_FORMED = ["", "operations", "operations/", "no/name", f"{PARENT}/operations/a b", "é" * 600]

any_named = pytest.mark.parametrize("permission", NAMED)


@pytest.fixture(params=["def", "async def"])
def hook_keyword(request: pytest.FixtureRequest) -> str:
    return request.param


def by_metadata(context: Any) -> str:
    """Tells who calls by what they say, which is enough for a test."""
    said = dict(context.invocation_metadata())
    return str(said.get("caller", ""))


class Door:
    """An ``authorize`` that notes each access, and lets in the callers that are not shut out."""

    def __init__(self) -> None:
        self.accesses: list[lro_grpc.Access] = []
        self.shut: set[str] = set()

    def __call__(self, access: lro_grpc.Access) -> bool:
        self.accesses.append(access)
        return access.permission not in self.shut


@pytest.fixture
def door() -> Door:
    return Door()


def guarded(serve: Serve, door: Door, hook_keyword: str = "def", **how: Any) -> Server:
    """Serves a fleet whose instances are made at once, behind a door."""

    def run(self: Any, request: Any, op: Any) -> Any:
        return Instance(name=request.instance_id)

    how.setdefault("servicer", fleet("CreateInstance", run, pausable=True))
    hooks = {
        "identify": defined_with(hook_keyword, by_metadata),
        "authorize": defined_with(hook_keyword, door),
    }
    return serve(how.pop("servicer"), **{**hooks, **how})


def denied(permission: str, resource: str) -> status_pb2.Status:
    """Returns the whole error of who is not let in (S19, S21)."""
    info = error_details_pb2.ErrorInfo(
        reason="PERMISSION_DENIED",
        domain="lro-grpc",
        metadata={"permission": permission, "resource": resource},
    )
    status = status_pb2.Status(
        code=7,
        message=f"Permission '{permission}' denied on resource '{resource}'"
        " (or it might not exist).",
    )
    status.details.add().Pack(info)
    return status


def names_of_all_kinds(server: Server) -> dict[str, str]:
    """Returns the name of an operation that is there, one that is deleted, and of no operation."""
    there, deleted = server.create().name, server.create().name
    server.done(there)
    server.done(deleted)
    server.delete(deleted)
    return {"there": there, "deleted": deleted, "missing": f"{PARENT}/operations/op-missing"}


# The accesses


@pytest.mark.parametrize("permission", EVERY)
def test_each_call_is_asked_about_once(
    serve: Serve, door: Door, hook_keyword: str, permission: str
) -> None:
    server = guarded(serve, door, hook_keyword)
    ann = server.client(("caller", "ann"))
    name = server.client(("caller", "bob")).create().name
    server.done(name)
    del door.accesses[:]
    try:
        EVERY[permission](ann, name)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION  # noqa: PT017 - a done one's
    access, *others = door.accesses
    expected = {
        "operations.rerun": ["operations.start"],  # for it starts an operation, too
        "operations.describe": [  # what it lists
            "operations.rerun",
            "operations.start",
            "operations.delete",
        ],
    }
    assert [other.permission for other in others] == expected.get(permission, [])
    assert (access.caller, access.permission) == ("ann", permission)
    assert access.method == METHODS[permission]
    assert access.resource == (name if permission in NAMED else PARENT)
    if permission in NAMED:
        known = lro_grpc.KnownOperation(name=name, method=CREATE, target="", caller="bob")
        assert access.operation == known
    else:
        assert access.operation is None


def test_the_request_can_be_looked_at(serve: Serve, door: Door) -> None:
    server = guarded(serve, door)
    request = fleet_service_pb2.CreateInstanceRequest(parent=PARENT, instance_id="i")
    name = server.fleet.CreateInstance(request, timeout=SECONDS).name
    server.wait(name, 5)
    server.list(page_size=7)
    started, waited, listed = (access.request for access in door.accesses)
    assert started == request
    assert waited == wait_request(name, 5)
    assert listed == operations_pb2.ListOperationsRequest(name=PARENT, page_size=7)


@pytest.mark.parametrize(
    ("method", "request_message", "resource"),
    [
        ("CreateInstance", fleet_service_pb2.CreateInstanceRequest(parent="any text"), "any text"),
        ("DeleteInstance", fleet_service_pb2.DeleteInstanceRequest(name="a/b"), "a/b"),
        ("DeleteInstance", fleet_service_pb2.DeleteInstanceRequest(), f"/{FLEET}/DeleteInstance"),
    ],
)
def test_a_start_is_about_what_its_request_names(
    serve: Serve, door: Door, method: str, request_message: Any, resource: str
) -> None:
    door.shut = {"operations.start"}
    server = guarded(serve, door, servicer=fleet(method, lambda self, request, op: None))
    body = request_message.SerializeToString()
    failure = refused(lambda: server.call(f"/{FLEET}/{method}", body))
    assert failure.status == denied("operations.start", resource)


def test_a_wait_is_asked_about_once_however_long_it_lasts(serve: Serve, door: Door) -> None:
    held = Held("async def")
    server = guarded(serve, door, servicer=held.servicer())
    name = server.create().name
    held.next()
    waiting = server.waiting(name)
    held.gate.open()
    assert waiting.result(SECONDS).done
    assert [access.permission for access in door.accesses] == [
        "operations.start",
        "operations.wait",
    ]


# Who is not let in (S19)


@any_named
def test_a_caller_who_is_denied_cannot_learn_what_exists(
    serve: Serve, door: Door, hook_keyword: str, store: str, permission: str
) -> None:
    server = guarded(serve, door, hook_keyword, store=store)
    kinds = names_of_all_kinds(server)
    before = server.get(kinds["there"])
    door.shut = {permission}
    for name in (*kinds.values(), *ILL_FORMED):
        failure = refused(lambda: NAMED[permission](server, name))  # noqa: B023 - called at once
        shown = name if len(name) <= 100 else f"{name[:97]}..."
        assert failure.status == denied(permission, shown)
    door.shut = set()
    assert server.get(kinds["there"]) == before


@any_named
def test_a_caller_who_is_let_in_learns_what_does_not_exist(
    serve: Serve, door: Door, store: str, permission: str
) -> None:
    server = guarded(serve, door, store=store)
    kinds = names_of_all_kinds(server)
    for kind in ("deleted", "missing"):
        failure = refused(lambda: NAMED[permission](server, kinds[kind]))  # noqa: B023
        assert failure.code is grpc.StatusCode.NOT_FOUND
    for name in ILL_FORMED:
        failure = refused(lambda: NAMED[permission](server, name))  # noqa: B023 - called at once
        assert (failure.code, failure.info.reason) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_NAME",
        )


def test_a_deleted_operation_that_still_runs_is_like_a_missing_one(
    serve: Serve, door: Door, store: str
) -> None:
    held = Held("async def")
    server = guarded(serve, door, servicer=held.servicer(), store=store)
    name = server.create().name
    held.next()
    server.delete(name)
    assert refused(lambda: server.get(name)).code is grpc.StatusCode.NOT_FOUND
    assert door.accesses[-1].operation is None
    held.gate.open()


def test_a_denied_wait_is_refused_before_its_timeout_is_looked_at(serve: Serve, door: Door) -> None:
    door.shut = {"operations.wait"}
    server = guarded(serve, door)
    name = server.create().name
    assert refused(lambda: server.wait(name, -1)).status == denied("operations.wait", name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "/"},
        {"name": "a b"},
        {"page_size": -1},
        {"page_token": "forged"},
        {"filter": "("},
        {"return_partial_success": True},
    ],
    ids=repr,
)
def test_a_denied_list_is_refused_before_it_is_looked_at(
    serve: Serve, door: Door, wrong: dict[str, Any]
) -> None:
    door.shut = {"operations.list"}
    server = guarded(serve, door)
    failure = refused(lambda: server.list(**wrong))
    assert failure.status == denied("operations.list", wrong.get("name", PARENT))


def test_a_denied_start_stores_nothing_and_prepares_nothing(
    serve: Serve, door: Door, hook_keyword: str, store: str
) -> None:
    prepared: list[Any] = []

    def prepare(self: Any, request: Any, context: Any) -> None:
        prepared.append(request)
        raise lro_grpc.InvalidArgumentError("it is wrong besides")

    door.shut = {"operations.start"}
    servicer = fleet("CreateInstance", lambda self, request, op: Instance(), prepare=prepare)
    server = guarded(serve, door, hook_keyword, servicer=servicer, store=store)
    for fields in ({}, {"request_id": uuid_of("r")}, {"validate_only": True}):
        failure = refused(lambda: server.create(**fields))  # noqa: B023
        assert failure.status == denied("operations.start", PARENT)
    assert prepared == []
    assert server.names() == []


def test_a_denied_start_cannot_find_out_whether_its_request_id_was_used(
    serve: Serve, door: Door
) -> None:
    server = guarded(serve, door)
    server.create(request_id=uuid_of("r"))
    door.shut = {"operations.start"}
    for same in (
        {"request_id": uuid_of("r")},
        {"request_id": uuid_of("r"), "instance_id": "other"},
    ):
        failure = refused(lambda: server.create(**same))  # noqa: B023
        assert failure.status == denied("operations.start", PARENT)


# Each page (S15)


def test_a_page_token_carries_no_authorization(serve: Serve, hook_keyword: str) -> None:
    may = {"ann", "cho"}
    policy = defined_with(
        hook_keyword, lambda access: access.permission == "operations.start" or access.caller in may
    )
    server = guarded(serve, Door(), hook_keyword, authorize=policy)
    ann, bob, cho = (server.client(("caller", who)) for who in ("ann", "bob", "cho"))
    names = [ann.create().name for _ in range(3)]
    page = ann.list(page_size=1)
    assert [one.name for one in page.operations] == names[2:]

    rest = {"page_size": 5, "page_token": page.next_page_token}
    assert refused(lambda: bob.list(**rest)).status == denied("operations.list", PARENT)
    assert [one.name for one in cho.list(**rest).operations] == [names[1], names[0]]
    may.clear()
    assert refused(lambda: ann.list(**rest)).status == denied("operations.list", PARENT)


# Hooks that fail


@pytest.mark.parametrize("hook", ["identify", "authorize"])
@pytest.mark.parametrize("permission", EVERY)
def test_a_hook_refuses_with_an_error_of_its_own(
    serve: Serve, hook_keyword: str, hook: str, permission: str, caplog: pytest.LogCaptureFixture
) -> None:
    prepared: list[Any] = []

    def fails(_: Any) -> Any:
        raise lro_grpc.LroError(
            "the token is over",
            code=lro_grpc.Code.UNAUTHENTICATED,
            reason="TOKEN_EXPIRED",
            domain="auth.example.com",
        )

    servicer = fleet(
        "CreateInstance",
        lambda self, request, op: Instance(),
        prepare=lambda self, request, context: prepared.append(request),
    )
    server = serve(servicer, **{hook: defined_with(hook_keyword, fails)})
    failure = refused(lambda: EVERY[permission](server, f"{PARENT}/operations/x"))
    assert (failure.code, failure.message) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "the token is over",
    )
    assert (failure.info.reason, failure.info.domain) == ("TOKEN_EXPIRED", "auth.example.com")
    assert prepared == []
    assert errors_logged(caplog) == []


@pytest.mark.parametrize("hook", ["identify", "authorize"])
def test_an_error_of_a_hook_is_in_the_services_domain_whatever_is_called(
    serve: Serve, hook_keyword: str, hook: str
) -> None:
    """Its reason and domain are the same everywhere (S21)."""

    def fails(_: Any) -> Any:
        raise lro_grpc.LroError("who?", code=lro_grpc.Code.UNAUTHENTICATED, reason="NO_TOKEN")

    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()),
        error_domain="fleet.example.com",
        **{hook: defined_with(hook_keyword, fails)},
    )
    for call in EVERY.values():
        info = refused(lambda: call(server, f"{PARENT}/operations/x")).info  # noqa: B023
        assert (info.reason, info.domain) == ("NO_TOKEN", "fleet.example.com")


@pytest.mark.parametrize("hook", ["identify", "authorize"])
@pytest.mark.parametrize("permission", EVERY)
def test_a_hook_that_fails_unexpectedly_leaks_nothing_and_lets_nobody_in(
    serve: Serve, hook_keyword: str, hook: str, permission: str, caplog: pytest.LogCaptureFixture
) -> None:
    failing = False

    def fails(_: Any) -> Any:
        if failing:
            raise RuntimeError("the password is hunter2")
        return "ann" if hook == "identify" else True

    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()),
        **{hook: defined_with(hook_keyword, fails)},
    )
    name = server.create().name
    before = server.done(name)
    failing = True
    failure = refused(lambda: EVERY[permission](server, name))
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.INTERNAL, "UNEXPECTED")
    assert "hunter2" not in str(failure)
    incident = failure.info.metadata["incident"]
    assert [incident in line for line in errors_logged(caplog)] == [True]
    failing = False
    assert server.get(name) == before
    assert server.names() == [name]


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        lro_grpc.AttemptStopped(lro_grpc.StopReason.CANCEL),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("hook", ["identify", "authorize"])
def test_a_hook_that_raises_what_is_no_error_ends_neither_the_call_nor_the_server(
    serve: Serve, hook_keyword: str, hook: str, error: BaseException
) -> None:
    exiting = True

    def leaves(_: Any) -> Any:
        if exiting:
            raise error
        return "ann" if hook == "identify" else True

    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()),
        **{hook: defined_with(hook_keyword, leaves)},
    )
    failure = refused(server.create)
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.INTERNAL, "UNEXPECTED")
    exiting = False
    assert server.done(server.create().name).HasField("response")


@pytest.mark.parametrize("hook", ["identify", "authorize"])
def test_a_hook_that_awaits_what_was_cancelled_fails_its_call_only(serve: Serve, hook: str) -> None:
    """As one does that shares the fetching of a key with a call whose client has gone."""

    async def awaits(_: Any) -> Any:
        fetching = asyncio.ensure_future(asyncio.Event().wait())
        fetching.cancel()
        await fetching

    server = serve(fleet("CreateInstance", lambda self, request, op: Instance()), **{hook: awaits})
    failure = refused(server.create)
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.INTERNAL, "UNEXPECTED")


def test_an_identify_may_abort(
    serve: Serve, hook_keyword: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is given a ServicerContext, whose way to refuse it is."""

    def refuses(context: Any) -> str:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?", (("ask", "ann"),))
        return "not reached"

    async def refuses_async(context: Any) -> str:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?", (("ask", "ann"),))
        return "not reached"

    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()),
        identify=refuses if hook_keyword == "def" else refuses_async,
    )
    with pytest.raises(grpc.RpcError) as raised:
        server.create()
    error: Any = raised.value
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAUTHENTICATED, "who are you?")
    assert ("ask", "ann") in [tuple(pair) for pair in error.trailing_metadata()]
    assert errors_logged(caplog) == []


def test_an_identify_that_sets_a_code_has_refused_the_call(serve: Serve, hook_keyword: str) -> None:
    """gRPC's other way to fail an RPC, whatever the function returns."""

    def refuses(context: Any) -> str:
        context.set_code(grpc.StatusCode.UNAUTHENTICATED)
        context.set_details("who are you?")
        return "ann"

    async def refuses_async(context: Any) -> str:
        return refuses(context)

    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()),
        identify=refuses if hook_keyword == "def" else refuses_async,
    )
    failure = refused(server.create)
    assert (failure.code, failure.message) == (grpc.StatusCode.UNAUTHENTICATED, "who are you?")


@pytest.mark.parametrize("wrong", [None, b"hunter2", {"password": "hunter2"}], ids=type)
def test_an_identify_that_returns_no_text_says_so_and_nothing_else(
    serve: Serve, hook_keyword: str, wrong: Any
) -> None:
    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()),
        identify=defined_with(hook_keyword, lambda context: wrong),
    )
    failure = refused(server.create)
    assert (failure.code, failure.info.reason) == (grpc.StatusCode.INTERNAL, "CONFIGURATION")
    assert type(wrong).__name__ in failure.message
    assert "hunter2" not in failure.message


# Who calls


def seeing_callers() -> tuple[Any, queue.SimpleQueue[tuple[str, int]]]:
    """Returns a run, sync or async by ``defined_with``, and the callers that it has seen."""
    seen: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()

    def run(self: Any, request: Any, op: Any) -> Any:
        seen.put((op.caller, op.attempt))
        return Instance()

    return run, seen


class _TruthOfItsOwn:
    def __bool__(self) -> bool:
        return True


@pytest.mark.parametrize(
    "answer",
    ["False", "True", 1, 0, None, (False, "why"), {}, futures.Future(), _TruthOfItsOwn(), object],
    ids=lambda answer: f"{type(answer).__name__}-{answer!s:.10}",
)
def test_an_authorize_allows_by_true_alone_and_denies_by_false_alone(
    serve: Serve, hook_keyword: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    allowed: Any = True
    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()),
        authorize=defined_with(hook_keyword, lambda access: allowed),
    )
    name = server.create().name
    before = server.done(name)
    allowed = answer
    returned = f"authorize returned {type(answer).__qualname__}; return True or False"
    for call in EVERY.values():
        failure = refused(lambda: call(server, name))  # noqa: B023 - called at once
        assert (failure.code, failure.info.reason) == (grpc.StatusCode.INTERNAL, "CONFIGURATION")
        assert failure.message == returned
    assert [returned in line for line in errors_logged(caplog)] == [True] * len(EVERY)
    allowed = True
    assert server.get(name) == before
    assert server.names() == [name]


def test_a_handler_sees_who_has_started_it(
    serve: Serve, handler_keyword: str, hook_keyword: str, store: str
) -> None:
    run, seen = seeing_callers()
    server = serve(
        fleet("CreateInstance", defined_with(handler_keyword, run)),
        identify=defined_with(hook_keyword, by_metadata),
        store=store,
    )
    for who in ("ann", "bob", ""):
        server.client(("caller", who)).create()
        assert seen.get(timeout=SECONDS) == (who, 1)


def test_without_identify_there_is_no_caller(serve: Serve, handler_keyword: str) -> None:
    run, seen = seeing_callers()
    server = serve(fleet("CreateInstance", defined_with(handler_keyword, run)))
    server.client(("caller", "ann")).create()
    assert seen.get(timeout=SECONDS) == ("", 1)


def test_after_a_restart_the_caller_is_who_it_was(
    serve: Serve, handler_keyword: str, file_url: str, door: Door
) -> None:
    held = Held("async def")
    first = serve(held.servicer(), store=file_url, identify=by_metadata)
    name = first.client(("caller", "ann")).create().name
    held.next()
    first.stop()

    run, seen = seeing_callers()
    servicer = fleet("CreateInstance", defined_with(handler_keyword, run))
    second = guarded(serve, door, servicer=servicer, store=file_url)
    assert seen.get(timeout=SECONDS) == ("ann", 2)
    second.get(name)
    assert door.accesses[-1].operation == lro_grpc.KnownOperation(
        name=name, method=CREATE, target=f"{PARENT}/instances/", caller="ann"
    )


def test_an_identify_sees_the_call(serve: Serve, hook_keyword: str) -> None:
    """On ``grpc.server`` too, where it does not run in the RPC's own thread."""
    seen: list[Any] = []

    def identify(context: Any) -> str:
        seen.append((context.peer(), dict(context.auth_context()), context.time_remaining()))
        return "ann"

    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()),
        identify=defined_with(hook_keyword, identify),
    )
    server.create()
    ((peer, auth, remaining),) = seen
    assert re.fullmatch(r"ipv4:127\.0\.0\.1:\d+|ipv4:127\.0\.0\.1%3A\d+", peer)
    assert "x509_common_name" not in auth
    assert remaining > 0


def test_mutual_tls_identifies_the_caller(
    serve: Serve, handler_keyword: str, hook_keyword: str
) -> None:
    """A ``grpc.server`` and a ``grpc.aio`` one show a certificate in the same way."""
    authority = Authority()
    run, seen = seeing_callers()

    def identify(context: Any) -> str:
        (common_name,) = context.auth_context()["x509_common_name"]
        return str(common_name.decode())

    server = serve(
        fleet("CreateInstance", defined_with(handler_keyword, run)),
        identify=defined_with(hook_keyword, identify),
        authorize=defined_with(hook_keyword, lambda access: access.caller != "mallory"),
        tls=(authority.server(), authority.client("ann")),
    )
    name = server.create().name
    assert seen.get(timeout=SECONDS) == ("ann", 1)
    server.client(credentials=authority.client("bob")).create()
    assert seen.get(timeout=SECONDS) == ("bob", 1)
    mallory = server.client(credentials=authority.client("mallory"))
    assert refused(lambda: mallory.get(name)).status == denied("operations.get", name)
    stranger = server.client(credentials=Authority(trusts=authority).client("ann"))
    assert refused(lambda: stranger.get(name)).code is grpc.StatusCode.UNAVAILABLE


# One caller's request_id is not another's (R2, S22)


def test_a_request_id_of_someone_else_is_another_id(serve: Serve, store: str) -> None:
    """It can be neither taken from them, nor probed."""
    server = guarded(serve, Door(), store=store)
    ann, bob = server.client(("caller", "ann")), server.client(("caller", "bob"))
    mine = ann.create(request_id=uuid_of("r"), instance_id="i").name
    others = bob.create(request_id=uuid_of("r"), instance_id="i").name
    assert others != mine
    for caller, name in ((ann, mine), (bob, others)):
        assert caller.create(request_id=uuid_of("r"), instance_id="i").name == name
        failure = refused(lambda: caller.create(request_id=uuid_of("r"), instance_id="x"))  # noqa: B023
        assert failure.info.reason == "REQUEST_ID_REUSED"
        assert dict(failure.info.metadata) == {"request_id": uuid_of("r"), "operation": name}
    assert server.names() == [others, mine]


@every_store
def test_of_callers_that_race_for_a_request_id_each_has_its_own(serve: Serve, store: str) -> None:
    server = guarded(serve, Door(), store=store)
    callers = [server.client(("caller", who)) for who in ("ann", "bob")]
    answers = together(8, lambda n: callers[n % 2].create(request_id=uuid_of("r")).name)
    assert len({*answers[::2]}) == len({*answers[1::2]}) == 1
    assert {*answers} == {*server.names()}


def test_a_caller_whose_own_request_is_refused_in_prepare_learns_nothing_of_the_others(
    serve: Serve,
) -> None:
    """``prepare`` may refuse what another's start has made: then its error is the RPC's own."""
    refusing = False

    def prepare(self: Any, request: Any, context: Any) -> None:
        if refusing:
            raise lro_grpc.LroError("no more", code=lro_grpc.Code.ALREADY_EXISTS, reason="THERE")

    servicer = fleet("CreateInstance", lambda self, request, op: Instance(), prepare=prepare)
    server = guarded(serve, Door(), servicer=servicer)
    ann, bob = server.client(("caller", "ann")), server.client(("caller", "bob"))
    mine = ann.create(request_id=uuid_of("r")).name
    refusing = True
    failure = refused(lambda: bob.create(request_id=uuid_of("r"), instance_id="other"))
    assert failure.info.reason == "THERE"
    failure = refused(lambda: ann.create(request_id=uuid_of("r"), instance_id="other"))
    assert failure.info.reason == "REQUEST_ID_REUSED"
    assert mine in failure.message


@pytest.mark.parametrize("validate_only", [False, True])
def test_who_has_an_exclusive_target_is_named_to_nobody_else(
    serve: Serve, store: str, validate_only: bool
) -> None:
    held = Held("async def")
    server = guarded(serve, Door(), servicer=held.servicer(exclusive=True), store=store)
    ann, bob = server.client(("caller", "ann")), server.client(("caller", "bob"))
    name = ann.create(instance_id="i").name
    held.next()
    target = f"{PARENT}/instances/i"
    own = refused(lambda: ann.create(instance_id="i", validate_only=validate_only))
    assert dict(own.info.metadata) == {"target": target, "operation": name}
    failure = refused(lambda: bob.create(instance_id="i", validate_only=validate_only))
    assert (failure.code, failure.info.reason) == (
        grpc.StatusCode.ABORTED,
        "OPERATION_IN_PROGRESS",
    )
    assert dict(failure.info.metadata) == {"target": target}
    assert name.rpartition("/")[2] not in str(failure)
    assert "ann" not in failure.message
    held.gate.open()


# Access that is taken back

AT_ONCE = timedelta(microseconds=1)


def test_a_watch_ends_when_its_access_is_taken_back(
    serve: Serve, door: Door, hook_keyword: str
) -> None:
    """It is asked again at each interval at which a state is repeated."""
    held = Held("async def")
    interval = timedelta(seconds=0.1)
    server = guarded(serve, door, hook_keyword, servicer=held.servicer(), watch_resend=interval)
    name = server.create().name
    held.next()
    watching = server.watching(name)
    next(watching)
    next(watching)
    door.shut = {"operations.watch"}
    with pytest.raises(grpc.RpcError) as raised:
        list(watching)
    assert failure_of(raised.value).status == denied("operations.watch", name)
    held.gate.open()


def test_a_watch_shows_no_end_to_a_caller_whose_access_is_taken_back(
    serve: Serve, door: Door, hook_keyword: str
) -> None:
    held = Held("async def")
    server = guarded(serve, door, hook_keyword, servicer=held.servicer(), watch_resend=AT_ONCE)
    name = server.create().name
    held.next()
    watching = server.watching(name)
    assert not next(watching).operation.done
    door.shut = {"operations.watch"}
    held.gate.open()
    seen = []
    with pytest.raises(grpc.RpcError) as raised:
        seen.extend(watching)
    assert not any(one.operation.done for one in seen)
    assert failure_of(raised.value).status == denied("operations.watch", name)


def test_a_long_wait_answers_nothing_to_a_caller_whose_access_is_taken_back(
    serve: Serve, door: Door, hook_keyword: str
) -> None:
    """Whether its time is over, or the operation ends."""
    held = Held("async def")
    server = guarded(serve, door, hook_keyword, servicer=held.servicer(), watch_resend=AT_ONCE)
    name = server.create().name
    held.next()
    waits = [server.waiting(name), server.waiting(name, 0.3)]
    server.wait(name, 0)
    door.shut = {"operations.wait"}
    assert failure_of(waits[1].exception(SECONDS)).status == denied("operations.wait", name)
    held.gate.open()
    assert failure_of(waits[0].exception(SECONDS)).status == denied("operations.wait", name)


# A policy by what the operation is (P12)


class Owners:
    """Only who has started an operation, or may start its method, may do anything with it."""

    def __init__(self) -> None:
        self.may_start = {"ann": {CREATE}, "admin": {CREATE, f"/{FLEET}/DeleteInstance"}}

    def __call__(self, access: lro_grpc.Access) -> bool:
        methods = self.may_start.get(access.caller, set())
        if access.permission == "operations.start":
            return access.method in methods
        operation = access.operation
        if operation is None:
            return bool(methods)
        return operation.caller == access.caller or operation.method in methods


@every_store
def test_a_policy_of_owners(serve: Serve, hook_keyword: str, store: str) -> None:
    owners = Owners()
    servicer = fleet("CreateInstance", lambda self, request, op: Instance())
    server = guarded(
        serve, Door(), servicer=servicer, authorize=defined_with(hook_keyword, owners), store=store
    )
    ann, bob, admin = (server.client(("caller", who)) for who in ("ann", "bob", "admin"))
    name = ann.create().name
    assert ann.done(name) == admin.get(name)
    assert refused(lambda: bob.get(name)).status == denied("operations.get", name)
    assert refused(bob.create).status == denied("operations.start", PARENT)
    missing = f"{PARENT}/operations/missing"
    assert refused(lambda: bob.get(missing)).status == denied("operations.get", missing)
    assert refused(lambda: ann.get(missing)).code is grpc.StatusCode.NOT_FOUND

    owners.may_start["ann"] = set()  # it is still hers
    assert ann.get(name).done
    ann.delete(name)
    assert refused(lambda: ann.get(name)).status == denied("operations.get", name)


@any_named
def test_a_caller_who_may_see_only_their_own_cannot_part_anothers_from_none(
    serve: Serve, hook_keyword: str, store: str, permission: str
) -> None:
    def own(access: lro_grpc.Access) -> bool:
        if access.permission == "operations.start":
            return access.caller != ""
        return access.operation is not None and access.operation.caller == access.caller

    servicer = fleet("CreateInstance", lambda self, request, op: Instance(), pausable=True)
    server = guarded(
        serve, Door(), servicer=servicer, authorize=defined_with(hook_keyword, own), store=store
    )
    ann, bob = server.client(("caller", "ann")), server.client(("caller", "bob"))
    name = ann.create().name
    assert ann.done(name).HasField("response")
    for other in (name, f"{PARENT}/operations/missing", "ill/formed"):
        failure = refused(lambda: NAMED[permission](bob, other))  # noqa: B023 - called at once
        assert failure.status == denied(permission, other)
    assert refused(lambda: bob.list()).status == denied("operations.list", PARENT)


# A body that is none


@pytest.mark.parametrize("permission", EVERY)
def test_a_body_that_is_no_request_asks_for_nothing(
    serve: Serve, door: Door, permission: str
) -> None:
    """Nobody can know the operation that it is about, and it shows nobody what exists."""
    server = guarded(serve, door)
    failure = refused(lambda: server.call(METHODS[permission], b"\xff\xff"))
    assert failure.info.reason == "MALFORMED_REQUEST"
    assert door.accesses == []


def test_a_caller_that_gives_up_while_it_is_asked_about_is_nobodys_failure(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    resources: queue.SimpleQueue[str] = queue.SimpleQueue()
    left: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def authorize(access: lro_grpc.Access) -> bool:
        if access.permission != "operations.get":
            return True
        resources.put(access.resource)
        try:
            await asyncio.Event().wait()
        finally:
            left.put(access.resource)
        return True

    server = serve(
        fleet("CreateInstance", lambda self, request, op: Instance()), authorize=authorize
    )
    request = operations_pb2.GetOperationRequest(name="operations/x")
    call = server.lro.GetOperation.future(request, timeout=SECONDS)
    assert resources.get(timeout=SECONDS) == "operations/x"
    call.cancel()
    assert left.get(timeout=SECONDS) == "operations/x"
    assert server.done(server.create().name).done
    assert errors_logged(caplog) == []


@pytest.mark.parametrize("parent", ["projects/-/locations/-", "-/p", "operations"])
def test_a_list_of_many_parents_is_asked_about_as_it_was_sent(
    serve: Serve, door: Door, parent: str
) -> None:
    """To see one parent's operations is not to see all of them."""
    server = guarded(
        serve, door, authorize=lambda access: access.resource == PARENT or door(access)
    )
    name = server.create().name
    door.shut = {"operations.list"}
    assert refused(lambda: server.list(parent)).status == denied("operations.list", parent)
    assert server.names() == [name]


def test_pausing_asks_for_a_permission_of_its_own(serve: Serve, door: Door) -> None:
    held = Held("async def")
    server = guarded(serve, door, servicer=held.servicer(pausable=True, concurrency=1))
    first, second = server.create().name, server.create().name
    held.next()
    door.shut = {"operations.pause"}
    request = control_pb2.PauseOperationRequest(name=second)
    failure = refused(lambda: server.control.PauseOperation(request, timeout=SECONDS))
    assert failure.status == denied("operations.pause", second)
    door.shut = {"operations.resume"}
    server.pause(second)
    assert refused(lambda: server.resume(second)).status == denied("operations.resume", second)
    door.shut = set()
    server.resume(second)
    held.gate.open()
    assert response_of(server.done(first)).seed_rows == 1
    assert response_of(server.done(second)).seed_rows == 1


# The filter of a list that tells what the list does not show

TELLING = [
    "caller = ann",
    "-worker = w",
    "-caller:a OR verb = x",
    'matches(caller, "a.*")',
    "done=true caller:*",
]


@pytest.mark.parametrize("text", TELLING)
def test_a_filter_that_names_the_caller_or_the_worker_needs_leave_to_describe(
    serve: Serve, door: Door, hook_keyword: str, text: str
) -> None:
    server = guarded(serve, door, hook_keyword)
    name = server.client(("caller", "ann")).create().name
    server.done(name)
    del door.accesses[:]
    server.list(filter=text)
    assert [(one.permission, one.resource) for one in door.accesses] == [
        ("operations.list", PARENT),
        ("operations.describe", PARENT),
    ]
    assert {one.method for one in door.accesses} == {METHODS["operations.list"]}
    assert {one.operation for one in door.accesses} == {None}
    door.shut.add("operations.describe")
    for parent in (PARENT, "projects/-/locations/l", "-", "projects/none"):
        failure = refused(lambda parent=parent: server.list(parent, filter=text))
        assert failure.status == denied("operations.describe", parent)
    assert len(server.list(filter="verb = create OR caller").operations) == 1
    door.shut.add("operations.list")
    failure = refused(lambda: server.list(filter=text))
    assert failure.status == denied("operations.list", PARENT)


def test_a_filter_finds_the_operations_of_a_caller(serve: Serve, door: Door) -> None:
    server = guarded(serve, door)
    of_ann = server.client(("caller", "ann")).create().name
    server.client(("caller", "bob")).create()
    assert [one.name for one in server.list(filter="caller = ann").operations] == [of_ann]
    assert len(server.list("-", filter="caller = (ann OR bob)").operations) == 2
