"""The log of operations: each line names its operation and its attempt, in its fields."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

from google.longrunning import operations_pb2
from google.rpc import status_pb2

from lro_grpc._errors import cut
from lro_grpc._operation.events import Event, LeaseLost, RetryLater, Terminate
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import JOB
from lro_grpc._runtime.clock import seconds
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._wire.plain_text import one_line

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # no generic before Python 3.11

AnyLog = logging.Logger | _Adapter

_log = logging.getLogger("lro_grpc")
_MOST_NAMED = 3
"""Operations that one line names at most."""

_handlers_log = logging.getLogger("lro_grpc.handler")


class OperationLog(_Adapter):
    """Adds the fields ``operation``, ``attempt`` and ``method`` to each line.

    Args:
        record: The operation, in its present attempt.
        log: The log that the lines go to.
    """

    def __init__(self, record: Record, log: logging.Logger = _log) -> None:
        fields = {"operation": record.name, "attempt": record.attempt, "method": record.method}
        super().__init__(log, fields)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        """Adds the fields to those of the line itself; ``LoggerAdapter`` would drop the latter."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


def handlers_log(record: Record) -> OperationLog:
    """Returns the log of an attempt's handler."""
    return OperationLog(record, _handlers_log)


def log_started(record: Record) -> None:
    """Logs the start of an operation."""
    if _log.isEnabledFor(logging.DEBUG):
        OperationLog(record).debug("%s: started", record.name)


def log_rerun(source: Record, record: Record) -> None:
    """Logs that an operation is run again, as another one."""
    OperationLog(record).info("%s: started, to run %s again", record.name, source.name)


def log_claimed(record: Record) -> None:
    """Logs the beginning of an attempt."""
    if _log.isEnabledFor(logging.DEBUG):
        OperationLog(record).debug("%s: attempt %d begins", record.name, record.attempt)


def log_wait_ended(name: str, reason: str, seconds: float) -> None:
    """Logs why a Wait was answered.

    Args:
        name: The operation's name.
        reason: Why it was.
        seconds: How long it has waited.
    """
    if _log.isEnabledFor(logging.DEBUG):
        fields = {"operation": name, "wait_end": reason}
        _log.debug("%s: a Wait ended after %.3f s: %s", name, seconds, reason, extra=fields)


def log_done(record: Record) -> None:
    """Logs the end of an operation."""
    if not _log.isEnabledFor(logging.INFO):
        return
    name, state, log = record.name, JOB.spoken(record.state), OperationLog(record)
    if record.error_code:
        error = operations_pb2.Operation.FromString(record.operation).error
        log.info("%s: %s: %s", name, state, one_line(error.message))
    else:
        log.info("%s: %s", name, state)


def without_bytes(record: Record) -> Record:
    """Returns a record with nothing large but what the log says of it: the message of its error."""
    operation = operations_pb2.Operation()
    if record.error_code and _log.isEnabledFor(logging.INFO):
        error = operations_pb2.Operation.FromString(record.operation).error
        operation.error.message = cut(error.message)
    return record.without_large()._replace(operation=operation.SerializeToString())


def log_lost(lost: Sequence[tuple[LeaseLost, Record]]) -> None:
    """Logs the attempts that have lost their workers: of several together one WARNING.

    Args:
        lost: The events that ended them, and the operations after those.
    """
    if len(lost) == 1:
        log_outcome(*lost[0])
        return
    for event, record in lost:
        OperationLog(record).debug("%s: attempt %d %s", record.name, record.attempt, _why(event))
        if record.done:
            log_done(record)
    if lost:
        names = ", ".join(record.name for _, record in lost[:_MOST_NAMED])
        more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
        _log.warning("%d attempts lost their worker: %s%s", len(lost), names, more)


def _why(event: LeaseLost) -> str:
    return "made no progress" if event.stuck else "lost its worker"


def log_outcome(event: Event, record: Record) -> None:
    """Logs the end of an attempt.

    Args:
        event: The event that ended it.
        record: The operation after that.
    """
    name, attempt = record.name, record.attempt
    if isinstance(event, LeaseLost):
        text = f"{name}: attempt {attempt} {_why(event)}"
        kind = ("lost", record.method)
        PROCESS.say(logging.WARNING, text, kind=kind, log=OperationLog(record))
    if record.done:
        log_done(record)
    elif isinstance(event, RetryLater):
        text = (
            f"{name}: attempt {attempt} failed, to be tried again after"
            f" {seconds(event.delay):.1f} s:"
            f" {one_line(status_pb2.Status.FromString(event.error).message)}"
        )
        kind = ("failed", record.method)
        PROCESS.say(logging.WARNING, text, kind=kind, log=OperationLog(record))
    elif not isinstance(event, LeaseLost):
        state = JOB.spoken(record.state)
        OperationLog(record).info("%s: attempt %d gave it back; it is %s", name, attempt, state)


def log_request(event: Event, record: Record) -> None:
    """Logs a caller's request.

    Args:
        event: The event that the caller has asked for.
        record: The operation after that.
    """
    request, state = type(event).__name__.lower(), JOB.spoken(record.state)
    why = f" ({one_line(event.reason)})" if isinstance(event, Terminate) else ""
    OperationLog(record).info("%s: %s was asked for%s; it is %s", record.name, request, why, state)
