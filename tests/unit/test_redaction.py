"""Sensitive fields are removed from a message, wherever they stand."""

from __future__ import annotations

from typing import Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, struct_pb2

from lro.example.v1 import fleet_service_pb2
from lro_grpc._operation.redaction import is_annotated, redacted

FIELD = descriptor_pb2.FieldDescriptorProto
SECRET = "hunter2"


def declare() -> dict[str, Any]:
    """Declares messages with sensitive fields, and one without a mark."""
    file = descriptor_pb2.FileDescriptorProto(
        name="redaction/v1/redaction.proto",
        package="redaction.v1",
        syntax="proto3",
        dependency=["google/protobuf/any.proto", "google/api/field_behavior.proto"],
    )
    of_message: dict[str, Any] = {"type": FIELD.TYPE_MESSAGE}
    login = file.message_type.add(name="Login")
    login.field.add(name="user", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    password = login.field.add(
        name="password", number=2, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL
    )
    password.options.debug_redact = True
    keys = login.field.add(name="keys", number=3, type=FIELD.TYPE_BYTES, label=FIELD.LABEL_REPEATED)
    behaviors: Any = keys.options.Extensions[field_behavior_pb2.field_behavior]
    behaviors.append(field_behavior_pb2.INPUT_ONLY)
    request = file.message_type.add(name="Request")
    for number, (name, kind, label) in enumerate(
        (
            ("login", "Login", FIELD.LABEL_OPTIONAL),
            ("logins", "Login", FIELD.LABEL_REPEATED),
            ("by_name", "Request.ByNameEntry", FIELD.LABEL_REPEATED),
            ("inner", "Request", FIELD.LABEL_OPTIONAL),
        ),
        1,
    ):
        request.field.add(
            name=name, number=number, label=label, type_name=f".redaction.v1.{kind}", **of_message
        )
    request.field.add(
        name="any",
        number=5,
        label=FIELD.LABEL_OPTIONAL,
        type_name=".google.protobuf.Any",
        **of_message,
    )
    entry = request.nested_type.add(name="ByNameEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        label=FIELD.LABEL_OPTIONAL,
        type_name=".redaction.v1.Login",
        **of_message,
    )
    plain = descriptor_pb2.FileDescriptorProto(
        name="plain/v1/plain.proto", package="plain.v1", syntax="proto3"
    )
    bare = plain.message_type.add(name="Bare")
    bare.field.add(name="password", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    sizes = bare.field.add(
        name="sizes", number=2, type=FIELD.TYPE_INT32, label=FIELD.LABEL_REPEATED
    )
    sizes.options.packed = True
    pool = descriptor_pool.Default()
    for one in (file, plain):
        pool.AddSerializedFile(one.SerializeToString())
    names = ("redaction.v1.Login", "redaction.v1.Request", "plain.v1.Bare")
    return {
        name.rpartition(".")[2]: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in names
    }


KINDS = declare()
Login, Request, Bare = KINDS["Login"], KINDS["Request"], KINDS["Bare"]


def login() -> Any:
    return Login(user="ann", password=SECRET, keys=[SECRET.encode()])


def packed(message: Any) -> any_pb2.Any:
    envelope = any_pb2.Any()
    envelope.Pack(message)
    return envelope


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (login(), Login(user="ann")),
        (Request(login=login()), Request(login=Login(user="ann"))),
        (Request(logins=[login(), login()]), Request(logins=[Login(user="ann")] * 2)),
        (Request(by_name={"a": login()}), Request(by_name={"a": Login(user="ann")})),
        (Request(inner=Request(login=login())), Request(inner=Request(login=Login(user="ann")))),
        (Request(any=packed(login())), Request(any=packed(Login(user="ann")))),
        (
            Request(any=packed(packed(Request(login=login())))),
            Request(any=packed(packed(Request(login=Login(user="ann"))))),
        ),
    ],
    ids=["itself", "nested", "repeated", "map", "recursive", "Any", "Any in Any"],
)
def test_sensitive_fields_are_removed(made: Any, expected: Any) -> None:
    before = made.SerializeToString()
    shown = redacted(made)
    assert shown == expected
    assert SECRET.encode() not in shown.SerializeToString()
    assert made.SerializeToString() == before, "it has changed the message itself"


@pytest.mark.parametrize(
    "content",
    [
        any_pb2.Any(type_url="type.googleapis.com/of.another.Release", value=SECRET.encode()),
        any_pb2.Any(type_url="type.googleapis.com/redaction.v1.Login", value=b"\x0a\xff"),
    ],
    ids=["unknown", "broken"],
)
def test_an_any_that_cannot_be_opened_has_no_content(content: any_pb2.Any) -> None:
    assert redacted(Request(any=content)).any == any_pb2.Any(type_url=content.type_url)


def test_fields_that_the_type_does_not_have_are_removed() -> None:
    newer = login().SerializeToString() + b"\x7a\x07" + SECRET.encode()  # field 15
    shown = redacted(Login.FromString(newer))
    assert shown.SerializeToString() == Login(user="ann").SerializeToString()


def test_extensions_are_removed() -> None:
    """They are of a file of their own, which need not mark anything."""
    file = descriptor_pb2.FileDescriptorProto(
        name="extended/v1/extended.proto", package="extended.v1", syntax="proto2"
    )
    extended = file.message_type.add(name="Extended")
    extended.field.add(name="user", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    extended.extension_range.add(start=100, end=200)
    file.extension.add(
        name="password",
        number=100,
        extendee=".extended.v1.Extended",
        type=FIELD.TYPE_STRING,
        label=FIELD.LABEL_OPTIONAL,
    )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    kind: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("extended.v1.Extended"))
    made = kind(user="ann")
    made.Extensions[pool.FindExtensionByName("extended.v1.password")] = SECRET
    assert redacted(made) == kind(user="ann")


def test_what_is_nested_too_deeply_is_removed() -> None:
    """No chain of Anys is deeper than Python's stack."""
    deep = packed(login())
    for _ in range(5_000):
        deep = any_pb2.Any(
            type_url="type.googleapis.com/google.protobuf.Any", value=deep.SerializeToString()
        )
    shown = redacted(Request(any=deep))
    assert SECRET.encode() not in shown.SerializeToString()


def test_the_content_of_an_any_is_removed_if_its_type_marks_nothing() -> None:
    content = packed(Bare(password=SECRET))
    assert redacted(Request(any=content)).any == any_pb2.Any(type_url=content.type_url)


def test_a_type_is_annotated_if_its_proto_marks_a_field() -> None:
    assert is_annotated(Login.DESCRIPTOR)
    assert is_annotated(Request.DESCRIPTOR)
    assert is_annotated(fleet_service_pb2.CreateInstanceRequest.DESCRIPTOR)
    assert not is_annotated(Bare.DESCRIPTOR)
    assert not is_annotated(struct_pb2.Struct.DESCRIPTOR)


def test_the_types_of_vendors_packages_are_not_annotated() -> None:
    """Proto-plus leaves their options out."""
    alloydb = pytest.importorskip("google.cloud.alloydb_v1")
    assert not is_annotated(alloydb.CreateClusterRequest.pb().DESCRIPTOR)
