from __future__ import annotations

import copy
import enum
import inspect
import pickle
from datetime import timedelta

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc import _errors
from lro_grpc._errors import (
    LIBRARY_DOMAIN,
    AttemptStopped,
    Code,
    ConfigurationError,
    InvalidArgumentError,
    InvalidNameError,
    LimitReachedError,
    LroError,
    OperationCancelledError,
    OperationFailedError,
    OperationTimeoutError,
    PermissionDeniedError,
    RetryableError,
    StopReason,
    UnavailableError,
    UndeliverableError,
    from_status,
    to_status,
)
from lro_grpc._operation.events import apply_safely
from lro_grpc._operation.record import Record
from lro_grpc._runtime.public_error import status_of
from lro_grpc.conformance import StoreConformance

INFO = "google.rpc.ErrorInfo"


def classes() -> list[type[LroError]]:
    return [
        one for _, one in inspect.getmembers(_errors, inspect.isclass) if issubclass(one, LroError)
    ]


SPECIAL = (LroError, OperationFailedError, OperationCancelledError)
SIMPLE = [
    one for one in classes() if one not in (*SPECIAL, LimitReachedError, OperationTimeoutError)
]

OF_HANDLERS = (RetryableError, UndeliverableError)
"""The errors that a service's own code raises, with any code; they are told to nobody as such."""


