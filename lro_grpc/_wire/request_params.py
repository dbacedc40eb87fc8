"""The header ``x-goog-request-params``, by which a server's front end routes a call (C4).

By AIP-4222 it has the fields that ``google.api.routing`` names if the method has that option, else
the variables in the path of its ``google.api.http``.
"""

from __future__ import annotations

import functools
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, routing_pb2
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from lro_grpc._wire import headers

_HTTP: Any = annotations_pb2.http
_ROUTING: Any = routing_pb2.routing
_VARIABLE = re.compile(r"\{\s*([\w.]+)\s*(?:=([^{}]*))?\}")
_MOST_CHARACTERS = 4096
"""A longer value routes nothing: a header has no room for it, and matching it would take long."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of the header, and the request's field that it comes from."""

    key: str
    """The parameter's name."""
    field: str
    """The field's path."""
    pattern: re.Pattern[str]
    """Matches the field's value, with the parameter's value in its group."""


def header_for(method: str, request: Message) -> tuple[tuple[str, str], ...]:
    """Returns the metadata that routes a call; none if the request has no value for it.

    Args:
        method: ``/pkg.Service/Method`` of a service whose _pb2 module was imported.
        request: Its request.
    """
    found: dict[str, str] = {}
    for parameter in _parameters(method):
        value = _value(request, parameter.field)
        matched = len(value) <= _MOST_CHARACTERS and parameter.pattern.fullmatch(value)
        if matched and matched[1]:
            found[parameter.key] = matched[1]
    return header(found)


def header(parameters: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Returns parameters as the metadata of a call; none for no parameters.

    They are encoded as by Google's own clients, which leave a slash as it is.
    """
    encoded = "&".join(
        f"{urllib.parse.quote(key)}={urllib.parse.quote(value)}"
        for key, value in parameters.items()
    )
    return ((headers.REQUEST_PARAMS, encoded),) if parameters else ()


@functools.cache
def _parameters(method: str) -> tuple[_Parameter, ...]:
    service, _, name = method.strip("/").partition("/")
    found = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    options: Any = found.GetOptions()
    if options.HasExtension(_ROUTING):
        return tuple(_explicit(options.Extensions[_ROUTING].routing_parameters))
    return tuple(_implicit(options.Extensions[_HTTP]))


def _explicit(parameters: Iterable[Any]) -> Iterator[_Parameter]:
    for one in parameters:
        key, pattern = one.field, "(.*)"
        variable = _VARIABLE.search(one.path_template)
        if variable:
            key = variable[1]
            before = _regex(one.path_template[: variable.start()])
            after = _regex(one.path_template[variable.end() :])
            pattern = f"{before}({_regex(variable[2] or '*')}){after}"
        yield _Parameter(key, one.field, re.compile(pattern, re.DOTALL))


def _implicit(rule: Any) -> Iterator[_Parameter]:
    kind = rule.WhichOneof("pattern")
    path = rule.custom.path if kind == "custom" else getattr(rule, kind) if kind else ""
    for variable in _VARIABLE.finditer(path):
        yield _Parameter(variable[1], variable[1], re.compile("(.*)", re.DOTALL))


def _regex(template: str) -> str:
    """Returns a template of segments as a pattern: ``*`` is one of them, ``**`` any number."""
    pattern = re.escape(template)
    pattern = pattern.replace(r"/\*\*", r"(?:/.*)?").replace(r"\*\*", r".*")
    return pattern.replace(r"\*", r"[^/]+")


def _value(request: Any, path: str) -> str:
    for field in path.split("."):
        request = getattr(request, field, "")  # a name that is misspelt has no value
    return str(request)
