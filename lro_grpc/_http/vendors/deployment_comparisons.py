"""Filters of Deployment Manager that are AIP-160, as filters of google.longrunning.

One is ``(status = DONE) (progress < 50)``; :mod:`lro_grpc._filtering.parser` has the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lro_grpc._filtering import parser
from lro_grpc._http.vendors import deployment_fields as fields
from lro_grpc._http.vendors.deployment_expressions import RULE
from lro_grpc._operation import names

_OPERATORS = ("eq", "ne")
"""Those of the other kind."""


def translated(text: str, parent: str) -> str:
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
        raise parser.invalid(text, sign.position, f"the kinds of filters are not mixed; {RULE}")
    if sign.kind != "comparator" or value.kind == "end":
        return 0, ""
    if field.text in fields.RENAMED:
        return 2, f"{fields.RENAMED[field.text]} {sign.text}"
    shown = value.text.strip("\"'")
    if field.text == "status":
        return 3, fields.status(text, value.position, sign.text, shown)
    if field.text == "progress":
        return 3, fields.progress(text, value.position, sign.text, shown)
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
        fields.check(text, field, tokens[place].position)


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