def info_in(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    (packed,) = [one for one in status.details if one.TypeName() == INFO]
    info = error_details_pb2.ErrorInfo()
    assert packed.Unpack(info)
    return info


# An error.


def test_codes_are_the_canonical_ones():
    assert {one.name: one.value for one in Code} == dict(code_pb2.Code.items())


def test_an_error_says_what_its_code_says_unless_given_otherwise():
    error = LroError("no such disk", code=Code.NOT_FOUND)
    assert (error.code, error.reason, error.domain) == (Code.NOT_FOUND, "NOT_FOUND", "")
    assert (error.message, str(error)) == ("no such disk", "NOT_FOUND: no such disk")
    assert (error.metadata, error.details) == ({}, ())
    assert LroError("something").code is Code.UNKNOWN


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_a_code_may_be_grpcs_own_constant(code):
    assert LroError("x", code=grpc.StatusCode[code.name]).code is code


@pytest.mark.parametrize("code", [0, 17, -1, 99, grpc.StatusCode.OK])
def test_a_code_that_is_ok_or_unknown_is_a_mistake(code):
    with pytest.raises(ValueError, match=r"OK|valid Code"):
        LroError("x", code=code)


@pytest.mark.parametrize("reason", ["AB", "A1", "NO_ROOM", "A" * 63, "X_9"])
def test_a_reason_is_upper_snake_case(reason):
    assert LroError("x", code=5, reason=reason).reason == reason


@pytest.mark.parametrize(
    "reason", ["a", "A", "no_room", "NO-ROOM", "_NO", "NO_", "1A", "A" * 64, "NO ROOM", "AB\n"]
)
def test_another_reason_is_a_mistake(reason):
    """S21: [A-Z][A-Z0-9_]+[A-Z0-9], at most 63 characters."""
    with pytest.raises(ValueError, match="AIP-193"):
        LroError("x", code=5, reason=reason)


def test_an_error_info_among_the_details_stands_for_reason_domain_and_metadata():
    info = error_details_pb2.ErrorInfo(reason="FULL", domain="d.example", metadata={"a": "1"})
    error = LroError("x", code=8, details=[info])
    assert (error.reason, error.domain, error.metadata) == ("FULL", "d.example", {"a": "1"})
    assert info_in(to_status(error)) == info


@pytest.mark.parametrize("kind", SIMPLE, ids=lambda kind: kind.__name__)
def test_every_error_of_the_library_has_a_code_a_reason_and_its_domain(kind):
    """S21."""
    error = kind("x")
    assert error.code is kind.default_code is not Code.UNKNOWN
    assert error.domain == ("" if kind in (InvalidArgumentError, *OF_HANDLERS) else LIBRARY_DOMAIN)
    assert error.reason == (kind.default_reason or kind.default_code.name)


def test_no_two_errors_of_the_library_share_code_and_reason():
    pairs = [(one.default_code, one.default_reason) for one in classes() if one.default_reason]
    assert len(set(pairs)) == len(pairs)


def test_a_limit_names_what_it_is_on():
    status = to_status(LimitReachedError("1000 wait; try later", subject="queue:/x.Y/Z"))
    assert status.code == Code.RESOURCE_EXHAUSTED
    failure = error_details_pb2.QuotaFailure()
    assert status.details[1].Unpack(failure)
    assert [one.subject for one in failure.violations] == ["queue:/x.Y/Z"]
    assert info_in(status).metadata == {"subject": "queue:/x.Y/Z"}


def test_a_timeout_is_also_a_python_timeout_and_has_the_last_state():
    operation = operations_pb2.Operation(name="operations/1")
    error = OperationTimeoutError(
        "operations/1 is not done after 5 s", operation=operation, elapsed=timedelta(seconds=5)
    )
    assert isinstance(error, TimeoutError)
    assert error.operation is operation
    assert (error.name, error.elapsed) == ("operations/1", timedelta(seconds=5))
    assert error.operation_metadata is None
    assert error.metadata == {"operation": "operations/1"}
    assert str(error) == (
        "DEADLINE_EXCEEDED (OPERATION_TIMEOUT): operations/1 is not done after 5 s"
    )


@pytest.mark.parametrize("known", [True, False])
def test_an_operations_error_has_the_operations_metadata_as_its_message(known: bool):
    operation = operations_pb2.Operation(name="operations/1")
    operation.error.code = 5
    operation.metadata.Pack(duration_pb2.Duration(seconds=3))
    if not known:
        operation.metadata.type_url = "type.googleapis.com/nowhere.Nothing"
    error = OperationFailedError(operation)
    assert error.name == "operations/1"
    expected = duration_pb2.Duration(seconds=3) if known else operation.metadata
    assert error.operation_metadata == expected


@pytest.mark.parametrize("way", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_that_needs_more_than_a_message_can_be_copied_and_pickled(way):
    operation = operations_pb2.Operation(name="operations/1", done=True)
    operation.error.code = 7
    operation.error.message = "not yours"
    late = _errors.OperationTimeoutError("late", operation=operation, elapsed=timedelta(1))
    limit = _errors.LimitReachedError("full", subject="queue")
    stopped = AttemptStopped(StopReason.SHUTDOWN)
    for error in (_errors.OperationFailedError(operation), late, limit, stopped):
        copied = way(error)
        assert type(copied) is type(error)
        assert (str(copied), copied.args) == (str(error), error.args)
        assert vars(copied) == vars(error)


def test_an_attempt_that_was_stopped_passes_by_except_exception():
    stopped = AttemptStopped(StopReason.SHUTDOWN)
    assert not isinstance(stopped, Exception)
    assert stopped.reason is StopReason.SHUTDOWN
    assert "shutdown" in str(stopped)


def test_stop_reasons_are_the_five_there_are():
    assert issubclass(StopReason, enum.Enum)
    assert {one.name for one in StopReason} == {
        "CANCEL",
        "PAUSE",
        "TIMEOUT",
        "LEASE_LOST",
        "SHUTDOWN",
    }


# An error as a line of a log.


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (LroError("full", code=8), "RESOURCE_EXHAUSTED: full"),
        (LroError("full", code=8, reason="NO_DISK"), "RESOURCE_EXHAUSTED (NO_DISK): full"),
        (_errors.PermissionDeniedError("not yours"), "PERMISSION_DENIED: not yours"),
        (
            _errors.StaleAttemptError("too late", metadata={"operation": "operations/1"}),
            "ABORTED (STALE_ATTEMPT): operations/1: too late",
        ),
        (
            _errors.StaleAttemptError(
                "operations/1 is lost", metadata={"operation": "operations/1"}
            ),
            "ABORTED (STALE_ATTEMPT): operations/1 is lost",
        ),
        (
            LroError("x", code=5, domain="d", metadata={"operation": "read"}),
            "NOT_FOUND: x",
        ),
    ],
)
def test_an_error_as_a_string_has_code_reason_and_operation(error: LroError, line: str):
    assert str(error) == line


HOSTILE = "a\nFAKE LINE\r\x1b[2J\x9b\N{RIGHT-TO-LEFT OVERRIDE}\udc80 \N{SNOWMAN}" + "x" * 5000


def test_an_error_as_a_string_is_one_line_that_shows_what_a_stranger_sent_and_is_bounded():
    operation = operations_pb2.Operation(name="operations/\n" + "n" * 5000)
    operation.error.code = 5
    operation.error.message = HOSTILE.replace("\udc80", "")
    operation.error.details.add().Pack(error_details_pb2.ErrorInfo(reason="R\n" * 500))
    errors = [
        LroError(HOSTILE, code=5, metadata={"operation": HOSTILE}, domain=LIBRARY_DOMAIN),
        OperationFailedError(operation),
        OperationCancelledError(operation),
        from_status(operation.error),
    ]
    for error in errors:
        assert str(error).isprintable()
        assert r"a\nFAKE LINE\r\x1b[2J\x9b\u202e" in str(error)
        assert len(str(error)) < 2000
        assert error.message.startswith("a\nFAKE LINE\r\x1b[2J")


