"""The names of the fleet's resources, which are also their places on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lro_grpc import Code, LroError

_ID = r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LOCATION = rf"projects/{_ID}/locations/{_ID}"
_ID_RULE = "1 to 63 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'"


@dataclass(frozen=True, slots=True)
class Name:
    """The name of an instance or a snapshot; only the functions below make one, and check it."""

    parent: str
    """``projects/{project}/locations/{location}``."""
    collection: str
    """``instances`` or ``snapshots``."""
    id: str
    """The last segment."""

    def __str__(self) -> str:
        return f"{self.parent}/{self.collection}/{self.id}"

    def under(self, data: Path) -> Path:
        """Returns the path of the resource; no checked segment leads out of ``data``."""
        return data.joinpath(*str(self).split("/"))


def check_parent(text: str, field: str = "parent") -> None:
    """Checks the name of a location.

    Raises:
        LroError: INVALID_ARGUMENT, if it is not one.
    """
    if not re.fullmatch(_LOCATION, text):
        raise invalid(field, text, f"projects/{{p}}/locations/{{l}}, each id {_ID_RULE}")


def new_name(parent: str, collection: str, resource_id: str, field: str) -> Name:
    """Makes the name of a resource that is to be created.

    Args:
        parent: The location, checked already.
        collection: ``instances`` or ``snapshots``.
        resource_id: The id that the caller has chosen.
        field: The field of the request that holds it, for the error.

    Raises:
        LroError: INVALID_ARGUMENT, if the id is not one.
    """
    if not re.fullmatch(_ID, resource_id):
        raise invalid(field, resource_id, _ID_RULE)
    return Name(parent, collection, resource_id)


def instance_name(text: str) -> Name:
    """Reads the name of an instance.

    Raises:
        LroError: INVALID_ARGUMENT, if it is not one.
    """
    found = re.fullmatch(rf"({_LOCATION})/instances/({_ID})", text)
    if not found:
        expected = f"projects/{{p}}/locations/{{l}}/instances/{{i}}, each id {_ID_RULE}"
        raise invalid("name", text, expected)
    return Name(found[1], "instances", found[2])


def invalid(field: str, value: object, expected: str) -> LroError:
    """Returns the error for a field that cannot be right."""
    shown = str(value) if len(str(value)) <= 100 else f"{str(value)[:97]}..."
    return LroError(
        f"{field} is {shown!r}; expected {expected}",
        code=Code.INVALID_ARGUMENT,
        reason="INVALID_FIELD",
        metadata={"field": field, "value": shown},
    )
