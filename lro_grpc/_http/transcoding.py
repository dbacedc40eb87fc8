"""Makes an RPC's request message of an HTTP request, by the rules of ``google/api/http.proto``."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message
from starlette.types import ASGIApp

from lro_grpc._dialects import canonical_json
from lro_grpc._errors import ConfigurationError, MalformedRequestError, cut
from lro_grpc._http.conversion import converted, cost_of
from lro_grpc._http.described import Described, Shown
from lro_grpc._http.request import SYSTEM_PARAMETERS, Caller, HttpRequest, bad_parameter
from lro_grpc._http.routing import Route, Template

Respond = Callable[[bytes, HttpRequest], Awaitable[ASGIApp]]
"""Makes the response to a request, given the serialized request message as well."""


Identify = Callable[[Caller], Awaitable[None]]
"""Lets in a caller who is known, before anything is done for them; raises for any other."""


def route(
    binding: Binding, identify: Identify, respond: Respond, described: Described | None = None
) -> Route:
    """Returns the route of one binding of a rule.

    Args:
        binding: The binding.
        identify: Lets in the callers of the method.
        respond: Makes the responses.
        described: What the document of the API says of it; None for nothing.
    """

    def convert(variables: Mapping[str, str], http_request: HttpRequest, body: bytes) -> bytes:
        http_request.check_values(body)
        return _serialized(binding.message(variables, http_request.query, body))

    async def transcode(http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
        if http_request.has_body:
            await identify(http_request.caller)
        async with http_request.body() as body:
            message = await converted(cost_of(body), convert, variables, http_request, body)
        return await respond(message, http_request)

    return Route(binding.http_method, binding.template, transcode, described=described)


def describe(
    name: str,
    binding: Binding,
    *answers: Shown,
    text: str = "",
    types: Sequence[type[Message]] = (),
) -> Described:
    """Returns what the document of the API says of a method.

    Args:
        name: ``/pkg.Service/Method``.
        binding: The way to call it.
        *answers: Its responses.
        text: What there is to say beside its comment.
        types: More messages that its callers meet.
    """
    service, _, method = name.strip("/").partition("/")
    return Described(
        tag=service.rpartition(".")[2],
        name=method,
        answers=answers,
        request=binding.request,
        body=binding.body,
        method=method_of(name),
        text=text,
        types=types,
    )


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to call a method over HTTP."""

    http_method: str
    """Such as ``POST``."""
    template: Template
    body: str
    """The field that the body fills; ``*`` for the whole request, empty for none."""
    request: type[Message]
    """The type of the method's request."""
    response_body: str = ""
    """The field of the response that the answer is; empty for the whole response."""

    def message(
        self, variables: Mapping[str, str], query: Sequence[tuple[str, str]], body: bytes
    ) -> Message:
        """Returns the request message of an HTTP request.

        Args:
            variables: The values of the template's variables in the path.
            query: The query parameters.
            body: The body.

        Raises:
            MalformedRequestError: If the request is not one of this method.
        """
        message = self.request()
        if body and not body.isspace():
            self._set_body(message, _parsed(body))
        parameters = self._parameters(query)
        if parameters:
            _set(message, parameters)
        for field, text in variables.items():
            _set_variable(message, field, text)
        return message

    def _set_body(self, message: Message, value: Any) -> None:
        if not self.body:
            if value != _NO_FIELDS:
                raise MalformedRequestError("this method takes no body; send none")
            return
        if self.body == "*":
            _set(message, value)
            return
        (field,) = _path(message.DESCRIPTOR, self.body)
        if field.message_type is None or field.is_repeated:
            _set(message, {self.body: value})
            return
        part: Message = getattr(message, self.body)
        part.SetInParent()  # though it may be empty
        _set(part, value)

    def _parameters(self, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
        texts: dict[str, list[str]] = {}
        for name, text in query:
            if name not in SYSTEM_PARAMETERS or self._has_parameter(name):
                texts.setdefault(name, []).append(text)
        parameters: dict[str, Any] = {}
        for name, values in texts.items():
            path = _path(self.request.DESCRIPTOR, name)
            dotted = ".".join(field.name for field in path)
            if self.body in ("*", path[0].name) or dotted in self.template.fields:
                raise bad_parameter(name, "is not taken from the query; it has its own place")
            within: Any = parameters
            for field in path[:-1]:
                within = within.setdefault(field.name, {}) if isinstance(within, dict) else within
            if not isinstance(within, dict) or path[-1].name in within:
                raise bad_parameter(name, "is given twice")
            within[path[-1].name] = _value(name, path[-1], values)
        return parameters

    def _has_parameter(self, name: str) -> bool:
        """Returns whether a field of the request itself, of that name, is taken from the query."""
        fields: Any = self.request.DESCRIPTOR.fields if self.body != "*" else ()
        elsewhere = {self.body, *self.template.fields}
        return any(
            name in (one.name, one.json_name) and one.name not in elsewhere and is_parameter(one)
            for one in fields
        )


def bindings(rule: http_pb2.HttpRule, request: type[Message]) -> Iterator[Binding]:
    """Yields the bindings of a rule: its own, and its additional ones.

    Args:
        rule: A ``google.api.http`` annotation.
        request: The type of the method's request.

    Raises:
        ConfigurationError: If its path is malformed, or it names a field that there is not, or not
            as the proto does; or if its body is a field of a field.
    """
    pattern = rule.WhichOneof("pattern")
    if pattern is None:
        raise ConfigurationError(
            f"a google.api.http rule for {request.DESCRIPTOR.full_name} has no path; give one"
        )
    is_custom = pattern == "custom"
    http_method = rule.custom.kind if is_custom else pattern.upper()
    template = Template(rule.custom.path if is_custom else getattr(rule, pattern))
    fields = [*template.fields, *({rule.body} - {"", "*"})]
    for field in fields:
        try:
            path = _path(request.DESCRIPTOR, field)
        except MalformedRequestError as cause:
            raise ConfigurationError(
                f"{template.text!r} binds {field!r}, which {request.DESCRIPTOR.full_name} has not"
            ) from cause
        name = ".".join(one.name for one in path)
        if name != field:
            raise ConfigurationError(
                f"{template.text!r} binds {field!r}, which is the field's name in JSON; write the"
                f" one that it has in the proto, {name!r}"
            )
    if "." in rule.body:
        raise ConfigurationError(
            f"the rule at {template.text!r} has body {rule.body!r}, a field of a field; give a"
            " field of the request itself, or *"
        )
    yield Binding(http_method, template, rule.body, request, rule.response_body)
    for additional in rule.additional_bindings:
        yield from bindings(additional, request)


def methods_in(service: str) -> Sequence[MethodDescriptor]:
    """Returns a service's methods; none if the service is not known here.

    Args:
        service: ``pkg.Service``.
    """
    try:
        return tuple(descriptor_pool.Default().FindServiceByName(service).methods)
    except KeyError:
        return ()


def method_of(name: str) -> MethodDescriptor | None:
    """Returns a method; None if its service is not known here.

    Args:
        name: ``/pkg.Service/Method``.
    """
    service, _, method = name.strip("/").partition("/")
    return next((one for one in methods_in(service) if one.name == method), None)


def name_of(method: MethodDescriptor) -> str:
    """Returns a method's full name, ``/pkg.Service/Method``."""
    return f"/{method.containing_service.full_name}/{method.name}"


def is_streaming(method: MethodDescriptor) -> bool:
    """Returns whether a method has many requests, or many answers."""
    return bool(method.client_streaming or method.server_streaming)


def rule_of(name: str) -> http_pb2.HttpRule | None:
    """Returns a method's annotation; None if it has none, or its service is not known here.

    Args:
        name: ``/pkg.Service/Method``.
    """
    method = method_of(name)
    if method is None:
        return None
    options: Any = method.GetOptions()
    extension: Any = annotations_pb2.http
    return options.Extensions[extension] if options.HasExtension(extension) else None


def _parsed(body: bytes) -> Any:
    """Returns the value that a body is the JSON of."""
    try:
        value = canonical_json.load(body.decode())
        if b"\\ud" in body.lower():  # half of a surrogate pair, perhaps, which is no text
            json.dumps(value, ensure_ascii=False).encode()
        return value  # noqa: TRY300 - the try is about it
    except (ValueError, RecursionError) as cause:
        raise MalformedRequestError(f"the body is not JSON: {cause}") from cause


def _serialized(message: Message) -> bytes:
    """Returns the bytes of a request, of which a server can make the message again."""
    try:
        serialized = message.SerializeToString()
        type(message).FromString(serialized)  # JSON may be deeper than protobuf reads a message
    except (EncodeError, DecodeError) as cause:
        raise MalformedRequestError(
            f"the request has messages more than {canonical_json.MOST_DEPTH} deep in each other;"
            " each list and object of a Value is two; send less"
        ) from cause
    return serialized


_NO_FIELDS = ""
"""The body that Google's client for Node sends for a message without fields, and for none."""


def _set(message: Message, value: Any) -> None:
    """Sets the fields that a message's JSON has."""
    kind = message.DESCRIPTOR.full_name
    is_object = kind == "google.protobuf.Struct" or kind not in canonical_json.WHOLE
    if is_object and value == _NO_FIELDS:
        return
    if is_object and not isinstance(value, dict):
        raise MalformedRequestError(f"the body is no JSON object; send one that is a {kind}")
    try:
        canonical_json.parse(value, message, intact=False)
    except ValueError as cause:
        raise MalformedRequestError(
            f"the request is not a {kind}: {cut(str(cause))}", metadata={"type": kind}
        ) from cause


def _set_variable(message: Message, field: str, text: str) -> None:
    """Sets the field of a variable; it overrides the body's value."""
    if "." not in field and isinstance(getattr(message, field), str):
        setattr(message, field, text)
        return
    path = _path(message.DESCRIPTOR, field)
    value = _value(field, path[-1], [text])
    for one in reversed(path):
        value = {one.name: value}
    _set(message, value)


def _path(descriptor: Any, dotted: str) -> list[FieldDescriptor]:
    """Returns the fields that a dotted path leads through, from a message's descriptor on."""
    path: list[FieldDescriptor] = []
    for name in dotted.split("."):
        fields = descriptor.fields if descriptor is not None else ()
        field = next((one for one in fields if name in (one.name, one.json_name)), None)
        if field is None or (path and not _is_of_fields(path[-1])):
            raise bad_parameter(dotted, "is not a field of the request")
        path.append(field)
        descriptor = field.message_type
    return path


def _is_of_fields(field: FieldDescriptor) -> bool:
    """Returns whether a field is one message, with its fields for its JSON."""
    kind: Any = field.message_type
    if kind is None or field.is_repeated:
        return False
    return kind.full_name not in canonical_json.WHOLE


_FROM_TEXT = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Timestamp", "Duration", "FieldMask", "StringValue", "BytesValue", "BoolValue"),
        *("Int32Value", "UInt32Value", "Int64Value", "UInt64Value", "FloatValue", "DoubleValue"),
    )
)
"""Messages whose JSON is one text, so that a query parameter can be one."""


