"""Filters of Deployment Manager's list, as filters of google.longrunning.

Its discovery document knows two kinds, which are not mixed:

* ``name eq op-.*``, or ``(name eq op-.*) (status ne "DONE")``, all of which have to hold. The value
  is a regular expression for the whole text of the field, with or without quotes; see
  :mod:`lro_grpc._filtering.patterns`. A field that is no text is compared with the value itself.
* All else is AIP-160, see :mod:`lro_grpc._filtering.parser`: ``(status = DONE) (progress < 50)``.

Both have this dialect's names for some fields, and otherwise those of google.longrunning. The
limits of filters hold for what was sent, and for what that becomes.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lro_grpc._errors import cut
from lro_grpc._filtering import parser
from lro_grpc._filtering.fields import FIELDS
from lro_grpc._filtering.patterns import MAX_POSITIONS, Pattern, PatternError, escaped
from lro_grpc._operation import names

_FIELDS = {
    "operationType": "verb",
    "statusMessage": "status_detail",
    "insertTime": "create_time",
    "startTime": "start_time",
    "endTime": "end_time",
}
"""The fields that are those of google.longrunning under other names."""

_STATUS = {
    "DONE": "done = true",
    "RUNNING": "(done = false AND start_time:* OR state = CANCELLING)",
    "PENDING": "(done = false AND NOT start_time:* AND NOT state = CANCELLING)",
}
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
_OWN_FIELDS = ("name", "status", "progress", *_FIELDS)
"""The fields that this dialect has names for."""

_DONE_PROGRESS = 100
"""The progress that is shown of what is done."""

_OPERATORS = {"eq": "=", "ne": "!="}
_HEAD = re.compile(r"\s*(?P<field>[A-Za-z_][\w.@]*)\s+(?P<operator>eq|ne)(?=\s|$)\s*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_MIXED = re.compile(r"(?:^|\s)(?:AND|OR|NOT|eq|ne)(?:\s|$)|[<>=:]")
_SPACES = re.compile(r"\s*")


def translated(text: str, parent: str) -> str:
    """Returns a filter of this dialect as one of google.longrunning.

    Args:
        text: The filter.
        parent: The parent of the operations.

    Raises:
        InvalidFilterError: If it is too long, mixes the two kinds, or cannot be taken apart.
    """
    parser.check_characters(text)
    begin = _SPACES.match(text)
    assert begin is not None
    opened = text.startswith("(", begin.end())
    if not _HEAD.match(text, begin.end() + opened):
        return _as_compared(text, parent)
    parts: list[str] = []
    positions = 0
    for one in _grouped(text, begin.end()) if opened else _single(text):
        pattern = one.compiled(text)
        positions += pattern.size if pattern is not None else 0
        if positions > MAX_POSITIONS:
            problem = f"its regular expressions stand for more than {MAX_POSITIONS} characters"
            raise parser.invalid(text, one.position, problem)
        parts.append(one.meaning(text, pattern, parent))
    return " ".join(parts)


def _check_field(text: str, field: str, position: int) -> None:
    """Refuses a field that neither this dialect nor google.longrunning has."""
    if field not in _OWN_FIELDS and field not in FIELDS:
        problem = (
            f"there is no field {cut(field)!r}; the fields are {', '.join(_OWN_FIELDS)}, and those"
            " of the filters of google.longrunning"
        )
        raise parser.invalid(text, position, problem)


# Regular expressions.


class _Expression(NamedTuple):
    """A field, and the regular expression for it."""

    field: str
    is_negated: bool
    pattern: str
    position: int
    """Of the expression."""

    def meaning(self, text: str, pattern: Pattern | None, parent: str) -> str:
        """Returns the same as a filter of google.longrunning, given what is compiled of it."""
        if pattern is None:
            sign = "!=" if self.is_negated else "="
            if self.field == "progress":
                return _progress(text, self.position, sign, self.pattern)
            return f"{self._known_field} {sign} {_quoted(self.pattern)}"
        if self.field == "status":
            words = [word for word in _STATUS if pattern.matches(word) != self.is_negated]
            return f"({' OR '.join(_STATUS[word] for word in words)})" if words else _NEVER
        expression = pattern.unanchored
        if self.field == "name":
            expression = f"{escaped(names.operation_name(parent, ''))}(?:{expression})"
        sign = "NOT " if self.is_negated else ""
        return f"{sign}matches({self._known_field}, {_quoted(expression)})"

    @property
    def _known_field(self) -> str:
        return _FIELDS.get(self.field, self.field)

    def compiled(self, text: str) -> Pattern | None:
        """Returns the regular expression; None if the field is no text."""
        known = FIELDS.get(self._known_field)
        if self.field != "status" and (known is None or not known.is_text):
            return None
        try:
            return Pattern(self.pattern)
        except PatternError as cause:
            at = self.position + cause.position
            problem = f"of the regular expression {cut(self.pattern)!r}: {cause}"
            raise parser.invalid(text, at, problem) from cause


def _single(text: str) -> Iterator[_Expression]:
    """Yields the one expression that stands without parentheses, as far as the end."""
    field, is_negated, place = _head(text, 0)
    quoted = _QUOTED.match(text, place)
    if quoted is not None:
        if text[quoted.end() :].strip():
            raise parser.invalid(text, quoted.end(), f"expected the end; {_RULE}")
        yield _Expression(field, is_negated, quoted[0][1:-1], place + 1)
        return
    value = text[place:].rstrip()
    mixed = _MIXED.search(value)
    if mixed is not None and len(value.split()) > 1:
        raise parser.invalid(text, place + mixed.start(), _RULE)
    yield _checked(text, field, is_negated, value, place)


def _grouped(text: str, place: int) -> Iterator[_Expression]:
    """Yields the expressions that stand in parentheses, one after the other."""
    while place < len(text):
        if text[place] != "(":
            raise parser.invalid(text, place, f"expected ( or the end; {_RULE}")
        field, is_negated, place = _head(text, place + 1)
        quoted = _QUOTED.match(text, place)
        end = quoted.end() if quoted is not None else _end_of_group(text, place)
        spaces = _SPACES.match(text, end)
        assert spaces is not None
        if not text.startswith(")", spaces.end()):
            raise parser.invalid(text, spaces.end(), f"expected ); {_RULE}")
        if quoted is not None:
            yield _Expression(field, is_negated, quoted[0][1:-1], place + 1)
        else:
            yield _checked(text, field, is_negated, text[place:end].rstrip(), place)
        spaces = _SPACES.match(text, spaces.end() + 1)
        assert spaces is not None
        place = spaces.end()


_RULE = (
    "a regular expression with eq or ne stands alone, or in parentheses beside others of its kind,"
    " with its value in quotes if that has spaces; for comparisons use = and !="
)


def _head(text: str, place: int) -> tuple[str, bool, int]:
    """Returns a field, whether its operator is ``ne``, and the place of the value behind it."""
    found = _HEAD.match(text, place)
    if found is None:
        raise parser.invalid(text, place, f"expected a field, and eq or ne; {_RULE}")
    _check_field(text, found["field"], found.start("field"))
    return found["field"], found["operator"] == "ne", found.end()


def _checked(text: str, field: str, is_negated: bool, value: str, place: int) -> _Expression:
    """Returns an expression whose value stands without quotes."""
    if not value:
        raise parser.invalid(text, place, "expected a regular expression; the empty one is ''")
    if value[0] in "\"'":
        raise parser.invalid(text, place, f"the {value[0]} that begins here has no end")
    return _Expression(field, is_negated, value, place)


def _end_of_group(text: str, place: int) -> int:
    """Returns the place of the parenthesis that closes a group; that of the end for none."""
    depth, in_class = 0, False
    while place < len(text):
        character = text[place]
        if character == "\\":
            place += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character == "(":
            depth += 1
        elif character == ")":
            if not depth:
                return place
            depth -= 1
        place += 1
    return len(text)


def _quoted(value: str) -> str:
    """Returns a text as a value of a filter, in which it stands for itself alone."""
    return '"' + re.sub(r'[\\"*]', r"\\\g<0>", value) + '"'


# Comparisons.


def _as_compared(text: str, parent: str) -> str:
    """Returns a filter of AIP-160 under the names of google.longrunning.

    All else stays as it is: the list knows it, or refuses it.
    """
    tokens = parser.tokens(text)
    parts: list[str] = []
    place = end = 0  # of the next token, and of the text that is translated
    while place < len(tokens):
        length, meaning = _comparison(text, tokens, place, parent)
        if length:
            parts += (text[end : tokens[place].position], meaning)
            end = tokens[place + length - 1].end
        place += length or 1
    return "".join((*parts, text[end:]))


def _comparison(
    text: str, tokens: Sequence[parser.Token], place: int, parent: str
) -> tuple[int, str]:
    """Returns how many tokens from a place on are to be replaced, and the text in their place."""
    field, *following = tokens[place : place + 3]
    is_part = place > 0 and tokens[place - 1].kind == "."
    if field.kind != "text" or is_part or len(following) < 2:
        return 0, ""
    _check_compared(text, tokens, place)
    sign, value = following
    if sign.kind == "text" and sign.text in _OPERATORS and value.kind != "end":
        raise parser.invalid(text, sign.position, f"the kinds of filters are not mixed; {_RULE}")
    if sign.kind != "comparator" or value.kind == "end":
        return 0, ""
    if field.text in _FIELDS:
        return 2, f"{_FIELDS[field.text]} {sign.text}"
    shown = value.text.strip("\"'")
    if field.text == "status":
        return 3, _status(text, value.position, sign.text, shown)
    if field.text == "progress":
        return 3, _progress(text, value.position, sign.text, shown)
    if value.kind not in ("text", "string"):
        return 0, ""
    if field.text == "name" and sign.text != ":":
        last = _last_of_value(tokens, place + 2)
        written = "".join(one.text for one in tokens[place + 2 : last + 1])
        return last + 1 - place, f"name {sign.text} {_name(written, parent)}"
    return 0, ""


def _check_compared(text: str, tokens: Sequence[parser.Token], place: int) -> None:
    """Refuses what begins at a place, if it is a comparison whose field is not known."""
    last = _last_of_value(tokens, place)
    if tokens[last + 1].kind == "comparator":
        field = "".join(one.text for one in tokens[place : last + 1])
        _check_field(text, field, tokens[place].position)


def _status(text: str, position: int, sign: str, value: str) -> str:
    """Returns the meaning of a comparison with a status."""
    if (sign, value) == (":", "*"):
        return _ALWAYS
    if value not in _STATUS or sign not in ("=", "!=", ":"):
        problem = f"status is compared with one of {', '.join(_STATUS)}, by = != :"
        raise parser.invalid(text, position, problem)
    return f"NOT {_STATUS[value]}" if sign == "!=" else _STATUS[value]


def _progress(text: str, position: int, sign: str, value: str) -> str:
    """Returns the meaning of a comparison with the progress, which is 100 of what is done."""
    if not re.fullmatch(r"-?[0-9]{1,9}", value):
        raise parser.invalid(text, position, "progress is compared with a whole number")
    unfinished = f"progress_percent {sign} {value}"
    if _SIGNS[sign](_DONE_PROGRESS, int(value)):
        return f"(done = true OR {unfinished})"
    return f"(done = false AND {unfinished})"


def _last_of_value(tokens: Sequence[parser.Token], place: int) -> int:
    """Returns the place of the last token of a value: a bare one goes on after a point."""
    if tokens[place].kind == "text":
        while [one.kind for one in tokens[place + 1 : place + 3]] == [".", "text"]:
            place += 2
    return place


def _name(value: str, parent: str) -> str:
    """Returns the operation's name, as a value of a filter, for an id as it is written in one."""
    is_quoted = value[0] in "\"'"
    quote, operation_id = (value[0], value[1:-1]) if is_quoted else ('"', value)
    before = re.sub(r"[\\\"'*]", r"\\\g<0>", names.operation_name(parent, ""))
    return f"{quote}{before}{operation_id}{quote}"