def test_lines_that_a_developer_is_to_copy_stay_lines():
    assert str(ConfigurationError("add\n  option x;")) == "add\n  option x;"


# An error as gRPC has it.


@pytest.mark.parametrize("code", [one for one in Code if one])
def test_a_code_and_the_details_of_an_error_can_be_called_as_those_of_grpc(code: Code):
    details = [error_details_pb2.RetryInfo(retry_delay={"seconds": 1})]
    error = LroError("why", code=code, details=details)
    assert error.code() is getattr(grpc.StatusCode, code.name)
    assert error.code().value[0] == error.code
    assert (error.details, error.details()) == (tuple(details), "why")
    for same in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert (same.code(), same.details()) == (error.code(), "why")


def test_an_error_that_no_rpc_ended_with_is_none_of_grpcs():
    assert not any(issubclass(one, grpc.RpcError) for one in classes())


# To a Status.


def test_a_status_has_one_error_info_then_the_other_details():
    details = [
        error_details_pb2.RetryInfo(retry_delay={"seconds": 5}),
        error_details_pb2.BadRequest(field_violations=[{"field": "size"}]),
    ]
    error = LroError("x", code=8, reason="FULL", metadata={"size": "9"}, details=details)
    status = to_status(error, domain="fleet.example")
    assert (status.code, status.message) == (8, "x")
    assert [one.TypeName() for one in status.details] == [
        INFO,
        "google.rpc.RetryInfo",
        "google.rpc.BadRequest",
    ]
    assert info_in(status) == error_details_pb2.ErrorInfo(
        reason="FULL", domain="fleet.example", metadata={"size": "9"}
    )


def test_each_type_of_detail_stands_once():
    """S21: the last one given, in the place of the first."""
    details = [error_details_pb2.RetryInfo(retry_delay={"seconds": n}) for n in (1, 2)]
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.RetryInfo(retry_delay={"seconds": 3}))
    for given_ in (details, [*details, packed]):
        status = to_status(LroError("x", code=8, details=given_))
        assert [one.TypeName() for one in status.details] == [INFO, "google.rpc.RetryInfo"]


@pytest.mark.parametrize("own", ["", "own.example"])
def test_an_error_that_names_its_domain_keeps_it(own):
    status = to_status(LroError("x", code=5, domain=own), domain="of.the.service")
    assert info_in(status).domain == (own or "of.the.service")
    assert info_in(to_status(InvalidNameError("x"), domain="d")).domain == LIBRARY_DOMAIN


# From a Status.


TRAVELLING = [one for one in SIMPLE if one not in OF_HANDLERS]


@pytest.mark.parametrize("kind", TRAVELLING, ids=lambda kind: kind.__name__)
def test_an_error_of_the_library_comes_back_as_its_own_class(kind):
    back = from_status(to_status(kind("what was wrong", metadata={"name": "x"})))
    assert type(back) is kind
    assert (back.message, back.metadata) == ("what was wrong", {"name": "x"})


def test_a_limit_comes_back_as_its_own_class():
    back = from_status(to_status(LimitReachedError("full", subject="queue")))
    assert type(back) is LimitReachedError
    assert back.metadata == {"subject": "queue"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidArgumentError("x", reason="INVALID_PAGE_SIZE"), InvalidArgumentError),
        (UnavailableError("x", reason="STORE_UNAVAILABLE"), UnavailableError),
        (UnavailableError("x", domain="d.example", reason="BACKEND_DOWN"), UnavailableError),
        (PermissionDeniedError("x", domain="d.example", reason="NO_ROLE"), PermissionDeniedError),
        (InvalidArgumentError("x", domain="d.example"), InvalidArgumentError),
        (RetryableError("x"), UnavailableError),
    ],
)
def test_an_error_of_the_library_with_a_reason_of_its_own_is_caught_by_its_class(error, kind):
    """The same ``except`` clause serves on both sides of the wire."""
    assert isinstance(from_status(to_status(error)), kind)


def test_another_domains_error_is_no_class_of_the_library():
    status = to_status(LroError("x", code=5, reason="OPERATION_NOT_FOUND", domain="o.example"))
    assert type(from_status(status)) is LroError


@pytest.mark.parametrize("code", [0, 17, -5, 2**31 - 1])
def test_a_code_that_is_not_canonical_reads_as_unknown(code):
    assert from_status(status_pb2.Status(code=code, message="x")).code is Code.UNKNOWN


