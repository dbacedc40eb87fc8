"""The routes of the service's own methods: those that start operations, and those of jobs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from google.api import http_pb2
from google.longrunning import operations_pb2
from google.protobuf.message import Message
from starlette.types import ASGIApp

from lro_grpc._dialects import canonical_json
from lro_grpc._errors import ConfigurationError
from lro_grpc._http import responses, transcoding
from lro_grpc._http.backend import Backend
from lro_grpc._http.conversion import converted
from lro_grpc._http.origins import SAFE_METHODS
from lro_grpc._http.request import HttpRequest
from lro_grpc._http.responses import dumped, json_response, poll_headers
from lro_grpc._http.routing import Route, VendorApi, api_of
from lro_grpc._http.transcoding import bindings, rule_of
from lro_grpc._server.jobs.kind import JobKind

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
    """Whether it may change something."""


def methods_of(
    starts: Mapping[str, type[Message]],
    jobs: Sequence[tuple[JobKind, Collection[str]]],
    rules: Rules,
    prefixes: Sequence[str],
) -> Sequence[ServedMethod]:
    """Returns all methods.

    Args:
        starts: The request types of the methods that start operations, by the methods' names.
        jobs: Kinds of jobs, and of each the verbs of its methods.
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
    unknown = sorted(rules.keys() - found.keys())
    if unknown:
        raise ConfigurationError(f"there are rules for {unknown}, and no such methods")
    return list(found.values())


def routes(
    methods: Sequence[ServedMethod], backend: Backend, apis: Sequence[VendorApi]
) -> Iterator[Route]:
    """Yields the routes of methods.

    Args:
        methods: The methods.
        backend: Calls the methods.
        apis: The vendors' APIs. The one of a method's path answers with the started operation.

    Raises:
        ConfigurationError: If a method that changes something is reached by GET, which a browser
            sends for a page of any origin.
    """
    for method in methods:
        for binding in bindings(method.rule, method.request) if method.rule is not None else ():
            if method.changes and binding.http_method in SAFE_METHODS:
                raise ConfigurationError(
                    f"{method.name} changes something, and its rule puts it at"
                    f" {binding.http_method} {binding.template.text}, which must change nothing;"
                    " give it a rule with post"
                )
            api = api_of(binding.template.text, apis)
            identify = functools.partial(backend.identify, method.name)
            yield transcoding.route(binding, identify, _respond_with(method, backend, api))


def routes_of_others(services: Iterable[str], methods: Sequence[ServedMethod]) -> Iterator[Route]:
    """Yields the routes of the methods that are not served, which say so.

    A method's path may have a served one at another HTTP method, as a Get beside a Delete has.

    Args:
        services: The services whose methods they are.
        methods: Those that are served.
    """
    served = {method.name for method in methods}
    for service in services:
        for name, request, rule in transcoding.annotated_methods(service):
            if name not in served:
                with contextlib.suppress(ConfigurationError):  # its path is no matter of ours
                    for binding in bindings(rule, request):
                        respond = functools.partial(_refuse, name)
                        yield Route(binding.http_method, binding.template, respond, is_served=False)


async def _refuse(method: str, http_request: HttpRequest, variables: Mapping[str, str]) -> ASGIApp:
    del http_request, variables
    raise responses.not_served(method)


def _respond_with(method: ServedMethod, backend: Backend, api: VendorApi) -> transcoding.Respond:
    async def respond(body: bytes, http_request: HttpRequest) -> ASGIApp:
        answer = await backend.call(method.name, body, http_request.caller)
        if method.response is operations_pb2.Operation:
            return await api.started(answer)
        shown = await converted(len(answer.body), to_json, answer.body)
        return json_response(shown, headers=poll_headers(answer.headers))

    def to_json(answer: bytes) -> bytes:
        return dumped(canonical_json.to_json(method.response.FromString(answer)))

    return respond


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
