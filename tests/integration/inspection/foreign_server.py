"""A google.longrunning server of someone else's: it has Get and List, and types of its own.

The types exist in a pool of this module alone, so that no other process knows them.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    timestamp_pb2,
)
from grpc_reflection.v1alpha import reflection, reflection_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

FIELD = descriptor_pb2.FieldDescriptorProto
PARENT = "projects/acme/locations/moon"


def _file(name: str, package: str, *imports: str) -> descriptor_pb2.FileDescriptorProto:
    return descriptor_pb2.FileDescriptorProto(
        name=name, package=package, syntax="proto3", dependency=imports
    )


def _message(file: descriptor_pb2.FileDescriptorProto, name: str, **fields: int | str) -> None:
    message = file.message_type.add(name=name)
    for number, (field, kind) in enumerate(fields.items(), start=1):
        label = FIELD.LABEL_OPTIONAL
        if isinstance(kind, int):
            message.field.add(name=field, number=number, type=kind, label=label)
        else:
            message.field.add(
                name=field, number=number, type=FIELD.TYPE_MESSAGE, type_name=kind, label=label
            )


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for module in (any_pb2, timestamp_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    # Of a name that is this package's own, too: the two must not be mixed up.
    unit = _file("lro/v1/state.proto", "acme.units.v1")
    _message(unit, "Weight", kilograms=FIELD.TYPE_INT64)
    jobs = _file(
        "acme/jobs/v1/jobs.proto",
        "acme.jobs.v1",
        "google/protobuf/any.proto",
        "google/protobuf/timestamp.proto",
        "lro/v1/state.proto",
    )
    _message(
        jobs,
        "LaunchMetadata",
        create_time=".google.protobuf.Timestamp",
        progress_percent=FIELD.TYPE_INT32,
        status_message=FIELD.TYPE_STRING,
        verb=FIELD.TYPE_STRING,
        rocket=FIELD.TYPE_STRING,
    )
    _message(
        jobs,
        "Launch",
        pad=FIELD.TYPE_STRING,
        payload=".google.protobuf.Any",
        weight=".acme.units.v1.Weight",
    )
    _message(jobs, "Fault", part=FIELD.TYPE_STRING)
    for file in (unit, jobs):
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _pool()


def _class(name: str) -> type[Message]:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


LaunchMetadata: Any = _class("acme.jobs.v1.LaunchMetadata")
Launch: Any = _class("acme.jobs.v1.Launch")
Fault: Any = _class("acme.jobs.v1.Fault")
Weight: Any = _class("acme.units.v1.Weight")


def packed(message: Message) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(message)
    return found


def launch(number: int = 1, *, done: bool = True) -> operations_pb2.Operation:
    """Returns an operation, every type in which is the server's own."""
    metadata = LaunchMetadata(
        progress_percent=60, status_message="fuelling", verb="launch", rocket="R7"
    )
    metadata.create_time.seconds = 1_700_000_000
    operation = operations_pb2.Operation(
        name=f"{PARENT}/operations/launch-{number}", metadata=packed(metadata), done=done
    )
    if done:
        result = Launch(pad="39A", weight=Weight(kilograms=7))
        result.payload.Pack(Weight(kilograms=5))
        operation.response.Pack(result)
    return operation


class Foreign(operations_pb2_grpc.OperationsServicer):
    """Serves the operations that a test puts in, and records the requests."""

    def __init__(self) -> None:
        self.target = ""
        self.operations: dict[str, operations_pb2.Operation] = {}
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        """The error that every call ends with."""
        self.wait: operations_pb2.Operation | None = None
        """The answer to each Wait, if it has one."""
        self._expected = (0, threading.Event())
        self.has_secret_types = False
        """Whether reflection is refused to everyone."""
        self.is_terse = False
        """Whether reflection sends a file without those that it imports."""
        self.answer: Callable[[Any], list[bytes]] | None = None
        """Returns the files with which reflection answers a request, in place of its own."""

    def put(self, *operations: operations_pb2.Operation) -> str:
        """Adds operations, and returns the name of the last one."""
        self.operations.update({one.name: one for one in operations})
        return operations[-1].name

    def expect(self, calls: int) -> threading.Event:
        """Returns an event that is set when that many calls have come."""
        come = threading.Event()
        self._expected = (calls, come)
        return come

    def GetOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.note(request, context)
        if request.name not in self.operations:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no {request.name}\nanywhere")
        return self.operations[request.name]

    def WaitOperation(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.wait is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no Wait")
        self.note(request, context)
        return self.wait

    def ListOperations(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.note(request, context)
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        page = list(self.operations.values())[begin:end]
        more = str(end) if end < len(self.operations) else ""
        return operations_pb2.ListOperationsResponse(operations=page, next_page_token=more)

    def note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        calls, come = self._expected
        if len(self.requests) >= calls:
            come.set()
        if self.refusal is not None:
            context.abort(*self.refusal)


class _Reflection(reflection.ReflectionServicer):
    """The reflection service, which a test can make refuse or answer file by file."""

    def __init__(self, foreign: Foreign) -> None:
        super().__init__(("google.longrunning.Operations",), pool=POOL)
        self._foreign = foreign

    def ServerReflectionInfo(self, requests: Any, context: grpc.ServicerContext) -> Any:
        self._foreign.note("reflection", context)
        if self._foreign.has_secret_types:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "none of your business")
        if self._foreign.answer is not None:
            files = reflection_pb2.FileDescriptorResponse(
                file_descriptor_proto=self._foreign.answer(next(requests))
            )
            yield reflection_pb2.ServerReflectionResponse(file_descriptor_response=files)
            return
        for response in super().ServerReflectionInfo(requests, context):
            if self._foreign.is_terse:
                del response.file_descriptor_response.file_descriptor_proto[1:]
            yield response


@contextlib.contextmanager
def serving_foreign(
    reflection_version: str = "", credentials: grpc.ServerCredentials | None = None
) -> Iterator[Foreign]:
    """Serves while the context lasts.

    Args:
        reflection_version: ``v1`` or ``v1alpha``; none without it.
        credentials: Those of a server with TLS.
    """
    foreign = Foreign()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    operations_pb2_grpc.add_OperationsServicer_to_server(foreign, server)
    if reflection_version:
        info = grpc.stream_stream_rpc_method_handler(
            _Reflection(foreign).ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        name = f"grpc.reflection.{reflection_version}.ServerReflection"
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": info})
        server.add_generic_rpc_handlers((handler,))
    address = "127.0.0.1:0"
    port = (
        server.add_secure_port(address, credentials)
        if credentials
        else server.add_insecure_port(address)
    )
    foreign.target = f"127.0.0.1:{port}"
    server.start()
    try:
        yield foreign
    finally:
        server.stop(1).wait()
