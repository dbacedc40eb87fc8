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
    And,
    Compare,
    Expression,
    Like,
    Not,
    Or,
    PartialFailures,
)
from lro_grpc._operation.record import SHOWN, Kind


class Value(NamedTuple):
    """A value, without its quotes and escapes."""

    parts: tuple[str, ...]
    """Split at each ``*`` that stands for any text."""

    @property
    def text(self) -> str:
        """All of it, each ``*`` as it was written."""
        return "*".join(self.parts)


_Meaning = Callable[[str, str, Value], Expression]
"""Makes an expression of column, comparator and value; a ValueError describes the mistake."""

_EQUALITY = ("=", "!=", ":")
_ORDER = (*_EQUALITY, "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class _FieldKind:
    """A kind of field: the comparators that it has, and what they mean."""

    comparators: tuple[str, ...]
    meaning: _Meaning
    default: str | int | bytes = 0
    optional: bool = False
    """Whether the default stands for unset, so that nothing is true of it."""


class FilterField(NamedTuple):
    """A field that a filter may name."""

    kind: _FieldKind
    column: str
    """The name of a field of ``Record``, or ``done``."""

    @property
    def is_flag(self) -> bool:
        """Whether it is true or false."""
        return self.kind is _FLAG

    def restrict(self, comparator: str, value: Value) -> Expression:
        """Returns the meaning of a restriction; a ValueError describes the mistake in it."""
        present = self.present()
        if comparator == ":" and value.parts == ("", ""):
            return present
        if comparator not in self.kind.comparators:
            allowed = " ".join(self.kind.comparators) or ":*"
            raise ValueError(f"this field is not compared by {comparator}; use {allowed}")
        meant = self.kind.meaning(self.column, comparator, value)
        return And((present, meant)) if self.kind.optional else meant

    @property
    def is_text(self) -> bool:
        """Whether it is a text."""
        return self.kind is _TEXT

    def present(self) -> Expression:
        """Returns the restriction to records with a value other than the default."""
        if self.column == "partial_failures":
            return PartialFailures()
        return Compare(self.column, "!=", self.kind.default)


def _reading(read: Callable[[str], int]) -> _Meaning:
    """Returns the meaning of comparators for a kind whose values are numbers in a record."""
    return lambda column, comparator, value: Compare(
        column, "=" if comparator == ":" else comparator, read(value.text)
    )


def _compare_text(column: str, comparator: str, value: Value) -> Expression:
    if comparator == ":":
        return Like.containing(column, value.parts)
    if len(value.parts) > 1 and comparator in ("=", "!="):
        like = Like(column, value.parts)
        return like if comparator == "=" else Not(like)
    return Compare(column, comparator, value.text)


def _compare_type(column: str, comparator: str, value: Value) -> Expression:
    """Compares full names: that of a type URL is the part after its last slash."""
    full_name = value.text.rpartition("/")[2]
    return _compare_text(column, comparator, Value(tuple(full_name.split("*"))))


def _read_flag(text: str) -> int:
    if text not in ("true", "false"):
        raise ValueError(f"{cut(text)!r} is neither true nor false")
    return int(text == "true")


def _read_number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,19}", text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"{cut(text)!r} is not a whole number of 64 bits")
    return int(text)


def _read_code(text: str) -> int:
    if text in Code.__members__:
        return int(Code[text])
    try:
        return _read_number(text)
    except ValueError as cause:
        codes = ", ".join(Code.__members__)
        raise ValueError(f"{cut(text)!r} is no code; give a number or one of {codes}") from cause


def _read_state(text: str) -> int:
    number = _STATES.get(text.removeprefix(_STATE_PREFIX))
    if number is None:
        raise ValueError(f"{cut(text)!r} is no state; give one of {', '.join(_STATES)}")
    return number


def _read_time(text: str) -> int:
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

_TEXT = _FieldKind(_ORDER, _compare_text, default="")
_TYPE = _FieldKind(_ORDER, _compare_type, default="", optional=True)
_NUMBER = _FieldKind(_ORDER, _reading(_read_number))
_CODE = _FieldKind(_ORDER, _reading(_read_code), optional=True)
_TIME = _FieldKind(_ORDER, _reading(_read_time), optional=True)
_FLAG = _FieldKind(_EQUALITY, _reading(_read_flag))
_STATE = _FieldKind(_EQUALITY, _reading(_read_state))


def _message(default: str | int | bytes) -> _FieldKind:
    """Returns the kind of a message: present if its column has another value than this default."""
    return _FieldKind((), _compare_text, default)


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
        shown: FilterField(_BY_KIND[field.kind], field.name)
        for shown, field in SHOWN.items()
        if field.kind is not None
    },
    "partial_failures": FilterField(_message(0), "partial_failures"),
}

_OWN = {
    "name": FilterField(_TEXT, "name"),
    "done": FilterField(_FLAG, "done"),
    "error": FilterField(_message(0), "error_code"),
    "error.code": FilterField(_CODE, "error_code"),
    "response": FilterField(_message(""), "response_type"),
    "response.@type": FilterField(_TYPE, "response_type"),
    "response.type_url": FilterField(_TYPE, "response_type"),
    "metadata.@type": FilterField(_TYPE, "metadata_type"),
    "metadata.type_url": FilterField(_TYPE, "metadata_type"),
}

FIELDS: Mapping[str, FilterField] = {
    **_OWN,
    **_CONVENTIONAL,
    **{f"metadata.{name}": field for name, field in _CONVENTIONAL.items()},
}
"""The fields by all their names."""

SHORT_NAMES = (*_OWN, *_CONVENTIONAL)
"""The names without a ``metadata.`` that may be left out."""

_SEARCHED = ("name", "target", "verb", "status_detail")
"""The columns in which a value without a field is looked for."""


def search(value: Value) -> Expression:
    """Returns the meaning of a value without a field: one of these texts contains it."""
    return Or(tuple(Like.containing(column, value.parts) for column in _SEARCHED))
