"""The routes of the service's own methods: those that start operations, of jobs, and plain ones.

A plain method is called through a channel, though it may be in this process: so the server answers,
with its interceptors, its threads and its limits.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.api import http_pb2
from google.longrunning import operations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from starlette.types import ASGIApp

from lro_grpc._dialects import canonical_json
from lro_grpc._errors import ConfigurationError
from lro_grpc._http import responses, transcoding
from lro_grpc._http.backend import Calls
from lro_grpc._http.conversion import converted
from lro_grpc._http.described import RETRY_AFTER, Described, Shown
from lro_grpc._http.origins import SAFE_METHODS
from lro_grpc._http.request import HttpRequest
from lro_grpc._http.responses import dumped, json_response, poll_headers
from lro_grpc._http.routing import ANY_METHOD, Route, VendorApi, api_of
from lro_grpc._http.transcoding import (
    Binding,
    bindings,
    is_streaming,
    method_of,
    methods_in,
    name_of,
    rule_of,
)
from lro_grpc._server.jobs.kind import JobKind
from lro_grpc._server.rpc.method_types import messages_of, operation_types

Rules = Mapping[str, http_pb2.HttpRule]


@dataclass(frozen=True, slots=True)
class ServedMethod:
    """A method that may be called over HTTP."""

    name: str
    """``/pkg.Service/Method``."""
    request: type[Message]
    response: type[Message]
    rule: http_pb2.HttpRule | None
    """Its paths; None if it is not reached over HTTP."""
    changes: bool = True
    """Whether it may change something, whatever its rule says."""
    is_plain: bool = False
    """Whether it is neither long-running nor one of jobs."""


def methods_of(
    starts: Mapping[str, type[Message]],
    jobs: Sequence[tuple[JobKind, Collection[str]]],
    plain: Collection[str],
    rules: Rules,
    prefixes: Sequence[str],
) -> Sequence[ServedMethod]:
    """Returns all methods.

    Args:
        starts: The request types of the methods that start operations, by the methods' names.
        jobs: Kinds of jobs, and of each the verbs of its methods.
        plain: The names of other methods; those that cannot be called over HTTP are left out.
        rules: The paths of methods, by the methods' names. A method without a rule is where its
            annotation puts it.
        prefixes: The beginnings of the paths of jobs' methods that have no annotation.

    Raises:
        ConfigurationError: If there is a rule for a method that there is not.
    """
    found = {
        name: ServedMethod(
            name, request, operations_pb2.Operation, rules.get(name) or rule_of(name)
        )
        for name, request in starts.items()
    }
    for kind, verbs in jobs:
        for verb in verbs:
            one = kind.methods[verb]
            rule = rules.get(one.name) or rule_of(one.name) or _rule_of_job(kind, verb, prefixes)
            changes = verb not in ("Get", "List")
            found[one.name] = ServedMethod(one.name, one.request, one.response, rule, changes)
    for name in sorted({*plain} - found.keys()):
        method = method_of(name)
        if method is not None and not _refusal(method):
            request, response = messages_of(name)
            found[name] = ServedMethod(
                name,
                request,
                response,
                rules.get(name) or rule_of(name),
                changes=False,
                is_plain=True,
            )
    unknown = sorted(rules.keys() - found.keys())
    if unknown:
        raise ConfigurationError(
            f"there are rules for {unknown}, and no such methods; streams and google.api.HttpBody"
            " are not served over HTTP"
        )
    return list(found.values())


def names_in(services: Iterable[str]) -> Collection[str]:
    """Returns the names of all methods of services.

    Args:
        services: Their full names.

    Raises:
        ConfigurationError: If one is not known here.
    """
    found: list[str] = []
    for service in services:
        methods = methods_in(service)
        if not methods:
            raise ConfigurationError(
                f"no imported module declares the service {service!r}; import its _pb2 module, or"
                " correct the name"
            )
        found += map(name_of, methods)
    return found


def starts_in(services: Iterable[str]) -> Mapping[str, type[Message]]:
    """Returns the request types of services' methods that start operations, by their names."""
    methods = (method for service in services for method in methods_in(service))
    return {name_of(one): messages_of(name_of(one))[0] for one in methods if _starts(one)}


def _starts(method: MethodDescriptor) -> bool:
    options: Any = method.GetOptions()
    info: Any = operations_pb2.operation_info
    return bool(options.HasExtension(info)) and not is_streaming(method)


def routes(
    methods: Sequence[ServedMethod],
    backend: Calls,
    plain_calls: Calls,
    apis: Sequence[VendorApi],
) -> Iterator[Route]:
    """Yields the routes of methods.

    Args:
        methods: The methods.
        backend: Calls them, but for plain ones.
        plain_calls: Calls plain ones.
        apis: The vendors' APIs. The one of a method's path answers with the started operation.

    Raises:
        ConfigurationError: If a method that changes something is reached by GET, which a browser
            sends for a page of any origin; or if ``response_body`` is no field of the response, or
            of an operation.
    """
    for method in methods:
        calls = plain_calls if method.is_plain else backend
        for binding in bindings(method.rule, method.request) if method.rule is not None else ():
            if method.changes and binding.http_method in {*SAFE_METHODS, ANY_METHOD}:
                raise ConfigurationError(
                    f"{method.name} changes something, and its rule puts it at"
                    f" {binding.http_method} {binding.template.text}; what a browser sends for any"
                    " page must change nothing; give it a rule with post"
                )
            _check_response_body(method, binding)
            api = api_of(binding.template.text, apis)
            identify = functools.partial(calls.identify, method.name)
            respond = _respond_with(method, binding, calls, api)
            described = _described(method, binding, api)
            yield transcoding.route(binding, identify, respond, described)


