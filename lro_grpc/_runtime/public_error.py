"""Turns an exception into the Status that a caller may see; the rest is for the log alone."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Hashable

from google.rpc import status_pb2

from lro_grpc._errors import ConfigurationError, LroError, UnexpectedError, to_status
from lro_grpc._runtime.log import AnyLog
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._wire.plain_text import one_line

_log = logging.getLogger("lro_grpc")


def status_of(
    error: BaseException, where: str, *, domain: str, log: AnyLog = _log
) -> status_pb2.Status:
    """Returns the Status to show for an exception; never raises.

    An :class:`LroError` is meant to be shown; a ``ConfigurationError``, which a caller can do
    nothing about, is logged besides, and so is the cause of an ``UnexpectedError``, which is not
    shown. Anything else, and an ``LroError`` that cannot be put into a Status, is logged under a
    new id, and the caller is given that id and nothing more. Of many that are raised at one place
    within a minute the first are logged; the others have the id of the last of those.

    Args:
        error: The exception.
        where: The method and the operation in which it was raised, for the log.
        domain: ``ErrorInfo.domain`` for an error that names none.
        log: The log for an unexpected one.
    """
    if isinstance(error, ConfigurationError):
        text = f"{where} is misconfigured: {one_line(error.message)}"
        PROCESS.say(logging.ERROR, text, kind=_place_of(error), log=log)
    if isinstance(error, UnexpectedError) and error.__cause__ is not None:
        cause = error.__cause__
        text = f"{where}: {one_line(error.message)}"
        PROCESS.say(logging.ERROR, text, kind=_place_of(cause), error=cause, log=log)
    if isinstance(error, LroError):
        try:
            return to_status(error, domain=domain)
        except Exception as broken:  # noqa: BLE001 - a service may have changed anything in it
            error = broken
    incident = uuid.uuid4().hex
    incident = PROCESS.say(
        logging.ERROR,
        f"{where} raised unexpectedly, incident {incident}",
        kind=_place_of(error),
        error=error,
        log=log,
        extra={"incident": incident},
        tag=incident,
    )
    return to_status(
        UnexpectedError(
            f"an unexpected error happened; the server's log has it as incident {incident}",
            metadata={"incident": incident},
        )
    )


def _place_of(error: BaseException) -> Hashable:
    """Returns the kind of an error, and the lines through which it has come."""
    frames, frame = [], error.__traceback__
    while frame is not None:
        frames.append((frame.tb_frame.f_code, frame.tb_lineno))
        frame = frame.tb_next
    return type(error), hash(tuple(frames))
