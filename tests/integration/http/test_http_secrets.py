"""A password in a request is in no answer, no JSON and no line of the log, whatever its type is."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from google.api import field_behavior_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    struct_pb2,
)
from http_harness import Http
from releases import method, release
from server_harness import serving

from lro.example.v1 import fleet_service_pb2
from lro.v1.operation_control_service_pb2 import OPERATION_DESCRIPTION_VIEW_FULL as FULL
from lro_grpc._http.gateway import gateway
from lro_grpc.http import listening_in_thread

if TYPE_CHECKING:
    from google.protobuf.message import Message

alloydb_v1: Any = pytest.importorskip("google.cloud.alloydb_v1")

FIELD = descriptor_pb2.FieldDescriptorProto
SECRET = "hunter2"
PARENT = "projects/p"


def kinds() -> dict[str, Any]:
    """Declares request types: of one no field has a mark, the other one holds what is foreign."""
    unmarked = descriptor_pb2.FileDescriptorProto(
        name="unmarked/v1/unmarked.proto", package="unmarked.v1", syntax="proto3"
    )
    fields = unmarked.message_type.add(name="Unmarked").field
    fields.add(name="password", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    sizes = fields.add(name="sizes", number=2, type=FIELD.TYPE_INT32, label=FIELD.LABEL_REPEATED)
    sizes.options.packed = True
    old = fields.add(name="old", number=3, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    old.options.deprecated = True
    marked = descriptor_pb2.FileDescriptorProto(
        name="marked/v1/marked.proto",
        package="marked.v1",
        syntax="proto3",
        dependency=[
            "google/api/field_behavior.proto",
            "google/protobuf/any.proto",
            "unmarked/v1/unmarked.proto",
        ],
    )
    for name, kind in (("Open", ".google.protobuf.Any"), ("Holds", ".unmarked.v1.Unmarked")):
        fields = marked.message_type.add(name=name).field
        parent = fields.add(
            name="parent", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL
        )
        behaviors: Any = parent.options.Extensions[field_behavior_pb2.field_behavior]
        behaviors.append(field_behavior_pb2.REQUIRED)
        fields.add(
            name="content",
            number=2,
            type=FIELD.TYPE_MESSAGE,
            type_name=kind,
            label=FIELD.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.Default()
    for file in (unmarked, marked):
        pool.AddSerializedFile(file.SerializeToString())
    return {
        name.rpartition(".")[2]: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in ("unmarked.v1.Unmarked", "marked.v1.Open", "marked.v1.Holds")
    }


KINDS = kinds()
Unmarked, Open, Holds = KINDS["Unmarked"], KINDS["Open"], KINDS["Holds"]

CLUSTER = alloydb_v1.Cluster(initial_user=alloydb_v1.UserPassword(user="ann", password=SECRET))
CREATE_CLUSTER = alloydb_v1.CreateClusterRequest(parent=PARENT, cluster=CLUSTER)


def packed(message: Message) -> any_pb2.Any:
    envelope = any_pb2.Any()
    envelope.Pack(message)
    return envelope


def of_a_newer_release() -> Message:
    """Returns a fleet request with a password in a field that this release does not know."""
    known = fleet_service_pb2.CreateInstanceRequest(parent=PARENT).SerializeToString()
    return fleet_service_pb2.CreateInstanceRequest.FromString(known + b"\x7a\x07" + SECRET.encode())


REQUESTS = {
    "other options alone": (Unmarked, Unmarked(password=SECRET, old=SECRET, sizes=[1]), None),
    "proto-plus": (
        alloydb_v1.CreateClusterRequest,
        alloydb_v1.CreateClusterRequest.pb(CREATE_CLUSTER),
        None,
    ),
    "of another package": (Holds, Holds(parent=PARENT, content=Unmarked(password=SECRET)), None),
    "Any": (Open, Open(parent=PARENT, content=packed(Unmarked(password=SECRET))), PARENT),
    "proto-plus in an Any": (
        Open,
        Open(parent=PARENT, content=packed(alloydb_v1.Cluster.pb(CLUSTER))),
        PARENT,
    ),
    "Any in an Any": (
        Open,
        Open(parent=PARENT, content=packed(packed(alloydb_v1.Cluster.pb(CLUSTER)))),
        PARENT,
    ),
    "text in an Any": (
        Open,
        Open(parent=PARENT, content=packed(struct_pb2.Value(string_value=SECRET))),
        PARENT,
    ),
    "fleet, newer": (fleet_service_pb2.CreateInstanceRequest, of_a_newer_release(), PARENT),
    "fleet, SQL": (
        fleet_service_pb2.CreateInstanceRequest,
        fleet_service_pb2.CreateInstanceRequest(
            parent=PARENT,
            instance=fleet_service_pb2.Instance(
                schema_sql=f"INSERT INTO users VALUES ('{SECRET}')"
            ),
        ),
        PARENT,
    ),
}
"""The type of each, the request, and the parent that the FULL view shows of it, if it shows any."""


@pytest.mark.parametrize(("kind", "request_message", "parent"), REQUESTS.values(), ids=[*REQUESTS])
def test_a_password_is_shown_nowhere(
    kind: Any, request_message: Any, parent: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    configure = release(
        {"Run": lambda request, op: struct_pb2.Value()}, request=kind, response=struct_pb2.Value
    )
    with (
        serving("sync", configure=configure) as server,
        listening_in_thread(gateway(server.operations), "127.0.0.1:0") as port,
    ):
        http = Http(port)
        name = server.start(method("Run"), request_message).name
        server.done(name)
        full = server.describe(name, FULL)
        described = f"/v1/{name}:describe"
        answers = [
            server.get(name),
            server.describe(name),
            full,
            *server.list(name="-").operations,
        ]
        shown = json.dumps([json_format.MessageToDict(one) for one in answers])
        pages = [
            http.get(path).ok
            for path in (
                f"/v1/{name}",
                described,
                f"{described}?view=OPERATION_DESCRIPTION_VIEW_FULL",
            )
        ]
    said = shown + json.dumps(pages) + caplog.text
    assert SECRET.encode() not in b"".join(one.SerializeToString() for one in answers)
    assert SECRET not in said
    assert full.request_size_bytes == request_message.ByteSize()
    assert pages[-1].get("request", {}).get("parent") == parent
