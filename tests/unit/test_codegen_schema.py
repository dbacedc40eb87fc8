"""The plugin's reading of protos takes time in proportion to their length."""

from __future__ import annotations

import sys

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2

from lro_grpc._codegen.schema import Schema


def proto(methods: int) -> descriptor_pb2.FileDescriptorProto:
    """A file whose options are set by their parts, which alone have a place."""
    file = descriptor_pb2.FileDescriptorProto(name="a.proto", package="a")
    file.message_type.add(name="M")
    service = file.service.add(name="S")
    for number in range(methods):
        method = service.method.add(name=f"Do{number}", input_type=".a.M", output_type=".a.M")
        method.options.Extensions[operations_pb2.operation_info].response_type = "M"
        for part in (2, 1):
            path = (6, 0, 2, number, 4, operations_pb2.operation_info.number, part)
            file.source_code_info.location.add(path=path, span=[number * 10 + part, 0, 1])
    return file


def steps(methods: int) -> int:
    """How many lines run to read the services of such a file."""
    schema, count = Schema([proto(methods)]), 0

    def note(*_: object) -> object:
        nonlocal count
        count += 1
        return note

    former = sys.gettrace()  # that of who measures the coverage
    sys.settrace(note)
    try:
        (service,) = schema.services("a.proto")
    finally:
        sys.settrace(former)
    lines = [method.info.line for method in service.methods if method.info]
    assert lines == [number * 10 + 2 for number in range(methods)]
    return count


def test_twice_the_methods_are_twice_the_work():
    assert steps(200) < 2.1 * steps(100) + 100
