"""A service with a method of every kind, and a message with a field of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from google.api import annotations_pb2, field_behavior_pb2, httpbody_pb2
from google.longrunning import operations_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    text_format,
    timestamp_pb2,
    wrappers_pb2,
)

from lro.v1 import operation_metadata_pb2
from lro_grpc._server.decorator import BoundMethod, MethodOptions

PACKAGE = "test.museum.v1"
MUSEUM = f"/{PACKAGE}.MuseumService"

DEPENDENCIES = [
    *(annotations_pb2, field_behavior_pb2, httpbody_pb2, operations_pb2, any_pb2, duration_pb2),
    *(empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2, operation_metadata_pb2),
]

WELL_KNOWN = {
    "made": "Timestamp",
    "took": "Duration",
    "mask": "FieldMask",
    "extra": "Struct",
    "anything": "Value",
    "several": "ListValue",
    "detail": "Any",
    "note": "StringValue",
    "size": "Int64Value",
    "is_rare": "BoolValue",
    "nothing": "Empty",
}
SCALARS = (
    *("double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string"),
    *("bytes", "uint32", "sfixed32", "sfixed64", "sint32", "sint64"),
)


def fields_of_piece() -> Iterator[str]:
    numbers = iter(range(1, 100))

    def field(name: str, kind: str, more: str = "") -> str:
        is_message = kind.startswith(".")
        kind = f'type_name: "{kind}"' if is_message else f"type: TYPE_{kind.upper()}"
        return f'field {{ name: "{name}" number: {next(numbers)} {kind} {more} }}'

    def behavior(what: str) -> str:
        return f"options {{ [google.api.field_behavior]: {what} }}"

    yield field("name", "string", behavior("IDENTIFIER"))
    yield field("title", "string", behavior("REQUIRED"))
    yield field("room", "int32", behavior("REQUIRED"))
    yield field("number", "int64", behavior("OUTPUT_ONLY"))
    yield field("secret", "string", behavior("INPUT_ONLY"))
    yield field("old", "string", "options { deprecated: true }")
    for scalar in SCALARS:
        yield field(f"of_{scalar}", scalar)
    for name, kind in WELL_KNOWN.items():
        yield field(name, f".google.protobuf.{kind}")
    yield field("kind", f".{PACKAGE}.Kind")
    yield field("parts", f".{PACKAGE}.Piece", "label: LABEL_REPEATED")
    yield field("marks", "string", "label: LABEL_REPEATED")
    yield field("beside", f".{PACKAGE}.Piece.BesideEntry", "label: LABEL_REPEATED")
    yield field("labels", f".{PACKAGE}.Piece.LabelsEntry", "label: LABEL_REPEATED")
    yield field("maker", "string", "oneof_index: 0")
    yield field("place", f".{PACKAGE}.Place", "oneof_index: 0")
    yield field("nick", "string", "oneof_index: 1 proto3_optional: true")


def entry(name: str, value: str) -> str:
    return f"""nested_type {{
      name: "{name}" options {{ map_entry: true }}
      field {{ name: "key" number: 1 type: TYPE_STRING }}
      field {{ name: "value" number: 2 {value} }}
    }}"""


def method(
    name: str, request: str, response: str, rule: str, more: str = "", option: str = ""
) -> str:
    def full(kind: str) -> str:
        return f".{kind}" if "." in kind else f".{PACKAGE}.{kind}"

    return f"""method {{
      name: "{name}" input_type: "{full(request)}" output_type: "{full(response)}" {more}
      options {{ [google.api.http] {{ {rule} }} {option} }}
    }}"""


INFO = f"""[google.longrunning.operation_info] {{
  response_type: "{PACKAGE}.Piece" metadata_type: "lro.v1.OperationMetadata"
}}"""

FILE = f"""
name: "test/museum/v1/museum.proto" package: "{PACKAGE}" syntax: "proto3"
enum_type {{
  name: "Kind"
  value {{ name: "KIND_UNSPECIFIED" number: 0 }}
  value {{ name: "PAINTING" number: 1 }}
  value {{ name: "STATUE" number: 2 }}
}}
message_type {{ name: "Place"
  field {{ name: "city" number: 1 type: TYPE_STRING }}
  field {{ name: "height" number: 2 type: TYPE_INT64 }}
}}
message_type {{
  name: "Piece" {" ".join(fields_of_piece())}
  oneof_decl {{ name: "origin" }} oneof_decl {{ name: "_nick" }}
  {entry("BesideEntry", f'type_name: ".{PACKAGE}.Piece"')}
  {entry("LabelsEntry", "type: TYPE_STRING")}
}}
message_type {{ name: "GetPieceRequest" field {{ name: "name" number: 1 type: TYPE_STRING
  options {{ [google.api.field_behavior]: REQUIRED }} }} }}
