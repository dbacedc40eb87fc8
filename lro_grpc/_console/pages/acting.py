"""Actions: the question before one, the request itself, and the progress of a bulk one."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import secrets
import uuid
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote_plus

from google.longrunning import operations_pb2
from markupsafe import escape
from starlette.responses import Response

from lro_grpc._console import answers, ignored_filters
from lro_grpc._console.actions import ACTIONS, Action
from lro_grpc._console.answers import Form
from lro_grpc._console.bulk import MOST_NAMES, Act, Job
from lro_grpc._console.list_page import MOST_ROWS
from lro_grpc._console.markup import Budget, cut, visible
from lro_grpc._console.pages import lists, operations
from lro_grpc._console.questions import (
    SURE_WITHOUT_TYPING,
    BulkPage,
    Outcome,
    Question,
    Refusal,
    refusal_of,
)
from lro_grpc._console.row import Row, row_of
from lro_grpc._console.source import ListQuery
from lro_grpc._console.trouble import trouble_of
from lro_grpc._console.visit import Visit
from lro_grpc._errors import Code, InvalidArgumentError, LroError

_MOST_SELECTED = 500
"""The most operations that one selects by hand: those of a page."""

_AT_A_TIME = 8


async def confirm(visit: Visit) -> Response:
    """Answers with a question: what is going to happen, and to which operations.

    The names of what was selected come in a form: in an address they would be too long for proxies.
    """
    visit.check_writable()
    if visit.request.method == "POST":
        form = await visit.site.forms.read(visit.request)
        return await _ask(visit, _action(form.fields.get("verb", "")), _selected(form.names))
    action = _action(visit.query("verb"))
    if visit.query("all"):
        query = lists.query_of(visit)
        names, more = await _found(visit, query)
        return await _ask(visit, action, names, query, more=more)
    named = filter(None, visit.request.query_params.getlist("name"))
    return await _ask(visit, action, _selected(dict.fromkeys(named)))


async def act(visit: Visit) -> Response:
    """Requests an action of some operations, and answers with what has come of it."""
    visit.check_writable()
    form = await visit.site.forms.read(visit.request)
    action, names = _action(form.fields.get("verb", "")), _names(form, _MOST_SELECTED)
    if wrong := _wrong_number(form, names):
        return await _ask(visit, action, names, wrong=wrong)
    request = _request(visit, action, form)
    if len(names) > SURE_WITHOUT_TYPING:
        job = visit.site.jobs.start(action.verb, names, request, visit.credentials)
        return visit.see(f"bulk/{job.id}")
    if len(names) == 1:
        return await _act_on_one(visit, action, names[0], request)
    limit = asyncio.Semaphore(_AT_A_TIME)

    async def one(name: str) -> str | LroError:
        async with limit:
            try:
                return str(await request(name) or "")
            except LroError as error:
                return error

    ended = list(zip(names, await asyncio.gather(*map(one, names)), strict=True))
    visit.site.forget()
    outcome = Outcome(
        action,
        tuple((name, end) for name, end in ended if isinstance(end, str)),
        tuple(refusal_of(name, end) for name, end in ended if isinstance(end, LroError)),
    )
    return await visit.page("acted.html", 200 if outcome.done else 409, outcome=outcome)


async def begin_bulk(visit: Visit) -> Response:
    """Begins an action on all that a filter has found at the confirmation."""
    visit.check_writable()
    form = await visit.site.forms.read(visit.request)
    action, names = _action(form.fields.get("verb", "")), _names(form, MOST_NAMES)
    parent, text = form.fields.get("parent", ""), form.fields.get("filter", "")
    if wrong := _wrong_number(form, names):
        return await _ask(visit, action, names, ListQuery(parent, text, 0, ""), wrong=wrong)
    request = _request(visit, action, form)
    job = visit.site.jobs.start(
        action.verb, names, request, visit.credentials, filter=text, parent=parent
    )
    return visit.see(f"bulk/{job.id}")


async def bulk(visit: Visit) -> Response:
    """Answers with the progress of a bulk action; POST with ``stop`` stops it."""
    job = visit.site.jobs.get(visit.request.path_params["id"], visit.credentials)
    if visit.request.method == "POST":
        form = await visit.site.forms.read(visit.request)
        if form.fields.get("stop"):
            job.stop()
        return visit.see(f"bulk/{job.id}")
    page = _progress(job)
    part = await visit.in_thread(visit.rendered, "bulk_part.html", is_part=True, bulk=page, etag="")
    if not visit.is_part:
        return await visit.page("bulk.html", bulk=page, etag=part.tag)
    ended = {} if page.is_running else {"x-done": "true"}  # what the part shows, not what is now
    return answers.part(visit.request, part, {"x-next-ms": "1000", **ended})


async def _act_on_one(visit: Visit, action: Action, name: str, request: Act) -> Response:
    try:
        started = await request(name)
    except LroError as error:
        if error.code in (Code.UNAUTHENTICATED, Code.NOT_FOUND, Code.UNAVAILABLE):
            raise
        visit.site.forget()
        return await operations.page_of(visit, name, trouble_of(error, back=visit.url()))
    visit.site.forget()
    if action.verb == "delete":
        return visit.see(parent=name.rpartition("/operations/")[0], did=action.verb)
    return visit.see("operation", name=started or name, did=action.verb)


async def _ask(
    visit: Visit,
    action: Action,
    names: Sequence[str],
    query: ListQuery | None = None,
    *,
    more: bool = False,
    wrong: str = "",
) -> Response:
    if not names and query is None:
        raise InvalidArgumentError("no operation is selected")
    if len(names) > sum(1 for _ in _fitting(names)):
        raise InvalidArgumentError(
            f"the names of these {len(names):,} operations are too long for a page; select fewer"
        )
    if query is not None:
        back = visit.url(parent=query.parent, filter=query.filter)
    elif len(names) == 1:
        back = visit.url("operation", name=names[0])
    else:
        back = visit.url()
    if not names:
        message = "The filter finds no operation now."
        return await visit.no_page(heading="Nothing matches", message=message, back=back)
    question = Question(
        action=action,
        names=tuple(names),
        back=back,
        is_bulk=query is not None,
        parent=query.parent if query else "",
        filter=query.filter if query else "",
        more=more,
        once=secrets.token_urlsafe(16) if action.verb == "rerun" else "",
        wrong=wrong,
    )
    return await visit.page("confirm.html", 400 if wrong else 200, question=question)


async def _found(visit: Visit, query: ListQuery) -> tuple[Sequence[str], bool]:
    """Returns the names of all that a filter finds now, and whether there are more than these."""
    if not query.filter.strip():
        raise InvalidArgumentError("give a filter that says which operations are meant")
    names: dict[str, None] = {}
    token = ""
    for _ in range(_MOST_PAGES):
        page = await visit.source.page(
            visit.credentials, ListQuery(query.parent, query.filter, MOST_ROWS, token)
        )
        rows = await visit.in_thread(_rows, page.operations, visit)
        if ignored_filters.contradict(query.filter, rows):
            raise LroError(
                "this server ignores filters, and has answered with operations that this one does"
                " not let through; select operations by hand",
                code=Code.FAILED_PRECONDITION,
            )
        names.update((row.name, None) for row in rows if row.can_act)
        token = page.next_page_token
        if not token or len(names) >= MOST_NAMES:
            break
    fitting = list(itertools.islice(_fitting(names), MOST_NAMES))
    return fitting, bool(token) or len(names) > len(fitting)


def _fitting(names: Iterable[str]) -> Iterator[str]:
    """Yields as many names as a page has room for."""
    left = _MOST_BYTES
    for name in names:
        left -= len(escape(visible(name)).encode("utf-8", "replace"))
        if left < 0:
            return
        yield name


def _rows(found: Iterable[operations_pb2.Operation], visit: Visit) -> Sequence[Row]:
    return [row_of(operation, visit.source.types.unpack) for operation in found]


_MOST_BYTES = 160 * 1024
"""The most bytes of all names on a page, as it writes them; it has each of them twice."""

_MOST_PAGES = 50
"""The most pages that are asked for, though they are small or empty."""


def _action(verb: str) -> Action:
    action = ACTIONS.get(verb)
    if action is None:
        raise InvalidArgumentError(f"there is no action {verb!r}; give one of {', '.join(ACTIONS)}")
    return action


def _selected(names: Iterable[str]) -> Sequence[str]:
    selected = tuple(names)
    if len(selected) > _MOST_SELECTED:
        raise InvalidArgumentError(
            f"{len(selected):,} operations are selected; select {_MOST_SELECTED} at most, or all"
            " that a filter finds"
        )
    return selected


def _names(form: Form, most: int) -> Sequence[str]:
    if not 0 < len(form.names) <= most:
        raise InvalidArgumentError(
            f"the form has the names of {len(form.names):,} operations; give 1 to {most:,}"
        )
    return form.names


def _wrong_number(form: Form, names: Sequence[str]) -> str:
    """Returns why the number that was typed is none to go on with; empty if it is right."""
    typed = "".join(form.fields.get("typed", "").split()).replace(",", "")
    if len(names) <= SURE_WITHOUT_TYPING or typed == str(len(names)):
        return ""
    return f"Type {len(names)}, the number of operations, to go on."


def _request(visit: Visit, action: Action, form: Form) -> Act:
    """Returns the function that requests an action of one operation."""
    reason = form.fields.get("reason", "").strip()
    if action.needs_reason and not reason:
        raise InvalidArgumentError(f"say why, to {action.word.lower()} an operation")

    once = form.fields.get("once", "")

    async def request(name: str) -> str:
        return await visit.source.act(
            visit.credentials,
            action.verb,
            name,
            reason=reason,
            request_id=_request_id(once, name) if once else "",
        )

    return request


def _request_id(once: str, name: str) -> str:
    """Returns the id of a request about one operation, which is the same if it is sent twice."""
    digest = hashlib.blake2b(f"{once} {name}".encode("utf-8", "replace"), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def _progress(job: Job) -> BulkPage:
    return BulkPage(
        action=ACTIONS[job.verb],
        id=job.id,
        parent=job.parent,
        filter=job.filter,
        total=len(job.names),
        done=job.done + job.refused,
        refused=job.refused,
        shown=tuple(_in_place(job.refusals)),
        is_running=job.is_running,
        is_stopped=job.is_stopped,
    )


def _in_place(refusals: Iterable[Refusal]) -> Iterator[Refusal]:
    """Yields refusals until the page is full."""
    budget = Budget()
    for one in refusals:
        if not budget.spend(quote_plus(one.name), cut(one.name), one.message):
            return
        yield one