def routes_of_others(services: Iterable[str], methods: Sequence[ServedMethod]) -> Iterator[Route]:
    """Yields the routes of the methods that are not served, which say so.

    A method's path may have a served one at another HTTP method, as a Get beside a Delete has.

    Args:
        services: The services whose methods they are.
        methods: Those that are served.
    """
    served = {method.name for method in methods}
    for service in services:
        for method in methods_in(service):
            name = name_of(method)
            rule = rule_of(name)
            if name not in served and rule is not None:
                with contextlib.suppress(ConfigurationError):  # its path is no matter of ours
                    why = _refusal(method) or "the gateway has no channel on which to call it"
                    for binding in bindings(rule, messages_of(name)[0]):
                        respond = functools.partial(_refuse, name, why)
                        yield Route(binding.http_method, binding.template, respond, is_served=False)


def _refusal(method: MethodDescriptor) -> str:
    """Returns why a method cannot be called over HTTP; an empty text if it can."""
    if is_streaming(method):
        return "it streams"
    if _HTTP_BODY in (method.input_type.full_name, method.output_type.full_name):
        return f"it has a {_HTTP_BODY}, whose bytes may be anything"
    return ""


_HTTP_BODY = "google.api.HttpBody"


async def _refuse(
    method: str, why: str, http_request: HttpRequest, variables: Mapping[str, str]
) -> ASGIApp:
    del http_request, variables
    raise responses.not_served(method, why)


def _check_response_body(method: ServedMethod, binding: Binding) -> None:
    field = binding.response_body
    if not field:
        return
    if method.response is operations_pb2.Operation:
        raise ConfigurationError(
            f"{method.name} starts an operation, and is answered with that; leave response_body out"
            " of its rule"
        )
    response = method.response.DESCRIPTOR
    if response.full_name in canonical_json.WHOLE or field not in response.fields_by_name:
        raise ConfigurationError(
            f"the rule of {method.name} has response_body {field!r}, which"
            f" {response.full_name} has not"
        )


def _respond_with(
    method: ServedMethod, binding: Binding, calls: Calls, api: VendorApi
) -> transcoding.Respond:
    async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
        answering = calls.call(method.name, body, http_request.caller)
        answer = await (http_request.unless_gone(answering) if method.is_plain else answering)
        if method.response is operations_pb2.Operation:
            return await api.started(answer)
        shown = await converted(len(answer.body), to_json, answer.body)
        return json_response(shown, headers=poll_headers(answer.headers))

    def to_json(answer: bytes) -> bytes:
        message = method.response.FromString(answer)
        if binding.response_body:
            return dumped(canonical_json.field_to_json(message, binding.response_body))
        return dumped(canonical_json.to_json(message))

    return respond


def _described(method: ServedMethod, binding: Binding, api: VendorApi) -> Described:
    if method.response is not operations_pb2.Operation:
        shown = Shown("OK.", method.response, binding.response_body, headers=RETRY_AFTER)
        return transcoding.describe(method.name, binding, shown)
    if method.is_plain:
        return transcoding.describe(method.name, binding, api.start)
    types = operation_types(method.name)
    names = [f"its {what} is a `{kind.DESCRIPTOR.full_name}`" for what, kind in types.items()]
    text = f"Starts an operation: {', and '.join(names)}." if names else "Starts an operation."
    return transcoding.describe(
        method.name, binding, api.start, text=text, types=list(types.values())
    )


def _rule_of_job(kind: JobKind, verb: str, prefixes: Sequence[str]) -> http_pb2.HttpRule:
    """Returns the paths at which the AIPs put a method of jobs (AIP-131 to 136)."""
    rule, *others = (_binding_of_job(kind, verb, prefix) for prefix in prefixes)
    rule.additional_bindings.extend(others)
    return rule


def _binding_of_job(kind: JobKind, verb: str, prefix: str) -> http_pb2.HttpRule:
    collection = f"{prefix}/{{parent=**}}/{kind.collection}"
    name = f"{prefix}/{{name=**/{kind.collection}/*}}"
    if verb == "Create":
        return http_pb2.HttpRule(post=collection, body=kind.field_in(kind.methods[verb].request))
    if verb == "List":
        return http_pb2.HttpRule(get=collection)
    if verb == "Get":
        return http_pb2.HttpRule(get=name)
    if verb == "Delete":
        return http_pb2.HttpRule(delete=name)
    return http_pb2.HttpRule(post=f"{name}:{verb.lower()}", body="*")
