"""The conventional metadata fields, written into any message that has them.

A service may declare a metadata type of its own. Of its fields, those that carry a conventional
name and type are filled by the library; the rest is the handler's. A field with a conventional
name and another type is the handler's too.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

from lro.v1 import batch_create_instances_pb2, operation_metadata_pb2, state_pb2
from lro_grpc import _anys
from lro_grpc._errors import ConfigurationError
from lro_grpc._operation.record import SHOWN, Kind, Record
from lro_grpc._wire import encoding

DEFAULT_TYPE = operation_metadata_pb2.OperationMetadata
"""The metadata type of a method that declares none of its own."""

_Fits = Callable[[FieldDescriptor], bool]
"""Whether a field of a message can hold a value."""

_Write = Callable[[Message, str, Any], None]
"""Writes a value to the field of a message."""

_Encode = Callable[[Any], bytes]
"""Returns a field of a message with a value, serialized."""


@dataclass(frozen=True, slots=True)
class _Convention:
    """A conventional value: the record's field, and the ways into a field of a message."""

    value: str
    fits: _Fits
    write: _Write
    encoding: Callable[[int], _Encode]
    """Of the field of a number."""


def _is(*types: int) -> _Fits:
    return lambda field: not _repeated(field) and field.type in types


def _is_time(field: FieldDescriptor) -> bool:
    kind = _message_type(field)
    return kind is not None and kind.full_name == "google.protobuf.Timestamp"


def _is_job_state(field: FieldDescriptor) -> bool:
    """Accepts any enum that has each value of ``JobState`` under the same name and number."""
    kind = None if _repeated(field) else field.enum_type
    return kind is not None and _has_values(kind, state_pb2.JobState.DESCRIPTOR)


def _is_batch(field: FieldDescriptor) -> bool:
    """Accepts any message that has each field of ours, so that our bytes mean the same in it."""
    kind = _message_type(field)
    return kind is not None and _covers(kind, _BATCH)


def _covers(theirs: Descriptor, ours: Descriptor) -> bool:
    return theirs.full_name == ours.full_name or all(
        (field := theirs.fields_by_number.get(our.number)) and _is_same(field, our)
        for our in ours.fields
    )


def _is_same(theirs: FieldDescriptor, ours: FieldDescriptor) -> bool:
    # Where a name is Python's own, proto-plus puts an underscore behind it: ``type_``.
    if (theirs.name.removesuffix("_"), theirs.type, _repeated(theirs)) != (
        ours.name,
        ours.type,
        _repeated(ours),
    ):
        return False
    if theirs.message_type is not None and ours.message_type is not None:
        return _covers(theirs.message_type, ours.message_type)
    if theirs.enum_type is not None and ours.enum_type is not None:
        return _has_values(theirs.enum_type, ours.enum_type)
    return True


def _has_values(theirs: EnumDescriptor, ours: EnumDescriptor) -> bool:
    """Whether an enum has each value of ours under the same name and number."""
    names = theirs.values_by_name
    return all(v.name in names and names[v.name].number == v.number for v in ours.values)


def _message_type(field: FieldDescriptor) -> Descriptor | None:
    return None if _repeated(field) else field.message_type


def _repeated(field: FieldDescriptor) -> bool:
    return bool(field.is_repeated)


def _write_time(message: Message, name: str, value: int) -> None:
    timestamp = getattr(message, name)
    timestamp.seconds, micros = divmod(value, 1_000_000)
    timestamp.nanos = micros * 1000


def _write_batch(message: Message, name: str, value: bytes) -> None:
    getattr(message, name).ParseFromString(value)


_BATCH = batch_create_instances_pb2.BatchCreateInstancesMetadata.DESCRIPTOR
_TEXT = _is(FieldDescriptor.TYPE_STRING)
_FLAG = _is(FieldDescriptor.TYPE_BOOL)
_NUMBER = _is(FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT32)

_BY_KIND: Mapping[Kind, tuple[_Fits, _Write, Callable[[int], _Encode]]] = {
    Kind.TIME: (_is_time, _write_time, encoding.timestamp),
    Kind.TEXT: (_TEXT, setattr, encoding.text),
    Kind.FLAG: (_FLAG, setattr, encoding.number),
    Kind.NUMBER: (_NUMBER, setattr, encoding.number),
    Kind.STATE: (_is_job_state, setattr, encoding.number),
    Kind.BATCH: (_is_batch, _write_batch, encoding.message),
}
_CONVENTIONS = {
    shown: _Convention(field.name, *_BY_KIND[field.kind])
    for shown, field in SHOWN.items()
    if field.kind is not None
}


