"""Every error of this package, and its one mapping to and from ``google.rpc.Status``.

::

    LroError                          any code; what a handler raises
    ├── InvalidArgumentError          INVALID_ARGUMENT
    │   ├── InvalidFilterError
    │   ├── InvalidNameError
    │   ├── InvalidPageTokenError
    │   └── MalformedRequestError
    ├── OperationNotFoundError        NOT_FOUND
    ├── RequestIdReusedError          ALREADY_EXISTS
    ├── OperationInProgressError      ABORTED
    ├── PermissionDeniedError         PERMISSION_DENIED
    ├── RetryableError                any code; a handler's, and the next attempt may do
    ├── UndeliverableError            any code; of on_done, which is not to be told again
    ├── IllegalTransitionError        FAILED_PRECONDITION
    ├── LimitReachedError             RESOURCE_EXHAUSTED
    ├── OperationTooLargeError        RESOURCE_EXHAUSTED
    ├── StaleAttemptError             ABORTED
    ├── UnavailableError              UNAVAILABLE
    ├── OperationDamagedError         DATA_LOSS
    ├── ConfigurationError            INTERNAL
    ├── WrongTypeError                INTERNAL
    ├── UnexpectedError               INTERNAL
    ├── OperationFailedError          the operation's own code; what a future raises
    │   └── OperationCancelledError   CANCELLED
    └── OperationTimeoutError         DEADLINE_EXCEEDED; also a TimeoutError

    AttemptStopped                    a BaseException: unwinds a handler, is never a failure

An error that an RPC ended with is of one of these classes and a ``grpc.RpcError`` besides: see
``_wire/rpc_errors.py``. So its code and its details can be called here, as gRPC's own errors have
them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, get_type_hints

import grpc
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lro_grpc import _anys
from lro_grpc._durations import Duration, as_timedelta

LIBRARY_DOMAIN = "lro-grpc"
"""``ErrorInfo.domain`` of the errors that this package raises by itself."""

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]")


class Code(enum.IntEnum):
    """The canonical codes, by the names and numbers of ``google.rpc.Code``.

    Called, a code returns gRPC's own constant for it: so ``error.code`` and ``error.code()`` are
    both right of an error that an RPC ended with, whichever its reader is used to.
    """

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    def __call__(self) -> grpc.StatusCode:
        """Returns gRPC's constant of this name and number."""
        return grpc.StatusCode[self.name]


class StopReason(enum.Enum):
    """The reason why an attempt has to stop before its handler is through."""

    CANCEL = "cancel"
    """Someone cancelled the operation."""
    PAUSE = "pause"
    """Someone paused the operation."""
    TIMEOUT = "timeout"
    """The method's own time limit is over."""
    LEASE_LOST = "lease lost"
    """Another worker may hold the operation by now."""
    SHUTDOWN = "shutdown"
    """This server is going down; the operation goes on elsewhere or later."""


class AttemptStopped(BaseException):
    """Unwinds a handler whose attempt was stopped; let it pass.

    A ``BaseException``, as ``asyncio.CancelledError`` is, so that an ``except Exception``
    in a handler does not swallow it.

    Attributes:
        reason: Why the attempt was stopped.
    """

    def __init__(self, reason: StopReason) -> None:
        super().__init__(f"the attempt was stopped: {reason.value}")
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes it copyable and picklable: a handler may meet it in a process of its own."""
        return type(self), (self.reason,)


class ErrorDetails(tuple[Message, ...]):
    """The detail messages of an error; called, they return its message, as gRPC's errors do."""

    _message = ""

    def __call__(self) -> str:
        """Returns the error's message."""
        return self._message


