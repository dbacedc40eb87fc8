"""The protoc plugin: for any protos, an error that says where, or modules that compile."""

from __future__ import annotations

import re

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2, empty_pb2
from google.protobuf.compiler import plugin_pb2
from target import lines_of, target

from lro_grpc._codegen.plugin import respond

# What a hostile proto may fill with any text: a line each.
PARTS = (
    *("file", "package", "service", "method", "request", "response", "metadata"),
    *("response_type", "metadata_type", "parameter", "comment"),
)
PLAIN = "fuzz/a.proto\nfuzz\nService\nMake\nMakeRequest\nMade\nMakeMetadata\nMade\nMakeMetadata\n\n"
COMMENTS = (
    *(
        " Makes one.\n",
        ' """\n import os\n',
        " lro-grpc: allow D6 because it is so.\n",
        " \\N{x} \\",
    ),
    " lro-grpc:\n lro-grpc: allow D1, D2 because\n",
)


def request_of(data: bytes) -> plugin_pb2.CodeGeneratorRequest:
    part = dict(zip(PARTS, lines_of(data, len(PARTS)), strict=True))
    for name in ("service", "method", "request", "response", "metadata"):
        if not re.fullmatch(r"[A-Za-z_]\w*", part[name], re.ASCII):
            part[name] = name.title()  # protoc lets no other names through
    if not re.fullmatch(r"(\w+\.)*\w+", part["package"], re.ASCII):
        part["package"] = ""
    if not re.fullmatch(r"[\w/-]+\.proto", part["file"], re.ASCII):
        part["file"] = "fuzz/a.proto"
    if len({part[one] for one in ("request", "response", "metadata")}) < 3:
        part.update(request="Request", response="Response", metadata="Metadata")
    file = descriptor_pb2.FileDescriptorProto(
        name=part["file"], package=part["package"], syntax="proto3"
    )
    file.dependency.append("google/longrunning/operations.proto")
    for one in ("request", "response", "metadata"):
        file.message_type.add(name=part[one])
    service = file.service.add(name=part["service"])
    scope = f".{part['package']}." if part["package"] else "."
    method = service.method.add(
        name=part["method"],
        input_type=scope + part["request"],
        output_type=".google.longrunning.Operation",
    )
    info = method.options.Extensions[operations_pb2.operation_info]
    info.response_type = part["response_type"]
    info.metadata_type = part["metadata_type"]
    for path in ((6, 0), (6, 0, 2, 0)):
        file.source_code_info.location.add(path=path, span=[1, 2, 3]).leading_comments = part[
            "comment"
        ]
    request = plugin_pb2.CodeGeneratorRequest(
        file_to_generate=[file.name], parameter=part["parameter"]
    )
    for imported in (empty_pb2.DESCRIPTOR, operations_pb2.DESCRIPTOR):
        imported.CopyToProto(request.proto_file.add())
    request.proto_file[-1].name = "google/longrunning/operations.proto"
    request.proto_file.append(file)
    return request


@target(
    *(PLAIN + comment for comment in COMMENTS),
    PLAIN.replace("Make", "class") + "x",
    words=["\n", '"""', "'''", "\\", "\r", "\0", "import", "class", "None", ".", "/", "..", "_lro"],
)
def proto_texts(data: bytes) -> None:
    response = respond(request_of(data))
    assert bool(response.error) or not response.HasField("error")
    for one in response.file:
        assert one.name.endswith("_lro.py")
        assert not one.name.startswith("/")
        assert ".." not in one.name.split("/")
        compile(one.content, one.name, "exec")
    response.SerializeToString()
