from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import empty_pb2

from lro.v1 import operation_metadata_pb2
from lro_grpc._errors import ConfigurationError
from lro_grpc._wire.proto_plus import as_declared, parser_of, protobuf_class, protobuf_message

OurMetadata = operation_metadata_pb2.OperationMetadata


def test_protobufs_own_class_is_what_it_is():
    message = OurMetadata(verb="create")
    assert protobuf_class(OurMetadata) is OurMetadata
    assert as_declared(message, OurMetadata) is message
    assert protobuf_message(message) is message


def test_a_serialized_message_is_parsed_into_protobufs_own_class():
    message = OurMetadata(verb="create")
    assert parser_of(OurMetadata)(message.SerializeToString()) == message


class Wrapped:
    """Offers what a proto-plus class does."""

    meta = None

    def __init__(self, message: OurMetadata):
        self.message = message

    @classmethod
    def pb(cls) -> type[OurMetadata]:
        return OurMetadata

    @classmethod
    def wrap(cls, message: OurMetadata) -> Wrapped:
        return cls(message)


def test_a_serialized_message_is_parsed_into_its_declared_class():
    message = OurMetadata(verb="create")
    parsed = parser_of(Wrapped)(message.SerializeToString())
    assert type(parsed) is Wrapped
    assert parsed.message == message


@pytest.mark.parametrize("declared", [None, str, OurMetadata(), "lro.v1.OperationMetadata"])
def test_what_is_no_message_type_is_refused(declared: Any):
    with pytest.raises(ConfigurationError, match="is not a message type"):
        protobuf_class(declared)
    with pytest.raises(ConfigurationError, match="is not a message type"):
        parser_of(declared)


@pytest.mark.parametrize("value", [None, "text", 3, OurMetadata])
def test_what_is_no_message_stays_as_it_is(value: Any):
    assert protobuf_message(value) is value


@pytest.mark.vendors
def test_a_proto_plus_object_shares_its_message():
    alloydb = pytest.importorskip("google.cloud.alloydb_v1")
    declared = alloydb.OperationMetadata
    message = protobuf_class(declared)(verb="create")
    shown = as_declared(message, declared)
    assert type(shown) is declared
    shown.target = "projects/p/locations/l/clusters/c"
    assert message.target == "projects/p/locations/l/clusters/c"
    assert protobuf_message(shown) is message


@pytest.mark.vendors
def test_a_message_of_another_type_is_not_wrapped():
    alloydb = pytest.importorskip("google.cloud.alloydb_v1")
    message = empty_pb2.Empty()
    assert as_declared(message, alloydb.OperationMetadata) is message
