"""The clients that are generated for services, sync and async, against a hand-written server."""

from __future__ import annotations

import re
import uuid
from collections import deque
from concurrent import futures
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from fake_operations import operation
from google.rpc import error_details_pb2, status_pb2
from pages import Page
from server_harness import Server, serving
from server_harness import fleet as fleet_of

import lro_grpc
from lro.example.v1 import fleet_service_lro, fleet_service_pb2, fleet_service_pb2_grpc
from lro.v1.operation_metadata_pb2 import OperationMetadata
from lro_grpc import stubs
from lro_grpc._runtime.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.longrunning import operations_pb2

LOCATION = "projects/p/locations/l"
ROUTING = "x-goog-request-params"
QUICK = lro_grpc.Retry(backoff=lro_grpc.Backoff(initial=timedelta(milliseconds=1)), attempts=3)
CODES = [code for code in lro_grpc.Code if code.name not in ("OK", "UNAVAILABLE")]

Instance = fleet_service_pb2.Instance
CreateInstanceRequest = fleet_service_pb2.CreateInstanceRequest


class FakeFleet(fleet_service_pb2_grpc.FleetServiceServicer):
    """Records its calls; refuses a number of them, then starts an operation or answers."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.headers: list[dict[str, Any]] = []
        self.deadlines: list[float | None] = []
        self.refusals: deque[grpc.StatusCode] = deque()
        self.status = b""

    def CreateInstance(self, request: Any, context: Any) -> operations_pb2.Operation:
        self._note(request, context)
        metadata = OperationMetadata(target="t", progress_percent=100)
        return operation(response=Instance(name="made"), metadata=metadata)

    DeleteInstance = CreateInstance

    def GetInstance(self, request: Any, context: Any) -> Instance:
        self._note(request, context)
        return Instance(name=request.name)

    def _note(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.headers.append(dict(context.invocation_metadata()))
        self.deadlines.append(context.time_remaining())
        if self.refusals:
            if self.status:
                context.set_trailing_metadata((("grpc-status-details-bin", self.status),))
            context.abort(self.refusals.popleft(), "not now")


class HastyClock(SystemClock):
    """Its time passes only while someone sleeps, and then at once."""

    def __init__(self) -> None:
        self._passed = 0.0

    def monotonic(self) -> float:
        return self._passed

    async def sleep(self, seconds: float) -> None:
        self._passed += seconds


@pytest.fixture
def fleet() -> FakeFleet:
    return FakeFleet()


@pytest.fixture
def target(fleet: FakeFleet) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    fleet_service_pb2_grpc.add_FleetServiceServicer_to_server(fleet, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(params=["sync", "async"])
def side(request: pytest.FixtureRequest, sides: Any, target: str) -> Iterator[Any]:
    side = sides[request.param](target)
    yield side
    side.close()


def client(side: Any, **how: Any) -> Any:
    kind: Any = (
        fleet_service_lro.AsyncFleetServiceClient
        if side.is_async
        else fleet_service_lro.FleetServiceClient
    )
    return kind(side.channel, **{"retry": QUICK, **how})


def get(side: Any, fleets: Any, name: str, **how: Any) -> Instance:
    """Calls a plain method, on the event loop of an async client."""
    wanted = fleet_service_pb2.GetInstanceRequest(name=name)
    if not side.is_async:
        instance: Instance = fleets.GetInstance(wanted, **how)
        return instance

    async def awaited() -> Any:
        call = fleets.GetInstance(wanted, **how)
        assert isinstance(call, grpc.aio.UnaryUnaryCall)
        return await call

    return side.run(awaited())


def request(**fields: Any) -> CreateInstanceRequest:
    return CreateInstanceRequest(**{"parent": LOCATION, "instance_id": "i", **fields})


def test_a_long_running_method_returns_a_future(side: Any) -> None:
    """C1."""
    future = side.run(client(side).CreateInstance(request()))
    assert future.name == "operations/1"
    assert side.run(future.result()) == Instance(name="made")
    assert future.metadata.target == "t"


def test_the_future_expects_the_types_of_operation_info(side: Any) -> None:
    """P11: what the server sends is an Instance, and Empty is declared."""
    future = side.run(client(side).DeleteInstance(fleet_service_pb2.DeleteInstanceRequest()))
    for _ in range(2):
        with pytest.raises(lro_grpc.WrongTypeError, match=r"google\.protobuf\.Empty"):
            side.run(future.result())


def test_a_request_id_is_made_where_none_is_given(side: Any, fleet: FakeFleet) -> None:
    """C7: a UUID4, another for each request; the caller's request stays as it is."""
    given, fleets = request(), client(side)
    for _ in range(2):
        side.run(fleets.CreateInstance(given))
    ids = [uuid.UUID(one.request_id) for one in fleet.requests]
    assert {one.version for one in ids} == {4}
    assert len(set(ids)) == 2
    assert given == request()
    for sent in fleet.requests:
        sent.ClearField("request_id")
        assert sent == given


