from __future__ import annotations

import contextlib
import re
import sys

import pytest
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from lro.example.v1 import fleet_service_pb2
from lro.v1 import operation_metadata_pb2, state_pb2
from lro_grpc._errors import Code, InvalidArgumentError, InvalidFilterError, to_status
from lro_grpc._filtering import parser as filtering
from lro_grpc._filtering.message_fields import MetadataTypes
from lro_grpc._filtering.parser import parse
from lro_grpc._operation import metadata, publication, states
from lro_grpc._operation.events import Claim, Fail, Report
from lro_grpc._operation.record import Record
from lro_grpc._operation.states import JOB
from lro_grpc.stores import Query

SECOND = 1_000_000
NOON = 1_767_268_800 * SECOND
"""2026-01-01T12:00:00Z, in microseconds since 1970 UTC."""

OperationMetadata = operation_metadata_pb2.OperationMetadata


def new(**values: object) -> Record:
    made = publication.create(
        parent="projects/p/locations/l",
        operation_id="op-1",
        method="/s.v1.S/M",
        request=b"",
        metadata_type="lro.v1.OperationMetadata",
        now=NOON,
    )
    return made._replace(**values)


def matches(text: str, **values: object) -> bool:
    return parse(text).matches(new(**values))


def with_failures(count: int) -> bytes:
    """The bytes that an operation with that many partial failures is served as."""
    message = OperationMetadata(partial_failures=[status_pb2.Status(code=5)] * count)
    operation = operations_pb2.Operation()
    operation.metadata.Pack(message)
    return operation.SerializeToString()


def refused(text: str) -> str:
    """What the refusal of a filter says."""
    with pytest.raises(InvalidFilterError) as caught:
        parse(text)
    return caught.value.message


# Precedence (S16). Of the restrictions a, b and x, the first two are true and the last is not.

A = "verb = create"
B = "attempt = 1"
X = "verb = delete"
SET = {"verb": "create", "attempt": 1}


def truth(text: str) -> bool:
    words = {"a": A, "b": B, "x": X}
    return matches(re.sub(r"\b[abx]\b", lambda one: words[one[0]], text), **SET)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", True),
        ("x", False),
        ("a AND b", True),
        ("a AND x", False),
        ("x OR a", True),
        ("x OR x", False),
        # S16: OR binds tighter than AND. The other way round, the first three would differ.
        ("a OR b AND x", False),
        ("x AND b OR a", False),
        ("a OR x x", False),
        ("a AND x OR b", True),
        ("(a OR b) AND x", False),
        ("a OR (b AND x)", True),
        ("x AND x OR a", False),
        # A sequence is AND.
        ("a b", True),
        ("a x", False),
        ("a b AND x", False),
        ("a x OR b", True),
        ("a x OR b AND b", True),
        ("x OR a b OR x AND x OR b", True),
        # NOT and - are the same, and bind tightest.
        ("NOT a", False),
        ("NOT x", True),
        ("-a", False),
        ("-x", True),
        ("NOT x AND b", True),
        ("NOT x OR x", True),
        ("NOT a OR b", True),
        ("NOT (a OR b)", False),
        ("-(x OR x)", True),
        ("-(x) -x", True),
        ("a -b", False),
        ("a -x", True),
        ("NOT (NOT a)", True),
        ("-(-a)", True),
        ("((((a)))) ((b))", True),
        ("(a)AND(b)", True),
        ("(a)(x)", False),
        ("NOT(x)", True),
    ],
)
def test_operators_bind_as_in_aip_160(text, expected):
    assert truth(text) is expected


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_an_empty_filter_matches_everything(text):
    assert matches(text)


@pytest.mark.parametrize(
    "text", ["verb=create", "verb  =\n create", " verb= create ", "(verb=create)"]
)
def test_white_space_does_not_matter_around_operators(text):
    assert matches(text, verb="create")
    assert not matches(text, verb="delete")


def test_words_in_small_letters_are_text():
    assert not matches("verb = create and attempt = 0", verb="create")
    assert matches("verb = create and attempt = 0", verb="create", status_detail="this and that")


# A value in parentheses.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("verb = (create OR delete)", True),
        ("verb = (update OR delete)", False),
        ("verb:(cre AND ate)", True),
        ("verb:(cre ate)", True),
        ("verb:(cre del)", False),
        ("verb = (-delete)", True),
        ("verb = (NOT create)", False),
        ("verb != (create OR delete)", True),
        ("verb != (create AND delete)", False),
        ("attempt > (0 AND 1)", False),
        ("attempt > (0 OR 1)", True),
        ('verb = ("create")', True),
        ("verb = ((delete OR (create)))", True),
    ],
)
def test_a_value_may_be_several(text, expected):
    assert matches(text, verb="create", attempt=1) is expected


