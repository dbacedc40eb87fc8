"""The kinds of fields that filters compare, and the meaning of a comparison for each of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from lro.v1 import state_pb2
from lro_grpc._errors import Code, cut
from lro_grpc._filtering.expression import Compare, Expression, Label, Like, Not
from lro_grpc._operation import labels
from lro_grpc._operation.states import STATE_PREFIX


class Value(NamedTuple):
    """A value, without its quotes and escapes."""

    parts: tuple[str, ...]
    """Split at each ``*`` that stands for any text."""

    @property
    def text(self) -> str:
        """All of it, each ``*`` as it was written."""
        return "*".join(self.parts)

    @property
    def is_any(self) -> bool:
        """Whether it stands for any value: ``*`` alone."""
        return self.parts == ("", "")


Meaning = Callable[[str, str, Value], Expression]
"""Makes an expression of column, comparator and value; a ValueError describes the mistake."""

EQUALITY = ("=", "!=", ":")
ORDER = (*EQUALITY, "<", "<=", ">", ">=")


@dataclass(frozen=True, slots=True)
class FieldKind:
    """A kind of field: the comparators that it has, and what they mean."""

    comparators: tuple[str, ...]
    meaning: Meaning
    default: str | int | bytes = 0
    optional: bool = False
    """Whether the default stands for unset, so that nothing is true of it."""

    def check(self, comparator: str) -> None:
        """Checks that fields of this kind are compared so; a ValueError says what to use."""
        if comparator not in self.comparators:
            allowed = " ".join(self.comparators) or ":*"
            raise ValueError(f"this field is not compared by {comparator}; use {allowed}")


def reading(read: Callable[[str], int | float]) -> Meaning:
    """Returns the meaning of comparators for a kind whose values are read into numbers."""
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


def _compare_method(column: str, comparator: str, value: Value) -> Expression:
    """Compares full names: a record has them with a slash before the service."""
    first, *others = value.parts
    if comparator != ":" and (first or not others) and not first.startswith("/"):
        value = Value((f"/{first}", *others))
    return _compare_text(column, comparator, value)


def _has_label(_column: str, _comparator: str, value: Value) -> Expression:
    return Label(checked_key(value.text))


def checked_key(text: str) -> str:
    """Returns the key of a label; a ValueError tells why it is none."""
    if not labels.is_key(text):
        raise ValueError(f"no label has the key {cut(text)!r}; a key is {labels.KEY_RULE}")
    return text


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
    number = _STATES.get(text.removeprefix(STATE_PREFIX))
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


_STATES = {name.removeprefix(STATE_PREFIX): n for name, n in state_pb2.JobState.items()}
_EPOCH = datetime(1970, 1, 1)
_RFC_3339 = re.compile(
    r"(?P<local>[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3]):(?P<minutes>[0-5][0-9]))"
)

TEXT = FieldKind(ORDER, _compare_text, default="")
METHOD = FieldKind(ORDER, _compare_method, default="")
TYPE = FieldKind(ORDER, _compare_type, default="", optional=True)
NUMBER = FieldKind(ORDER, reading(_read_number))
CODE = FieldKind(ORDER, reading(_read_code), optional=True)
TIME = FieldKind(ORDER, reading(_read_time), optional=True)
FLAG = FieldKind(EQUALITY, reading(_read_flag))
STATE = FieldKind(EQUALITY, reading(_read_state))
LABELS = FieldKind((":",), _has_label, default="")


def message(default: str | int | bytes) -> FieldKind:
    """Returns the kind of a message: present if its column has another value than this default."""
    return FieldKind((), _compare_text, default)