message_type {{ name: "PiecesRequest"
  field {{ name: "parent" number: 1 type: TYPE_STRING }}
  field {{ name: "page_size" number: 2 type: TYPE_INT32 }}
  field {{ name: "kinds" number: 3 type_name: ".{PACKAGE}.Kind" label: LABEL_REPEATED }}
  field {{ name: "place" number: 4 type_name: ".{PACKAGE}.Place" }}
  field {{ name: "since" number: 5 type_name: ".google.protobuf.Timestamp" }}
  field {{ name: "pieces" number: 6 type_name: ".{PACKAGE}.Piece" label: LABEL_REPEATED }}
  field {{ name: "extra" number: 7 type_name: ".google.protobuf.Value" }}
  field {{ name: "key" number: 8 type: TYPE_BYTES }}
  field {{ name: "at_least" number: 9 type_name: ".google.protobuf.Int64Value" }}
}}
message_type {{ name: "PiecesResponse"
  field {{ name: "pieces" number: 1 type_name: ".{PACKAGE}.Piece" label: LABEL_REPEATED }}
  field {{ name: "total" number: 2 type: TYPE_INT64 }}
  field {{ name: "first" number: 3 type_name: ".{PACKAGE}.Piece" }}
  field {{ name: "made" number: 4 type_name: ".google.protobuf.Timestamp" }}
}}
message_type {{ name: "UpdatePieceRequest"
  field {{ name: "piece" number: 1 type_name: ".{PACKAGE}.Piece" }}
  field {{ name: "update_mask" number: 2 type_name: ".google.protobuf.FieldMask" }}
}}
service {{
  name: "MuseumService"
  {method("GetPiece", "GetPieceRequest", "Piece", 'get: "/v1/{name=museums/*/pieces/*}"')}
  {
    method(
        "ListPieces",
        "PiecesRequest",
        "PiecesResponse",
        '''get: "/v1/{parent=museums/*}/pieces" response_body: "pieces"
           additional_bindings { get: "/v1/pieces" }
           additional_bindings { get: "/v1/pieces:count" response_body: "total" }
           additional_bindings { get: "/v1/pieces:first" response_body: "first" }
           additional_bindings { get: "/v1/pieces:made" response_body: "made" }''',
    )
}
  {
    method(
        "SearchPieces",
        "PiecesRequest",
        "PiecesResponse",
        '''post: "/v1/{parent=museums/*}/pieces:search" body: "*"''',
    )
}
  {
    method(
        "UpdatePiece",
        "UpdatePieceRequest",
        "Piece",
        '''patch: "/v1/{piece.name=museums/*/pieces/*}" body: "piece"''',
    )
}
  {method("DeletePiece", "GetPieceRequest", "google.protobuf.Empty", 'delete: "/v1/pieces/{name}"')}
  {
    method(
        "MovePiece",
        "GetPieceRequest",
        "google.longrunning.Operation",
        '''post: "/v1/{name=museums/*/pieces/*}:move" body: "*"''',
        option=INFO,
    )
}
  {
    method(
        "WatchPieces",
        "PiecesRequest",
        "Piece",
        'get: "/v1/pieces:watch"',
        "server_streaming: true",
    )
}
  {
    method(
        "SendPieces",
        "Piece",
        "PiecesResponse",
        'post: "/v1/pieces:send" body: "*"',
        "client_streaming: true",
    )
}
  {
    method(
        "DownloadPiece",
        "GetPieceRequest",
        "google.api.HttpBody",
        'get: "/v1/{name=museums/*/pieces/*}:download"',
    )
}
}}
"""


def _declared() -> Any:
    file = text_format.Parse(FILE, descriptor_pb2.FileDescriptorProto())
    file.dependency.extend(one.DESCRIPTOR.name for one in DEPENDENCIES)
    return descriptor_pool.Default().AddSerializedFile(file.SerializeToString())


_FILE = _declared()


def message(name: str) -> Any:
    """Returns the class of a message of the museum's."""
    return message_factory.GetMessageClass(_FILE.message_types_by_name[name])


Piece, PiecesRequest, PiecesResponse = map(message, ("Piece", "PiecesRequest", "PiecesResponse"))

Answer = Callable[[Any, grpc.ServicerContext], Any]


OPTIONS = MethodOptions()


def move(request: Any, op: Any) -> Any:
    del op
    return Piece(name=request.name)


def add_museum(answers: Mapping[str, Answer], registrar: Any) -> None:
    """Adds the service to a server.

    Args:
        answers: The methods by their names; the others are not implemented.
        registrar: The server's.
    """

    def handler(method: Any) -> Any:
        kinds = {
            "request_deserializer": message_factory.GetMessageClass(method.input_type).FromString,
            "response_serializer": message_factory.GetMessageClass(
                method.output_type
            ).SerializeToString,
        }
        if method.name == "MovePiece":
            return grpc.unary_unary_rpc_method_handler(BoundMethod(move, None, OPTIONS), **kinds)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(unimplemented, **kinds)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(unimplemented, **kinds)
        return grpc.unary_unary_rpc_method_handler(answers.get(method.name, unimplemented), **kinds)

    service = _FILE.services_by_name["MuseumService"]
    handlers = {method.name: handler(method) for method in service.methods}
    generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
    registrar.add_generic_rpc_handlers((generic,))
    registrar.add_registered_method_handlers(service.full_name, handlers)


def unimplemented(request: Any, context: grpc.ServicerContext) -> Any:
    del request
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method here")