# Text.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target = a/b", True),
        ('target = "a/b"', True),
        ("target = 'a/b'", True),
        ("target = A/b", False),
        ("target = a", False),
        ("target != a", True),
        ("target != a/b", False),
        ("target < a/c", True),
        ("target < a/b", False),
        ("target <= a/b", True),
        ("target > a", True),
        ("target > B", True),
        ("target >= a/b", True),
        ("target >= a/c", False),
        ("target > é", False),
        ("target = a*", True),
        ('target = "*b"', True),
        ("target = *", True),
        ("target = a*b", True),
        ("target = a/b*", True),
        ("target = *a/b", True),
        ("target = a*a/b", False),
        ("target = a/*/b", False),
        ("target = *B", False),
        ("target = */*", True),
        ("target != a*", False),
        ("target != c*", True),
        ('target = "a\\*"', False),
        ("target < a*", False),  # only equality knows wildcards
        ("target:/", True),
        ("target:A", True),
        ("target:A/B", True),
        ("target:c", False),
        ("target:*", True),
        ("target:a*b", True),
        ("target:b*a", False),
        ('target:""', True),
        ('target:"\\*"', False),
    ],
)
def test_texts_are_compared(text, expected):
    assert matches(text, target="a/b") is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('matches(verb, "create|delete")', True),
        ("matches(verb, 'crea')", False),  # the whole text
        ("NOT matches(verb, 'crea')", True),
        ("-matches(verb, '.*e') OR verb = create", True),
        ('matches( metadata.verb , "c.*" ) AND verb = create', True),
        ("(matches(verb, 'x') OR matches(verb, '[a-z]+'))", True),
        ("matches verb", False),  # three words to look for, as ever
        (r'matches(status_detail, "\\d+ \"of\" \d+")', None),
        (r'matches(status_detail, "\\d+ \"of\" [0-9*]+")', True),
    ],
)
def test_a_text_is_matched_by_a_regular_expression(text, expected):
    """Within quotes a backslash is written twice, and a * need not be escaped."""
    if expected is None:
        assert "is not an escape" in refused(text)
        return
    assert matches(text, verb="create", status_detail='3 "of" 1*') is expected


def test_a_regular_expression_is_costly():
    """A page then looks at fewer records, and each caller has one such list at a time."""
    query = Query("projects/p", parse("matches(target, '(a|b){200}') AND verb = x"))
    assert query.is_costly
    assert query.examined(10_000) == 100_000 // 402
    assert not Query("projects/p", parse("verb = matches")).is_costly
    assert Query("projects/p", parse("NOT matches(target, 'a')")).is_costly


@pytest.mark.parametrize("text", ["status_detail:a", "NOT (done = true OR a)", "target = 'a*b*c'"])
def test_a_search_inside_of_texts_is_costly(text):
    assert Query("projects/p", parse(text)).is_costly


@pytest.mark.parametrize("text", ["target = 'a*'", "target = '*a'", "target = a", "labels.env:a"])
def test_a_comparison_of_texts_and_a_search_in_a_label_is_not(text):
    assert not Query("projects/p", parse(text)).is_costly


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r'"a\"b"', 'a"b'),
        (r"'a\'b'", "a'b"),
        (r""" "a'b" """, "a'b"),
        (r'"a\\b"', "a\\b"),
        (r'"a\*b"', "a*b"),
        (r"'\\\*\''", "\\*'"),
        ('"a AND b"', "a AND b"),
        ('"(a"', "(a"),
        ('"a\nb"', "a\nb"),
        ('"\x00☃"', "\x00☃"),
        ('""', ""),
        ("v1.2.x", "v1.2.x"),
        ("com.google", "com.google"),
        ("a.AND.b", "a.AND.b"),
        ("-a-", "-a-"),
        ("☃@%&|;~$#{}[]^`+/_", "☃@%&|;~$#{}[]^`+/_"),
        ("'a'.b", "a.b"),
    ],
)
def test_values_are_read(written, meant):
    assert matches(f"target = {written}", target=meant)
    assert not matches(f"target = {written}", target=f"{meant}.")


