"""One request to the console: its caller, its query, and the ways to answer it."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple, ParamSpec, TypeAlias, TypeVar
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response

from lro_grpc._console import answers, rendering
from lro_grpc._console.answers import Forms, Rendered
from lro_grpc._console.bulk import Jobs
from lro_grpc._console.counts import StateCounts
from lro_grpc._console.list_page import ListPage
from lro_grpc._console.operation_page import OperationPage
from lro_grpc._console.rendering import Frame
from lro_grpc._console.security import Callers
from lro_grpc._console.shared import Shared
from lro_grpc._console.source import Source
from lro_grpc._console.trouble import trouble_of
from lro_grpc._errors import Code, InvalidArgumentError, LroError, from_status
from lro_grpc._http import responses

_log = logging.getLogger("lro_grpc")

P = ParamSpec("P")
T = TypeVar("T")

_SHARED_SECONDS = 0.9
"""The time for which an answer to one is shown to all who ask for the same."""

_SEE_OTHER = 303

_NO_TARGET = "this server"

_MOST_CHARACTERS = 4_096


class ListPart(NamedTuple):
    """The part of a list's page that is asked for again and again."""

    page: ListPage
    rendered: Rendered
    next_seconds: float
    """The time after which it is worth asking for again."""


class OperationPart(NamedTuple):
    """The part of an operation's page that is held until it changes."""

    page: OperationPage
    rendered: Rendered
    state: bytes
    """The operation, serialized."""
    is_done: bool
    as_of: float
    """The time at which the server was asked for it."""