def test_a_request_id_that_is_given_is_sent(side: Any, fleet: FakeFleet) -> None:
    side.run(client(side).CreateInstance(request(request_id="mine")))
    assert fleet.requests == [request(request_id="mine")]


def test_who_makes_request_ids_can_be_chosen(side: Any, fleet: FakeFleet) -> None:
    fleets = client(side, new_request_id=lambda: "chosen")
    side.run(fleets.CreateInstance(request()))
    assert fleet.requests == [request(request_id="chosen")]


@pytest.mark.parametrize("given", ["", "mine"])
def test_an_unavailable_server_is_asked_again_with_the_same_request(
    side: Any, fleet: FakeFleet, given: str
) -> None:
    """C2, C7."""
    fleet.refusals.extend([grpc.StatusCode.UNAVAILABLE] * 2)
    future = side.run(client(side).CreateInstance(request(request_id=given)))
    assert future.name == "operations/1"
    first, *others = fleet.requests
    assert first.request_id
    assert others == [first, first]


def test_it_is_not_asked_for_ever(side: Any, fleet: FakeFleet) -> None:
    fleet.refusals.extend([grpc.StatusCode.UNAVAILABLE] * 4)
    with pytest.raises(lro_grpc.LroError) as raised:
        side.run(client(side).CreateInstance(request()))
    assert raised.value.code is lro_grpc.Code.UNAVAILABLE
    assert len(fleet.requests) == QUICK.attempts


def within(deadlines: Sequence[float | None], *timeouts: float) -> bool:
    """Tells whether calls had these timeouts; some of each is over when a call arrives."""
    pairs = zip(deadlines, timeouts, strict=True)
    return all(seen and timeout - 5 < seen < timeout + 1 for seen, timeout in pairs)


def test_the_timeout_is_for_all_attempts_together(side: Any, fleet: FakeFleet) -> None:
    fleet.refusals.extend([grpc.StatusCode.UNAVAILABLE] * 3)
    backoff = lro_grpc.Backoff(timedelta(seconds=5), 2, timedelta(seconds=20), jitter=False)
    fleets = client(side, retry=lro_grpc.Retry(backoff=backoff), clock=HastyClock())
    with pytest.raises(lro_grpc.LroError) as raised:
        side.run(fleets.CreateInstance(request(), timeout=timedelta(seconds=30)))
    assert raised.value.code is lro_grpc.Code.UNAVAILABLE
    assert within(fleet.deadlines, 30, 25, 15)


@pytest.mark.parametrize("code", CODES, ids=lambda code: code.name)
def test_no_other_error_is_worth_another_attempt(side: Any, fleet: FakeFleet, code: Any) -> None:
    """C2."""
    fleet.refusals.append(grpc.StatusCode[code.name])
    with pytest.raises(lro_grpc.LroError) as raised:
        side.run(client(side).CreateInstance(request()))
    assert raised.value.code is code
    assert len(fleet.requests) == 1


