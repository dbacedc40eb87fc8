"""Outcomes of handlers: the right code, details intact, and the server goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, duration_pb2, empty_pb2
from google.rpc import code_pb2, error_details_pb2
from server_harness import (
    Instance,
    Server,
    defined_with,
    error_info,
    errors_logged,
    metadata_of,
    response_of,
    serving,
)

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro.v1 import state_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Serve = Any

SERVICE = "test.failures.v1.Failures"


class Fails:
    """Runs one handler after the other on a server that stays the same."""

    def __init__(self, server: Server, handler_keyword: str) -> None:
        self.server = server
        self._keyword = handler_keyword

    def run(self, handler: Callable[[Any, Any], Any]) -> operations_pb2.Operation:
        """Starts an operation with this handler, and returns it when it is done."""
        _HANDLERS["next"] = handler
        method = "Plain" if self._keyword == "def" else "Coroutine"
        name = self.server.start(f"/{SERVICE}/{method}", Instance(name="x")).name
        operation = self.server.wait(name, 3)
        assert operation.done, f"the operation has not ended: {metadata_of(operation)}"
        return operation


_HANDLERS: dict[str, Callable[[Any, Any], Any]] = {}


def _next(request: Any, op: Any) -> Any:
    return _HANDLERS["next"](request, op)


@pytest.fixture(scope="module", params=["sync", "aio"])
def shared(request: pytest.FixtureRequest) -> Iterator[Server]:
    def configure(operations: lro_grpc.Operations) -> None:
        for method, stack in (("Plain", "def"), ("Coroutine", "async def")):
            operations.add_method(
                f"/{SERVICE}/{method}",
                defined_with(stack, _next),
                request=Instance,
                response=Instance,
            )

    with serving(request.param, configure=configure, grace=0.1) as server:
        yield server


@pytest.fixture
def fails(shared: Server, handler_keyword: str) -> Iterator[Fails]:
    """After each test the server still runs the next operation."""
    fails = Fails(shared, handler_keyword)
    yield fails
    assert response_of(fails.run(lambda request, op: Instance(name="fine"))).name == "fine"


def raising(error: BaseException) -> Callable[[Any, Any], Any]:
    def run(request: Any, op: Any) -> Any:
        raise error

    return run


# The wrong type, and nothing at all


@pytest.mark.parametrize(
    ("returned", "shown"),
    [
        (None, "NoneType"),
        ("projects/p", "str"),
        (fleet_service_pb2.Snapshot(name="a snapshot"), "Snapshot"),
        (empty_pb2.Empty(), "Empty"),
        (Instance, "MessageMeta"),
        (Instance().SerializeToString(), "bytes"),
        ((Instance(),), "tuple"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_response_fails_the_operation_and_is_named(
    fails: Fails, returned: Any, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended = fails.run(lambda request, op: returned)
    assert ended.error.code == code_pb2.INTERNAL
    info = error_info(ended.error)
    assert (info.reason, info.domain) == ("WRONG_TYPE", "lro-grpc")
    assert shown in ended.error.message
    assert "lro.example.v1.Instance" in ended.error.message
    assert f"/{SERVICE}/" in ended.error.message
    assert metadata_of(ended).state == state_pb2.JOB_STATE_FAILED
    assert not [line for line in errors_logged(caplog) if "incident" in line]


# Exceptions that the handler did not mean


class Unprintable(Exception):  # noqa: N818 - as a service may name it
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Bail(BaseException):
    """Such as pytest.exit or trio.Cancelled raise."""


class Grouped(Exception):  # noqa: N818 - as a service may name it
    """Has the attribute of a group, and is none."""

    @property
    def exceptions(self) -> Any:
        raise RuntimeError("there are none")


class Unborn(lro_grpc.LroError):
    """Has nothing of what its base sets up."""

    def __init__(self) -> None:
        pass


def changed(**values: Any) -> lro_grpc.LroError:
    """Returns an error to which someone has set what its constructor would have refused."""
    error = lro_grpc.LroError("tiger", code=lro_grpc.Code.ABORTED)
    for name, value in values.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the password is tiger"),
        KeyError("tiger"),
        AssertionError("tiger"),
        TimeoutError("tiger"),
        StopIteration("tiger"),
        StopAsyncIteration("tiger"),
        GeneratorExit("tiger"),
        SystemExit("tiger"),
        KeyboardInterrupt("tiger"),
        asyncio.CancelledError("tiger"),
        RecursionError("tiger"),
        MemoryError("tiger"),
        Bail("tiger"),
        Grouped("tiger"),
        Unborn(),
        changed(code=0),
        changed(code=99),
        changed(details=["tiger"]),
        changed(details=[None]),
        Unprintable(),
        BrokenPipeError(32, "tiger"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_unmeant_exception_leaks_nothing_but_its_incident(
    fails: Fails, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the log has it; the caller gets a number to ask for."""
    ended = fails.run(raising(error))
    assert ended.error.code == code_pb2.INTERNAL
    info = error_info(ended.error)
    assert (info.reason, info.domain) == ("UNEXPECTED", "lro-grpc")
    assert list(info.metadata) == ["incident"]
    assert info.metadata["incident"] in ended.error.message
    assert b"tiger" not in ended.SerializeToString()
    assert type(error).__name__.encode() not in ended.SerializeToString()
    logged = [line for line in errors_logged(caplog) if info.metadata["incident"] in line]
    assert len(logged) == 1
    assert type(error).__name__ in caplog.text