class LroError(Exception):
    """An error with a canonical code, a machine-readable reason and details.

    A handler raises it to fail its operation: the caller finds the same code, message and
    details in ``Operation.error``. A ``prepare`` raises it to refuse the start: the caller gets
    it as the RPC's own error (S3), which is of the same class there, and also a
    ``grpc.RpcError``.

    As a string it is one line for a log, with what is known of code, reason and operation;
    ``message`` is the bare text.

    Args:
        message: What was wrong, with which value, and what to do; for a developer, in English.
        code: A canonical code other than OK: one of ``Code``, its number, or gRPC's constant.
        reason: ``ErrorInfo.reason``, upper snake case, at most 63 characters. The code's name
            unless given.
        domain: ``ErrorInfo.domain``. The server's ``error_domain`` unless given.
        metadata: ``ErrorInfo.metadata``: the values that the message speaks of.
        details: More detail messages, as in ``google/rpc/error_details.proto``; one of each type
            at most. An ``ErrorInfo`` among them stands in place of reason, domain and metadata.

    Raises:
        ValueError: If the code is OK or unknown, or the reason is not one (S21).
    """

    default_code: ClassVar[Code] = Code.UNKNOWN
    default_reason: ClassVar[str] = ""
    default_domain: ClassVar[str] = ""

    _operation_name = ""

    def __init__(
        self,
        message: str,
        *,
        code: int | grpc.StatusCode | None = None,
        reason: str | None = None,
        domain: str | None = None,
        metadata: Mapping[str, str] | None = None,
        details: Iterable[Message] = (),
    ) -> None:
        self.message = str(message)
        super().__init__(self.message)
        if isinstance(code, grpc.StatusCode):
            code = Code[code.name]
        self.code = Code(self.default_code if code is None else code)
        if self.code is Code.OK:
            raise ValueError("an error's code cannot be OK; return a response instead")
        self.details = details
        info = next((d for d in self.details if _is_error_info(d)), None)
        self.reason = reason or getattr(info, "reason", "") or self.default_reason or self.code.name
        if info is None and not _REASON.fullmatch(self.reason):
            raise ValueError(
                f"reason {self.reason!r} is not of the form {_REASON.pattern} (AIP-193)"
            )
        self.domain = domain or getattr(info, "domain", "") or self.default_domain
        values = metadata or getattr(info, "metadata", {})
        self.metadata: dict[str, str] = {key: str(value) for key, value in values.items()}

    @property
    def details(self) -> ErrorDetails:
        """The detail messages, as in ``google/rpc/error_details.proto``.

        Called, as an error of gRPC has it, they return the message: ``error.details()``.
        """
        details = ErrorDetails(self._details)
        details._message = self.message
        return details

    @details.setter
    def details(self, details: Iterable[Message]) -> None:
        self._details = tuple(details)

    @property
    def operation_name(self) -> str:
        """The name of the operation that the error is about; empty if none is known."""
        named = self.metadata.get("operation", "") if self.domain == LIBRARY_DOMAIN else ""
        return self._operation_name or named

    @operation_name.setter
    def operation_name(self, name: str) -> None:
        self._operation_name = name

    def __str__(self) -> str:
        name = cut(_escaped(self.operation_name), _MOST_SHOWN_NAME)
        message = _shown(self.message)
        about = f"{name}: " if name and name not in message else ""
        return f"{self._shown_code()}: {about}{message}"

    def _shown_code(self) -> str:
        """Returns the code, with the reason if that says more."""
        reason = cut(_escaped(self.reason))
        return self.code.name if reason == self.code.name else f"{self.code.name} ({reason})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes every error copyable and picklable, whatever arguments its constructor takes."""
        return _bare, (type(self), self.args), self.__dict__


def _bare(kind: type[LroError], args: tuple[object, ...]) -> LroError:
    error = kind.__new__(kind)
    error.args = args
    return error