def test_retries_can_be_turned_off_and_codes_chosen(side: Any, fleet: FakeFleet) -> None:
    """C3."""
    fleet.refusals.append(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(lro_grpc.LroError):
        side.run(client(side, retry=None).CreateInstance(request()))
    fleet.refusals.append(grpc.StatusCode.ABORTED)
    retry = lro_grpc.Retry(frozenset({lro_grpc.Code.ABORTED}), QUICK.backoff)
    side.run(client(side, retry=retry).CreateInstance(request()))
    assert len(fleet.requests) == 3


def test_what_has_no_request_id_is_started_once(side: Any, fleet: FakeFleet) -> None:
    """C2: it is not safe to repeat."""
    rpc = stubs.LongRunning(
        "/lro.example.v1.FleetService/CreateInstance",
        fleet_service_pb2.ListInstancesRequest,
        Instance,
        OperationMetadata,
    )
    fleet.refusals.append(grpc.StatusCode.UNAVAILABLE)
    fleets = client(side)
    anonymous = fleet_service_pb2.ListInstancesRequest(parent=LOCATION)
    with pytest.raises(lro_grpc.LroError):
        side.run(fleets._start(rpc, anonymous, None, ()))
    assert len(fleet.requests) == 1


def test_the_error_of_a_start_has_everything_that_the_server_sent(
    side: Any, fleet: FakeFleet
) -> None:
    """C8."""
    info = error_details_pb2.ErrorInfo(reason="NO_ROOM", domain="fleet", metadata={"left": "0"})
    status = status_pb2.Status(code=8, message="no room")
    status.details.add().Pack(info)
    fleet.refusals.append(grpc.StatusCode.RESOURCE_EXHAUSTED)
    fleet.status = status.SerializeToString()
    with pytest.raises(lro_grpc.LroError) as raised:
        side.run(client(side).CreateInstance(request()))
    error = raised.value
    assert (error.code, error.message) == (lro_grpc.Code.RESOURCE_EXHAUSTED, "no room")
    assert (error.reason, error.domain, error.metadata) == ("NO_ROOM", "fleet", {"left": "0"})


def test_a_start_on_a_closed_channel_says_so(side: Any, sides: Any, target: str) -> None:
    other = sides["async" if side.is_async else "sync"](target)
    fleets = client(other)
    other.run(other.channel.close())
    with pytest.raises(lro_grpc.LroError) as raised:
        other.run(fleets.CreateInstance(request()))
    assert raised.value.reason == "CHANNEL_CLOSED"
    other.close()


def test_the_header_routes_every_call(side: Any, fleet: FakeFleet) -> None:
    """C4: encoded, but for slashes; not sent when the request names nothing."""
    fleets = client(side)
    side.run(fleets.CreateInstance(request(parent="projects/p €/locations/l")))
    side.run(fleets.CreateInstance(request(parent="")))
    get(side, fleets, "instances/a&b")
    assert [headers.get(ROUTING) for headers in fleet.headers] == [
        "parent=projects/p%20%E2%82%AC/locations/l",
        None,
        "name=instances/a%26b",
    ]


def test_metadata_of_the_client_and_of_the_call_is_sent(side: Any, fleet: FakeFleet) -> None:
    fleets = client(side, call_metadata=[("x-user", "ada")])
    side.run(fleets.CreateInstance(request(), metadata=[("x-trace", "1")]))
    get(side, fleets, "i")
    assert fleet.headers[0].items() >= {("x-user", "ada"), ("x-trace", "1")}
    assert fleet.headers[1]["x-user"] == "ada"


@pytest.fixture(params=["sync", "aio"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that lets nobody near an operation but who has started it, by its metadata."""

    def run(self: Any, request: Any, op: Any) -> Any:
        if request.instance_id == "held":
            raise lro_grpc.RetryableError("not yet", retry_after=timedelta(hours=1))
        return Instance(name="made")

    def identify(context: Any) -> str:
        return str(dict(context.invocation_metadata()).get("authorization", ""))

    def authorize(access: lro_grpc.Access) -> bool:
        if access.permission == "operations.start":
            return access.caller != ""
        return access.operation is not None and access.operation.caller == access.caller

    with serving(
        request.param, fleet_of("CreateInstance", run), identify=identify, authorize=authorize
    ) as one:
        yield one


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_metadata_of_a_start_is_sent_by_its_future_as_well(
    guarded: Server, sides: Any, is_async: bool
) -> None:
    ada = [("authorization", "ada"), (ROUTING, "parent=p")]
    side = sides["async" if is_async else "sync"](guarded.target)
    try:
        fleets = client(side)
        future = side.run(fleets.CreateInstance(request(), metadata=ada))
        assert side.items(future.updates())[-1].done
        assert side.run(future.result()) == Instance(name="made")
        held = side.run(fleets.CreateInstance(request(instance_id="held"), metadata=ada))
        assert not side.run(held.done())
        assert side.run(held.cancel())
        with pytest.raises(lro_grpc.OperationCancelledError):
            side.run(held.result())

        # The same by hand: of a stub's operation, and by its name.
        bare = fleets.operations
        for again in (
            bare.future(held.operation, call_metadata=ada[:1]),
            bare.attach(held.name, call_metadata=ada[:1]),
        ):
            assert side.run(again.cancelled())
        with pytest.raises(lro_grpc.PermissionDeniedError):
            side.run(bare.attach(held.name).done())
        side.run(bare.attach(held.name, call_metadata=ada[:1]).delete())
    finally:
        side.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_metadata_that_can_be_read_but_once_is_sent_with_every_call(
    guarded: Server, sides: Any, is_async: bool
) -> None:
    def once() -> Any:
        yield "authorization", "ada"

    side = sides["async" if is_async else "sync"](guarded.target)
    try:
        of_the_start = side.run(client(side).CreateInstance(request(), metadata=once()))
        assert side.run(of_the_start.result()) == Instance(name="made")
        of_the_client = side.run(client(side, call_metadata=once()).CreateInstance(request()))
        assert side.run(of_the_client.result()) == Instance(name="made")
    finally:
        side.close()


def test_metadata_that_changes_between_two_attempts_is_sent_as_it_was(
    side: Any, fleet: FakeFleet
) -> None:
    given = [("x-user", "ada")]

    class Changes(HastyClock):
        async def sleep(self, seconds: float) -> None:
            given[:] = [("x-user", "bob")]

    fleet.refusals.append(grpc.StatusCode.UNAVAILABLE)
    side.run(client(side, clock=Changes()).CreateInstance(request(), metadata=given))
    assert [one["x-user"] for one in fleet.headers] == ["ada", "ada"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "metadata is a NoneType; give pairs"),
        ({"ab": "secret"}, "metadata is a dict; give pairs"),
        ([("x-user", "ada", "secret")], "metadata has a tuple; give pairs of two"),
        ([("X-User", "secret")], "metadata has the key 'X-User'; a key has a-z"),
        ([(b"x-user", "secret")], "metadata has the key b'x-user'; a key has a-z"),
        ([("x-user", None)], "metadata has a NoneType for 'x-user'; give a text"),
        ([("x-bin", "secret")], "metadata has a str for 'x-bin'; give bytes"),
    ],
)
def test_nothing_is_called_with_metadata_that_cannot_be(
    side: Any, fleet: FakeFleet, wrong: Any, words: str
) -> None:
    fleets = client(side)
    for call in (
        lambda: side.run(fleets.CreateInstance(request(), metadata=wrong)),
        lambda: get(side, fleets, "i", metadata=wrong),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(words)}") as caught:
            call()
        assert "secret" not in str(caught.value)
    assert fleet.requests == []


def test_the_pages_lines_hand_the_metadata_on(guarded: Server) -> None:
    blocks = Page("learn/clients.md").texts("python")
    (block,) = (one for one in blocks if one.startswith("ada = "))
    with grpc.insecure_channel(guarded.target) as channel:
        names: dict[str, Any] = {
            "reports": fleet_service_lro.FleetServiceClient(channel),
            "client": lro_grpc.OperationsClient(channel),
            "request": request(),
        }
        names["reports"].BuildReport = names["reports"].CreateInstance
        exec(compile(block.replace("…", "ada"), "docs/learn/clients.md", "exec"), names)
        assert names["future"].result() == names["again"].result() == Instance(name="made")


def test_futures_whose_calls_send_the_same_share_them(side: Any) -> None:
    operations = side.client()
    ada, bob = [("authorization", "ada")], [("authorization", "bob")]
    one = operations.attach("operations/1", call_metadata=ada)
    same = operations.attach("operations/1", call_metadata=(["authorization", "ada"],))
    other = operations.attach("operations/1", call_metadata=bob)
    plain = operations.attach("operations/1")
    assert one._watcher is same._watcher
    assert len({one._watcher, other._watcher, plain._watcher}) == 3


def test_a_plain_method_is_that_of_grpcs_own_stub(side: Any, fleet: FakeFleet) -> None:
    fleets = client(side)
    assert get(side, fleets, "i", timeout=timedelta(seconds=30)) == Instance(name="i")
    assert within(fleet.deadlines, 30)
    fleet.refusals.append(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(grpc.RpcError):
        get(side, fleets, "i")
    assert len(fleet.requests) == 2


def test_the_operations_are_followed_by_the_client_that_is_given(side: Any) -> None:
    operations = side.client()
    assert client(side, operations=operations).operations is operations
    assert isinstance(client(side).operations, type(operations))


def test_a_typed_client_says_how_its_futures_wait(side: Any) -> None:
    with pytest.raises(ValueError, match="wait is 'never'"):
        client(side, wait="never")
    assert client(side, wait="poll").operations._core._polls


def test_the_longest_timeout_is_a_deadline_to_come(side: Any) -> None:
    fleets = client(side)
    assert get(side, fleets, "i", timeout=timedelta.max) == Instance(name="i")
    future = side.run(fleets.CreateInstance(request(), timeout=timedelta.max))
    assert side.run(future.result()) == Instance(name="made")