def is_parameter(field: FieldDescriptor) -> bool:
    """Returns whether a field can be a parameter of a query."""
    return field.message_type is None or field.message_type.full_name in _FROM_TEXT


_NUMBERS = (
    *(FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT),
    *(FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_SINT64),
    *(FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_SINT32),
    *(FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64),
    *(FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32),
)
_NUMBER = re.compile(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?|-?Infinity|NaN")
_WRITTEN: Mapping[int, re.Pattern[str]] = {
    **dict.fromkeys(_NUMBERS, _NUMBER),
    FieldDescriptor.TYPE_ENUM: re.compile(r"[A-Za-z_][A-Za-z_0-9]*|-?[0-9]+"),
    FieldDescriptor.TYPE_BYTES: re.compile(r"[A-Za-z0-9+/_-]*={0,2}"),
}
"""The texts that a value may be, by its field's type; protobuf's parser takes what Python takes."""


def _value(name: str, field: FieldDescriptor, texts: Sequence[str]) -> Any:
    """Returns the JSON value of a field from its texts."""
    kind = field.message_type
    if not is_parameter(field):
        raise bad_parameter(name, "is a message; only its fields can be parameters")
    plain = field if kind is None else kind.fields_by_name.get("value", field)  # a wrapper's
    is_flag = plain.type == FieldDescriptor.TYPE_BOOL
    pattern = _WRITTEN.get(plain.type)
    for text in texts:
        if pattern is not None and not pattern.fullmatch(text):
            raise bad_parameter(name, f"is {cut(text)!r}, which is no value of its type")
    values = [_flag(name, text) if is_flag else text for text in texts]
    if field.is_repeated:
        return values
    if len(values) > 1:
        raise bad_parameter(name, "is given twice")
    return values[0]


def _flag(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise bad_parameter(name, f"is {cut(text)!r}; give true or false")
    return text == "true"
