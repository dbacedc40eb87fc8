"""The fit of an operation to a process: its method is served here, its types are understood.

A release may be rolled back, so what it cannot go on with is left as it is, for one that can. The
types are judged by bytes alone: protobuf sends no names of fields, and a type that was renamed, or
has more fields now, reads the same.

* **The request** fits if it can be read and has no unknown field. If it had one for the server that
  stored it, its client was newer than that: what is unknown now says nothing, and it runs.
* **The metadata** fits if the handler's own fields, written by a former release, come out of the
  declared type as they went in. If that is another type, the operation adopts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from google.protobuf.message import DecodeError, Message

from lro_grpc._operation.record import Record


class Types(Protocol):
    """The types of a long-running method, as far as its operations have bytes of them."""

    @property
    def request_class(self) -> type[Message]:
        """The request's."""
        ...

    @property
    def metadata_class(self) -> type[Message]:
        """The metadata's."""
        ...


Served = Mapping[str, Types]
"""The types of all that a process serves, by the methods' full names, former ones included."""


def misfit(record: Record, served: Served) -> str:
    """Returns why a process cannot go on with an operation; empty if it can."""
    types = served.get(record.method)
    if types is None:
        return f"{record.method} is not served"
    if not _request_fits(record, types.request_class):
        return f"its request does not fit {types.request_class.DESCRIPTOR.full_name}"
    declared = types.metadata_class.DESCRIPTOR.full_name
    if not _metadata_fits(record, types.metadata_class):
        return f"its metadata, a {record.metadata_type}, does not fit {declared}"
    return ""


def is_understood(message: Message) -> bool:
    """Tells whether a message's type has every field that was sent; discards the other ones."""
    size = message.ByteSize()
    message.DiscardUnknownFields()
    return message.ByteSize() == size


def _request_fits(record: Record, kind: type[Message]) -> bool:
    if not record.request_understood:
        return True
    try:
        return is_understood(kind.FromString(record.request))
    except DecodeError:
        return False


def _metadata_fits(record: Record, kind: type[Message]) -> bool:
    former = record.handler_metadata
    if not former:
        return True
    try:
        message = kind.FromString(former)
    except DecodeError:
        return False
    if record.metadata_type == kind.DESCRIPTOR.full_name:
        return True
    message.DiscardUnknownFields()
    # Fields, and the entries of a map, may stand in another order: the bytes are the same ones.
    return sorted(message.SerializeToString()) == sorted(former)
