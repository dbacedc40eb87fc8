"""Turns an exception into the Status that a caller may see; the rest is for the log alone."""

from __future__ import annotations

import logging
import uuid

from google.rpc import status_pb2

from lro_grpc._errors import ConfigurationError, LroError, UnexpectedError, to_status
from lro_grpc._runtime.log import AnyLog
from lro_grpc._wire.plain_text import one_line

_log = logging.getLogger("lro_grpc")


def status_of(
    error: BaseException, where: str, *, domain: str, log: AnyLog = _log
) -> status_pb2.Status:
    """Returns the Status to show for an exception; never raises.

    An :class:`LroError` is meant to be shown; a ``ConfigurationError``, which a caller can do
    nothing about, is logged besides, and so is the cause of an ``UnexpectedError``, which is not
    shown. Anything else, and an ``LroError`` that cannot be put into a Status, is logged under a
    new id, and the caller is given that id and nothing more.

    Args:
        error: The exception.
        where: The method and the operation in which it was raised, for the log.
        domain: ``ErrorInfo.domain`` for an error that names none.
        log: The log for an unexpected one.
    """
    if isinstance(error, ConfigurationError):
        log.error("%s is misconfigured: %s", where, one_line(error.message))
    if isinstance(error, UnexpectedError) and error.__cause__ is not None:
        log.error("%s: %s", where, one_line(error.message), exc_info=error.__cause__)
    if isinstance(error, LroError):
        try:
            return to_status(error, domain=domain)
        except Exception as cause:  # noqa: BLE001 - a service may have changed anything in it
            error = cause
    incident = uuid.uuid4().hex
    log.error(
        "%s raised unexpectedly, incident %s",
        *(where, incident),
        exc_info=error,
        extra={"incident": incident},
    )
    return to_status(
        UnexpectedError(
            f"an unexpected error happened; the server's log has it as incident {incident}",
            metadata={"incident": incident},
        )
    )
