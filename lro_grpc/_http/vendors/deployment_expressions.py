"""Filters of Deployment Manager that are regular expressions, as filters of google.longrunning.

One stands alone, ``name eq op-.*``; or there are several in parentheses, all of which have to hold:
``(name eq op-.*) (status ne "DONE")``. The value is a regular expression for the whole text of the
field, with or without quotes; see :mod:`lro_grpc._filtering.patterns`. A field that is no text is
compared with the value itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from lro_grpc._errors import cut
from lro_grpc._filtering import parser
from lro_grpc._filtering.fields import Field, field_of
from lro_grpc._filtering.patterns import MOST_POSITIONS, Pattern, PatternError, escaped
from lro_grpc._http.vendors import deployment_fields as fields
from lro_grpc._operation import names

RULE = (
    "a regular expression with eq or ne stands alone, or in parentheses beside others of its kind,"
    " with its value in quotes if that has spaces; for comparisons use = and !="
)

_HEAD = re.compile(r"\s*(?P<field>[A-Za-z_][\w.@]*)\s+(?P<operator>eq|ne)(?=\s|$)\s*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_MIXED = re.compile(r"(?:^|\s)(?:AND|OR|NOT|eq|ne)(?:\s|$)|[<>=:]")
_SPACES = re.compile(r"\s*")


def begins(text: str) -> bool:
    """Whether a filter begins as one of this kind."""
    place, is_open = _beginning(text)
    return _HEAD.match(text, place + is_open) is not None


def translated(text: str, parent: str) -> str:
    """Returns the same as a filter of google.longrunning.

    Args:
        text: The filter.
        parent: The parent of the operations.

    Raises:
        InvalidFilterError: If it cannot be taken apart, or its regular expressions are too long.
    """
    place, is_open = _beginning(text)
    parts: list[str] = []
    positions = 0
    for one in _grouped(text, place) if is_open else _single(text):
        pattern = one.compiled(text)
        positions += pattern.size if pattern is not None else 0
        if positions > MOST_POSITIONS:
            problem = f"its regular expressions stand for more than {MOST_POSITIONS} characters"
            raise parser.invalid(text, one.position, problem)
        parts.append(one.meaning(text, pattern, parent))
    return " ".join(parts)


def _beginning(text: str) -> tuple[int, bool]:
    """Returns the place at which a filter begins, and whether it does with a parenthesis."""
    spaces = _SPACES.match(text)
    assert spaces is not None
    return spaces.end(), text.startswith("(", spaces.end())


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
                return fields.progress(text, self.position, sign, self.pattern)
            return f"{self._known_field} {sign} {_quoted(self.pattern)}"
        if self.field == "status":
            words = [word for word in fields.STATUS if pattern.matches(word) != self.is_negated]
            return fields.status_among(words)
        expression = pattern.unanchored
        if self.field == "name":
            expression = f"{escaped(names.operation_name(parent, ''))}(?:{expression})"
        sign = "NOT " if self.is_negated else ""
        return f"{sign}matches({self._known_field}, {_quoted(expression)})"

    @property
    def _known_field(self) -> str:
        return fields.RENAMED.get(self.field, self.field)

    def _known(self) -> Field | None:
        try:
            return field_of(self._known_field)
        except ValueError:
            return None  # the filter that is made of it says what is wrong

    def compiled(self, text: str) -> Pattern | None:
        """Returns the regular expression; None if the field is no text."""
        known = self._known()
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
            raise parser.invalid(text, quoted.end(), f"expected the end; {RULE}")
        yield _Expression(field, is_negated, quoted[0][1:-1], place + 1)
        return
    value = text[place:].rstrip()
    mixed = _MIXED.search(value)
    if mixed is not None and len(value.split()) > 1:
        raise parser.invalid(text, place + mixed.start(), RULE)
    yield _checked(text, field, is_negated, value, place)


def _grouped(text: str, place: int) -> Iterator[_Expression]:
    """Yields the expressions that stand in parentheses, one after the other."""
    while place < len(text):
        if text[place] != "(":
            raise parser.invalid(text, place, f"expected ( or the end; {RULE}")
        field, is_negated, place = _head(text, place + 1)
        quoted = _QUOTED.match(text, place)
        end = quoted.end() if quoted is not None else _end_of_group(text, place)
        spaces = _SPACES.match(text, end)
        assert spaces is not None
        if not text.startswith(")", spaces.end()):
            raise parser.invalid(text, spaces.end(), f"expected ); {RULE}")
        if quoted is not None:
            yield _Expression(field, is_negated, quoted[0][1:-1], place + 1)
        else:
            yield _checked(text, field, is_negated, text[place:end].rstrip(), place)
        spaces = _SPACES.match(text, spaces.end() + 1)
        assert spaces is not None
        place = spaces.end()


def _head(text: str, place: int) -> tuple[str, bool, int]:
    """Returns a field, whether its operator is ``ne``, and the place of the value behind it."""
    found = _HEAD.match(text, place)
    if found is None:
        raise parser.invalid(text, place, f"expected a field, and eq or ne; {RULE}")
    fields.check(text, found["field"], found.start("field"))
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
