"""The JSON Schemas of messages, as protobuf's JSON mapping has them.

Each message, and each enum, is described once, by its full name, and named by ``$ref`` wherever it
occurs; so one that holds itself has an end. A field that is REQUIRED by its
``google.api.field_behavior`` is required here if there is no empty value that might be meant: zero
is left out of JSON, and so would be missed in an answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from google.api import field_behavior_pb2
from google.api.field_behavior_pb2 import FieldBehavior
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from lro_grpc._http.comments import Comments

Schema = dict[str, Any]

_NUMBER = {"oneOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_STRING = {"type": "string"}
_BYTES = {"type": "string", "contentEncoding": "base64", "format": "byte"}
_INT32 = {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1}
_UINT32 = {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 2**32 - 1}
_INT64 = {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,19}$"}
_UINT64 = {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,20}$"}
_BOOL = {"type": "boolean"}

_FLOATS = {FieldDescriptor.TYPE_DOUBLE: "json-double", FieldDescriptor.TYPE_FLOAT: "json-float"}

_SCALARS: Mapping[int, Schema] = {
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_BOOL: _BOOL,
    FieldDescriptor.TYPE_STRING: _STRING,
    FieldDescriptor.TYPE_BYTES: _BYTES,
}

_WELL_KNOWN: Mapping[str, Schema] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"},
    "FieldMask": _STRING,
    "Struct": {"type": "object"},
    "Value": {},
    "ListValue": {"type": "array", "items": {}},
    "StringValue": _STRING,
    "BytesValue": _BYTES,
    "BoolValue": _BOOL,
    "Int32Value": _INT32,
    "UInt32Value": _UINT32,
    "Int64Value": _INT64,
    "UInt64Value": _UINT64,
    "FloatValue": _NUMBER,
    "DoubleValue": _NUMBER,
    "Empty": {"type": "object"},
}
"""The messages of ``google.protobuf`` whose JSON is not that of their fields."""

_ANY: Schema = {
    "type": "object",
    "description": "A message of any type: its fields, or its `value`, beside the URL of its type.",
    "properties": {"@type": _STRING},
}
_PACKAGE = "google.protobuf."
_NULL = f"{_PACKAGE}NullValue"

_MOST_ALTERNATIVES = 12
"""The most fields of a ``oneof`` whose pairs are excluded one by one."""

_BEHAVIORS: Any = field_behavior_pb2.field_behavior


class Schemas:
    """The schemas of the messages of one document.

    Args:
        comments: The comments of their protos.
    """

    def __init__(self, comments: Comments) -> None:
        self._comments = comments
        self._made: dict[str, Schema] = {}
        self._left: list[Descriptor] = []

    @property
    def components(self) -> Mapping[str, Schema]:
        """The schemas that were named, and those that they name, by their names."""
        while self._left:
            message = self._left.pop()
            self._made[message.full_name] = self.object_of(message)
        return dict(sorted(self._made.items()))

    def add(self, name: str, schema: Schema) -> Schema:
        """Adds a schema, and returns a reference to it.

        Args:
            name: The full name of a message or an enum; or, with a hyphen, one that none can have.
            schema: The schema.
        """
        self._made[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}

    def of_message(self, message: Descriptor) -> Schema:
        """Returns the schema of a message, or a reference to it."""
        name = message.full_name
        known = _WELL_KNOWN.get(name.removeprefix(_PACKAGE)) if name.startswith(_PACKAGE) else None
        if known is not None:
            return known
        if name == f"{_PACKAGE}Any":
            return self.add(name, _ANY)
        if name not in self._made:
            self._made[name] = {}
            self._left.append(message)
        return {"$ref": f"#/components/schemas/{name}"}

    def of_field(self, field: FieldDescriptor) -> Schema:
        """Returns the schema of a field's value."""
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            values = self._of_one(kind.fields_by_name["value"])
            return {"type": "object", "additionalProperties": values}
        one = self._of_one(field)
        return {"type": "array", "items": one} if field.is_repeated else one

    def object_of(self, message: Descriptor, without: Collection[str] = ()) -> Schema:
        """Returns the schema of a message's own JSON object.

        Args:
            message: A message that has no JSON of its own kind.
            without: The names of fields to leave out.
        """
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {"type": "object"}
        schema |= _described(self._comments.of(message), message)
        if fields:
            schema["properties"] = {field.json_name: self._property(field) for field in fields}
        required = [field.json_name for field in fields if _is_required(field)]
        if required:
            schema["required"] = required
        excluded = [pair for oneof in message.oneofs for pair in _pairs(oneof, without)]
        if excluded:
            schema["not"] = {"anyOf": [{"required": list(pair)} for pair in excluded]}
        return schema

    def _property(self, field: FieldDescriptor) -> Schema:
        schema = {**self.of_field(field), **_described(self._comments.of(field), field)}
        behaviors = behaviors_of(field)
        if FieldBehavior.OUTPUT_ONLY in behaviors:
            schema["readOnly"] = True
        if FieldBehavior.INPUT_ONLY in behaviors:
            schema["writeOnly"] = True
        return schema

    def _of_one(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return self.of_message(field.message_type)
        if field.enum_type is not None:
            return self._of_enum(field.enum_type)
        if field.type in _FLOATS:
            return self.add(_FLOATS[field.type], _NUMBER)
        return _SCALARS[field.type]

    def _of_enum(self, enum: EnumDescriptor) -> Schema:
        if enum.full_name == _NULL:
            return {"type": "null"}
        values = [value.name for value in enum.values]
        schema = {"type": "string", "enum": values}
        return self.add(enum.full_name, schema | _described(self._comments.of(enum), enum))


def is_whole(message: Descriptor) -> bool:
    """Returns whether the JSON of a message is not that of its fields."""
    name = message.full_name
    return name.startswith(_PACKAGE) and name.removeprefix(_PACKAGE) in {"Any", *_WELL_KNOWN}


def or_null(schema: Schema) -> Schema:
    """Returns the schema of what may be null as well."""
    return {"anyOf": [schema, {"type": "null"}]}


def behaviors_of(field: FieldDescriptor) -> Collection[int]:
    """Returns the ``google.api.field_behavior`` of a field."""
    options: Any = field.GetOptions()
    behaviors: Collection[int] = options.Extensions[_BEHAVIORS]
    return behaviors


def _is_required(field: FieldDescriptor) -> bool:
    if FieldBehavior.REQUIRED not in behaviors_of(field):
        return False
    texts = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
    return field.is_repeated or field.has_presence or field.type in texts


def _pairs(oneof: Any, without: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields the pairs of fields of a ``oneof`` of which one at most may be there."""
    fields = [field.json_name for field in oneof.fields if field.name not in without]
    if len(fields) <= _MOST_ALTERNATIVES:
        yield from itertools.combinations(fields, 2)


def _described(comment: str, descriptor: Any) -> Schema:
    """Returns the comment of a descriptor, and whether that is deprecated."""
    is_deprecated = descriptor.GetOptions().deprecated
    return {
        **({"description": comment} if comment else {}),
        **({"deprecated": True} if is_deprecated else {}),
    }
