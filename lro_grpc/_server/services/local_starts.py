"""Starts of operations by code of the server's own process: its other code, and its handlers.

They take the way of an RPC, through the ``Starter`` of the method, but for the guard: code that
runs in the process is trusted, and names the caller itself.

The ``request_id`` of a handler's start is made of its operation and the handler's key. So a later
attempt, in whichever process, makes the same one, and is answered with the operation that the
earlier one has started. It has the form of a UUID of version 4, which a request's field may demand.
"""

from __future__ import annotations

import uuid
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from lro_grpc._durations import Duration
from lro_grpc._errors import (
    ConfigurationError,
    LroError,
    UnservedError,
    WrongTypeError,
    cut,
    from_status,
)
from lro_grpc._operation.labels import check as check_labels
from lro_grpc._operation.record import Record
from lro_grpc._runtime.clock import as_duration, micros
from lro_grpc._runtime.options import check_text
from lro_grpc._server.large_requests import LargeRequests
from lro_grpc._server.rpc.call import Call, Waiters
from lro_grpc._server.rpc.hook_context import Aborted
from lro_grpc._server.rpc.status import failure_status
from lro_grpc._server.services.start import LONGEST_DELAY, Given, Starter
from lro_grpc._wire.proto_plus import protobuf_message

Metadata = Sequence[tuple[str, str | bytes]]

_NO_WAITERS = Waiters(0)
"""A start waits for nothing."""


class LocalStarts:
    """Starts operations of the methods that are served, or worked on, in this process.

    Args:
        starters: The starts of the methods, by their own names.
        large_requests: Reads what is large.
    """

    def __init__(self, starters: Mapping[str, Starter], large_requests: LargeRequests) -> None:
        self._starters = starters
        self._large_requests = large_requests

    def start(
        self,
        method: str,
        request: Any,
        *,
        caller: str = "",
        request_id: str = "",
        metadata: Metadata = (),
        labels: Mapping[str, str] | None = None,
        delay: Duration | None = None,
    ) -> Coroutine[Any, Any, operations_pb2.Operation]:
        """Checks a start, which is made when what this returns is awaited on the loop.

        Raises:
            UnservedError: If the method is not known here.
            WrongTypeError: If the request is of another type than the method's.
            ConfigurationError: If another argument is not of its type.
        """
        starter = self._starters.get(method) if isinstance(method, str) else None
        if starter is None:
            raise UnservedError(
                f"{cut(repr(method))} starts no operations in this process; give the full name of a"
                " long-running method, as in /pkg.Service/Method, whose servicer was added here",
                metadata={"method": cut(str(method))},
            )
        check_text("caller", caller)
        check_text("request_id", request_id)
        given_labels = {} if labels is None else labels
        check_labels(given_labels)
        least = timedelta(0)
        delay = as_duration("delay", delay, least=least, most=LONGEST_DELAY, optional=True)
        given = Given(given_labels, None if delay is None else micros(delay))
        try:
            sent = tuple((str(key), value) for key, value in metadata)
        except (TypeError, ValueError) as cause:
            raise ConfigurationError(
                f"metadata is {cut(repr(metadata))}; give pairs of a key and a value"
            ) from cause
        body = _serialized(method, starter.request_class, request, request_id)
        call = Call(_Context(sent), method, _NO_WAITERS, caller, is_trusted=True)
        return self._started(starter, body, call, request_id, given)

    def start_within(
        self,
        record: Record,
        method: str,
        request: Any,
        key: str,
        labels: Mapping[str, str] | None,
        delay: Duration | None,
    ) -> Coroutine[Any, Any, operations_pb2.Operation]:
        """Checks a start by the handler of an operation; see :meth:`start`.

        Args:
            record: The operation.
            method: The method of the operation to start.
            request: Its request.
            key: Tells it from the others that the handler starts.
            labels: Its labels, beside those of ``prepare``; None for none.
            delay: The time before its first attempt; None for that of ``prepare``.

        Raises:
            ConfigurationError: If the key is none.
        """
        check_text("key", key)
        if not key:
            raise ConfigurationError(
                f"key is empty in a start of {cut(repr(method))} by {record.name}; give a text that"
                " is the same in every attempt, and another one for each operation to start"
            )
        request_id = request_id_of(record, key)
        return self.start(
            method,
            request,
            caller=record.caller,
            request_id=request_id,
            labels=labels,
            delay=delay,
        )

    async def _started(
        self,
        starter: Starter,
        body: bytes,
        call: Call,
        request_id: str,
        given: Given,
    ) -> operations_pb2.Operation:
        try:
            answer = await starter.start(body, call, request_id, given)
            parse = operations_pb2.Operation.FromString
            return await self._large_requests.read(answer, parse, answer)
        except Aborted as refusal:
            status = failure_status(refusal, call.method, starter.error_domain)
            raise from_status(status) from refusal
        except LroError as error:
            error.domain = error.domain or starter.error_domain
            raise
        finally:
            call.end()


def request_id_of(record: Record, key: str) -> str:
    """Returns the ``request_id`` of what the handler of an operation starts under a key."""
    made = uuid.uuid5(uuid.NAMESPACE_OID, f"{record.name}\n{record.create_time}\n{key}")
    return str(uuid.UUID(bytes=made.bytes, version=4))


def _serialized(method: str, kind: type[Message], request: Any, request_id: str) -> bytes:
    """Returns a request with its ``request_id``, if it has such a field."""
    message = protobuf_message(request)
    if not isinstance(message, Message) or message.DESCRIPTOR is not kind.DESCRIPTOR:
        raise WrongTypeError(
            f"the request is a {type(request).__qualname__}; {method} takes a"
            f" {kind.DESCRIPTOR.full_name}",
            metadata={"method": method, "expected": kind.DESCRIPTOR.full_name},
        )
    body = message.SerializeToString()
    field = kind.DESCRIPTOR.fields_by_name.get("request_id")
    if not request_id or field is None or field.type != field.TYPE_STRING or field.is_repeated:
        return body
    return body + kind(request_id=request_id).SerializeToString()  # the last one counts


class _Context:
    """Stands in for a ServicerContext in ``prepare``, where there is no RPC."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> Metadata:
        return self._metadata

    def peer(self) -> str:
        return ""

    def peer_identities(self) -> None:
        return None

    def peer_identity_key(self) -> None:
        return None

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def time_remaining(self) -> None:
        return None