def test_each_incident_has_its_own_number(fails: Fails) -> None:
    ended = [fails.run(raising(ValueError("same"))) for _ in range(2)]
    first, second = (error_info(one.error).metadata["incident"] for one in ended)
    assert first != second


def test_a_next_too_many_fails_the_operation(fails: Fails) -> None:
    ended = fails.run(lambda request, op: next(iter(())))
    assert ended.error.code == code_pb2.INTERNAL
    assert error_info(ended.error).reason == "UNEXPECTED"


# Errors that the handler did mean


def test_an_lro_error_comes_through_with_every_detail(
    fails: Fails, caplog: pytest.LogCaptureFixture
) -> None:
    """S4, S21: as an RPC's own error would."""
    details = [
        error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field="a.b", description="é ☃")
            ]
        ),
        error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=7)),
        error_details_pb2.Help(
            links=[error_details_pb2.Help.Link(description="why", url="https://example.com")]
        ),
        fleet_service_pb2.Instance(name="a message of the service's own", size_bytes=2**40),
    ]
    ended = fails.run(
        raising(
            lro_grpc.LroError(
                "no room for 'é'",
                code=lro_grpc.Code.RESOURCE_EXHAUSTED,
                reason="NO_ROOM",
                domain="fleet.example.com",
                metadata={"zone": "a", "asked": "é"},
                details=details,
            )
        )
    )
    error = ended.error
    assert error.code == code_pb2.RESOURCE_EXHAUSTED
    assert error.message == "no room for 'é'"
    expected = error_details_pb2.ErrorInfo(
        reason="NO_ROOM", domain="fleet.example.com", metadata={"zone": "a", "asked": "é"}
    )
    assert error_info(error) == expected
    others = [d for d in error.details if not d.Is(expected.DESCRIPTOR)]
    packed = [any_pb2.Any() for _ in details]
    for one, detail in zip(packed, details, strict=True):
        one.Pack(detail)
    assert others == packed
    assert errors_logged(caplog) == []
    assert metadata_of(ended).state == state_pb2.JOB_STATE_FAILED


def test_an_error_info_among_the_details_is_the_one(fails: Fails) -> None:
    info = error_details_pb2.ErrorInfo(reason="MINE", domain="mine.example.com")
    ended = fails.run(
        raising(lro_grpc.LroError("x", code=lro_grpc.Code.ABORTED, details=[info, info]))
    )
    assert error_info(ended.error) == info


def test_a_detail_that_is_packed_already_is_kept(fails: Fails) -> None:
    packed = any_pb2.Any(type_url="type.googleapis.com/nobody.knows.This", value=b"\x01\x02")
    ended = fails.run(
        raising(lro_grpc.LroError("x", code=lro_grpc.Code.DATA_LOSS, details=[packed]))
    )
    assert ended.error.code == code_pb2.DATA_LOSS
    assert packed in list(ended.error.details)


@pytest.mark.parametrize("code", [c for c in lro_grpc.Code if c.name not in ("OK", "CANCELLED")])
def test_every_code_comes_through(fails: Fails, code: lro_grpc.Code) -> None:
    ended = fails.run(raising(lro_grpc.LroError("no", code=code)))
    assert ended.error.code == code
    assert error_info(ended.error) == error_details_pb2.ErrorInfo(reason=code.name, domain=SERVICE)
    assert metadata_of(ended).state == state_pb2.JOB_STATE_FAILED


