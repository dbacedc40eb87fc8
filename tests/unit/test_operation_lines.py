"""The lines of a file of operations: what they say, and what is refused."""

from __future__ import annotations

import io
import json

import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from old_operations import line_of, old_operations

from lro_grpc._cli import operation_lines
from lro_grpc._cli.operation_lines import MOST_LINE_BYTES, Line, LineError, lines_of, parse
from lro_grpc._dialects import longrunning
from lro_grpc._operation.old_operation import OldOperation


def parsed(text: str) -> OldOperation:
    return parse(Line(1, text.encode()))


def test_an_operation_is_read_as_it_was_written() -> None:
    for old in old_operations(70):
        assert parsed(json.dumps(longrunning.to_json(old))).operation == old
        assert parsed(line_of(old)).operation.SerializeToString() == old.SerializeToString()


def test_what_is_known_of_its_start_is_around_it() -> None:
    (old,) = old_operations(1)
    known = {"method": "/a.B/C", "request": "AAE=", "caller": "ada"}
    expected = OldOperation(old, method="/a.B/C", request=b"\0\1", caller="ada")
    assert parsed(line_of(old, **known)) == expected
    around = {**known, "operation": longrunning.to_json(old)}
    assert parsed(json.dumps(around)) == expected


def test_a_request_may_be_an_any() -> None:
    (old,) = old_operations(1)
    request = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "x"}
    around = {"operation": longrunning.to_json(old), "method": "/a.B/C", "request": request}
    assert parsed(json.dumps(around)).request == b"\x0a\x01x"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is no JSON .*; is the file cut off?"),
        ("\x00", "it is no JSON"),
        ("[" * 100_000, "its JSON is nested too deep"),
        ('{"name": "a", "name": "b"}', "it is no JSON: an object has a key twice$"),
        ('{"response": {"@type": "x/a.B", "@type": "x/a.C"}}', "an object has a key twice"),
        (
            '{"response": {"@type": "x/pkg.StringValue (unreadable)", "value": "/w=="}}',
            r"StringValue \(unreadable\)' marks bytes .*; give the operation in base64",
        ),
        (
            '{"response": {"@type": "x/google.protobuf.Struct", "value":'
            ' {"a": {"@type": "x/google.protobuf.Value (unreadable)", "value": "/w=="}}}}',
            r"Value \(unreadable\)' marks bytes",
        ),
        ('{"response": {"@type": "x/nowhere A", "value": "AA=="}}', "'x/nowhere A' is no type URL"),
        ('{"response": {"@type": "nowhere.A", "value": "AA=="}}', "'nowhere.A' is no type URL"),
        ("[]", r"it is \[\]; give an object"),
        ('{"nmae": "a"}', "it has 'nmae'; known are done, error"),
        ('{"operation": {}, "parent": "a"}', "it has 'parent'; known are caller, method"),
        ('{"operation": 7}', "its operation is 7"),
        ('{"operation": "!"}', "'!' is no base64"),
        ('{"operation": "/w=="}', "does not parse"),
        ('{"name": 7}', "name"),
        ('{"done": "yes"}', "done"),
        ('{"error": 7}', "its error is 7"),
        ('{"error": {"details": {}}}', "its error is"),
        ('{"error": {"code": "x"}}', "code"),
        ('{"error": {}, "response": {}}', "an error, and a response"),
        ('{"response": 7}', "7 is no message with its @type"),
        ('{"response": {"a": 7}}', "the type '' is not known here"),
        ('{"response": {"@type": "x/nowhere.A", "a": 7}}', "the type 'x/nowhere.A' is not known"),
        ('{"response": {"@type": "x/nowhere.A", "value": 7}}', "7 is no base64"),
        ('{"response": {"@type": 7}}', "the type 7 is not known"),
        ('{"response": {"@type": "x/google.rpc.Status", "a": 7}}', 'no field named "a"'),
        ('{"operation": {}, "caller": 7}', "its caller is 7"),
    ],
)
def test_a_line_that_has_no_operation_says_why(text: str, said: str) -> None:
    with pytest.raises(LineError, match=said):
        parsed(text)


def test_a_known_type_may_be_in_base64_all_the_same() -> None:
    """As this package shows a message that has no JSON."""
    text = '{"response": {"@type": "x/google.rpc.Status", "value": "CAU="}}'
    packed = any_pb2.Any(type_url="x/google.rpc.Status", value=b"\x08\x05")
    assert parsed(text).operation == operations_pb2.Operation(response=packed)


def test_lines_are_counted_and_may_end_in_any_way() -> None:
    file = io.BytesIO(b"\xef\xbb\xbf{}\r\n\n  \n[]")
    assert list(lines_of(file)) == [(1, b"{}"), (4, b"[]")]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_end_of_a_line_is_not_counted(monkeypatch: pytest.MonkeyPatch, end: bytes) -> None:
    monkeypatch.setattr(operation_lines, "MOST_LINE_BYTES", 10)
    for length in (10, 11):
        (line,) = lines_of(io.BytesIO(b"x" * length + end))
        assert (line.text, line.is_too_long) == (b"x" * length, length > 10)
    (line,) = lines_of(io.BytesIO(b"x" + b" " * 30 + end))
    assert line.is_too_long


def test_of_a_line_that_is_too_long_the_beginning_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operation_lines, "MOST_LINE_BYTES", 10)
    file = io.BytesIO(b"x" * 11 + b"\n" + b"y" * 95 + b"\n{}\n" + b"z" * 40)
    lines = list(lines_of(file))
    assert [(line.number, line.is_too_long) for line in lines] == [
        (1, True),
        (2, True),
        (3, False),
        (4, True),
    ]
    assert all(len(line.text) <= 11 for line in lines)
    with pytest.raises(LineError, match="more than 10 bytes"):
        parse(lines[1])


def test_the_longest_operation_fits_in_a_line() -> None:
    value = any_pb2.Any(type_url="x/nowhere.A", value=bytes(3_900_000))
    old = operations_pb2.Operation(name="operations/a", done=True, response=value)
    assert 2 * len(line_of(old)) < MOST_LINE_BYTES
