"""The document of the API, in OpenAPI 3.1: what is served, and the messages of it.

It is made of the routes, each of which says what it is (``described``), and so names nothing that
is not served. Where two routes are one to OpenAPI, the first counts, as it does for a request.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from google.api.field_behavior_pb2 import FieldBehavior
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from lro_grpc._errors import cut
from lro_grpc._http import responses
from lro_grpc._http.comments import Comments
from lro_grpc._http.described import JSON, Described, Shown
from lro_grpc._http.message_schemas import Schema, Schemas, behaviors_of, is_whole, or_null
from lro_grpc._http.openapi_paths import Place, places
from lro_grpc._http.responses import dumped
from lro_grpc._http.routing import Route, VendorApi, api_of
from lro_grpc._http.transcoding import is_parameter
from lro_grpc._server.services.method_names import api_version_of

MOST_BYTES = 8 * 1024 * 1024
"""The most bytes of a document."""

_MOST_DEPTH = 4
"""The most messages that the field of a parameter is within."""

_MOST_PARAMETERS = 200
"""The most parameters in the query of one method that are listed."""

_SCHEMES: Schema = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "Sent to the service, which may ask for it, or for another header.",
    }
}

_OF_OPERATIONS = ("Operations", "OperationControlService")
"""The tags that come after those of the service's own."""

_NO_VERSION = "unversioned"
"""The version of an API whose packages have none; OpenAPI wants a text."""

_METHODS = ("GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE")
"""Those that OpenAPI has a place for."""


def document(
    services: Sequence[str],
    routes: Iterable[Route],
    apis: Sequence[VendorApi],
    parents: Sequence[Sequence[str]],
    comments: Comments,
) -> bytes:
    """Returns the document, without its servers.

    Args:
        services: The service's own services, by their full names; they come first.
        routes: All routes, in the order in which they count.
        apis: The vendors' APIs, whose errors there are.
        parents: The segments of each parent that operations have.
        comments: The comments of the protos.

    Raises:
        HttpError: If it would have too many bytes.
    """
    maker = _Maker(apis, comments)
    for route in routes:
        if route.described is not None and route.http_method in _METHODS:
            for place in places(route.template, parents):
                maker.add(place, route, route.described)
    made = dumped(maker.document(services))
    if len(made) > MOST_BYTES:
        raise responses.too_large_document(MOST_BYTES)
    return made


class _Maker:
    """Makes the document, a route at a time.

    Args:
        apis: As of ``document``.
        comments: Likewise.
    """

    def __init__(self, apis: Sequence[VendorApi], comments: Comments) -> None:
        self._apis = apis
        self._comments = comments
        self._schemas = Schemas(comments)
        self._paths: dict[str, Schema] = {}
        self._places: dict[str, Place] = {}
        self._ids: set[str] = set()
        self._tags: dict[str, None] = {}

    def add(self, place: Place, route: Route, described: Described) -> None:
        """Adds an operation of OpenAPI, unless its place has one."""
        first = self._places.setdefault(place.shape, place)
        item = self._paths.setdefault(first.path, {})
        if route.http_method.lower() not in item:
            self._tags[described.tag] = None
            item[route.http_method.lower()] = self._operation(first, route, described)

    def document(self, services: Sequence[str]) -> Schema:
        """Returns the document.

        Args:
            services: As of ``document``.
        """
        own = [name.rpartition(".")[2] for name in services]
        versions = sorted({api_version_of(name) for name in services} - {""})
        first = [*own, *_OF_OPERATIONS]

        def rank(tag: str) -> int:
            return first.index(tag) if tag in first else len(first)

        def place(path: str) -> int:
            return min(rank(one["tags"][0]) for one in self._paths[path].values())

        paths = {path: self._paths[path] for path in sorted(self._paths, key=place)}
        return {
            "openapi": "3.1.0",
            "info": {
                "title": ", ".join(own) or "Operations",
                "version": ", ".join(versions) or _NO_VERSION,
            },
            "security": [{}, {"bearer": []}],
            "tags": [{"name": tag} for tag in sorted(self._tags, key=rank)],
            "paths": paths,
            "components": {
                "schemas": self._schemas.components,
                "securitySchemes": _SCHEMES,
            },
        }

    def _operation(self, place: Place, route: Route, described: Described) -> Schema:
        found: Schema = {
            "tags": [described.tag],
            "summary": _words(described.name),
            "operationId": self._id(f"{described.tag}_{described.name}"),
        }
        method = described.method
        comment = self._comments.of(method) if method is not None else ""
        text = "\n\n".join(one for one in (comment, described.text) if one)
        if text:
            found["description"] = text
        if method is not None and method.GetOptions().deprecated:
            found["deprecated"] = True
        parameters = [_in_path(name) for name in place.parameters]
        parameters += self._in_query(route, described)
        if parameters:
            found["parameters"] = parameters
        body = self._body(route, described)
        if body:
            found["requestBody"] = body
        for message in described.types:
            self._schemas.of_message(_descriptor_of(message))
        error = api_of(route.template.text, self._apis).error
        found["responses"] = {
            **{str(one.status): self._response(one) for one in described.answers},
            "default": self._response(error),
        }
        return found

    def _id(self, wanted: str) -> str:
        wanted = re.sub(r"\W", "_", wanted)
        numbered = (f"{wanted}_{number}" for number in itertools.count(2))
        found = next(one for one in itertools.chain((wanted,), numbered) if one not in self._ids)
        self._ids.add(found)
        return found

    def _in_query(self, route: Route, described: Described) -> Iterator[Schema]:
        for name, schema in described.parameters.items():
            yield {"name": name, "in": "query", "schema": schema}
        if described.request is None or described.body == "*":
            return
        request = _descriptor_of(described.request)
        taken = {described.body, *route.template.fields}
        fields = iter(()) if is_whole(request) else _fields(request, taken)
        for name, field in itertools.islice(fields, _MOST_PARAMETERS):
            found: Schema = {"name": name, "in": "query", "schema": self._schemas.of_field(field)}
            if "." not in name and FieldBehavior.REQUIRED in behaviors_of(field):
                found["required"] = True
            comment = self._comments.of(field)
            yield {**found, **({"description": comment} if comment else {})}

    def _body(self, route: Route, described: Described) -> Schema:
        if described.request is None or not described.body:
            return {}
        request, body = _descriptor_of(described.request), described.body
        if body != "*":
            field = _named(request, body)
            is_required = FieldBehavior.REQUIRED in behaviors_of(field)
            return _json(self._schemas.of_field(field), required=is_required)
        if is_whole(request):
            return _json(self._schemas.of_message(request), required=False)
        schema = self._schemas.object_of(request, route.template.fields)
        if not schema.get("properties"):
            return {}
        schema["additionalProperties"] = False
        return _json(schema, required="required" in schema)

    def _response(self, shown: Shown) -> Schema:
        found: Schema = {"description": shown.text}
        schema = self._schema(shown)
        if schema is not None:
            found["content"] = {shown.media_type: {"schema": schema}}
        if shown.headers:
            found["headers"] = {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in shown.headers.items()
            }
        return found

    def _schema(self, shown: Shown) -> Schema | None:
        if shown.schema is not None:
            schema = dict(shown.schema)
            return self._schemas.add(shown.name, schema) if shown.name else schema
        if shown.message is None:
            return None
        message = _descriptor_of(shown.message)
        if shown.member:
            return _page(shown.member, self._schemas.of_message(message))
        if not shown.field:
            return self._schemas.of_message(message)
        field = _named(message, shown.field)
        schema = self._schemas.of_field(field)
        is_message = field.message_type is not None and not field.is_repeated
        return or_null(schema) if is_message or field.has_presence else schema


