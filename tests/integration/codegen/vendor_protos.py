"""Google's services with long-running methods, as far as its Python clients know them.

The wheels have the messages, and no services: these are read out of the clients' source.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2

OTHERS = ("/google.longrunning.", "/google.cloud.location.", "/google.iam.")
"""The services that a client mixes in."""


@dataclass(frozen=True)
class VendorService:
    name: str
    long_running: int
    """The number of its long-running methods."""
    request: plugin_pb2.CodeGeneratorRequest

    def asking(self, parameter: str) -> plugin_pb2.CodeGeneratorRequest:
        asked = plugin_pb2.CodeGeneratorRequest()
        asked.CopyFrom(self.request)
        asked.parameter = parameter
        return asked


def vendor_services(package: str) -> Iterator[VendorService]:
    """Yields the services of a package such as ``google.cloud.alloydb_v1``, as protoc would."""
    (folder,) = importlib.import_module(package).__path__
    for path in sorted(Path(folder, "services").iterdir()):
        if (path / "client.py").exists():
            client = importlib.import_module(f"{package}.services.{path.name}.client")
            transport = importlib.import_module(f"{client.__package__}.transports.grpc")
            service = _service(_types(client), _methods(transport))
            if service.long_running:
                yield service


def _service(types: dict[str, Any], methods: dict[str, tuple[Any, Any, str]]) -> VendorService:
    full_name = next(iter(methods)).split("/")[1]
    package, _, name = full_name.rpartition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{full_name}.proto", package=package, syntax="proto3"
    )
    service = file.service.add(name=name)
    imports: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    long_running = 0
    for rpc, (request, response, arity) in sorted(methods.items()):
        method = service.method.add(
            name=rpc.rpartition("/")[2],
            input_type=f".{request.full_name}",
            output_type=f".{response.full_name}",
            client_streaming=arity.startswith("stream"),
            server_streaming=arity.endswith("stream"),
        )
        started = types.get(_snake(method.name), ())
        for message in (request, response, *started):
            _add(message.file, imports)
        if started and response.full_name == "google.longrunning.Operation":
            long_running += 1
            info = method.options.Extensions[operations_pb2.operation_info]
            info.response_type, info.metadata_type = (one.full_name for one in started)
    file.dependency.extend(sorted(imports))
    request = plugin_pb2.CodeGeneratorRequest(
        file_to_generate=[file.name], proto_file=[*imports.values(), file]
    )
    return VendorService(full_name, long_running, request)


def _types(client: ModuleType) -> dict[str, Any]:
    """Returns the response and the metadata of each long-running method."""
    assert client.__file__ is not None
    return {
        function.name: (_message(client, call.args[2]), _message(client, keyword.value))
        for function in _nodes(client, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".from_gapic")
        for keyword in call.keywords
        if keyword.arg == "metadata_type"
    }


def _methods(transport: ModuleType) -> dict[str, tuple[Any, Any, str]]:
    """Returns the request, the response and the arity of each method, by its path."""
    found = {}
    for call in _nodes(transport, ast.Call):
        match call:
            case ast.Call(
                func=ast.Attribute(
                    attr="unary_unary" | "unary_stream" | "stream_unary" | "stream_stream" as arity
                ),
                args=[ast.Constant(value=str(path))],
            ) if not path.startswith(OTHERS):
                how = {keyword.arg: keyword.value for keyword in call.keywords}
                request, response = how["request_serializer"], how["response_deserializer"]
                assert isinstance(request, ast.Attribute)
                assert isinstance(response, ast.Attribute)
                found[path] = (
                    _message(transport, request.value),
                    _message(transport, response.value),
                    arity,
                )
    return found


def _nodes(module: ModuleType, kind: Any) -> Iterator[Any]:
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    return (node for node in ast.walk(tree) if isinstance(node, kind))


def _message(module: ModuleType, node: ast.expr) -> Any:
    """Returns the descriptor of a message that an expression names."""
    kind: Any = module
    for name in ast.unparse(node).split("."):
        kind = getattr(kind, name)
    return kind.pb().DESCRIPTOR if hasattr(kind, "pb") else kind.DESCRIPTOR


def _add(file: Any, found: dict[str, descriptor_pb2.FileDescriptorProto]) -> None:
    if file.name not in found:
        found[file.name] = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(found[file.name])
        for imported in file.dependencies:
            _add(imported, found)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