@dataclasses.dataclass(slots=True, kw_only=True)
class Site:
    """A console: its server, and all that its requests share."""

    source: Source
    callers: Callers
    target: str
    """The server's address; empty if pages cannot tell it."""
    parents: Sequence[str]
    """The parents to choose from; the first is that of the list unless the address has one."""
    read_only: bool
    """Whether it shows only."""
    prefix: str
    """The path at which browsers reach it; empty for the one at which it is mounted."""
    forms: Forms = dataclasses.field(default_factory=Forms)
    jobs: Jobs = dataclasses.field(default_factory=Jobs)
    lists: Shared[ListPart] = dataclasses.field(default_factory=lambda: Shared(_SHARED_SECONDS))
    operations: Shared[OperationPart] = dataclasses.field(
        default_factory=lambda: Shared(_SHARED_SECONDS)
    )
    counts: StateCounts = dataclasses.field(init=False)
    files: asyncio.Semaphore = dataclasses.field(default_factory=lambda: asyncio.Semaphore(2))
    """Lets so many operations be made files at a time, each of which may be large."""
    held: int = 0
    """The number of requests that wait for an operation to change."""

    def __post_init__(self) -> None:
        """Begins without counts."""
        self.counts = StateCounts(self.source.summary)

    def forget(self) -> None:
        """Forgets what is shared, so that a caller sees what has come of an action."""
        self.lists.forget()
        self.operations.forget()

    def answering(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Returns the endpoint of a page: an error becomes a page of its own."""

        async def endpoint(request: Request) -> Response:
            visit = Visit(self, request)
            try:
                return await answer(visit)
            except ClientDisconnect:
                return Response(status_code=499)  # there is nobody to read it
            except Exception as error:  # noqa: BLE001 - it is logged, and the caller sees an id
                return await visit.trouble(error)

        return endpoint


class Visit:
    """One request, and the answers to it.

    Args:
        site: The console.
        request: The request.
    """

    def __init__(self, site: Site, request: Request) -> None:
        self.site = site
        self.source = site.source
        self.request = request
        self.root: str = site.prefix or request.scope.get("root_path", "")
        self.credentials = site.callers.credentials(request, self.root)

    @property
    def is_part(self) -> bool:
        """Whether a page asks for a part of itself, by script."""
        return "x-part" in self.request.headers

    def query(self, name: str) -> str:
        """Returns a parameter of the query; empty if it is not there."""
        return self.request.query_params.get(name, "")

    def url(self, path: str = "", **query: object) -> str:
        """Returns an address of the console."""
        return self._frame().url(path, **query)

    def check_writable(self) -> None:
        """Refuses what changes something if the console shows only.

        Raises:
            HttpError: If it does.
        """
        if self.site.read_only:
            raise responses.HttpError(
                "this console only shows operations, and changes none",
                status=403,
                code=Code.FAILED_PRECONDITION,  # to sign in is of no use
                reason="READ_ONLY",
            )

    def require(self, name: str) -> str:
        """Returns a parameter of the query.

        Raises:
            InvalidArgumentError: If it is not there, or longer than a name may be.
        """
        value = self.query(name)
        if not 0 < len(value) <= _MOST_CHARACTERS:
            raise InvalidArgumentError(
                f"the address has a {name} of {len(value):,} characters; it needs one of 1 to"
                f" {_MOST_CHARACTERS:,}"
            )
        return value

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls a function in a worker thread, where it may open messages of the server's types."""
        self.source.types.asked_by(self.credentials)
        return await run_in_threadpool(function, *args, **kwargs)

    def rendered(self, template: str, *, is_part: bool = False, **values: Any) -> Rendered:
        """Renders a page, or a part of one; to be called in a worker thread."""
        frame = self._frame(is_part=is_part)
        return answers.rendered(rendering.render(template, frame, **values))

    async def page(
        self,
        template: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        *,
        is_part: bool = False,
        **values: Any,
    ) -> Response:
        """Answers with a page."""
        made = await self.in_thread(self.rendered, template, is_part=is_part, **values)
        return answers.page(self.request, made, status, headers)

    def see(self, path: str = "", **query: object) -> Response:
        """Answers with another address, to be fetched by GET."""
        return self.see_path(self.url(path, **query))

    def see_path(self, path: str) -> Response:
        """Answers with a path of this host, to be fetched by GET."""
        return RedirectResponse(path, _SEE_OTHER)

    async def no_page(
        self,
        status: int = 404,
        headers: Mapping[str, str] | None = None,
        *,
        heading: str = "There is no such page",
        message: str = "Look at the address, or begin again from the list.",
        back: str = "",
    ) -> Response:
        """Answers where there is nothing to show, whatever the server says."""
        error = LroError(message, code=Code.NOT_FOUND)
        trouble = trouble_of(error, back=back)
        trouble = dataclasses.replace(trouble, heading=heading, advice="", status=status)
        template = "part_trouble.html" if self.is_part else "trouble.html"
        return await self.page(template, status, headers, is_part=self.is_part, trouble=trouble)

    async def trouble(self, error: Exception) -> Response:
        """Answers with an error, or with the sign-in where that may help.

        Args:
            error: The error; one that is no ``LroError`` is logged, and its caller sees an id only.
        """
        status = 0
        headers: Mapping[str, str] = {}
        if not isinstance(error, LroError) or isinstance(error, responses.HttpError):
            where = f"the console's {self.request.method} {self.request.url.path}"
            status, headers, shown = responses.http_error(error, where)
            error = from_status(shown)
        if self._may_sign_in(error):
            return self._to_sign_in()
        again = self._here() if self.request.method == "GET" else ""
        trouble = trouble_of(error, again=again)
        template = "part_trouble.html" if self.is_part else "trouble.html"
        return await self.page(
            template, status or trouble.status, headers, is_part=self.is_part, trouble=trouble
        )

    def _may_sign_in(self, error: LroError) -> bool:
        """Whether the caller may be let in once they have signed in.

        Many a server answers PERMISSION_DENIED to nobody, too.
        """
        if not self.site.callers.sign_in:
            return False
        is_nobody = not self.site.callers.is_signed_in(self.request, self.root)
        return error.code is Code.UNAUTHENTICATED or (
            error.code is Code.PERMISSION_DENIED and is_nobody
        )

    def _to_sign_in(self) -> Response:
        if self.is_part:
            return Response(status_code=401)
        here = self._here() if self.request.method == "GET" else self.url()
        return self.see("signin", next=here)

    def _here(self) -> str:
        """Returns the address of this request, as the browser has it."""
        scope = self.request.scope
        path = quote(scope["path"].removeprefix(scope.get("root_path", "")))
        query = scope["query_string"].decode("latin-1")
        return f"{self.root}{path}" + (f"?{query}" if query else "")

    def _frame(self, *, is_part: bool = False) -> Frame:
        callers = self.site.callers
        return Frame(
            target=self.site.target or _NO_TARGET,
            prefix=self.root,
            now=datetime.now(timezone.utc),
            read_only=self.site.read_only,
            sign_in=callers.sign_in,
            signed_in=callers.is_signed_in(self.request, self.root),
            is_part=is_part,
        )


Answer: TypeAlias = Callable[[Visit], Awaitable[Response]]
"""Answers one request."""
