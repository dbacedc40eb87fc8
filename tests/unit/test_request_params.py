"""The routing header of a request (C4), by AIP-4222 and google/api/routing.proto."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from google.api import annotations_pb2, http_pb2, routing_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from lro_grpc._wire.request_params import header_for

_numbers = itertools.count(1)

TABLE = "projects/p1/instances/i1/tables/t1"


def routed(request: dict[str, str], http: Any = None, routing: Any = None) -> str | None:
    """Returns the header for a request of a method with those options."""
    package = f"test.routing{next(_numbers)}"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package)
    file.syntax = "proto3"
    inner, outer = file.message_type.add(name="Inner"), file.message_type.add(name="Request")
    string = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    inner.field.add(name="name", number=1, type=string, label=1)
    for number, name in enumerate(("table_name", "app_profile_id", "parent"), start=1):
        outer.field.add(name=name, number=number, type=string, label=1)
    outer.field.add(name="inner", number=9, type=11, type_name=f".{package}.Inner", label=1)
    outer.field.add(name="shard", number=10, type=5, label=1)
    method = file.service.add(name="Things").method.add(name="Make")
    method.input_type = method.output_type = f".{package}.Request"
    options: Any = method.options.Extensions
    if http is not None:
        options[annotations_pb2.http].CopyFrom(http)
    if routing is not None:
        options[routing_pb2.routing].CopyFrom(routing)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    kind: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Request"))
    sent = kind(**request)
    found = dict(header_for(f"/{package}.Things/Make", sent))
    assert found.keys() <= {"x-goog-request-params"}
    return found.get("x-goog-request-params")


def rule(*parameters: tuple[str, str]) -> routing_pb2.RoutingRule:
    rule = routing_pb2.RoutingRule()
    for field, template in parameters:
        rule.routing_parameters.add(field=field, path_template=template)
    return rule


def test_without_an_option_there_is_no_header() -> None:
    assert routed({"parent": "p"}) is None


@pytest.mark.parametrize(
    "http",
    [
        http_pb2.HttpRule(get="/v1/{parent=projects/*}/things"),
        http_pb2.HttpRule(post="/v1/{parent=projects/*}/things:make", body="*"),
        http_pb2.HttpRule(put="/v1/{parent=**}"),
        http_pb2.HttpRule(patch="/v1/{parent}"),
        http_pb2.HttpRule(delete="/v1/{parent=projects/*}/things/x"),
        http_pb2.HttpRule(custom=http_pb2.CustomHttpPattern(kind="LOCK", path="/v1/{parent}")),
    ],
    ids=lambda http: http.WhichOneof("pattern"),
)
def test_the_variables_of_a_path_are_sent(http: http_pb2.HttpRule) -> None:
    assert routed({"parent": "projects/p"}, http) == "parent=projects/p"
    assert routed({"parent": ""}, http) is None


def test_several_variables_nested_ones_and_numbers() -> None:
    http = http_pb2.HttpRule(post="/v1/{inner.name=things/*}/{shard}:make")
    request: Any = {"inner": {"name": "things/a b"}, "shard": 7}
    assert routed(request, http) == "inner.name=things/a%20b&shard=7"


def test_keys_and_values_are_url_encoded_but_for_slashes() -> None:
    http = http_pb2.HttpRule(get="/v1/{parent=**}")
    assert routed({"parent": "a/b&c=d%€"}, http) == "parent=a/b%26c%3Dd%25%E2%82%AC"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        # The examples of google/api/routing.proto.
        ([("app_profile_id", "")], "app_profile_id=profiles/prof_qux"),
        ([("app_profile_id", "{routing_id=**}")], "routing_id=profiles/prof_qux"),
        ([("table_name", "{table_name=projects/*/instances/*/**}")], f"table_name={TABLE}"),
        ([("table_name", "{table_name=regions/*/zones/*/**}")], None),
        ([("table_name", "{routing_id=projects/*}/**")], "routing_id=projects/p1"),
        (
            [
                ("table_name", "{routing_id=projects/*}/**"),
                ("table_name", "{routing_id=projects/*/instances/*}/**"),
            ],
            "routing_id=projects/p1/instances/i1",
        ),
        (
            [
                ("table_name", "{project_id=projects/*}/instances/*/**"),
                ("table_name", "projects/*/{instance_id=instances/*}/**"),
            ],
            "project_id=projects/p1&instance_id=instances/i1",
        ),
        (
            [
                ("table_name", "{routing_id=projects/*}/**"),
                ("app_profile_id", "{routing_id=**}"),
            ],
            "routing_id=profiles/prof_qux",
        ),
        ([("app_profile_id", "profiles/{routing_id=*}")], "routing_id=prof_qux"),
        ([("parent", "{routing_id=**}")], None),
    ],
)
def test_a_routing_rule(parameters: list[tuple[str, str]], expected: str | None) -> None:
    request = {"table_name": TABLE, "app_profile_id": "profiles/prof_qux"}
    assert routed(request, routing=rule(*parameters)) == expected


def test_a_routing_rule_stands_for_the_path_altogether() -> None:
    http = http_pb2.HttpRule(get="/v1/{parent=projects/*}/things")
    request = {"parent": "projects/p"}
    assert routed(request, http, rule(("table_name", "{key=**}"))) is None
    assert routed(request, http, rule()) is None


def test_a_value_is_matched_whatever_its_characters() -> None:
    routing = rule(("table_name", "{table=projects/*/**}"))
    assert routed({"table_name": "projects/p/a\nb"}, routing=routing) == "table=projects/p/a%0Ab"


def test_a_value_that_no_header_has_room_for_routes_nothing() -> None:
    """Nor is it matched, which takes the longer the more ``**`` a rule has."""
    routing = rule(("table_name", "{table=**/x/**/y/**}"), ("parent", "{parent=**}"))
    sent = {"table_name": "x/" * 200_000, "parent": "projects/p"}
    assert routed(sent, routing=routing) == "parent=projects/p"
    assert routed({"parent": "p" * 4096}, routing=routing) == f"parent={'p' * 4096}"
    assert routed({"parent": "p" * 4097}, routing=routing) is None