def test_the_code_cancelled_makes_it_a_cancellation(fails: Fails) -> None:
    """The state that a client is shown and the code must say the same (P8)."""
    ended = fails.run(raising(lro_grpc.LroError("over", code=lro_grpc.Code.CANCELLED)))
    assert ended.error.code == code_pb2.CANCELLED
    assert metadata_of(ended).state == state_pb2.JOB_STATE_CANCELLED


def test_a_handlers_own_reason_is_in_the_domain_of_its_service(fails: Fails) -> None:
    ended = fails.run(raising(lro_grpc.InvalidArgumentError("rows is -1", reason="NEGATIVE_ROWS")))
    assert ended.error.code == code_pb2.INVALID_ARGUMENT
    info = error_info(ended.error)
    assert (info.reason, info.domain) == ("NEGATIVE_ROWS", SERVICE)


def test_error_domain_stands_for_the_services_name(serve: Serve) -> None:
    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            f"/{SERVICE}/Fail",
            raising(lro_grpc.LroError("x", code=lro_grpc.Code.ABORTED)),
            request=Instance,
            response=Instance,
        )

    server = serve(configure=configure, error_domain="fleet.example.com")
    ended = server.done(server.start(f"/{SERVICE}/Fail", Instance()).name)
    assert error_info(ended.error).domain == "fleet.example.com"


@pytest.mark.parametrize(
    ("message", "metadata"),
    [
        ("rows", {"rows": 5}),  # a number where a text belongs
        ("no file caf\udce9", {}),  # what os.fsdecode makes of a name that is not UTF-8
        ("a name", {"path": "caf\udce9"}),
        (ValueError("not a text"), {}),
    ],
    ids=["number", "surrogate", "surrogate-in-metadata", "not-a-text"],
)
def test_an_lro_error_that_protobuf_cannot_carry_still_fails_the_operation(
    fails: Fails, message: Any, metadata: Any
) -> None:
    """The handler slipped; the operation must end all the same, with the code that was meant."""
    ended = fails.run(
        lambda request, op: raise_lro_error(message, lro_grpc.Code.NOT_FOUND, metadata)
    )
    assert ended.WhichOneof("result") == "error"
    assert ended.error.code in (code_pb2.NOT_FOUND, code_pb2.INTERNAL)
    assert error_info(ended.error).domain


def raise_lro_error(message: Any, code: lro_grpc.Code, metadata: Any) -> Any:
    raise lro_grpc.LroError(message, code=code, metadata=metadata)


def test_progress_that_protobuf_cannot_carry_does_not_hold_the_operation_up(fails: Fails) -> None:
    def run(request: Any, op: Any) -> Any:
        op.progress(10, "copying caf\udce9")
        return Instance(name="copied")

    ended = fails.run(run)
    assert ended.WhichOneof("result") in ("response", "error")


@pytest.mark.parametrize(
    "detail",
    ["copying caf\udce9", 5, b"\xff", object()],
    ids=["surrogate", "int", "bytes", "object"],
)
def test_what_sqlite_cannot_hold_harms_no_other_operation(
    serve: Serve, handler_keyword: str, file_url: str, detail: Any
) -> None:
    """A metadata type without a place for the detail: then only the store gets to see it."""

    def run(request: Any, op: Any) -> Any:
        if request.name == "bad":
            op.progress(10, detail)
        return Instance(name=request.name)

    def configure(operations: lro_grpc.Operations) -> None:
        operations.add_method(
            f"/{SERVICE}/Make",
            defined_with(handler_keyword, run),
            request=Instance,
            response=Instance,
            metadata=Instance,
        )

    server = serve(configure=configure, store=file_url, grace=0.1)
    bad = server.start(f"/{SERVICE}/Make", Instance(name="bad"))
    request = Instance(name="good")
    body = server.call(f"/{SERVICE}/Make", request.SerializeToString(), timeout=30)
    good = operations_pb2.Operation.FromString(body)
    assert response_of(server.wait(good.name, 3)) == request
    assert server.wait(bad.name, 3).done


def test_a_big_error_is_kept_whole(fails: Fails) -> None:
    message = "x" * 100_000
    ended = fails.run(raising(lro_grpc.LroError(message, code=lro_grpc.Code.ABORTED)))
    assert ended.error.message == message
    assert fails.server.get(ended.name) == ended