@dataclass(frozen=True, slots=True)
class _Plan:
    """The fields of one message type to write; made once, for every change of a record needs it."""

    fields: tuple[tuple[str, _Write], ...]
    values: Callable[[Any], tuple[Any, ...]]


@functools.cache
def _plan(descriptor: Descriptor) -> _Plan:
    found = _fields(descriptor)
    # Of one name alone attrgetter would return no tuple: hence the first two, which are dropped.
    values_of = operator.attrgetter("state", "state", *(value for _, value in found))
    return _Plan(
        fields=tuple((name, _CONVENTIONS[name].write) for name, _ in found),
        values=lambda values: values_of(values)[2:],
    )


def fill(message: Message, values: Any, *, clear: bool = True) -> None:
    """Writes each conventional value into the field that the message has for it.

    Args:
        message: The message to write to.
        values: The values.
        clear: Whether a value that is unset clears the field; there is no need in a new message.
    """
    plan = _plan(message.DESCRIPTOR)
    for (name, write), value in zip(plan.fields, plan.values(values), strict=True):
        if value:
            write(message, name, value)
        elif clear:
            message.ClearField(name)


def filled(kind: type[Message], values: Sequence[Any]) -> bytes:
    """Returns a new message with each conventional value that it has a field for, serialized.

    Args:
        kind: Its type.
        values: A record, or the values of one.
    """
    encoders = _encoders(kind.DESCRIPTOR)
    if encoders is None:
        message = kind()
        fill(message, Record._make(values), clear=False)
        return message.SerializeToString()
    return b"".join([encode(value) for position, encode in encoders if (value := values[position])])


@functools.cache
def _encoders(descriptor: Descriptor) -> Sequence[tuple[int, _Encode]] | None:
    """Returns the positions of the values in a record, and the encoders of their fields.

    Returns:
        None if only protobuf can write a new message of the type: it has a field that must be set,
        or one that stands between tags.
    """
    is_whole = message_factory.GetMessageClass(descriptor)().IsInitialized()
    if not is_whole or any(one.type == FieldDescriptor.TYPE_GROUP for one in descriptor.fields):
        return None
    numbers = {field.name: field.number for field in descriptor.fields}
    found = sorted((numbers[name], name, value) for name, value in _fields(descriptor))
    return [
        (Record._fields.index(value), _CONVENTIONS[name].encoding(number))
        for number, name, value in found
    ]


def read(message: Message) -> Mapping[str, Any]:
    """Returns the conventional values that a message has fields for, as they stand in the fields.

    Args:
        message: Any message.

    Returns:
        The values by their conventional names: of ``status_detail`` and ``status_message``, for
        example, as ``status_detail``. A name that the message has no field for is missing.
    """
    return {value: getattr(message, field) for field, value in _fields(message.DESCRIPTOR)}


def partial_failures(message: Message) -> tuple[status_pb2.Status, ...]:
    """Returns the failures of parts that a message tells of, if it has the field for them.

    Args:
        message: Any message, of the types of this process or of a server's.
    """
    field = message.DESCRIPTOR.fields_by_name.get("partial_failures")
    if field is None or field.message_type is None or not field.is_repeated:
        return ()
    if field.message_type.full_name != status_pb2.Status.DESCRIPTOR.full_name:
        return ()
    found = getattr(message, field.name)
    if field.message_type == status_pb2.Status.DESCRIPTOR:
        return tuple(found)
    return tuple(status_pb2.Status.FromString(one.SerializeToString()) for one in found)


@functools.cache
def _fields(descriptor: Descriptor) -> tuple[tuple[str, str], ...]:
    """Returns the fields of a type that have a conventional name and type, and their values."""
    return tuple(
        (field.name, convention.value)
        for field in descriptor.fields
        if (convention := _CONVENTIONS.get(field.name)) and convention.fits(field)
    )


def is_filled(descriptor: Descriptor, name: str) -> bool:
    """Returns whether a field of a type is one that ``fill`` writes."""
    return any(name == field for field, _ in _fields(descriptor))


@functools.cache
def message_class(full_name: str) -> type[Message]:
    """Returns the message class of a full name, such as ``lro.v1.OperationMetadata``.

    Raises:
        ConfigurationError: If no module that was imported defines it.
    """
    kind = _anys.find_class(full_name)
    if kind is None:
        raise ConfigurationError(
            f"the message type {full_name} is not known to this process;"
            " import the _pb2 module that defines it",
            metadata={"type": full_name},
        )
    return kind
