"""The list of operations: its page, and its rows alone, which the page asks for again and again."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from google.longrunning import operations_pb2
from starlette.responses import Response

from lro_grpc._console import answers, ignored_filters
from lro_grpc._console.actions import ACTIONS, CONTROL, said
from lro_grpc._console.counts import Counts
from lro_grpc._console.list_page import MOST_ROWS, SIZE, filter_problem, list_page
from lro_grpc._console.row import Row, row_of
from lro_grpc._console.source import ListQuery
from lro_grpc._console.visit import ListPart, Visit
from lro_grpc._errors import Code, LroError
from lro_grpc._filtering import relative_times
from lro_grpc._filtering.parser import hint_at_operators

_MOST_BYTES = 480 * 1024
"""The most bytes of a list's rows, so that a page has at most 512 KiB. A list that makes more is
asked for again with fewer operations."""

_SECONDS_BETWEEN = 2.0
_PART_OF_TIME = 20
"""The least time between two lists, as a multiple of that which the server took for one."""

_GONE = "That page is no longer there: this is the newest one."


async def show(visit: Visit) -> Response:
    """Answers with the page of a list."""
    query = query_of(visit)
    try:
        # A time as it is now: the pages behind this one have to ask for the same.
        written = relative_times.expanded(query.filter, datetime.now(timezone.utc))
        if written != query.filter:
            return visit.see(parent=visit.query("parent"), filter=written, size=visit.query("size"))
        part, is_newest_instead = await _part_or_newest(visit, query)
    except LroError as error:
        if error.code is not Code.INVALID_ARGUMENT:
            raise
        return await _refused(visit, query, error)
    notes = [said(visit.query("did")), _GONE if is_newest_instead else ""]
    page = dataclasses.replace(part.page, notes=(*part.page.notes, *filter(None, notes)))
    return await visit.page("list.html", page=page, etag=part.rendered.tag)


async def rows(visit: Visit) -> Response:
    """Answers with the rows of a list, or with 304 if the page has them already."""
    part = await _part(visit, query_of(visit))
    pause = {"x-next-ms": str(round(part.next_seconds * 1000))}
    return answers.part(visit.request, part.rendered, pause)


def query_of(visit: Visit) -> ListQuery:
    """Returns the page that an address is about."""
    size = visit.query("size")
    is_number = size.isascii() and size.isdecimal() and len(size) < 10
    return ListQuery(
        parent=visit.query("parent") or visit.site.parents[0],
        filter=visit.query("filter"),
        size=max(1, min(MOST_ROWS, int(size))) if is_number else SIZE,
        token=visit.query("token"),
    )


async def _refused(visit: Visit, query: ListQuery, error: LroError) -> Response:
    """Answers with the page of a list whose filter, or whose parent, the server refuses."""
    page = list_page(
        (),
        parent=query.parent,
        filter=query.filter,
        size=query.size,
        parents=visit.site.parents,
        problem=filter_problem(query.filter, error),
    )
    return await visit.page("list.html", 400, page=page, etag="")


async def _part_or_newest(visit: Visit, query: ListQuery) -> tuple[ListPart, bool]:
    """Returns the rows of a list; those of its newest page if the server refuses the token."""
    try:
        return await _part(visit, query), False
    except LroError as error:
        if error.code is not Code.INVALID_ARGUMENT or not query.token:
            raise
    return await _part(visit, query._replace(token="")), True


async def _part(visit: Visit, query: ListQuery) -> ListPart:
    """Returns the rows of a list, made once for all who look at the same."""

    async def make() -> ListPart:
        asked = query
        while True:
            began = time.monotonic()
            found = await visit.source.page(visit.credentials, asked)
            pause = max(_SECONDS_BETWEEN, _PART_OF_TIME * (time.monotonic() - began))
            counts = await visit.site.counts.of(visit.credentials, query.parent)
            part = await visit.in_thread(_made, visit, query, found, counts, pause)
            count = len(found.operations)
            if len(part.rendered.body) <= _MOST_BYTES or count <= 1:
                return part
            smaller = visit.source.smaller((query.parent, query.filter), count)
            asked = query._replace(size=smaller)

    return await visit.site.lists.get((visit.credentials, visit.root, query), make)


def _made(
    visit: Visit,
    query: ListQuery,
    found: operations_pb2.ListOperationsResponse,
    counts: Counts,
    next_seconds: float,
) -> ListPart:
    made = [row_of(operation, visit.source.types.unpack) for operation in found.operations]
    ignores = ignored_filters.contradict(query.filter, made)
    actions = _actions(visit)
    page = list_page(
        made,
        parent=query.parent,
        filter=query.filter,
        size=query.size,
        token=query.token,
        next_token=found.next_page_token,
        parents=visit.site.parents,
        actions=actions,
        acts_on_all=bool(actions and query.filter and made and not ignores),
        counts=counts,
        notes=[ignored_filters.NOTE] if ignores else [*_hints(query.filter, made)],
    )
    rendered = visit.rendered("rows_part.html", is_part=True, page=page)
    return ListPart(page, rendered, next_seconds)


def _hints(text: str, made: Sequence[Row]) -> Iterator[str]:
    """Yields what a filter that nothing matches may have been meant to say."""
    if not made and (hint := hint_at_operators(text)):
        yield f"Nothing matches: {hint}."


def _actions(visit: Visit) -> Sequence[str]:
    """Returns the actions that are offered for the rows that one selects."""
    if visit.site.read_only:
        return ()
    lacks = visit.source.lacks(is_described=visit.source.has_control)
    return [
        verb
        for verb in ACTIONS
        if verb not in lacks and (verb not in CONTROL or visit.source.has_control)
    ]
