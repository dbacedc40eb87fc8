"""Methods that are called over HTTP by a ``google.api.http`` rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping

from google.api import http_pb2
from google.protobuf.message import Message
from starlette.types import ASGIApp

from lro_grpc._http.request import Exchange
from lro_grpc._http.route import Route
from lro_grpc._http.transcoding import Binding, bindings

Answer = Callable[[bytes, Exchange], Awaitable[ASGIApp]]
"""Answers a request, given the serialized request message."""


def routes(rule: http_pb2.HttpRule, request: type[Message], answer: Answer) -> Iterator[Route]:
    """Gives the routes of a rule.

    Args:
        rule: Where the method is.
        request: The type of its request.
        answer: Answers a request.
    """
    for binding in bindings(rule, request):
        yield route(binding, answer)


def route(binding: Binding, answer: Answer) -> Route:
    """Returns the route of one binding of a rule."""

    async def read(exchange: Exchange, variables: Mapping[str, str]) -> ASGIApp:
        message = binding.message(variables, exchange.query, await exchange.body())
        return await answer(message.SerializeToString(), exchange)

    return Route(binding.http_method, binding.template, read)