class RetryableError(LroError):
    """A handler raises it for a failure that may pass: another attempt begins after a pause.

    On the last attempt the operation fails with it.

    Args:
        message: See :class:`LroError`.
        retry_after: How long to wait at least, instead of the method's own backoff.
        **more: The other arguments of :class:`LroError`.

    Raises:
        TypeError: If ``retry_after`` is neither a timedelta nor a number of seconds.
        ValueError: If it is negative, NaN or infinite.
    """

    default_code = Code.UNAVAILABLE

    def __init__(self, message: str, *, retry_after: Duration | None = None, **more: Any) -> None:
        super().__init__(message, **more)
        self.retry_after: timedelta | None = None
        if retry_after is not None:
            self.retry_after = as_timedelta("retry_after", retry_after)
            if self.retry_after < timedelta(0):
                raise ValueError(f"retry_after is {retry_after!r}; give at least 0 seconds")


class UndeliverableError(LroError):
    """``on_done`` raises it for an event that no other attempt could deliver, either."""

    default_code = Code.FAILED_PRECONDITION


class InvalidArgumentError(LroError):
    """The request cannot be right in any state of the server."""

    default_code = Code.INVALID_ARGUMENT


class InvalidFilterError(InvalidArgumentError):
    """A list filter is malformed, or compares what cannot be compared (S17)."""

    default_domain = LIBRARY_DOMAIN
    default_reason = "INVALID_FILTER"


class InvalidNameError(InvalidArgumentError):
    """The text is neither an operation's name nor a parent's."""

    default_domain = LIBRARY_DOMAIN
    default_reason = "INVALID_NAME"


class InvalidPageTokenError(InvalidArgumentError):
    """The page token is not one that this server gave for this request (S13)."""

    default_domain = LIBRARY_DOMAIN
    default_reason = "INVALID_PAGE_TOKEN"


class MalformedRequestError(InvalidArgumentError):
    """The body is not the request message that the method takes."""

    default_domain = LIBRARY_DOMAIN
    default_reason = "MALFORMED_REQUEST"


class OperationNotFoundError(LroError):
    """No operation has this name (any more)."""

    default_code = Code.NOT_FOUND
    default_reason = "OPERATION_NOT_FOUND"
    default_domain = LIBRARY_DOMAIN


class RequestIdReusedError(LroError):
    """Another request was already started under this ``request_id`` (S22)."""

    default_code = Code.ALREADY_EXISTS
    default_reason = "REQUEST_ID_REUSED"
    default_domain = LIBRARY_DOMAIN


class OperationInProgressError(LroError):
    """Another operation goes on with the target (S6); or a deleted one with the ``request_id``."""

    default_code = Code.ABORTED
    default_reason = "OPERATION_IN_PROGRESS"
    default_domain = LIBRARY_DOMAIN


class PermissionDeniedError(LroError):
    """The caller may not do this; the answer is the same if the resource does not exist (S19)."""

    default_code = Code.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"
    default_domain = LIBRARY_DOMAIN


class IllegalTransitionError(LroError):
    """The lifecycle has no such step from the present state; nothing has changed (S28)."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "ILLEGAL_TRANSITION"
    default_domain = LIBRARY_DOMAIN


class LimitReachedError(LroError):
    """A limit of the server is reached; a later try may pass.

    Args:
        message: Which limit, its value, and how to get below or raise it.
        subject: What the limit is on: ``QuotaFailure.Violation.subject``.
    """

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "LIMIT_REACHED"
    default_domain = LIBRARY_DOMAIN

    def __init__(self, message: str, *, subject: str) -> None:
        violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=message)
        super().__init__(
            message,
            metadata={"subject": subject},
            details=[error_details_pb2.QuotaFailure(violations=[violation])],
        )


class OperationTooLargeError(LroError):
    """The operation would be larger than its clients can read; see ``Limits.operation_bytes``."""

    default_code = Code.RESOURCE_EXHAUSTED
    default_reason = "OPERATION_TOO_LARGE"
    default_domain = LIBRARY_DOMAIN


class StaleAttemptError(LroError):
    """The attempt no longer holds the operation, so its write is refused (R5)."""

    default_code = Code.ABORTED
    default_reason = "STALE_ATTEMPT"
    default_domain = LIBRARY_DOMAIN


class UnservedError(LroError):
    """No handler of this process can go on with the operation; one of another release may."""

    default_code = Code.FAILED_PRECONDITION
    default_reason = "METHOD_NOT_SERVED"
    default_domain = LIBRARY_DOMAIN


class UnavailableError(LroError):
    """The server or its store cannot answer at present; the same call may pass later."""

    default_code = Code.UNAVAILABLE
    default_reason = "UNAVAILABLE"
    default_domain = LIBRARY_DOMAIN


class OperationDamagedError(LroError):
    """The operation's record cannot be read: it is set aside, and can only be deleted."""

    default_code = Code.DATA_LOSS
    default_reason = "OPERATION_DAMAGED"
    default_domain = LIBRARY_DOMAIN