@pytest.mark.parametrize("text", ["aXbXc", "X", "aX", "XXX", "aXXb", "aXaXa", "XabX", "abXba"])
@given(st.text("ab", max_size=6))
def test_a_wildcard_is_any_text(text, value):
    pattern = re.escape(text).replace("X", ".*")
    expected = bool(re.fullmatch(pattern, value, re.DOTALL))
    assert matches(f"target = {text.replace('X', '*')}", target=value) is expected


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("STRASSE", "strasse", True),
        ("É", "é", False),
        ("k", "\N{KELVIN SIGN}", False),
        (chr(ord("A") - 1), chr(ord("a") - 1), False),
        (chr(ord("Z") + 1), chr(ord("z") + 1), False),
    ],
)
def test_the_case_of_a_to_z_alone_does_not_matter(text, value, expected):
    assert matches(f'target:"{text}"', target=value) is expected
    assert matches(f'"{text}"', target=value) is expected


# A value alone (S16).


@pytest.mark.parametrize("column", ["name", "target", "verb", "status_detail"])
def test_a_value_alone_is_looked_for_in_each_of(column):
    assert matches("bcd", **{column: "aBcDe"})
    assert matches('"b cd"', **{column: "aB cDe"})
    assert matches("b*d", **{column: "xbcdx"})
    assert not matches("bcd", **{column: "acbd"})


@pytest.mark.parametrize("column", ["method", "parent", "caller", "api_version", "request_id"])
def test_a_value_alone_is_looked_for_nowhere_else(column):
    assert not matches("bcd", **{column: "bcd"})


def test_values_side_by_side_must_all_be_found():
    assert matches("new york OR york", target="New", status_detail="york")
    assert not matches("new york", target="New")
    assert not matches('new "york"', target="New")
    assert matches('"new" "york"', target="New", status_detail="york")
    assert matches('-"new"', target="old")


@pytest.mark.parametrize("flag", ["done", "cancel_requested", "metadata.pause_requested"])
def test_a_flag_alone_is_refused_for_it_is_meant_otherwise(flag):
    assert f"{flag} = true" in refused(flag)
    assert f"{flag} = true" in refused(f"NOT {flag}")
    assert matches(f'"{flag}"', status_detail=f"not {flag.upper()} yet")


# Every field.


def test_every_conventional_field_can_be_asked_for():
    """But ``details``, which is a message of the service's own."""
    fields = {field.name for field in OperationMetadata.DESCRIPTOR.fields} - {"details"}
    for name in fields | {"status_message", "requested_cancellation"}:
        assert parse(f"{name}:*").expression == parse(f"metadata.{name}:*").expression


def test_a_new_record_has_few_values():
    """Presence is having a value other than the default."""
    asked = [
        *("name", "done", "error", "error.code", "response", "response.@type", "response.type_url"),
        *("metadata.@type", "metadata.type_url", "create_time", "start_time", "update_time"),
        *("end_time", "expire_time", "target", "verb", "api_version", "status_detail"),
        *("cancel_requested", "pause_requested", "progress_percent", "attempt", "state"),
        *("batch_create_instances_metadata", "partial_failures"),
    ]
    present = {field for field in asked if matches(f"{field}:*")}
    assert present == {
        *("name", "metadata.@type", "metadata.type_url", "create_time", "update_time", "state")
    }


TEXTS = {
    "name": "name",
    "target": "target",
    "verb": "verb",
    "api_version": "api_version",
    "status_detail": "status_detail",
    "status_message": "status_detail",
    "metadata.status_message": "status_detail",
    "metadata.@type": "metadata_type",
    "metadata.type_url": "metadata_type",
    "response.@type": "response_type",
    "response.type_url": "response_type",
}


@pytest.mark.parametrize(("field", "column"), TEXTS.items())
def test_each_text_is_that_of_the_record(field, column):
    for text in (f"{field} = a.B", f"{field}:*", f"{field}:b", f'{field} != "c"'):
        assert matches(text, **{column: "a.B"}), text
    assert not matches(f"{field} = a.B", **{column: "a.C"})
    assert not matches(f"{field}:*", **{column: ""})


NUMBERS = ["progress_percent", "metadata.progress_percent", "attempt", "metadata.attempt"]


