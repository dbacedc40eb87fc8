"""What a handler's exception tells its caller, and what only the log may have."""

from __future__ import annotations

import logging
import uuid

from lro_grpc.errors import LroError, UnexpectedError

_log = logging.getLogger("lro_grpc")


def as_lro_error(error: BaseException, where: str) -> LroError:
    """Returns the error to show for an exception.

    An :class:`LroError` is meant to be shown. Anything else is logged under a new id, and the
    caller is given that id and nothing more.

    Args:
        error: What was raised.
        where: What was being done, for the log.
    """
    if isinstance(error, LroError):
        return error
    incident = uuid.uuid4().hex
    _log.error("%s raised unexpectedly, incident %s", where, incident, exc_info=error)
    return UnexpectedError(
        f"an unexpected error happened; the server's log has it as incident {incident}",
        metadata={"incident": incident},
    )
