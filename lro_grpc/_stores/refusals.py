"""The errors with which every store refuses a new record that another one keeps out."""

from __future__ import annotations

from lro_grpc._errors import (
    LIBRARY_DOMAIN,
    Code,
    LroError,
    OperationInProgressError,
    RequestIdReusedError,
    cut,
)
from lro_grpc._operation.record import Record

NAME_TAKEN = "NAME_TAKEN"
"""The reason of the error for a name that an operation has."""


def name_taken(name: str) -> LroError:
    """Returns the error for a new record whose name an operation has."""
    return LroError(
        f"an operation {name!r} exists; make ids that are unique",
        code=Code.ALREADY_EXISTS,
        reason=NAME_TAKEN,
        domain=LIBRARY_DOMAIN,
        metadata={"operation": name},
    )


def in_progress(target: str, holder: Record | None, *, caller: str) -> OperationInProgressError:
    """Returns the error for a new record whose target an operation has for itself (S6).

    Args:
        target: The target.
        holder: That operation; None if it cannot be read.
        caller: The caller that wants the target; what another caller has started is not named.
    """
    named = holder.name if holder is not None and holder.caller == caller else ""
    return OperationInProgressError(
        f"{named or 'another operation'} works on {target!r}, which one operation at a time may do;"
        f" wait until it is done{', or cancel it' if named else ''}",
        metadata={"target": cut(target), **({"operation": named} if named else {})},
    )


def check_same_request(stored: Record, record: Record) -> Record:
    """Returns the stored record if it was started by the same request as the new one.

    Raises:
        OperationInProgressError: If it was deleted, and is not done: it has no name to answer with,
            and its request must not run twice at once (R2).
        RequestIdReusedError: If it was started by another request (S22).
    """
    if stored.deleted:
        raise deleted_in_progress(record.request_id)
    if stored.fingerprint != record.fingerprint:
        raise request_id_reused(stored)
    return stored


def deleted_in_progress(request_id: str) -> OperationInProgressError:
    """Returns the error for a request whose operation was deleted, and is not done (R2)."""
    request_id = cut(request_id)
    return OperationInProgressError(
        f"the operation of request_id {request_id!r} was deleted, and still runs;"
        " try again when it has ended, or use a new one for a new request",
        reason="DELETED_OPERATION_IN_PROGRESS",
        metadata={"request_id": request_id},
    )


def request_id_reused(stored: Record) -> RequestIdReusedError:
    """Returns the error for a request under the ``request_id`` of another one (S22).

    Args:
        stored: The operation that the same caller has started under it.
    """
    return RequestIdReusedError(
        f"request_id {cut(stored.request_id)!r} was used for another request of {stored.method},"
        f" which started {stored.name}; use a new one for a new request",
        metadata={"request_id": cut(stored.request_id), "operation": stored.name},
    )
