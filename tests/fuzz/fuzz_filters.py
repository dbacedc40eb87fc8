"""Filters of lists: read or refused, and the same for SQL as for the predicate."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

from target import target

from lro.example.v1 import fleet_service_pb2
from lro_grpc._errors import InvalidFilterError, to_status
from lro_grpc._filtering import parser
from lro_grpc._filtering.expression import And, Compare, Expression, Like, Not, Or, comparisons
from lro_grpc._filtering.fields import SHORT_NAMES
from lro_grpc._filtering.message_fields import MetadataTypes
from lro_grpc._filtering.patterns import MOST_POSITIONS, Pattern, PatternError, escaped
from lro_grpc._http.vendors import deployment_fields, deployment_filter
from lro_grpc._operation import publication
from lro_grpc._operation.record import FIELDS, Record
from lro_grpc._stores.sqlite.filter import condition

PLAIN = publication.create(
    parent="projects/p/locations/l",
    operation_id="op-1",
    method="/s.v1.S/M",
    request=b"",
    metadata_type="lro.v1.OperationMetadata",
    now=1_767_268_800_000_000,
)
KNOWN = MetadataTypes((fleet_service_pb2.CreateInstanceRequest,))
COLUMNS = [*FIELDS]
TYPES = {str: "TEXT", bytes: "BLOB", int: "INTEGER", bool: "INTEGER"}
WORDS = (
    *("AND", "OR", "NOT", "(", ")", "-", "=", "!=", "<=", ">=", "<", ">", ":", ":*", ".", ","),
    *('"', "'", "*", "\\", '\\"', "\\*", "true", "FAILED", "JOB_STATE_RUNNING", "NOT_FOUND"),
    *("2026-01-01T00:00:00Z", ".123456789+05:30", "9223372036854775807", "metadata.", "type_url"),
    *("metadata.instance.state", "metadata.instance.create_time", "metadata.parent"),
    *("metadata.validate_only", "READY", "instance.", "labels", "labels.a", "labels."),
    *SHORT_NAMES,
)
SEEDS = (
    "done = false AND verb = create",
    "state = (FAILED OR EXPIRED) AND end_time > 2026-05-01T00:00:00+02:00",
    'target = "projects/p/*" -status_detail:"waiting for quota"',
    "error.code = NOT_FOUND OR NOT error.code = 10 partial_failures:*",
    "metadata.create_time <= '2026-01-01T12:00:00.5Z' -(name:op attempt >= -1)",
    r'"a \" \* \\ b*" AND response.@type = type.googleapis.com/google.protobuf.Empty',
    "metadata.instance.state = (READY OR CREATING) AND metadata.validate_only = true",
    'metadata.parent:"a*" error.message != x NOT metadata.instance:* method = a.B/C',
    'labels.a = b labels."a-b" != "" NOT labels:a OR labels.a = (b* AND *)',
    r'matches(name, "projects/.*op-[0-9]+") NOT matches(verb, "(?:a|b\\.)*")',
)


@target(*SEEDS, words=WORDS, most=2 * parser.MAX_LENGTH)
def filter_text(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    try:
        found = parser.parse(text, KNOWN)
    except InvalidFilterError as error:
        assert to_status(error).message.startswith("filter "), error
        assert 0 < int(error.metadata["position"]) <= len(text) + 1, error
        return
    assert len(text) <= parser.MAX_LENGTH
    assert comparisons(found.expression) <= 6 * parser.MAX_TERMS + MOST_POSITIONS
    check_alike(found.expression)


@target(
    *SEEDS,
    *("status = RUNNING OR progress < 40", "(name ne 'op-1') (operationType eq ins.*|x)"),
    *(r"statusMessage eq [^)\]]{1,3}(?:a|b\.)+$", "status eq 'DONE|RUN.*'", "name eq ^op-.*"),
    words=(*WORDS, *deployment_fields.RENAMED, *deployment_fields.STATUS, "eq", "ne", "status"),
    most=2 * parser.MAX_LENGTH,
)
def deployment_manager_filter(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    parent = 'projects/a"b\\*/locations/global'
    try:
        meaning = deployment_filter.translated(text, parent)
    except InvalidFilterError as error:
        to_status(error)
        assert 0 < int(error.metadata["position"]) <= len(text) + 1, error
        return
    # What becomes of it can be taken apart as well, but for its length.
    with contextlib.suppress(InvalidFilterError):
        check_alike(parser.parse(meaning).expression)
    if len(meaning) <= parser.MAX_LENGTH:
        parser.tokens(meaning)


@target(
    *("op-[0-9]+|^x$", r"(a|b)*a(a|b){20}", r"[^\d\]a-c]??(?:\W\.){0,3}", "(?P<n>.*)*x"),
    words=["(?:", "(?P<", "{2,}", "[^", "[]", "\\d", "\\b", "*?", "^", "$", "|", "-", "\0"],
    most=600,
)
def regular_expression(data: bytes) -> None:
    """Of a subset of RE2's syntax; where Python reads the same, it means the same."""
    text = data.decode("latin-1")
    try:
        pattern = Pattern(text)
    except PatternError as error:
        assert 0 <= error.position <= len(text), error
        return
    assert pattern.size <= MOST_POSITIONS + 1
    assert Pattern(escaped(text[:100])).matches(text[:100])
    if text.count("(") < 50:  # groups have a depth
        grouped = Pattern(f"x(?:{pattern.unanchored})")
        for sample in ("", "a", text, text * 2, "ab" * 200):
            assert pattern.matches(sample) == grouped.matches(f"x{sample}"), sample


def check_alike(expression: Expression) -> None:
    """SQL and the predicate agree on records that have the filter's own values, or nearly."""
    records = [PLAIN, *near(expression)][:64]
    is_true = [expression.matches(one) for one in records]
    assert is_true == [not Not(expression).matches(one) for one in records]
    sql, parameters, exact = condition(expression)
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        columns = ", ".join(f"{one.name} {TYPES[one.type]}" for one in FIELDS.values())
        connection.execute(f"CREATE TABLE operations (place INTEGER, {columns})")
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        rows = [(place, *one) for place, one in enumerate(records)]
        connection.executemany(f"INSERT INTO operations VALUES ({marks})", rows)
        selected = connection.execute(f"SELECT place FROM operations WHERE {sql}", parameters)
        places = {place for (place,) in selected}
    wanted = {place for place, matches in enumerate(is_true) if matches}
    assert wanted == places if exact else wanted <= places, (wanted, places)


def near(expression: Expression) -> Iterator[Record]:
    """Records with a value of each comparison, and with values beside it."""
    if isinstance(expression, Not):
        yield from near(expression.part)
    elif isinstance(expression, (And, Or)):
        for part in expression.parts:
            yield from near(part)
    elif isinstance(expression, Like):
        for between in ("", "x", expression.parts[-1]):
            yield PLAIN._replace(**{expression.column: between.join(expression.parts).upper()})
            yield PLAIN._replace(**{expression.column: between.join(expression.parts)})
    elif isinstance(expression, Compare) and expression.column != "done":
        value = expression.value
        beside: list[object] = [value]
        if isinstance(value, int):
            beside += [one for one in (value - 1, value + 1) if -(2**63) <= one < 2**63]
        elif isinstance(value, str):
            beside += [f"{value}\0", value[:-1], value.swapcase()]
        for one in beside:
            yield PLAIN._replace(**{expression.column: one})
