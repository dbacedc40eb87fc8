"""JSON as protobuf's libraries for other languages write it, and what only looks like it.

The texts of Go are those of ``protojson`` (google.golang.org/protobuf 1.36.6 and 1.36.12), those of
JavaScript of ``@bufbuild/protobuf`` 2.2.0 and 2.17.0, and the empty body that of ``google-gax`` 5.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from google.api import http_pb2
from google.longrunning import operations_pb2
from google.protobuf import (  # noqa: F401 - a server knows it
    any_pb2,
    empty_pb2,
    struct_pb2,
    type_pb2,
)
from google.protobuf.message import Message
from http_harness import FLEET, PARENT, STARTS, Http, done

import lro_grpc
from lro_grpc.http import gateway, listening_in_thread

GOOGLE = "type.googleapis.com/google.protobuf"
EMPTY = {"@type": f"{GOOGLE}.Empty"}
KINDS: dict[str, type[Message]] = {
    "any": any_pb2.Any,
    "operation": operations_pb2.Operation,
    "struct": struct_pb2.Struct,
    "empty": empty_pb2.Empty,
}


@pytest.fixture(scope="module")
def echo() -> Iterator[Http]:
    """Methods that respond with their requests, each at the path of its type."""
    operations = lro_grpc.Operations("memory:")
    for path, kind in KINDS.items():
        operations.add_method(
            f"/echo.Service/{path}", lambda request, op: request, request=kind, response=kind
        )
    operations.start_sync()
    rules = {
        f"/echo.Service/{path}": http_pb2.HttpRule(post=f"/v1/{path}", body="*") for path in KINDS
    }
    with listening_in_thread(gateway(operations, rules=rules), "127.0.0.1:0") as port:
        yield Http(port)
    operations.stop_sync(lambda: None)


def response(echo: Http, path: str, body: bytes) -> Any:
    operation = done(echo, echo.post(path, body=body).ok["name"])
    return operation["response"]


OF_GO = [
    (b'{"@type":"type.googleapis.com/google.protobuf.Empty", "value":{}}', EMPTY),
    (b'{"@type":"type.googleapis.com/google.protobuf.Empty"}', EMPTY),
    (
        b'{"@type":"type.googleapis.com/google.protobuf.Any", "value":{"@type":'
        b'"type.googleapis.com/google.protobuf.Empty", "value":{}}}',
        {"@type": f"{GOOGLE}.Any", "value": EMPTY},
    ),
    (
        b'{"@type":"type.googleapis.com/google.rpc.Status", "code":5, "details":[{"@type":'
        b'"type.googleapis.com/google.protobuf.Empty", "value":{}}, {"@type":'
        b'"type.googleapis.com/google.rpc.RetryInfo", "retryDelay":"0.000000001s"}]}',
        {
            "@type": "type.googleapis.com/google.rpc.Status",
            "code": 5,
            "details": [
                EMPTY,
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.000000001s"},
            ],
        },
    ),
    (
        b'{"@type":"type.googleapis.com/google.protobuf.FieldMask", "value":"a.bC,d"}',
        {"@type": f"{GOOGLE}.FieldMask", "value": "a.bC,d"},
    ),
    (
        b'{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"-9223372036854775808"}',
        {"@type": f"{GOOGLE}.Int64Value", "value": "-9223372036854775808"},
    ),
    (
        b'{"@type":"type.googleapis.com/google.protobuf.Value","value":null}',
        {"@type": f"{GOOGLE}.Value", "value": None},
    ),
]
OF_JAVASCRIPT = [
    (b'{"value":{},"@type":"type.googleapis.com/google.protobuf.Empty"}', EMPTY),
    (
        b'{"value":{"name":"t","syntax":"SYNTAX_PROTO3"},'
        b'"@type":"type.googleapis.com/google.protobuf.Type"}',
        {"@type": f"{GOOGLE}.Type", "name": "t", "syntax": "SYNTAX_PROTO3"},
    ),
    (
        b'{"name":"t","syntax":"SYNTAX_PROTO3","@type":"type.googleapis.com/google.protobuf.Type"}',
        {"@type": f"{GOOGLE}.Type", "name": "t", "syntax": "SYNTAX_PROTO3"},
    ),
    (
        b'{"value":"NaN","@type":"type.googleapis.com/google.protobuf.DoubleValue"}',
        {"@type": f"{GOOGLE}.DoubleValue", "value": "NaN"},
    ),
]


@pytest.mark.parametrize(("text", "read"), [*OF_GO, *OF_JAVASCRIPT])
def test_an_any_is_read_as_other_languages_write_it(echo, text, read):
    assert response(echo, "/v1/any", text) == read
    whole = b'{"response": %s, "metadata": %s}' % (text, text)
    assert response(echo, "/v1/operation", whole) == {
        "@type": "type.googleapis.com/google.longrunning.Operation",
        "response": read,
        "metadata": read,
    }


def test_what_only_looks_like_an_any_stays_as_it_is(echo):
    value = {**EMPTY, "value": {}}
    assert response(echo, "/v1/struct", json.dumps({"a": value}).encode())["value"] == {"a": value}
    inside = {"@type": f"{GOOGLE}.Struct", "value": {"a": value}}
    assert response(echo, "/v1/any", json.dumps(inside).encode()) == inside


WELL_KNOWN = [
    *("Any", "Struct", "Value", "ListValue", "Timestamp", "Duration", "FieldMask", "BoolValue"),
    *("StringValue", "BytesValue", "FloatValue", "DoubleValue"),
    *("Int32Value", "Int64Value", "UInt32Value", "UInt64Value"),
]
ABSENT = object()
VALUES = [ABSENT, None, True, 0, -1, 0.5, 1e300, 10**400, "", "x", "\0", "1e400s", "NaN", "é", [],
          [[]], [None], {}, {"a": 1}, {"value": 1}, {"@type": 5}, {"@type": f"{GOOGLE}.Nope"},
          {"@type": f"{GOOGLE}.BoolValue"}, "9999999999999999999s", "0000-00-00T00:00:00Z",
          ]  # fmt: skip
PLACES = [
    ("any", lambda one: one),
    ("any", lambda one: {"@type": f"{GOOGLE}.Any", "value": one}),
    ("any", lambda one: {"@type": f"{GOOGLE}.Option", "value": one}),
    ("any", lambda one: {"@type": "type.googleapis.com/google.rpc.Status", "details": [one, one]}),
    ("operation", lambda one: {"response": one}),
    ("operation", lambda one: {"error": {"details": [EMPTY, one]}}),
]


@pytest.mark.parametrize("kind", [*WELL_KNOWN, "Empty", "Type"])
@pytest.mark.parametrize("place", range(len(PLACES)))
def test_a_value_of_another_kind_is_a_bad_request_wherever_it_is(echo, caplog, kind, place):
    path, put = PLACES[place]
    for value in VALUES:
        packed = {"@type": f"{GOOGLE}.{kind}"}
        if value is not ABSENT:
            packed["value"] = value  # type: ignore[assignment]
        reply = echo.post(f"/v1/{path}", put(packed))
        assert reply.status in (200, 400), (packed, reply)
        if value is ABSENT and kind in WELL_KNOWN:
            assert reply.status == 400
            message = reply.json["error"]["message"]
            assert f'google.protobuf.{kind} has no "value"' in message
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_a_type_that_is_no_text_is_named(echo):
    reply = echo.post("/v1/any", {"@type": 5})
    assert reply.status == 400
    assert '"@type" is 5; give the URL of a type, in quotes' in reply.json["error"]["message"]


NOTHING = [b"", b'""', b" ", b"\r\n\t", b' ""\n']
"""``""`` is what Google's client for Node sends for a message without fields, and for no body."""


