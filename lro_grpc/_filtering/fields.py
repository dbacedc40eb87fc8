"""The fields that filters compare, and the meaning of a comparison for each kind of field."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from lro.v1 import state_pb2
from lro_grpc._errors import Code, cut
from lro_grpc._filtering.expression import (
    _FOLDED,
    And,
    Compare,
    Expression,
    Like,
    Not,
    PartialFailures,
)
from lro_grpc._operation.record import SHOWN, Kind


class _Value(NamedTuple):
    """A value, without its quotes and escapes."""

    parts: tuple[str, ...]
    """Split at each ``*`` that stands for any text."""

    @property
    def text(self) -> str:
        return "*".join(self.parts)


# What a restriction means, for each kind of field.

_Meaning = Callable[[str, str, _Value], Expression]
"""Makes an expression of column, comparator and value; a ValueError says what is wrong."""

_EQUALITY = ("=", "!=", ":")
_ORDER = (*_EQUALITY, "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What fields of one kind have in common."""

    comparators: tuple[str, ...]
    meaning: _Meaning
    default: str | int | bytes = 0
    optional: bool = False
    """Whether the default stands for unset, so that nothing is true of it."""


class _Field(NamedTuple):
    kind: _Kind
    column: str

    def restrict(self, comparator: str, value: _Value) -> Expression:
        """Returns what a restriction means; a ValueError says what is wrong with it."""
        present = self.present()
        if comparator == ":" and value.parts == ("", ""):
            return present
        if comparator not in self.kind.comparators:
            allowed = " ".join(self.kind.comparators) or ":*"
            raise ValueError(f"this field is not compared by {comparator}; use {allowed}")
        meant = self.kind.meaning(self.column, comparator, value)
        return And((present, meant)) if self.kind.optional else meant

    def present(self) -> Expression:
        """Returns the question whether there is a value other than the default."""
        if self.column == "partial_failures":
            return PartialFailures()
        return Compare(self.column, "!=", self.kind.default)


def _read_by(read: Callable[[str], int]) -> _Meaning:
    """Returns the meaning for a kind whose values are numbers in a record."""
    return lambda column, comparator, value: Compare(
        column, "=" if comparator == ":" else comparator, read(value.text)
    )


def _text(column: str, comparator: str, value: _Value) -> Expression:
    if comparator == ":":
        return _containing(column, value)
    if len(value.parts) > 1 and comparator in ("=", "!="):
        like = Like(column, value.parts)
        return like if comparator == "=" else Not(like)
    return Compare(column, comparator, value.text)


def _containing(column: str, value: _Value) -> Expression:
    folded = (part.translate(_FOLDED) for part in value.parts)
    return Like(column, ("", *folded, ""), fold=True)


def _type(column: str, comparator: str, value: _Value) -> Expression:
    """A record has the full name; a type URL is that after its last slash."""
    full_name = value.text.rpartition("/")[2]
    return _text(column, comparator, _Value(tuple(full_name.split("*"))))


def _flag(text: str) -> int:
    if text not in ("true", "false"):
        raise ValueError(f"{cut(text)!r} is neither true nor false")
    return int(text == "true")


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{cut(text)!r} is not a whole number of 64 bits")
    return int(text)


def _code(text: str) -> int:
    if text in Code.__members__:
        return int(Code[text])
    try:
        return _number(text)
    except ValueError as cause:
        codes = ", ".join(Code.__members__)
        raise ValueError(f"{cut(text)!r} is no code; give a number or one of {codes}") from cause


def _state(text: str) -> int:
    number = _STATES.get(text.removeprefix(_STATE_PREFIX))
    if number is None:
        raise ValueError(f"{cut(text)!r} is no state; give one of {', '.join(_STATES)}")
    return number


def _time(text: str) -> int:
    found = _RFC_3339.fullmatch(text)
    if found is None:
        raise _no_time(text)
    try:
        local = datetime.fromisoformat(found["local"].upper()) - _EPOCH
    except ValueError as cause:
        raise _no_time(text) from cause
    offset = timedelta(hours=int(found["hours"] or 0), minutes=int(found["minutes"] or 0))
    since = local + offset if found["sign"] == "-" else local - offset
    return since // timedelta(microseconds=1) + int((found["fraction"] or "")[:6].ljust(6, "0"))


def _no_time(text: str) -> ValueError:
    return ValueError(f"{cut(text)!r} is not an RFC 3339 time such as 2026-05-01T08:00:00.5+02:00")


_STATE_PREFIX = "JOB_STATE_"
_STATES = {name.removeprefix(_STATE_PREFIX): n for name, n in state_pb2.JobState.items()}
_EPOCH = datetime(1970, 1, 1)
_RFC_3339 = re.compile(
    r"(?P<local>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3]):(?P<minutes>[0-5][0-9]))"
)

_TEXT = _Kind(_ORDER, _text, default="")
_TYPE = _Kind(_ORDER, _type, default="", optional=True)
_NUMBER = _Kind(_ORDER, _read_by(_number))
_CODE = _Kind(_ORDER, _read_by(_code), optional=True)
_TIME = _Kind(_ORDER, _read_by(_time), optional=True)
_FLAG = _Kind(_EQUALITY, _read_by(_flag))
_STATE = _Kind(_EQUALITY, _read_by(_state))


def _message(default: str | int | bytes) -> _Kind:
    """Returns the kind of a message, which the column with this default tells of."""
    return _Kind((), _text, default)


_BY_KIND = {
    Kind.TIME: _TIME,
    Kind.TEXT: _TEXT,
    Kind.FLAG: _FLAG,
    Kind.NUMBER: _NUMBER,
    Kind.STATE: _STATE,
    Kind.BATCH: _message(b""),
}
_CONVENTIONAL = {
    **{
        shown: _Field(_BY_KIND[field.kind], field.name)
        for shown, field in SHOWN.items()
        if field.kind is not None
    },
    "partial_failures": _Field(_message(0), "partial_failures"),
}

_OWN = {
    "name": _Field(_TEXT, "name"),
    "done": _Field(_FLAG, "done"),
    "error": _Field(_message(0), "error_code"),
    "error.code": _Field(_CODE, "error_code"),
    "response": _Field(_message(""), "response_type"),
    "response.@type": _Field(_TYPE, "response_type"),
    "response.type_url": _Field(_TYPE, "response_type"),
    "metadata.@type": _Field(_TYPE, "metadata_type"),
    "metadata.type_url": _Field(_TYPE, "metadata_type"),
}

_FIELDS: Mapping[str, _Field] = {
    **_OWN,
    **_CONVENTIONAL,
    **{f"metadata.{name}": field for name, field in _CONVENTIONAL.items()},
}

_SEARCHED = ("name", "target", "verb", "status_detail")
"""The columns in which a value alone is looked for."""