class ConfigurationError(LroError):
    """The service is set up in a way that cannot work; raised at start-up."""

    default_code = Code.INTERNAL
    default_reason = "CONFIGURATION"
    default_domain = LIBRARY_DOMAIN

    def __str__(self) -> str:
        # All its lines, for the developer who starts the service: some are to be copied.
        return self.message


class WrongTypeError(LroError):
    """A message is of another type than the method's ``operation_info`` declares (P11)."""

    default_code = Code.INTERNAL
    default_reason = "WRONG_TYPE"
    default_domain = LIBRARY_DOMAIN


class UnexpectedError(LroError):
    """A handler raised an unexpected exception; the log has it under ``metadata["incident"]``."""

    default_code = Code.INTERNAL
    default_reason = "UNEXPECTED"
    default_domain = LIBRARY_DOMAIN


class OperationFailedError(LroError):
    """A finished operation's error.

    Attributes:
        operation: The operation as it ended: ``name``, ``metadata``, ``error``.
    """

    def __init__(self, operation: operations_pb2.Operation) -> None:
        error = from_status(operation.error)
        super().__init__(
            error.message,
            code=error.code,
            reason=error.reason,
            domain=error.domain,
            metadata=error.metadata,
            details=error.details,
        )
        self.operation = operation
        self.operation_name = operation.name

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name

    @property
    def operation_metadata(self) -> Any:
        """The operation's metadata, unpacked to its message; None if it has none.

        The ``Any`` itself if its type is not known here, or its bytes are broken.
        """
        return _metadata_of(self.operation)

    def __str__(self) -> str:
        name = cut(_escaped(self.name), _MOST_SHOWN_NAME)
        return f"{name} failed: {self._shown_code()}: {_shown(self.message)}"


class OperationCancelledError(OperationFailedError):
    """The operation was cancelled: its error's code is 1 (P8)."""

    def __str__(self) -> str:
        name = cut(_escaped(self.name), _MOST_SHOWN_NAME)
        return f"{name} was cancelled: {_shown(self.message)}"


class OperationTimeoutError(LroError, TimeoutError):
    """The operation is not done within the time that the caller gave.

    It goes on at the server: wait again, or cancel it.

    Attributes:
        operation: The last state seen.
        elapsed: The time that the caller has waited.
    """

    default_code = Code.DEADLINE_EXCEEDED
    default_reason = "OPERATION_TIMEOUT"
    default_domain = LIBRARY_DOMAIN

    def __init__(
        self, message: str, *, operation: operations_pb2.Operation, elapsed: timedelta
    ) -> None:
        super().__init__(message, metadata={"operation": operation.name})
        self.operation = operation
        self.elapsed = elapsed

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name

    @property
    def operation_metadata(self) -> Any:
        """The metadata of the last state seen; see ``OperationFailedError``."""
        return _metadata_of(self.operation)


_MOST_SHOWN = 100
_MOST_SHOWN_NAME = 300
_MOST_SHOWN_MESSAGE = 1000