@pytest.mark.parametrize("path", ["any", "operation", "struct", "empty"])
@pytest.mark.parametrize("body", [*NOTHING, b"{}"])
def test_a_message_without_fields(echo, path, body):
    kind = KINDS[path].DESCRIPTOR.full_name
    shown = response(echo, f"/v1/{path}", body)
    expected = {} if path == "any" else {"@type": f"type.googleapis.com/{kind}"}
    assert shown == ({**expected, "value": {}} if path == "struct" else expected)


@pytest.fixture
def rules() -> dict[str, http_pb2.HttpRule]:
    name = "{name=projects/*/locations/*/instances/*}"
    return {
        f"{FLEET}/CreateInstance": http_pb2.HttpRule(
            post="/v1/{parent=projects/*/locations/*}/instances", body="instance"
        ),
        f"{FLEET}/DeleteInstance": http_pb2.HttpRule(post=f"/v1/{name}:remove"),
    }


@pytest.mark.parametrize("body", NOTHING)
def test_a_start_without_fields(serve, rules, body):
    assert rules.keys() == STARTS.keys()
    http = serve(options={"rules": rules})
    for path in (f"{PARENT}/instances?instanceId=a", f"{PARENT}/instances/a:remove"):
        assert http.post(f"/v1/{path}", body=body).ok["name"]
    refused = http.post(f"/v1/{PARENT}/instances/a:remove", {"name": "x"})
    assert (refused.status, refused.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "takes no body" in refused.json["error"]["message"]


@pytest.mark.parametrize("body", [b'"{}"', b'" "', b"null", b"[]", b"0", b"false", b'["",""]'])
def test_a_body_that_only_looks_empty_is_none(serve, rules, body):
    http = serve(options={"rules": rules})
    for path in (f"{PARENT}/instances?instanceId=a", f"{PARENT}/instances/a:remove"):
        assert http.post(f"/v1/{path}", body=body).status == 400