@pytest.mark.parametrize("field", NUMBERS)
def test_each_number_is_that_of_the_record(field):
    column = field.removeprefix("metadata.")
    true = ("= 7", "!= 8", "< 8", "<= 7", "> 6", ">= 7", ":7", "> -1", ":*", "= 007", "= '7'")
    for comparison in true:
        assert matches(f"{field} {comparison}", **{column: 7}), comparison
    for comparison in ("= 8", "!= 7", "< 7", "<= 6", "> 7", ">= 8", ":8", "= -7"):
        assert not matches(f"{field} {comparison}", **{column: 7}), comparison
    assert matches(f"{field} = 0")
    assert matches(f"{field} < {2**63 - 1}")


FLAGS = {
    "cancel_requested": "cancel_requested",
    "requested_cancellation": "cancel_requested",
    "metadata.requested_cancellation": "cancel_requested",
    "pause_requested": "pause_requested",
    "metadata.pause_requested": "pause_requested",
}


@pytest.mark.parametrize(("field", "column"), FLAGS.items())
def test_each_flag_is_that_of_the_record(field, column):
    for value in (True, False):
        word = str(value).lower()
        assert matches(f"{field} = {word}", **{column: value})
        assert matches(f"{field}:{word}", **{column: value})
        assert not matches(f"{field} != {word}", **{column: value})
        assert matches(f"{field}:*", **{column: value}) is value
        assert matches(f"NOT {field} = true", **{column: value}) is not value


@pytest.mark.parametrize("state", JOB.states)
def test_done_is_having_an_outcome(state):
    expected = new(state=state).done
    assert matches("done = true", state=state) is expected
    assert matches("done:*", state=state) is expected
    assert matches("done = false", state=state) is not expected
    assert matches("done != true", state=state) is not expected


@pytest.mark.parametrize("name", state_pb2.JobState.keys())
def test_states_go_by_name(name):
    """S16: an enum's value goes by its name; here also without what all of them begin with."""
    short = name.removeprefix("JOB_STATE_")
    for state in JOB.states:
        expected = state == state_pb2.JobState.Value(name)
        assert matches(f"state = {name}", state=state) is expected
        assert matches(f"metadata.state:{short}", state=state) is expected
        assert matches(f"state != {short}", state=state) is not expected


@pytest.mark.parametrize("code", list(Code))
def test_codes_go_by_name_and_number(code):
    for text in (f"error.code = {code.name}", f"error.code = {code.value}", f"error.code:{code}"):
        assert matches(text, error_code=int(code)) is (code != Code.OK)
        assert not matches(text, error_code=17)
    assert Code[code_pb2.Code.Name(code)] == code


def test_codes_have_an_order():
    assert matches("error.code >= 5 error.code < INTERNAL", error_code=12)
    assert not matches("error.code >= 5 error.code < INTERNAL", error_code=13)


@pytest.mark.parametrize("url", ["a.v1.B", "type.googleapis.com/a.v1.B", "x.example/y/a.v1.B"])
def test_a_type_goes_by_its_name_or_its_url(url):
    for field, column in (("metadata.@type", "metadata_type"), ("response.@type", "response_type")):
        assert matches(f"{field} = {url}", **{column: "a.v1.B"})
        assert matches(f'{field} = "{url}"', **{column: "a.v1.B"})
        assert matches(f"{field}:{url}", **{column: "a.v1.Bcd"})
        assert not matches(f"{field} = {url}", **{column: "a.v1.C"})
        assert not matches(f"{field} != {url}", **{column: "a.v1.B"})
        assert matches(f"{field} = *.B", **{column: "a.v1.B"})
        assert matches(f"{field} = type.googleapis.com/a.*", **{column: "a.v1.B"})


def test_errors_and_responses_can_be_asked_for():
    assert matches("error:*", error_code=1)
    assert matches("-error:* -response:*")
    assert matches("response:*", response_type="a.B")
    assert not matches("error:* OR response:*")


def test_messages_in_the_metadata_can_be_asked_for():
    assert matches("batch_create_instances_metadata:*", batch=b"\x0a\x01a")
    assert not matches("batch_create_instances_metadata:*")
    assert matches("partial_failures:*", operation=with_failures(1))
    assert not matches("metadata.partial_failures:*", operation=with_failures(0))


def test_a_metadata_type_without_partial_failures_has_none():
    for kind in ("google.protobuf.Empty", "gone.from.the.Service"):
        served = operations_pb2.Operation.FromString(with_failures(1))
        served.metadata.type_url = f"type.googleapis.com/{kind}"
        operation = served.SerializeToString()
        assert not matches("partial_failures:*", operation=operation, metadata_type=kind)


