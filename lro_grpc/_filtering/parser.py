r"""List filters (AIP-160): a text becomes an expression tree, which matches records.

::

    done = false AND verb = create
    state = (FAILED OR EXPIRED) AND end_time > 2026-05-01T00:00:00+02:00
    error.code = NOT_FOUND OR error.code = ABORTED
    target = "projects/p/*" -status_detail:"waiting for quota"

**Operators.** ``OR`` binds tighter than ``AND``: ``a AND b OR c`` is ``a AND (b OR c)``. What
stands side by side is joined as by ``AND``. ``NOT`` and ``-`` negate what comes next. The three
words are in capitals; in small letters they are text to look for. A value may be several, in
parentheses: ``state = (QUEUED OR PAUSED)``. There are no functions.

**Values** stand bare, or in double or single quotes, where ``\`` takes a quote, a ``*`` or another
``\`` as it is.

=======  ========================================================================================
kind     is compared
=======  ========================================================================================
text     by ``= != < <= > >=``, in the order of code points. With ``=`` and ``!=``, a ``*`` stands
         for any text. ``:`` looks for a part, and the case of the letters A to Z does not matter
type     as text is: the full name of a message type, or its type URL
time     with an RFC 3339 time of any offset; its digits below the microsecond are dropped
number   with a whole number of 64 bits
code     with the name or the number of a canonical code
state    with the name of a ``JobState``, ``JOB_STATE_`` left out or not, by ``= != :`` only
flag     with ``true`` or ``false``, by ``= != :`` only
message  not at all; only ``:*`` can be asked
=======  ========================================================================================

``:*`` asks whether a field of any kind has a value other than its default. But for that, and for
texts and types, ``:`` is ``=``.

**Fields.** ``name`` (text), ``done`` (flag), ``error`` (message), ``error.code`` (code),
``response`` (message), ``response.@type``, ``metadata.@type`` (type; ``type_url`` instead of
``@type`` will do), and those that the server tells of every operation, whatever its metadata type,
with or without ``metadata.`` before them: ``create_time``, ``start_time``, ``update_time``,
``end_time``, ``expire_time`` (time), ``target``, ``verb``, ``api_version``, ``status_detail`` or
``status_message`` (text), ``cancel_requested`` or ``requested_cancellation``, ``pause_requested``
(flag), ``progress_percent``, ``attempt`` (number), ``state`` (state),
``batch_create_instances_metadata``, ``partial_failures`` (message).

**Unset.** A time that is unset, the code of an operation without an error and the type of a
response that is not there match nothing, not even ``!=``; but ``NOT`` of that is true.

**A value alone** is looked for in name, target, verb and status_detail, as ``:`` does. The name of
a flag alone is refused, for it is meant otherwise; in quotes it is text.

**Limits.** 4096 characters, parentheses 50 deep, 200 values; each ``*`` in a value counts as one.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Union

from google.longrunning import operations_pb2

from lro.v1 import state_pb2
from lro_grpc import _anys
from lro_grpc._errors import Code, InvalidFilterError, cut
from lro_grpc._operation.record import SHOWN, Kind, Record

MAX_LENGTH = 4096
"""Characters in a filter at most."""

MAX_DEPTH = 50
"""Parentheses in parentheses at most."""

MAX_TERMS = 200
"""Values in a filter at most; each ``*`` in a value counts as one more."""


@dataclass(frozen=True, slots=True)
class And:
    """All of the parts; of none, true."""

    parts: tuple[Expression, ...]

    def matches(self, record: Record) -> bool:
        """Tells whether it is true of a record."""
        return all(part.matches(record) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of the parts."""

    parts: tuple[Expression, ...]

    def matches(self, record: Record) -> bool:
        """Tells whether it is true of a record."""
        return any(part.matches(record) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: Expression

    def matches(self, record: Record) -> bool:
        """Tells whether it is true of a record."""
        return not self.part.matches(record)


@dataclass(frozen=True, slots=True)
class Compare:
    """A record's value beside another one of its type; texts in the order of code points."""

    column: str
    """The name of a field of ``Record``, or ``done``."""
    comparator: str
    """One of ``= != < <= > >=``."""
    value: str | int | bytes

    def matches(self, record: Record) -> bool:
        """Tells whether it is true of a record."""
        return bool(_COMPARATORS[self.comparator](getattr(record, self.column), self.value))


@dataclass(frozen=True, slots=True)
class Like:
    """A record's text has these parts in this order, and any text between them."""

    column: str
    """The name of a field of ``Record``."""
    parts: tuple[str, ...]
    """Two at least: the text begins with the first and ends with the last."""
    fold: bool = False
    """Whether A to Z in the record's text count as a to z; those of the parts are so already."""

    def matches(self, record: Record) -> bool:
        """Tells whether it is true of a record."""
        text = getattr(record, self.column)
        if self.fold:
            text = text.translate(_FOLDED)
        first, *middle, last = self.parts
        place, end = len(first), len(text) - len(last)
        if place > end or not text.startswith(first) or not text.endswith(last):
            return False
        for part in middle:
            found = text.find(part, place, end)
            if found < 0:
                return False
            place = found + len(part)
        return True


@dataclass(frozen=True, slots=True)
class PartialFailures:
    """The served metadata lists failures of parts."""

    def matches(self, record: Record) -> bool:
        """Tells whether it is true of a record."""
        served = operations_pb2.Operation.FromString(record.operation).metadata
        message = _anys.unpack(served)
        if message is None:
            return False  # a type that has gone from the service tells nothing
        field = message.DESCRIPTOR.fields_by_name.get("partial_failures")
        return field is not None and bool(field.is_repeated and getattr(message, field.name))


Expression = Union[And, Or, Not, Compare, Like, PartialFailures]  # noqa: UP007 - is evaluated


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that is well formed."""

    text: str
    expression: Expression

    def matches(self, record: Record) -> bool:
        """Tells whether a record is to be listed."""
        return self.expression.matches(record)


def comparisons(expression: Expression) -> int:
    """Returns how many comparisons an expression makes with a record at most."""
    if isinstance(expression, Not):
        return comparisons(expression.part)
    if isinstance(expression, (And, Or)):
        return sum(map(comparisons, expression.parts))
    return len(expression.parts) if isinstance(expression, Like) else 1


def parse(text: str) -> Filter:
    """Reads a filter; an empty one matches every record.

    Raises:
        InvalidFilterError: If it is malformed, names what does not exist, compares what cannot be
            compared, or is beyond a limit (S17).
    """
    if len(text) > MAX_LENGTH:
        raise _invalid(
            text, MAX_LENGTH, f"it has {len(text)} characters; give {MAX_LENGTH} at most"
        )
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        shown = text.encode(errors="replace").decode()
        raise _invalid(shown, cause.start, "half a surrogate pair is no character") from cause
    return Filter(text, _Parser(text).filter())


def _invalid(text: str, position: int, problem: str) -> InvalidFilterError:
    return InvalidFilterError(
        f"filter {cut(text)!r}, character {position + 1}: {problem}",
        metadata={"filter": cut(text), "position": str(position + 1)},
    )


_COMPARATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_FOLDED = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


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


# The grammar: a text becomes tokens, and those an expression.


class _Token(NamedTuple):
    kind: str
    """Its group in the pattern, or itself if it is a symbol; ``end`` after the last one."""
    text: str
    """As it is written."""
    position: int
    spaced: bool
    """Whether white space comes before it."""


_BARE = r"""[^\s()"',<>=!:\\.]+"""
_TOKEN = re.compile(
    rf"""
    (?P<space> \s+)
    | (?P<comparator> <= | >= | != | [<>=:])
    | (?P<string> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<symbol> [().,-])
    | (?P<text> {_BARE})
    """,
    re.VERBOSE | re.DOTALL,
)
# After a comparator a minus belongs to the value, and so do the colons of a time.
_ARGUMENT = re.compile(rf"(?P<text>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[Tt][0-9:.Zz+-]*|{_BARE})")
_PIECE = re.compile(r"(?P<escape>\\.)|(?P<star>\*)|[^\\*]+", re.DOTALL)
_KEYWORDS = ("AND", "OR", "NOT")
_WORDS = ("text", "string", "keyword")


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    place, before, spaced = 0, "", True
    while place < len(text):
        found = _ARGUMENT.match(text, place) if before in ("comparator", ".") else None
        found = found or _TOKEN.match(text, place)
        if found is None and text[place] in "\"'":
            raise _invalid(text, place, f"the {text[place]} that begins here has no end")
        if found is None:
            raise _invalid(text, place, f"unexpected {text[place]!r}; put the value in quotes")
        kind = str(found.lastgroup)
        if kind == "symbol":
            kind = found[0]
        elif kind == "text" and found[0] in _KEYWORDS:
            kind = "keyword"
        if kind != "space":
            if not spaced and kind in _WORDS and before in _WORDS:
                raise _invalid(text, place, "put a space before this")
            tokens.append(_Token(kind, found[0], place, spaced))
            before = kind
        place, spaced = found.end(), kind == "space"
    return [*tokens, _Token("end", "", place, spaced=True)]


class _Parser:
    """Goes through the tokens once; each method takes those of one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0
        self._terms = 0

    def filter(self) -> Expression:
        """Takes all of it."""
        if self._token.kind == "end":
            return And(())
        expression = self._expression(None)
        if self._token.kind != "end":
            raise self._unexpected("AND, OR or the end")
        return expression

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, kind: str, text: str = "") -> _Token | None:
        """Takes the next token if it is this one."""
        token = self._token
        if token.kind != kind or (text and token.text != text):
            return None
        self._next += 1
        return token

    def _expression(self, of: _Restricted | None) -> Expression:
        """``sequence {AND sequence}``: each factor of each must match."""
        parts = self._sequence(of)
        while self._take("keyword", "AND"):
            parts += self._sequence(of)
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _sequence(self, of: _Restricted | None) -> list[Expression]:
        """``factor {factor}``."""
        factors = [self._factor(of)]
        while self._token.kind in ("text", "string", "-", "(") or self._token.text == "NOT":
            factors.append(self._factor(of))
        return factors

    def _factor(self, of: _Restricted | None) -> Expression:
        """``term {OR term}``."""
        terms = [self._term(of)]
        while self._take("keyword", "OR"):
            terms.append(self._term(of))
        return terms[0] if len(terms) == 1 else Or(tuple(terms))

    def _term(self, of: _Restricted | None) -> Expression:
        """``[NOT | -] simple``."""
        if self._take("keyword", "NOT"):
            return Not(self._simple(of))
        minus = self._take("-")
        if minus and self._token.spaced:
            raise self._error(minus, "put what it negates right after -, or the text in quotes")
        return Not(self._simple(of)) if minus else self._simple(of)

    def _simple(self, of: _Restricted | None) -> Expression:
        """``restriction | ( expression )``."""
        opened = self._take("(")
        if opened is None:
            return self._restriction(of)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(opened, f"parentheses are more than {MAX_DEPTH} deep")
        expression = self._expression(of)
        if not self._take(")"):
            raise self._unexpected(")")
        self._depth -= 1
        return expression

    def _restriction(self, of: _Restricted | None) -> Expression:
        """``member [comparator argument]``; in an argument's parentheses a value alone."""
        first = self._token
        member = self._member()
        comparator = self._take("comparator") if of is None else None
        if comparator is None:
            return self._value_of(of, member, first)
        field = _FIELDS.get(member.text)
        if field is None:
            fields = ", ".join((*_OWN, *_CONVENTIONAL))
            problem = f"there is no field {cut(member.text)!r}; the fields are {fields}"
            raise self._error(first, problem)
        return self._simple(_Restricted(field, comparator.text))

    def _value_of(self, of: _Restricted | None, value: _Value, at: _Token) -> Expression:
        """What a value means where it stands: after a comparator, or alone."""
        self._terms += len(value.parts)
        if self._terms > MAX_TERMS:
            raise self._error(at, f"it has more than {MAX_TERMS} values and wildcards")
        if of is not None:
            try:
                return of.field.restrict(of.comparator, value)
            except ValueError as cause:
                raise self._error(at, str(cause)) from cause
        name = value.text
        if at.kind == "text" and name in _FIELDS and _FIELDS[name].kind is _FLAG:
            raise self._error(at, f'compare this flag, {name} = true, or look for "{name}"')
        return Or(tuple(_containing(column, value) for column in _SEARCHED))

    def _member(self) -> _Value:
        """``value {. field}``: a value, or the name of a field."""
        token = self._take("text") or self._take("string")
        if token is None:
            raise self._unexpected("a value or a field")
        parts = self._parts(token)
        while self._take("."):
            token = self._take("text") or self._take("string") or self._take("keyword")
            if token is None:
                raise self._unexpected("a value or a field")
            first, *rest = self._parts(token)
            parts = [*parts[:-1], f"{parts[-1]}.{first}", *rest]
        if self._token.kind == "(" and not self._token.spaced:
            raise self._error(self._token, "there are no functions; put a space before (")
        return _Value(tuple(parts))

    def _parts(self, token: _Token) -> list[str]:
        """Returns what a token stands for, split at each ``*``."""
        if token.kind != "string":
            return token.text.split("*")
        parts = [""]
        for piece in _PIECE.finditer(token.text, 1, len(token.text) - 1):
            if piece["star"]:
                parts.append("")
            elif not piece["escape"]:
                parts[-1] += piece[0]
            elif piece[0][1] in "\\\"'*":
                parts[-1] += piece[0][1]
            else:
                raise self._error(token, f"{piece[0]!r} is not an escape; \\\\ stands for \\")
        return parts

    def _unexpected(self, expected: str) -> InvalidFilterError:
        token = self._token
        found = repr(cut(token.text)) if token.text else "the end"
        quotes = "; put it in quotes to look for it" if token.kind == "keyword" else ""
        return self._error(token, f"expected {expected}, found {found}{quotes}")

    def _error(self, token: _Token, problem: str) -> InvalidFilterError:
        return _invalid(self._text, token.position, problem)


class _Restricted(NamedTuple):
    """What stands before a value: the field and how it is compared."""

    field: _Field
    comparator: str
