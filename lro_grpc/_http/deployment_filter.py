"""List filters in the words of dialect 4, put into those of google.longrunning."""

from __future__ import annotations

import re

from lro_grpc._operation import names

_FIELDS = {
    "operationType": "verb",
    "statusMessage": "status_detail",
    "insertTime": "create_time",
    "startTime": "start_time",
    "endTime": "end_time",
}

_OPERATORS = {"eq": "=", "ne": "!="}

_STATUS = {
    "DONE": "done = true",
    "RUNNING": "(done = false AND start_time:* OR state = CANCELLING)",
    "PENDING": "(done = false AND NOT start_time:* AND NOT state = CANCELLING)",
}

_STRING = r'"(?:\\.|[^"\\])*"' + "|" + r"'(?:\\.|[^'\\])*'"
_COMPARISON = re.compile(
    rf"(?P<text>{_STRING})|"
    rf"(?<![\w.])(?P<field>name|status|{'|'.join(_FIELDS)})"
    r"(?:\s*(?P<operator>!=|<=|>=|=|<|>|:)\s*|\s+(?P<word>eq|ne)\s+)"
    rf"(?P<value>{_STRING}|[^\s()\"']+)"
)


def translated(text: str, parent: str) -> str:
    """Returns a filter over the fields of this form as one of google.longrunning.

    What is not of this form stays as it is: the list knows it, or refuses it.

    Args:
        text: The filter.
        parent: What the operations' names begin with.
    """

    def translate(found: re.Match[str]) -> str:
        if found["text"]:
            return found[0]
        field, value = found["field"], found["value"]
        sign = found["operator"] or _OPERATORS[found["word"]]
        bare = value.strip("\"'")
        if field in _FIELDS:
            return f"{_FIELDS[field]} {sign} {value}"
        if field == "name" and sign != ":":
            return f'name {sign} "{names.operation_name(parent, bare)}"'
        if field == "status" and bare in _STATUS and sign in ("=", "!="):
            return f"NOT {_STATUS[bare]}" if sign == "!=" else _STATUS[bare]
        return found[0]

    return _COMPARISON.sub(translate, text)
