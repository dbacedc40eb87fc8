"""Requests' messages, from path, query and body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.api import http_pb2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, duration_pb2, struct_pb2, type_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro.example.v1 import fleet_service_pb2
from lro.v1 import operation_metadata_pb2
from lro_grpc._errors import ConfigurationError, MalformedRequestError
from lro_grpc._http.transcoding import Binding, bindings, rule_of

Create = fleet_service_pb2.CreateInstanceRequest
List = operations_pb2.ListOperationsRequest
CREATE = "/lro.example.v1.FleetService/CreateInstance"


def binding(request: Any, body: str = "", path: str = "/v1") -> Binding:
    (one,) = bindings(http_pb2.HttpRule(post=path, body=body), request)
    return one


def test_an_annotation_and_its_additional_bindings():
    rule = http_pb2.HttpRule(
        put="/v1/{name=operations/*}",
        additional_bindings=[
            http_pb2.HttpRule(custom=http_pb2.CustomHttpPattern(kind="LOCK", path="/v1/{name}")),
            http_pb2.HttpRule(delete="/v2/x", body="*"),
        ],
    )
    found = list(bindings(rule, operations_pb2.GetOperationRequest))
    assert [(one.http_method, one.template.text, one.body) for one in found] == [
        ("PUT", "/v1/{name=operations/*}", ""),
        ("LOCK", "/v1/{name}", ""),
        ("DELETE", "/v2/x", "*"),
    ]


def test_the_annotation_of_a_method():
    rule = rule_of(CREATE)
    assert rule is not None
    assert rule.post == "/v1/{parent=projects/*/locations/*}/instances"
    assert rule_of("/lro.example.v1.FleetService/Nope") is None
    assert rule_of("/nope.Service/Nope") is None
    assert rule_of("/google.longrunning.Operations/WaitOperation") is None


@pytest.mark.parametrize(
    "rule",
    [
        http_pb2.HttpRule(),
        http_pb2.HttpRule(get="nonsense"),
        http_pb2.HttpRule(get="/v1/{nope}"),
        http_pb2.HttpRule(get="/v1/{parent.x}"),
        http_pb2.HttpRule(post="/v1", body="nope"),
        http_pb2.HttpRule(post="/v1", body="instance.name"),
        http_pb2.HttpRule(post="/v1", additional_bindings=[http_pb2.HttpRule(get="/{nope}")]),
    ],
)
def test_a_rule_that_cannot_be(rule):
    with pytest.raises(ConfigurationError):
        list(bindings(rule, Create))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (http_pb2.HttpRule(get="/v1/{instanceId}"), "instance_id"),
        (http_pb2.HttpRule(get="/v1/{instance.schemaSql}"), r"instance\.schema_sql"),
        (http_pb2.HttpRule(post="/v1", body="instanceId"), "instance_id"),
    ],
)
def test_a_rule_that_has_a_fields_name_in_json_is_told_the_one_in_the_proto(rule, name):
    with pytest.raises(ConfigurationError, match=f"'{name}'"):
        list(bindings(rule, Create))


def test_path_query_and_body_together():
    (one,) = bindings(rule_of(CREATE), Create)
    message = one.message(
        {"parent": "projects/p/locations/l"},
        [("instanceId", "i"), ("request_id", "r"), ("alt", "json"), ("validateOnly", "true")],
        b'{"schemaSql": "x"}',
    )
    assert message == Create(
        parent="projects/p/locations/l",
        instance_id="i",
        request_id="r",
        validate_only=True,
        instance=fleet_service_pb2.Instance(schema_sql="x"),
    )


def test_an_empty_body_of_a_field_is_an_empty_message():
    message: Any = binding(Create, "instance").message({}, [], b"{}")
    assert message.HasField("instance")
    assert not binding(Create, "instance").message({}, [], b"").HasField("instance")  # type: ignore[call-overload]


def test_the_path_counts_whatever_the_body_says():
    body = b'{"parent": "b", "instanceId": "i"}'
    message = binding(Create, "*", "/v1/{parent}").message({"parent": "a"}, [], body)
    assert message == Create(parent="a", instance_id="i")
    empty = binding(Create, "*", "/v1/{parent=**}").message({"parent": ""}, [], body)
    assert empty == Create(instance_id="i")


def test_nested_fields():
    one = binding(Create, path="/v1/{instance.name=a/*}")
    message = one.message({"instance.name": "a/b"}, [("instance.schema_sql", "x")], b"")
    assert message == Create(instance=fleet_service_pb2.Instance(name="a/b", schema_sql="x"))


def test_messages_that_are_one_text_are_parameters():
    wait = operations_pb2.WaitOperationRequest
    found = binding(wait).message({}, [("timeout", "1.5s")], b"")
    assert found == wait(timeout=duration_pb2.Duration(seconds=1, nanos=500_000_000))


def test_repeated_fields_enums_and_numbers():
    field = type_pb2.Type
    message = binding(field).message(
        {}, [("oneofs", "a"), ("oneofs", "b"), ("syntax", "SYNTAX_PROTO3")], b""
    )
    assert message == field(oneofs=["a", "b"], syntax=type_pb2.SYNTAX_PROTO3)
    numbered = binding(field).message({}, [("syntax", "1")], b"")
    assert numbered == field(syntax=type_pb2.SYNTAX_PROTO3)


@pytest.mark.parametrize(
    ("request_type", "query"),
    [
        (List, [("pageSize", "x")]),
        (List, [("pageSize", "")]),
        (List, [("pageSize", "1"), ("pageSize", "1")]),
        (List, [("pageSize", "1"), ("page_size", "1")]),
        (List, [("returnPartialSuccess", "True")]),
        (List, [("nope", "1")]),
        (List, [("", "1")]),
        (List, [("name.x", "1")]),
        (Create, [("instance", "{}")]),
        (Create, [("instance.state", "NOPE")]),
        (operations_pb2.WaitOperationRequest, [("timeout", "soon")]),
        (operations_pb2.WaitOperationRequest, [("timeout", "1s"), ("timeout.seconds", "1")]),
        (operations_pb2.WaitOperationRequest, [("timeout.seconds", "1"), ("timeout", "1s")]),
        (operation_metadata_pb2.OperationMetadata, [("partialFailures.code", "1")]),
        (struct_pb2.Struct, [("fields.a", "1")]),
        (List, [("pageSize", "1_0")]),
        (List, [("pageSize", "\u0665")]),
        (type_pb2.Type, [("syntax", "1_0")]),
        (type_pb2.Type, [("syntax", "\u0661")]),
    ],
)
def test_parameters_that_are_none(request_type, query):
    with pytest.raises(MalformedRequestError):
        binding(request_type).message({}, query, b"")


def test_a_whole_body_leaves_no_parameters():
    with pytest.raises(MalformedRequestError, match="has its own place"):
        binding(Create, "*").message({}, [("instanceId", "i")], b"{}")


def test_a_json_object_as_a_request():
    """What stands in for a type that nobody has declared."""
    message = binding(struct_pb2.Struct, "*").message({}, [("alt", "json")], b'{"a": [1, "b"]}')
    assert dict(message)["a"][1] == "b"  # type: ignore[call-overload]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["parent", "instance", "instanceId", "validateOnly", "seedRows"])
        | st.text(max_size=4),
        inner,
        max_size=4,
    ),
    max_leaves=8,
)


@given(value=JSON)
def test_any_json_is_a_request_or_is_refused(value):
    body = json.dumps(value).encode()
    for field in ("*", "instance", "parent"):
        try:
            message = binding(Create, field).message({}, [], body)
        except MalformedRequestError:
            continue
        assert isinstance(message, Create)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Create, b'{"instance": {"seedRows": 1e999}}'),
        (Create, b'{"instance": {"seedRows": ' + b"9" * 5000 + b"}}"),
        (Create, b'{"instance": {"seedRows": "' + b"9" * 5000 + b'"}}'),
        (any_pb2.Any, b'{"@type": 5}'),
        (any_pb2.Any, b'{"@type": ["type.googleapis.com/google.protobuf.Struct"]}'),
        (any_pb2.Any, b'{"@type": "type.googleapis.com/google.protobuf.DoubleValue"}'),
        (any_pb2.Any, b'{"@type": "type.googleapis.com/google.protobuf.Any", "value": 5}'),
        (struct_pb2.Struct, b'{"a": -51e999}'),
        (struct_pb2.Struct, b'{"a": ' + b"9" * 400 + b"}"),
        (struct_pb2.Struct, b'{"a": ' + b"9" * 400 + b".5}"),
        (struct_pb2.Struct, b'{"a":' * 500 + b"1" + b"}" * 500),
        (struct_pb2.Struct, b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"),
    ],
)
def test_json_that_its_type_has_not_is_refused(kind, body):
    with pytest.raises(MalformedRequestError) as caught:
        binding(kind, "*").message({}, [], body)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("body", [b'{"\\ud800": 1}', b'{"parent": "\\uDC00"}'])
def test_half_a_surrogate_pair_is_no_text(body):
    with pytest.raises(MalformedRequestError, match="not JSON"):
        binding(Create, "*").message({}, [], body)


def test_a_whole_surrogate_pair_is():
    message = binding(Create, "*").message({}, [], b'{"parent": "\\ud83d\\ude00"}')
    assert message == Create(parent="\N{GRINNING FACE}")


@given(body=st.binary(max_size=60))
def test_any_bytes_are_a_request_or_are_refused(body):
    try:
        message = binding(Create, "*").message({}, [], body)
    except MalformedRequestError:
        return
    assert isinstance(message, Create)


@given(
    query=st.lists(
        st.tuples(
            st.sampled_from(["parent", "validateOnly", "instance.name", "instance.seedRows", "x"])
            | st.text(max_size=6),
            st.sampled_from(["", "1", "true", "-9", "1e3", "NaN"]) | st.text(max_size=6),
        ),
        max_size=4,
    )
)
def test_any_parameters_are_a_request_or_are_refused(query):
    try:
        message = binding(Create).message({}, query, b"")
    except MalformedRequestError:
        return
    assert isinstance(message, Create)