def _page(member: str, one: Schema) -> Schema:
    return {
        "type": "object",
        "required": [member],
        "properties": {
            member: {"type": "array", "items": one},
            "nextPageToken": {"type": "string"},
        },
    }


def _fields(
    message: Descriptor, taken: set[str], prefix: str = "", path: tuple[str, ...] = ()
) -> Iterator[tuple[str, FieldDescriptor]]:
    """Yields the fields of a request that a query may have, and their names in it.

    Args:
        message: The request, or a message in it.
        taken: The paths of those that have a place elsewhere.
        prefix: The path of the message in the request, as the query has it.
        path: The same, with the names of the proto.
    """
    for field in message.fields:
        here = (*path, field.name)
        if ".".join(here) in taken or FieldBehavior.OUTPUT_ONLY in behaviors_of(field):
            continue
        kind = field.message_type
        if is_parameter(field):
            yield f"{prefix}{field.json_name}", field
        elif kind is None or field.is_repeated or is_whole(kind):
            continue  # it can be in a body alone
        elif len(here) < _MOST_DEPTH:
            yield from _fields(kind, taken, f"{prefix}{field.json_name}.", here)


def _descriptor_of(kind: type[Message]) -> Descriptor:
    return cast("Descriptor", kind.DESCRIPTOR)


def _named(message: Descriptor, name: str) -> FieldDescriptor:
    return next(one for one in message.fields if name in (one.name, one.json_name))


def _in_path(name: str) -> Schema:
    schema = _ID if name in ("operation", "operation_id") else _SEGMENT
    return {"name": name, "in": "path", "required": True, "schema": schema}


_SEGMENT = {"type": "string", "pattern": "^[^/]+$"}
_ID = {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,128}$"}


def _json(schema: Schema, *, required: bool) -> Schema:
    return {"content": {JSON: {"schema": schema}}, **({"required": True} if required else {})}


def _words(name: str) -> str:
    """Returns the words of a name such as ``CreateInstance``, for people."""
    first, *others = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[A-Z]+", name) or [cut(name)]
    return " ".join((first.capitalize(), *(one.lower() for one in others)))


def with_servers(made: bytes, servers: Sequence[Mapping[str, str]]) -> bytes:
    """Returns a document with the addresses at which its API is."""
    return made.replace(b"{", b'{"servers":' + dumped(servers) + b",", 1) if servers else made
