"""One operation: its page, the part of that which changes, its other forms, and it as a file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncGenerator, Hashable

from google.longrunning import operations_pb2
from starlette.responses import Response

from lro_grpc._console import answers
from lro_grpc._console.actions import said
from lro_grpc._console.form import FORMS, REQUEST, Form, form_of, request_form
from lro_grpc._console.operation_page import operation_page
from lro_grpc._console.source import Described
from lro_grpc._console.trouble import Trouble
from lro_grpc._console.visit import OperationPart, Visit
from lro_grpc._errors import Code, LroError

LONGEST_HOLD = 8.0
"""The longest time for which an answer is held, in seconds: less than what is in between allows."""

_MOST_HELD = 2_000
"""The most requests that are held at a time; one above them is answered at once."""

_WAIT = re.compile(r"\bwait=(\d{1,4})\b")


async def show(visit: Visit) -> Response:
    """Answers with the page of an operation."""
    return await page_of(visit, visit.require("name"))


async def page_of(visit: Visit, name: str, refusal: Trouble | None = None) -> Response:
    """Answers with the page of an operation.

    Args:
        visit: The request.
        name: The operation's name.
        refusal: The server's refusal of an action, to be shown where its button was.
    """
    part = await _part_of(visit, name)
    return await visit.page(
        "operation.html",
        refusal.status if refusal else 200,
        page=part.page,
        etag=part.rendered.tag,
        said=_said(visit.query("did"), part),
        refusal=refusal,
    )


def _said(verb: str, part: OperationPart) -> str:
    """Returns what has come of an action: a server takes the cancel of what is done, too."""
    is_late = verb == "cancel" and part.is_done and part.page.row.state != "CANCELLED"
    return "It was done before it could be cancelled." if is_late else said(verb)


async def body(visit: Visit) -> Response:
    """Answers with the part of an operation's page that changes.

    With ``Prefer: wait=8``, and the ETag that the page has, the answer is held until there is
    another, or the time is over; then it is 304.
    """
    part = await _part_of(visit, visit.require("name"))
    if answers.has(visit.request, part.rendered) and not part.is_done:
        part = await _changed(visit, part)
    done = {"x-done": "true"} if part.is_done else {}
    return answers.part(visit.request, part.rendered, done)


async def form(visit: Visit) -> Response:
    """Answers with an operation in another form, or with the request that has started it."""
    name, kind = visit.require("name"), visit.require("as")
    if kind == REQUEST:
        described = await visit.source.with_request(visit.credentials, name)

        def made() -> Form:
            return request_form(described, visit.source.types.unpack)

    elif kind in FORMS:
        operation = await visit.source.get(visit.credentials, name)

        def made() -> Form:
            return form_of(operation, kind, visit.source.types.unpack)

    else:
        known = ", ".join([*FORMS, REQUEST])
        raise LroError(f"there is no form {kind!r}; give one of {known}", code=Code.NOT_FOUND)
    shown = await visit.in_thread(made)
    return await visit.page("form.html", is_part=visit.is_part, form=shown)


async def as_file(visit: Visit) -> Response:
    """Answers with all of an operation, as JSON to be saved."""
    async with visit.site.files:
        operation = await visit.source.get(visit.credentials, visit.require("name"))
        content = await visit.in_thread(_file, visit, operation)
    return Response(
        content,
        media_type="application/json",
        headers={"content-disposition": 'attachment; filename="operation.json"'},
    )


def _file(visit: Visit, operation: operations_pb2.Operation) -> bytes:
    value = visit.source.types.to_dict(operation)
    return json.dumps(value, indent=2, ensure_ascii=False).encode("utf-8", "replace")


async def _changed(visit: Visit, part: OperationPart) -> OperationPart:
    """Returns the part once it has changed; the same one if it does not in time."""
    asked = _WAIT.search(visit.request.headers.get("prefer", ""))
    end = time.monotonic() + min(LONGEST_HOLD, float(asked[1]) if asked else 0.0)
    if visit.site.held >= _MOST_HELD:
        return part
    states = visit.source.states(visit.credentials, part.page.row.name)
    visit.site.held += 1
    try:
        async with contextlib.aclosing(states):
            known = part
            while (left := end - time.monotonic()) > 0:
                operation = await _next(visit, states, left)
                if operation is None:
                    break
                if operation.SerializeToString(deterministic=True) == known.state:
                    continue
                known = await _part_from(visit, operation)
                if known.rendered.tag != part.rendered.tag or known.is_done:
                    return known
    finally:
        visit.site.held -= 1
    return part


async def _next(
    visit: Visit, states: AsyncGenerator[operations_pb2.Operation, None], seconds: float
) -> operations_pb2.Operation | None:
    """Returns the next state of an operation; None if there is none in time."""
    coming = asyncio.ensure_future(anext(states, None))
    try:
        if not await answers.unless_gone(visit.request, seconds, coming):
            return None
        return coming.result()
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _part_of(visit: Visit, name: str) -> OperationPart:
    """Returns the part of an operation's page as it is, or was within the last second.

    It is never older than one that any page of the same caller has been sent.
    """

    async def make() -> OperationPart:
        began = time.monotonic()
        described = await visit.source.described(visit.credentials, name)
        return await visit.in_thread(_made, visit, described, began)

    part = await visit.site.operations.get(_key(visit, name), make)
    return max(part, visit.site.operations.peek(_key(visit, name)) or part, key=_as_of)


async def _part_from(visit: Visit, operation: operations_pb2.Operation) -> OperationPart:
    """Returns the part of an operation's page as of a state that has just come."""

    async def make() -> OperationPart:
        began = time.monotonic()
        described = await visit.source.redescribed(visit.credentials, operation)
        part = await visit.in_thread(_made, visit, described, began)
        known = visit.site.operations.peek(latest)
        if known is None or known.as_of <= began:
            visit.site.operations.put(latest, part)
        return part

    latest = _key(visit, operation.name)
    state = operation.SerializeToString(deterministic=True)
    return await visit.site.operations.get((*latest, state), make)


def _key(visit: Visit, name: str) -> tuple[Hashable, ...]:
    return visit.credentials, visit.root, name


def _as_of(part: OperationPart) -> float:
    return part.as_of


def _made(visit: Visit, described: Described, as_of: float) -> OperationPart:
    operation, description = described
    page = operation_page(
        operation,
        visit.source.types.unpack,
        target=visit.site.target,
        description=description,
        lacks=visit.source.lacks(is_described=description is not None),
        read_only=visit.site.read_only,
    )
    rendered = visit.rendered("body.html", is_part=True, page=page, refusal=None)
    state = operation.SerializeToString(deterministic=True)
    return OperationPart(page, rendered, state, operation.done, as_of)
