"""A route as the document of its API describes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

JSON = "application/json"

RETRY_AFTER = {"Retry-After": "Seconds until the next poll, of what is not done, where advised."}
"""The header of responses with an operation, or a job."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The body of a response, and what is said with it."""

    text: str
    """A sentence on it."""
    message: type[Message] | None = None
    """The message that it is the JSON of."""
    field: str = ""
    """The field of the message that it is in place of all of it."""
    member: str = ""
    """The member of a page that has several of those messages, beside ``nextPageToken``."""
    schema: Mapping[str, Any] | None = None
    """Its schema, if it is no message's; without either there is no body."""
    name: str = ""
    """The name of that schema in the document; empty for none."""
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Headers that it may have, and what they say."""


@dataclass(frozen=True, slots=True)
class Described:
    """The part of the document that is about a route."""

    tag: str
    """The service, or the vendor, that it is of."""
    name: str
    """Its own name in there, such as ``CreateInstance``."""
    answers: Sequence[Shown]
    """The responses but for errors; each has another status."""
    request: type[Message] | None = None
    """The message of which the fields are parameters, or in the body; None if none is read."""
    body: str = ""
    """The field that the body fills; ``*`` for the whole request, empty for none."""
    method: MethodDescriptor | None = None
    """The method that is called, where one is."""
    parameters: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """The schemas of parameters in the query that are no fields of a request."""
    text: str = ""
    """More sentences on it, beside the comment of the method."""
    types: Sequence[type[Message]] = ()
    """More messages that clients meet: those in the ``Any`` of an answer."""