def cut(text: str, most: int = _MOST_SHOWN) -> str:
    """Returns a caller's text, shortened so that an error may repeat it."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _shown(message: str) -> str:
    """Returns a message, perhaps a stranger's, as it may stand in one line of a log."""
    return cut(_escaped(message[: _MOST_SHOWN_MESSAGE + 1]), _MOST_SHOWN_MESSAGE)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def to_status(error: LroError, *, domain: str = LIBRARY_DOMAIN) -> status_pb2.Status:
    """Turns an error into the ``Status`` that carries it to a caller (S4, S21).

    Args:
        error: Any error of this package.
        domain: ``ErrorInfo.domain`` for an error that names none.

    Returns:
        A Status whose details hold one ``ErrorInfo``, then the error's other details, each type
        once.

    Raises:
        ValueError: If the code is OK or unknown, for someone has changed it.
    """
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=error.domain or domain, metadata=error.metadata
    )
    packed = {info.DESCRIPTOR.full_name: _anys.pack(info)}
    for detail in error.details:
        one = _anys.pack(detail)
        packed[one.type_url.rpartition("/")[2]] = one
    if Code(error.code) is Code.OK:
        raise ValueError("an error's code cannot be OK")
    return status_pb2.Status(code=error.code, message=error.message, details=packed.values())


def from_status(status: status_pb2.Status) -> LroError:
    """Turns a Status into the error it was made of.

    Args:
        status: A Status with a code other than OK. A code that is not canonical reads as UNKNOWN.

    Returns:
        The error, its details unpacked to their messages. A detail whose type is not known here,
        or whose bytes are broken, stays the ``Any`` that it is.
    """
    details = tuple(_unpacked(one) for one in status.details)
    code = Code(status.code) if status.code in _CODES and status.code else Code.UNKNOWN
    info = next((d for d in details if _is_error_info(d)), None)
    kind = _class_of(code, info)
    error = kind.__new__(kind)
    LroError.__init__(error, status.message, code=code, details=details)
    # Not those of the class: without an ErrorInfo, nobody has named them.
    error.reason = getattr(info, "reason", "") or code.name
    error.domain = getattr(info, "domain", "")
    return error


def _class_of(code: Code, info: Any) -> type[LroError]:
    of_code = _CLASSES.get((code, ""), LroError)
    is_of_the_library = info is not None and info.domain == LIBRARY_DOMAIN
    return _CLASSES.get((code, info.reason), of_code) if is_of_the_library else of_code


def _is_error_info(message: Message) -> bool:
    return message.DESCRIPTOR.full_name == "google.rpc.ErrorInfo"


def _unpacked(envelope: any_pb2.Any) -> Any:
    message = _anys.unpack(envelope)
    return envelope if message is None else message


def _metadata_of(operation: operations_pb2.Operation) -> Any:
    return _unpacked(operation.metadata) if operation.HasField("metadata") else None


_CODES = frozenset(Code)

_CLASSES: dict[tuple[int, str], type[LroError]] = {
    **{
        (kind.default_code, ""): kind
        for kind in (InvalidArgumentError, PermissionDeniedError, UnavailableError)
    },
    **{
        (kind.default_code, kind.default_reason): kind
        for kind in (
            InvalidFilterError,
            InvalidNameError,
            InvalidPageTokenError,
            MalformedRequestError,
            OperationNotFoundError,
            RequestIdReusedError,
            OperationInProgressError,
            IllegalTransitionError,
            LimitReachedError,
            OperationTooLargeError,
            StaleAttemptError,
            UnservedError,
            OperationDamagedError,
            ConfigurationError,
            WrongTypeError,
            UnexpectedError,
        )
    },
}
"""The class of each error that arrives: by code and reason if this package has raised it; by code
alone, with no reason here, for the classes that say nothing more than their code."""

# Annotations are looked up in a class's module, which is about to be another one.
LroError.__annotations__.update(get_type_hints(LroError))

for _kind in list(globals().values()):
    if (
        isinstance(_kind, type)
        and issubclass(_kind, BaseException)
        and _kind.__module__ == __name__
    ):
        # Tracebacks and pickles then name the public path, which outlives every move.
        _kind.__module__ = "lro_grpc"