def test_values_are_the_records_whatever_the_metadata_type():
    values = {"metadata_type": "google.protobuf.Empty", "target": "t", "attempt": 3}
    assert matches("metadata.target = t attempt = 3", **values)


def test_the_served_metadata_is_what_is_matched():
    """Of an operation that has come its way: the fields of both say the same."""
    running = Claim(15 * SECOND).apply(new(), NOON + SECOND)
    failed = Fail(
        Report(1, 40, "half"), to_status(InvalidArgumentError("bad")).SerializeToString()
    ).apply(running, NOON + 2 * SECOND)
    served = operations_pb2.Operation.FromString(failed.operation)
    shown = metadata.message_class(failed.metadata_type).FromString(served.metadata.value)
    for field in ("create_time", "start_time", "update_time", "end_time", "expire_time"):
        time = getattr(shown, field).ToJsonString()
        assert parse(f"{field} = {time}").matches(failed), field
    assert parse(
        f"progress_percent = {shown.progress_percent} status_detail = {shown.status_detail}"
        f" state = {state_pb2.JobState.Name(shown.state)} error.code = {served.error.code}"
        f" metadata.@type = {served.metadata.type_url} done = true attempt = {shown.attempt}"
    ).matches(failed)


# Times (S16).

TIMES = ["create_time", "start_time", "update_time", "end_time", "expire_time"]


@pytest.mark.parametrize("field", [*TIMES, *(f"metadata.{name}" for name in TIMES)])
def test_each_time_is_that_of_the_record(field):
    column = field.removeprefix("metadata.")
    noon, later = "2026-01-01T12:00:00Z", "2026-01-01T12:00:01Z"
    for comparison in (f"= {noon}", f"!= {later}", f"< {later}", f">= {noon}", f":{noon}", ":*"):
        assert matches(f"{field} {comparison}", **{column: NOON}), comparison
    for comparison in (f"= {later}", f"!= {noon}", f"< {noon}", f"> {noon}", f">= {later}"):
        assert not matches(f"{field} {comparison}", **{column: NOON}), comparison


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-01T12:00:00Z", NOON),
        ("2026-01-01t12:00:00z", NOON),
        ("2026-01-01T12:00:00+00:00", NOON),
        ("2026-01-01T12:00:00-00:00", NOON),
        ("2026-01-01T13:30:00+01:30", NOON),
        ("2026-01-01T07:15:00-04:45", NOON),
        ("2025-12-31T12:01:00-23:59", NOON),
        ("2026-01-01T12:00:00.5Z", NOON + 500_000),
        ("2026-01-01T12:00:00.000001Z", NOON + 1),
        ("2026-01-01T12:00:00.123456789Z", NOON + 123_456),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140 * SECOND),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139 * SECOND),
    ],
)
def test_times_are_rfc_3339(text, time):
    for written in (text, f'"{text}"', f"'{text}'", f'("{text}")'):
        assert matches(f"create_time = {written}", create_time=time)
        assert not matches(f"create_time < {written}", create_time=time)
        assert not matches(f"create_time > {written}", create_time=time)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01",
        "2026-01-01T12:00:00",
        "2026-01-01T12:00Z",
        "2026-02-29T12:00:00Z",
        "2026-01-01T24:00:01Z",
        "2026-01-01T12:60:00Z",
        "2026-01-01T12:00:00.Z",
        "2026-01-01T12:00:00.1234567890Z",
        "2026-01-01T12:00:00+24:00",
        "2026-01-01T12:00:00+01:60",
        "2026-01-01T12:00:00+0100",
        '"2026-01-01 12:00:00Z"',
        "٢٠٢٦-01-01T120000Z",
        "0000-01-01T00:00:00Z",
        "now",
        "17",
        "20s",
        "true",
        '""',
    ],
)
def test_what_is_no_time_is_refused(text):
    assert "RFC 3339" in refused(f"create_time > {text}")


# Unset (S17).