def test_a_status_without_error_info_is_known_by_its_code():
    back = from_status(status_pb2.Status(code=7, message="no"))
    assert (back.reason, back.domain, back.metadata) == ("PERMISSION_DENIED", "", {})
    assert type(back) is PermissionDeniedError


@pytest.mark.parametrize("reason", ["", "lower", "x" * 100])
def test_a_reason_that_breaks_the_rule_is_read_as_it_came(reason):
    status = status_pb2.Status(code=5, message="x")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="d"))
    assert from_status(status).reason == (reason or "NOT_FOUND")


BROKEN = {
    "unknown type": any_pb2.Any(type_url="type.googleapis.com/no.such.Type", value=b"\x08\x01"),
    "broken bytes": any_pb2.Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff"),
    "broken ErrorInfo": any_pb2.Any(type_url=f"type.googleapis.com/{INFO}", value=b"\xff"),
    "no type": any_pb2.Any(value=b"\x08\x01"),
    "an enum": any_pb2.Any(type_url="type.googleapis.com/google.rpc.Code", value=b"\x08\x01"),
    "not a URL": any_pb2.Any(type_url="\N{SNOWMAN} / \x00", value=b""),
}


@pytest.mark.parametrize("packed", BROKEN.values(), ids=BROKEN)
def test_a_detail_that_cannot_be_read_is_kept_as_it_came(packed):
    status = status_pb2.Status(code=5, message="x")
    status.details.append(packed)
    status.details.add().Pack(error_details_pb2.Help(links=[{"url": "https://x.example"}]))
    back = from_status(status)
    assert back.details == (packed, error_details_pb2.Help(links=[{"url": "https://x.example"}]))
    assert packed in to_status(back).details


TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
REASON = st.from_regex(r"[A-Z][A-Z0-9_]{0,10}[A-Z0-9]", fullmatch=True)


@given(
    code=st.sampled_from([one for one in Code if one]),
    message=TEXT,
    reason=REASON,
    domain=st.from_regex(r"[a-z]{1,5}\.example", fullmatch=True),
    metadata=st.dictionaries(TEXT, TEXT, max_size=3),
    seconds=st.none() | st.integers(0, 1000),
)
def test_an_error_is_the_same_after_the_way_to_a_status_and_back(
    code, message, reason, domain, metadata, seconds
):
    details = []
    if seconds is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay={"seconds": seconds}))
    error = LroError(
        message, code=code, reason=reason, domain=domain, metadata=metadata, details=details
    )
    status = to_status(error)
    back = from_status(status_pb2.Status.FromString(status.SerializeToString()))
    assert (back.code, back.message, back.reason) == (code, message, reason)
    assert (back.domain, back.metadata) == (domain, metadata)
    assert list(back.details[1:]) == details
    again = to_status(back)
    assert (again.code, again.message) == (status.code, status.message)
    assert info_in(again) == info_in(status)
    assert again.details[1:] == status.details[1:]


# A failed operation's error.


def failed(code: int = 8) -> operations_pb2.Operation:
    error = LroError("no room", code=code, reason="FULL", domain="d", metadata={"a": "1"})
    return operations_pb2.Operation(name="operations/1", done=True, error=to_status(error))


def test_a_failed_operation_shows_all_of_its_error():
    operation = failed()
    error = OperationFailedError(operation)
    assert error.operation is operation
    assert (error.code, error.reason, error.domain) == (Code.RESOURCE_EXHAUSTED, "FULL", "d")
    assert error.metadata == {"a": "1"}
    assert str(error) == "operations/1 failed: RESOURCE_EXHAUSTED (FULL): no room"
    assert to_status(error) == operation.error


def test_a_cancelled_operation_is_a_failed_one_that_says_so():
    error = OperationCancelledError(failed(code=1))
    assert isinstance(error, OperationFailedError)
    assert str(error) == "operations/1 was cancelled: no room"


@pytest.mark.parametrize("status", [status_pb2.Status(), status_pb2.Status(code=99)])
def test_a_failed_operation_of_a_sloppy_server_is_unknown(status):
    operation = operations_pb2.Operation(name="operations/1", done=True, error=status)
    assert OperationFailedError(operation).code is Code.UNKNOWN


def test_what_an_event_has_raised_is_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Bug:
        def apply(self, record: Record, now: int) -> Record:
            raise ValueError("words of its code")

    error = apply_safely(Bug(), StoreConformance().record(), 1)
    assert isinstance(error, LroError)
    status = status_of(error, "/test.v1.Tests/Run", domain="")
    assert status.code == code_pb2.INTERNAL
    assert "words" not in str(status)
    assert "words of its code" in caplog.text
