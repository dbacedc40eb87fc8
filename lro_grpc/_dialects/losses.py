"""The fields of an operation that do not survive the way into a dialect and back.

One table for all dialects, by the fields of :class:`~lro_grpc.dialects.OperationView`. It
lists what a dialect carries. What it does not list is lost in every dialect but ``longrunning``,
which carries all that has a place in metadata: so a new field needs a row here only if a vendor has
a place for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from lro_grpc._dialects.view import OperationView

NOT_SHOWN = "not shown"
"""The dialect has no place for it."""

_WHOLE = ""
"""It comes back as it was."""

_SERVER_ONLY = {"longrunning": NOT_SHOWN}

_GLOBAL = "what is under projects/P/global comes back under projects/P/locations/global"
_EMPTY = "not shown; an Empty stands in its place"

CARRIED: Mapping[str, Mapping[str, str]] = {
    "name": {
        "alloydb": _WHOLE,
        "vertex_ai": _WHOLE,
        "azure_face": "in the URL alone",
        "deployment_manager": _GLOBAL,
    },
    "state": {
        "alloydb": "shown by the instances, cancel_requested and the outcome: QUEUED until one is"
        " begun, then RUNNING or CANCELLING; what has expired has failed",
        "vertex_ai": _WHOLE,
        "azure_face": "four words: PENDING is notstarted; what is updating, paused or being"
        " cancelled is running, or notstarted as long as it never ran; what was cancelled or has"
        " expired is failed",
        "deployment_manager": "three words, and on DONE the error and the warnings: what is"
        " updating, paused or being cancelled is RUNNING, or PENDING as long as it never ran; what"
        " has expired has failed",
    },
    "method": _SERVER_ONLY,
    "caller": {
        **_SERVER_ONLY,
        "deployment_manager": "shown as user, which an operation has no place for",
    },
    "request_id": {
        **_SERVER_ONLY,
        "deployment_manager": "shown as clientOperationId, which an operation has no place for",
    },
    "target": {
        "alloydb": _WHOLE,
        "vertex_ai": "not shown: the job is a resource itself",
        "azure_face": "shown as resourceLocation, and only on success",
        "deployment_manager": _GLOBAL,
    },
    "verb": {"alloydb": _WHOLE, "deployment_manager": _WHOLE},
    "api_version": {"alloydb": _WHOLE, "deployment_manager": "in the URL alone"},
    "create_time": {
        "alloydb": _WHOLE,
        "vertex_ai": _WHOLE,
        "azure_face": _WHOLE,
        "deployment_manager": _WHOLE,
    },
    "start_time": {"vertex_ai": _WHOLE, "deployment_manager": _WHOLE},
    "update_time": {
        "vertex_ai": _WHOLE,
        "azure_face": _WHOLE,
        "deployment_manager": "shown by the end alone",
    },
    "end_time": {
        "alloydb": _WHOLE,
        "vertex_ai": _WHOLE,
        "azure_face": _WHOLE,
        "deployment_manager": _WHOLE,
    },
    "cancel_requested": {
        "alloydb": _WHOLE,
        "vertex_ai": "shown by the states CANCELLING and CANCELLED alone",
        "deployment_manager": "shown by the error CANCELLED alone",
    },
    "progress_percent": {
        "deployment_manager": "100 on DONE, whatever it was when the operation failed",
    },
    "status_detail": {"alloydb": _WHOLE, "deployment_manager": _WHOLE},
    "batch": {
        "alloydb": _WHOLE,
        "deployment_manager": "shown by the errors of the instances that failed alone",
    },
    "partial_failures": {
        "alloydb": "not shown: a batch is all or nothing",
        "vertex_ai": _WHOLE,
        "deployment_manager": "shown as warnings, without their details",
    },
    "error": {
        "alloydb": _WHOLE,
        "vertex_ai": "not shown of a job that has expired; a DEADLINE_EXCEEDED stands in its place",
        "azure_face": "only its message; the code becomes UNKNOWN",
        "deployment_manager": "its ErrorInfo, Help, LocalizedMessage and DebugInfo, and no other"
        " details; further errors, of instances that failed, become details of the first",
    },
    "response": {
        "alloydb": _WHOLE,
        "vertex_ai": _EMPTY,
        "azure_face": _EMPTY,
        "deployment_manager": _EMPTY,
    },
}
"""The fate of each field, by dialect."""


def lost_in(dialect: str) -> Mapping[str, str]:
    """Returns the fields that do not come back from a dialect, and what becomes of each."""
    unlisted = _WHOLE if dialect == "longrunning" else NOT_SHOWN
    carried = {
        field.name: CARRIED.get(field.name, {}).get(dialect, unlisted)
        for field in fields(OperationView)
    }
    return {name: becomes for name, becomes in carried.items() if becomes != _WHOLE}
