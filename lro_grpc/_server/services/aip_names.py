"""Facts of an operation that the names of its method and request give away, by the AIPs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from google.protobuf.message import Message

from lro_grpc._errors import InvalidArgumentError

_STANDARD_VERBS = (
    "Create",
    "Update",
    "Delete",
    "Undelete",
    "Purge",
    "Import",
    "Export",
    "Run",
)
_VERB = re.compile(rf"(Batch)?({'|'.join(_STANDARD_VERBS)})(?=[A-Z]|$)")
_VERSION = re.compile(r"v\d+((p\d+)?(alpha|beta)\d*)?")
_LOCATION = re.compile(r"projects/[^/]+/locations/[^/]+(?=/|$)")


def verb_of(method: str) -> str:
    """Returns the verb of a method: ``create``, ``batchCreate``, or for others ``takeSnapshot``.

    Args:
        method: ``/pkg.Service/Method``.
    """
    name = method.rpartition("/")[2]
    standard = _VERB.match(name)
    verb = standard.group() if standard else name
    return verb[:1].lower() + verb[1:]


def api_version_of(method: str) -> str:
    """Returns the last part of a method's package that is a version, such as ``v1``; else empty."""
    package = method.strip("/").partition("/")[0].split(".")[:-1]
    return next((part for part in reversed(package) if _VERSION.fullmatch(part)), "")


def parent_of(candidates: Iterable[str]) -> str:
    """Returns the ``projects/*/locations/*`` that the first candidate which has one begins with."""
    for candidate in candidates:
        found = _LOCATION.match(candidate)
        if found:
            return found.group()
    return ""


def check_fields(request: Message, served: Collection[str]) -> None:
    """Refuses a request with a field that would have no effect.

    Raises:
        InvalidArgumentError: If a field is set that is not among those served.
    """
    for field, _ in request.ListFields():
        if field.name not in served:
            raise InvalidArgumentError(
                f"{request.DESCRIPTOR.name}.{field.name} is not supported; leave it unset",
                reason="FIELD_NOT_SUPPORTED",
                metadata={"field": field.name},
            )
