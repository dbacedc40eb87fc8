"""The fields of Deployment Manager's filters, in terms of those of google.longrunning."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence

from lro_grpc._errors import cut
from lro_grpc._filtering import parser
from lro_grpc._filtering.fields import FIELDS

RENAMED = {
    "operationType": "verb",
    "statusMessage": "status_detail",
    "insertTime": "create_time",
    "startTime": "start_time",
    "endTime": "end_time",
}
"""The fields that are those of google.longrunning under other names."""

_OWN_FIELDS = ("name", "status", "progress", *RENAMED)
"""The fields that this dialect has names for."""

STATUS = {
    "DONE": "done = true",
    "RUNNING": "(done = false AND start_time:* OR state = CANCELLING)",
    "PENDING": "(done = false AND NOT start_time:* AND NOT state = CANCELLING)",
}
"""The condition that each status is."""

_ALWAYS, _NEVER = "(done = true OR done = false)", "(done = true AND done = false)"

_SIGNS = {
    "=": operator.eq,
    "!=": operator.ne,
    ":": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DONE_PROGRESS = 100
"""The progress that is shown of what is done."""


def check(text: str, field: str, position: int) -> None:
    """Refuses a field that neither this dialect nor google.longrunning has."""
    if not (field in _OWN_FIELDS or field in FIELDS or field.startswith("metadata.")):
        problem = (
            f"there is no field {cut(field)!r}; the fields are {', '.join(_OWN_FIELDS)}, and those"
            " of the filters of google.longrunning"
        )
        raise parser.invalid(text, position, problem)


def status(text: str, position: int, sign: str, value: str) -> str:
    """Returns the meaning of a comparison with a status."""
    if (sign, value) == (":", "*"):
        return _ALWAYS
    if value not in STATUS or sign not in ("=", "!=", ":"):
        problem = f"status is compared with one of {', '.join(STATUS)}, by = != :"
        raise parser.invalid(text, position, problem)
    return f"NOT {STATUS[value]}" if sign == "!=" else STATUS[value]


def status_among(words: Sequence[str]) -> str:
    """Returns the condition that the status is one of these words."""
    return f"({' OR '.join(STATUS[word] for word in words)})" if words else _NEVER


def progress(text: str, position: int, sign: str, value: str) -> str:
    """Returns the meaning of a comparison with the progress, which is 100 of what is done."""
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise parser.invalid(text, position, "progress is compared with a whole number")
    unfinished = f"progress_percent {sign} {value}"
    if _SIGNS[sign](_DONE_PROGRESS, int(value)):
        return f"(done = true OR {unfinished})"
    return f"(done = false AND {unfinished})"