@pytest.mark.parametrize("field", TIMES)
@pytest.mark.parametrize("comparator", ["=", "!=", "<", "<=", ">", ">=", ":"])
def test_an_unset_time_matches_nothing_not_even_inequality(field, comparator):
    for time in ("1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "1960-01-01T00:00:00Z"):
        assert not matches(f"{field} {comparator} {time}", **{field: 0})
        assert matches(f"NOT {field} {comparator} {time}", **{field: 0})


@pytest.mark.parametrize("comparator", ["=", "!=", "<", "<=", ">", ">=", ":"])
def test_no_error_and_no_response_match_nothing_not_even_inequality(comparator):
    for restriction in (
        f"error.code {comparator} 0",
        f"error.code {comparator} NOT_FOUND",
        f'response.@type {comparator} ""',
        f"response.@type {comparator} a.B",
        f"response.@type {comparator} a*",
    ):
        assert not matches(restriction)
        assert matches(f"-{restriction}")
    assert not matches("response.@type = *")


def test_an_empty_text_is_a_value():
    """A text, a number and a flag are primitive: their default is not unset."""
    assert matches('target = "" target != x attempt != 1 pause_requested != true')


# Refusals (S17).


@pytest.mark.parametrize(
    ("text", "position", "word"),
    [
        ("size = 1", 1, "no field 'size'"),
        ("verb = a AND metadata.size = 1", 14, "no field 'metadata.size'"),
        ("parent = x", 1, "no field 'parent'"),
        ("metadata.caller = x", 1, "no field 'metadata.caller'"),
        ("Done = true", 1, "no field 'Done'"),
        ("1 > 0", 1, "no field '1'"),
        ("metadata = x", 1, "no field 'metadata'"),
        ("error.details = x", 1, "no field"),
        ("verb.x = y", 1, "no field"),
        ("labels.Env = prod", 1, "no label has the key 'Env'; a key is a to z, and then"),
        ("verb = a labels.1 = x", 10, "no label has the key '1'"),
        ('labels."" = x', 1, "no label has the key ''"),
        ('labels."a b" = x', 1, "no label has the key 'a b'"),
        ("labels.a.b = x", 1, "no label has the key 'a.b'"),
        ("labels.e* = x", 1, "no label has the key 'e*'"),
        (f"labels.{'k' * 64}:*", 1, "no label has the key 'kkk"),
        ("labels:Env", 8, "no label has the key 'Env'"),
        ("labels:e*", 8, "no label has the key 'e*'"),
        ("labels = prod", 10, "is not compared by =; use :"),
        ("metadata.labels.env = prod", 1, "no field 'metadata.labels.env'"),
        ("labels.env", 1, "compare this label, or ask for it, labels.env:*"),
        ("labels.env NOT verb = a", 1, "compare this label"),
        ("matches(labels, 'a')", 9, "is no text"),
        ("(a", 3, "expected ), found the end"),
        ("a)", 2, "found ')'"),
        ("()", 2, "found ')'"),
        ("a AND", 6, "found the end"),
        ("AND a", 1, "found 'AND'"),
        ("a OR", 5, "found the end"),
        ("a OR OR b", 6, "found 'OR'"),
        ("NOT", 4, "found the end"),
        ("NOT NOT a", 5, "found 'NOT'"),
        ("--a", 2, "found '-'"),
        ("-", 1, "-"),
        ("a - b", 3, "right after -"),
        ("verb =", 7, "found the end"),
        ("verb = AND", 8, "in quotes"),
        ("= a", 1, "found '='"),
        ("verb = a = b", 10, "found '='"),
        ("verb = (a = b)", 11, "found '='"),
        ("verb = ()", 9, "found ')'"),
        ("verb == a", 7, "found '='"),
        ("verb ! a", 6, "unexpected '!'"),
        ("a\\b", 2, "in quotes"),
        ("a, b", 2, "found ','"),
        (".a", 1, "found '.'"),
        ("a.", 3, "found the end"),
        ("a..b", 3, "found '.'"),
        ('verb = "a', 8, "has no end"),
        ("verb = 'a\\'", 8, "has no end"),
        ('"a\\n"', 1, "not an escape"),
        ('a"b"', 2, "space"),
        ('"a""b"', 4, "space"),
        ("now()", 4, "no functions"),
        ("matches (name, 'a')", 14, "expected ), found ','"),
        ("matches()", 9, "expected a value or a field"),
        ("matches(name)", 13, "expected ,"),
        ("matches(name, op)", 15, "in quotes"),
        ("matches(name, 'a'", 18, "expected )"),
        ("matches(name, 'a', 'b')", 18, "expected )"),
        ("matches(zone, 'a')", 9, "no field 'zone'"),
        ("matches(done, 'a')", 9, "is no text"),
        ("matches(create_time, '2027.*')", 9, "is no text"),
        ("verb = matches(name, 'a')", 15, "no functions but matches"),
        ("verb = a OR matches(name, 'a**')", 27, "character 3: this repeats what is repeated"),
        ("matches(name, 'a{300}') matches(verb, 'b{201}')", 39, "more than 500 characters"),
        ("verb = lower(x)", 13, "no functions"),
        ("math.mem('30mb')", 9, "no functions"),
        ("state = RUN", 9, "QUEUED, PENDING, RUNNING"),
        ("state = 3", 9, "QUEUED, PENDING, RUNNING"),
        ("state = running", 9, "QUEUED"),
        ("state < RUNNING", 9, "= != :"),
        ("done > false", 8, "= != :"),
        ("done = yes", 8, "neither true nor false"),
        ("done = True", 8, "neither true nor false"),
        ("done = 1", 8, "neither true nor false"),
        ("attempt = x", 11, "whole number"),
        ("attempt = 1.5", 11, "whole number"),
        ("attempt = 1e3", 11, "whole number"),
        ("attempt = 20s", 11, "whole number"),
        ("attempt = ٣", 11, "whole number"),
        ("attempt < 9223372036854775808", 11, "64 bits"),
        ("attempt = *", 11, "whole number"),
        ("error.code = MISSING", 14, "NOT_FOUND"),
        ("error = x", 9, "use :*"),
        ("error:code", 7, "use :*"),
        ("response = *", 12, "use :*"),
        ("partial_failures = 1", 20, "use :*"),
        ("verb = a AND \ud800", 14, "surrogate"),
        ("verb = (a OR (b)", 17, "expected )"),
    ],
)
def test_a_malformed_filter_is_refused_with_its_place(text, position, word):
    """S17: an invalid filter is INVALID_ARGUMENT."""
    with pytest.raises(InvalidFilterError) as caught:
        parse(text)
    error = caught.value
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_FILTER")
    assert f"character {position}: " in error.message
    assert word in error.message
    assert error.metadata["position"] == str(position)
    assert to_status(error).code == Code.INVALID_ARGUMENT


def test_an_unknown_field_is_answered_with_those_there_are():
    message = refused("size = 1")
    for name in (*TEXTS, *FLAGS, *NUMBERS, *TIMES, "state", "done", "error.code"):
        assert name.removeprefix("metadata.") in message


def test_a_refusal_repeats_the_filter_only_in_part():
    for text in ("(" + "x" * 4000, "x" * 3000 + " = 1", "state = " + "x" * 4000, "x" * 10_000):
        message = refused(text)
        assert text[:50] in message
        assert len(message) < 800


# Limits (S17).


def test_the_longest_filter_is_read_and_a_longer_one_is_not():
    assert matches("x" * filtering.MAX_LENGTH, target="x" * filtering.MAX_LENGTH)
    assert "4096" in refused("x" * (filtering.MAX_LENGTH + 1))


@pytest.mark.parametrize(
    "nest",
    [
        lambda text: f"({text})",
        lambda text: f"-({text})",
        lambda text: f"zzz OR ({text})",
        lambda text: f'-"zzz" (zzz OR -(-({text})))',
        lambda text: f"verb = ({text})" if text == "a" else f"({text})",
    ],
)
def test_the_deepest_filter_is_read_and_a_deeper_one_is_not(nest):
    text = "a"
    while nest(text).count("(") <= filtering.MAX_DEPTH:
        text = nest(text)
    assert parse(text).matches(new()) in (True, False)
    assert "50 deep" in refused("(" * (filtering.MAX_DEPTH + 1 - text.count("(")) + text + ")" * 99)


def test_the_most_values_are_read_and_more_are_not():
    for one in ("a", "verb=a", "-a"):
        words = [one] * filtering.MAX_TERMS
        assert not parse(" ".join(words)).matches(new(name="b", verb="")) or one == "-a"
        assert "200" in refused(" ".join([*words, "a"]))
    for wildcards in ("*" * 199, "a" + "*a" * 199):
        assert parse(f"target = {wildcards}").matches(new()) in (True, False)
        assert "wildcards" in refused(f"target = {wildcards}*")
    several = " OR ".join(["a"] * filtering.MAX_TERMS)
    assert matches(f"verb = ({several})", verb="a")
    assert "200" in refused(f"verb = ({several} OR a)")


# Any text at all.

WORDS = st.sampled_from(
    [
        *("AND", "OR", "NOT", "(", ")", "-", "=", "!=", "<", ">=", ":", ".", ",", "*", '"', "'"),
        *("\\", "name", "done", "state", "create_time", "error", ".code", "RUNNING", "true", "7"),
        *("2026-01-01T00:00:00Z", "x", "é", "\x00", "\n", "-1", '"a b"', "'*'", "\ud800"),
    ]
)


@given(
    st.text(max_size=60)
    | st.lists(WORDS, max_size=40).map(" ".join)
    | st.lists(WORDS, max_size=40).map("".join)
)
@example("(" * 4096)
@example("-(" * 2048)
@example("NOT (" * 800)
@example("a=(" * 1300)
@example('"' * 4096)
@example("\\" * 4096)
@example("a." * 2048)
@example("a*" * 2048)
@example('"' + "\\" * 4094 + '"')
@example("a OR " * 800)
def test_any_text_is_a_filter_or_is_refused(text):
    try:
        found = parse(text)
    except InvalidFilterError as error:
        to_status(error)
    else:
        assert found.text == text
        assert found.matches(new()) in (True, False)


def steps(text: str) -> int:
    """How many functions are called, of Python and of C, to read a filter or to refuse it."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1

    former = sys.getprofile()
    sys.setprofile(note)
    try:
        with contextlib.suppress(InvalidFilterError):
            parse(text)
    finally:
        sys.setprofile(former)
    return count


PIECES = [
    "a.",
    "a*",
    "(",
    "a=(",
    "-a ",
    "NOT ",
    "a OR ",
    "verb=b ",
    "* ",
    ". ",
    "a:b:",
    "x.*.",
    "'a' ",
]


@pytest.mark.parametrize("piece", PIECES)
def test_a_filter_of_twice_the_length_is_twice_the_work(piece):
    half = piece * (filtering.MAX_LENGTH // len(piece) // 2)
    assert steps(half * 2) < 2.1 * steps(half) + 100


@pytest.mark.parametrize("piece", ['"', '\\"', "'\\'", "(", "a.", " "])
def test_a_filter_beyond_the_limit_is_refused_by_its_length_alone(piece):
    assert steps(piece * (64 * filtering.MAX_LENGTH)) < steps("(") + 100


@given(st.lists(WORDS.filter(lambda one: one != "\ud800"), max_size=12).map(" ".join))
def test_negating_a_filter_is_its_opposite(text):
    try:
        found = parse(text)
    except InvalidFilterError:
        return
    if text.strip():
        for values in ({}, {"state": states.RUNNING}, {"name": "x", "error_code": 7}):
            assert matches(f"NOT ({text})", **values) is not found.matches(new(**values))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("craete_time", "create_time"),
        ("createTime", "create_time"),
        ("metadata.craete_time", "metadata.create_time"),
        ("error.cod", "error.code"),
    ],
)
def test_a_field_that_there_is_not_is_told_the_one_that_is_like_it(name: str, meant: str) -> None:
    with pytest.raises(InvalidFilterError) as refused:
        parse(f"{name} = 1")
    assert f"there is no field '{name}'; did you mean {meant}? The fields are name, " in str(
        refused.value
    )


def test_a_field_may_be_like_one_of_the_services_own() -> None:
    types = MetadataTypes([fleet_service_pb2.Instance])
    with pytest.raises(InvalidFilterError, match=r"did you mean metadata\.size_bytes\?"):
        parse("metadata.sizeBytes = 1", types)


@pytest.mark.parametrize("name", ["colour", "x" * 4000])
def test_a_field_that_is_like_none_is_told_all(name: str) -> None:
    with pytest.raises(InvalidFilterError, match="; the fields are name, "):
        parse(f"{name} = 1")


@pytest.mark.parametrize(
    ("text", "word", "operator"),
    [
        ("method = X and state = RUNNING", "and", "AND"),
        ("state = FAILED Or not done = true", "Or", "OR"),
        ("state = FAILED AND not done = true", "not", "NOT"),
    ],
)
def test_an_operator_in_small_letters_is_told_of(text: str, word: str, operator: str) -> None:
    hint = f"{word} is a text that it looks for; the operator is {operator}"
    assert filtering.hint_at_operators(text) == hint


@pytest.mark.parametrize(
    "text",
    [
        "state = FAILED AND NOT done = true",
        'target = and OR labels.or:* OR "and"',
        "time >",
        "'",
        "",
    ],
)
def test_there_is_no_hint_at_operators_that_are_right(text: str) -> None:
    assert filtering.hint_at_operators(text) == ""
