"""The kinds of a service's methods, as generated code declares them for clients and servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)
MetadataT = TypeVar("MetadataT", bound=Message)


@dataclass(frozen=True, slots=True, eq=False)
class Rpc(Generic[RequestT, ResponseT]):
    """A method of any kind."""

    path: str
    """``/pkg.Service/Method``."""
    request: type[RequestT]
    """The type of its request; of each one, if it takes a stream."""
    response: type[ResponseT]
    """The type of its response; of each one, if it answers with a stream."""


class UnaryUnary(Rpc[RequestT, ResponseT]):
    """A method that takes one request and answers with one response."""

    __slots__ = ()


class UnaryStream(Rpc[RequestT, ResponseT]):
    """A method that takes one request and answers with a stream."""

    __slots__ = ()


class StreamUnary(Rpc[RequestT, ResponseT]):
    """A method that takes a stream and answers with one response."""

    __slots__ = ()


class StreamStream(Rpc[RequestT, ResponseT]):
    """A method that takes a stream and answers with another."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class LongRunning(Rpc[RequestT, ResponseT], Generic[RequestT, ResponseT, MetadataT]):
    """A method that starts an operation; ``response`` is the type inside ``Operation.response``."""

    metadata: type[MetadataT]
    """The type inside ``Operation.metadata``."""
