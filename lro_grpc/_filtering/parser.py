r"""Reads the filters of lists (AIP-160): a text becomes an expression that matches records.

::

    done = false AND verb = create
    state = (FAILED OR EXPIRED) AND end_time > 2026-05-01T00:00:00+02:00
    error.code = NOT_FOUND OR error.code = ABORTED
    target = "projects/p/*" -status_detail:"waiting for quota"

**Operators.** ``OR`` binds tighter than ``AND``: ``a AND b OR c`` is ``a AND (b OR c)``. Parts
side by side are joined as by ``AND``. ``NOT`` and ``-`` negate the next part. The three words are
in capitals; in small letters they are text to look for. Several values stand in parentheses:
``state = (QUEUED OR PAUSED)``.

**Function.** ``matches(target, "projects/p/.*")``: the text is matched, all of it, by a regular
expression. ``patterns`` has the subset of RE2's syntax. It stands in quotes, where a ``\`` is
written twice.

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
message  not at all; only ``:*`` works
=======  ========================================================================================

``:*`` matches if a field of any kind has a value other than its default. Otherwise, except for
texts and types, ``:`` is ``=``.

**Fields.** ``name``, ``caller``, ``worker``, ``method`` and ``error.message`` (text), ``done``
(flag), ``error`` (message), ``error.code`` (code), ``response`` (message), ``response.@type``,
``metadata.@type`` (type; ``type_url`` instead of ``@type`` will do), and the fields that every
operation has, whatever its metadata type, with or without ``metadata.`` before them:
``create_time``, ``start_time``, ``update_time``, ``end_time``, ``expire_time``, ``schedule_time``
(time), ``target``, ``verb``, ``api_version``, ``status_detail`` or ``status_message`` (text),
``cancel_requested`` or ``requested_cancellation``, ``pause_requested`` (flag),
``progress_percent``, ``attempt`` (number), ``state`` (state), ``batch_create_instances_metadata``,
``partial_failures`` (message). Behind ``metadata.`` also those of the services' own types of
metadata (``message_fields``).

**Labels.** ``labels.env`` is the text of one label, whose key may be in quotes:
``labels."cost-center"``. ``labels.env:*`` and ``labels:env`` ask for the key, ``labels:*`` for any.

**Unset.** A time that is unset, code and message of an operation without an error, the type of a
response and a label that is not there match nothing, not even ``!=``; but ``NOT`` of that is true.

**A value alone** is looked for in name, target, verb and status_detail, as ``:`` does. The name of
a flag alone is refused, because it looks like a comparison; in quotes it is text.

**Limits.** 4096 characters, parentheses 50 deep, 200 values; each ``*`` in a value counts as one,
and each type of metadata but one that has a field.
The regular expressions stand for 500 characters together, and groups in them are 50 deep.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import re
from typing import NamedTuple

from lro_grpc._errors import InvalidFilterError, cut
from lro_grpc._filtering.expression import And, Expression, Filter, Not, Or
from lro_grpc._filtering.fields import FIELDS, LABEL, RESERVED, SHORT_NAMES, Field, field_of, search
from lro_grpc._filtering.kinds import Value
from lro_grpc._filtering.message_fields import MetadataTypes
from lro_grpc._filtering.patterns import MOST_POSITIONS, Pattern, PatternError

MAX_LENGTH = 4096
"""Characters in a filter at most."""

MAX_DEPTH = 50
"""Parentheses in parentheses at most."""

MAX_TERMS = 200
"""Values in a filter at most. Each ``*`` in a value counts as one more, and so does each further
type of metadata that has a field."""


_MOST_LIKE = 64
"""Characters of a name that is none by which one like it is looked for."""

_NO_TYPES = MetadataTypes()


def parse(text: str, types: MetadataTypes = _NO_TYPES) -> Filter:
    """Reads a filter; an empty one matches every record.

    Args:
        text: The filter.
        types: The types of metadata that have fields of their own.

    Raises:
        InvalidFilterError: If it is malformed, names what does not exist, compares what cannot be
            compared, or is beyond a limit (S17).
    """
    return Filter(text, _Parser(text, types).filter())


def invalid(text: str, position: int, problem: str) -> InvalidFilterError:
    """Returns the error for a filter.

    Args:
        text: The filter.
        position: The index of the character at which it is wrong.
        problem: What is wrong there.
    """
    return InvalidFilterError(
        f"filter {cut(text)!r}, character {position + 1}: {problem}",
        metadata={"filter": cut(text), "position": str(position + 1)},
    )


# A text becomes tokens, and the tokens an expression.


class Token(NamedTuple):
    """The smallest part of a filter."""

    kind: str
    """Its group in the pattern, or itself if it is a symbol; ``end`` after the last one."""
    text: str
    """As it is written."""
    position: int
    spaced: bool
    """Whether white space comes before it."""

    @property
    def end(self) -> int:
        """The position after it."""
        return self.position + len(self.text)


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
_FUNCTION = "matches"
_WORDS = ("text", "string", "keyword")


def check_characters(text: str) -> None:
    """Checks the length of a filter, and that it has characters alone.

    Raises:
        InvalidFilterError: If it is too long, or has half a surrogate pair.
    """
    if len(text) > MAX_LENGTH:
        raise invalid(text, MAX_LENGTH, f"it has {len(text)} characters; give {MAX_LENGTH} at most")
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        shown = text.encode(errors="replace").decode()
        raise invalid(shown, cause.start, "half a surrogate pair is no character") from cause


def tokens(text: str) -> list[Token]:
    """Takes a filter apart; the last token is the end.

    Raises:
        InvalidFilterError: If it is too long, or has what is part of no filter.
    """
    check_characters(text)
    found: list[Token] = []
    place, before, spaced = 0, "", True
    while place < len(text):
        match = _ARGUMENT.match(text, place) if before in ("comparator", ".") else None
        match = match or _TOKEN.match(text, place)
        if match is None and text[place] in "\"'":
            raise invalid(text, place, f"the {text[place]} that begins here has no end")
        if match is None:
            raise invalid(text, place, f"unexpected {text[place]!r}; put the value in quotes")
        kind = str(match.lastgroup)
        if kind == "symbol":
            kind = match[0]
        elif kind == "text" and match[0] in _KEYWORDS:
            kind = "keyword"
        if kind != "space":
            if not spaced and kind in _WORDS and before in _WORDS:
                raise invalid(text, place, "put a space before this")
            found.append(Token(kind, match[0], place, spaced))
            before = kind
        place, spaced = match.end(), kind == "space"
    return [*found, Token("end", "", place, spaced=True)]


def hint_at_operators(text: str) -> str:
    """Returns a sentence on an ``and``, ``or`` or ``not`` that is a text, not being in capitals.

    Whoever types one has mostly meant the operator, and wonders why nothing matches. It is empty
    for a filter without one, and for one that is malformed.
    """
    try:
        found = tokens(text)
    except InvalidFilterError:
        return ""
    before = [Token("", "", 0, spaced=True), *found]
    for last, token in zip(before, found, strict=False):
        capitals = token.text.upper()
        is_text = token.kind == "text" and last.kind not in ("comparator", ".")
        if is_text and capitals in _KEYWORDS:
            return f"{token.text} is a text that it looks for; the operator is {capitals}"
    return ""


class _Restricted(NamedTuple):
    """The field and the comparator before a value."""

    field: Field
    comparator: str


def _field_of(types: MetadataTypes, name: str) -> Field | None:
    """Returns a field; None if there is none. A ValueError tells why it is not compared."""
    field = field_of(name)
    if field is not None or name.partition(".")[0] in RESERVED:
        return field
    return types.find(name)


class _Parser:
    """Goes through the tokens once; each method takes those of one rule of the grammar."""

    def __init__(self, text: str, types: MetadataTypes) -> None:
        self._text = text
        self._types = types
        self._find = functools.cache(functools.partial(_field_of, types))
        self._tokens = tokens(text)
        self._next = 0
        self._depth = 0
        self._terms = 0
        self._positions = 0

    def filter(self) -> Expression:
        """Takes all tokens."""
        if self._token.kind == "end":
            return And(())
        expression = self._expression(None)
        if self._token.kind != "end":
            raise self._unexpected("AND, OR or the end")
        return expression

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self, kind: str, text: str = "") -> Token | None:
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
        """``function | member [comparator argument]``; in an argument's parentheses a value."""
        first = self._token
        if of is None and first.text == _FUNCTION and self._is_called():
            return self._function()
        member = self._member()
        comparator = self._take("comparator") if of is None else None
        if comparator is None:
            return self._value_of(of, member, first)
        return self._simple(_Restricted(self._field(member, first), comparator.text))

    def _is_called(self) -> bool:
        """Whether a parenthesis stands right behind the next token."""
        behind = self._tokens[self._next + 1 : self._next + 2]
        return bool(behind and behind[0].kind == "(" and not behind[0].spaced)

    def _function(self) -> Expression:
        """``matches ( member , string )``."""
        self._next += 2
        first = self._token
        field = self._field(self._member(), first)
        if not field.is_text:
            raise self._error(first, "this field is no text; compare it")
        if not self._take(","):
            raise self._unexpected(",")
        at = self._token
        if at.kind != "string":
            raise self._unexpected("a regular expression in quotes")
        pattern = self._pattern(self._member().text, at)
        if not self._take(")"):
            raise self._unexpected(")")
        return field.matching(pattern)

    def _pattern(self, text: str, at: Token) -> Pattern:
        try:
            pattern = Pattern(text)
        except PatternError as cause:
            place = f"the regular expression {cut(text)!r}, character {cause.position + 1}"
            raise self._error(at, f"{place}: {cause}") from cause
        self._count(1, at)
        self._positions += pattern.size
        if self._positions > MOST_POSITIONS:
            problem = f"its regular expressions stand for more than {MOST_POSITIONS} characters"
            raise self._error(at, problem)
        return pattern

    def _field(self, member: Value, at: Token) -> Field:
        field = self._known(member.text, at)
        if field is None:
            names = ", ".join(SHORT_NAMES)
            own = f", and those of {self._types}" if self._types.types else ""
            near = self._near(member.text)
            meant = f"; did you mean {near}? The" if near else "; the"
            problem = f"there is no field {cut(member.text)!r}{meant} fields are {names}{own}"
            raise self._error(at, problem)
        self._count(field.size - 1, at)
        return field

    def _near(self, name: str) -> str:
        """Returns the field whose name is most like one that there is not; empty if none is."""
        known = (*FIELDS, *self._types.names())
        return next(iter(difflib.get_close_matches(name[:_MOST_LIKE], known, 1)), "")

    def _known(self, name: str, at: Token) -> Field | None:
        try:
            return self._find(name)
        except ValueError as cause:
            raise self._error(at, str(cause)) from cause

    def _is_flag(self, name: str) -> bool:
        with contextlib.suppress(ValueError):  # it may be any text
            field = self._find(name)
            return field is not None and field.is_flag
        return False

    def _count(self, terms: int, at: Token) -> None:
        self._terms += terms
        if self._terms > MAX_TERMS:
            problem = (
                f"it has more than {MAX_TERMS} values, wildcards, and types of metadata that have"
                " its fields"
            )
            raise self._error(at, problem)

    def _value_of(self, of: _Restricted | None, value: Value, at: Token) -> Expression:
        """Returns the meaning of a value in its place: after a comparator, or alone."""
        self._count(len(value.parts), at)
        if of is not None:
            try:
                return of.field.restrict(of.comparator, value)
            except ValueError as cause:
                raise self._error(at, str(cause)) from cause
        name = value.text
        if at.kind == "text" and self._is_flag(name):
            raise self._error(at, f'compare this flag, {name} = true, or look for "{name}"')
        if at.kind == "text" and name.startswith(LABEL):
            problem = f'compare this label, or ask for it, {name}:*, or look for "{name}"'
            raise self._error(at, problem)
        return search(value)

    def _member(self) -> Value:
        """``value {. field}``: a value, or the name of a field."""
        token = self._take("text") or self._take("string")
        if token is None:
            raise self._unexpected("a value or a field")
        parts: list[list[str]] = [[]]
        self._add(token, parts)
        while self._take("."):
            token = self._take("text") or self._take("string") or self._take("keyword")
            if token is None:
                raise self._unexpected("a value or a field")
            parts[-1].append(".")
            self._add(token, parts)
        if self._token.kind == "(" and not self._token.spaced:
            problem = f"there are no functions but {_FUNCTION}; put a space before ("
            raise self._error(self._token, problem)
        return Value(tuple(map("".join, parts)))

    def _add(self, token: Token, parts: list[list[str]]) -> None:
        """Adds the text that a token stands for to the last part; each ``*`` begins another one."""
        if token.kind != "string":
            first, *others = token.text.split("*")
            parts[-1].append(first)
            parts.extend([one] for one in others)
            return
        for piece in _PIECE.finditer(token.text, 1, len(token.text) - 1):
            if piece["star"]:
                parts.append([])
            elif not piece["escape"]:
                parts[-1].append(piece[0])
            elif piece[0][1] in "\\\"'*":
                parts[-1].append(piece[0][1])
            else:
                raise self._error(token, f"{piece[0]!r} is not an escape; \\\\ stands for \\")

    def _unexpected(self, expected: str) -> InvalidFilterError:
        token = self._token
        found = repr(cut(token.text)) if token.text else "the end"
        quotes = "; put it in quotes to look for it" if token.kind == "keyword" else ""
        return self._error(token, f"expected {expected}, found {found}{quotes}")

    def _error(self, token: Token, problem: str) -> InvalidFilterError:
        return invalid(self._text, token.position, problem)
