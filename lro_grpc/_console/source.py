"""One server of operations, as its callers see it: what they ask for, and what it does not have."""

from __future__ import annotations

import re
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from google.longrunning import operations_pb2

from lro.v1.operation_description_pb2 import DescribeOperationResponse
from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse
from lro_grpc._client import calls, experience, plan
from lro_grpc._client.core import ClientCore
from lro_grpc._client.listing import Listing
from lro_grpc._console.actions import CONTROL
from lro_grpc._console.servers import Credentials, Server
from lro_grpc._console.types_of_server import ServerTypes
from lro_grpc._errors import Code, LroError

TIMEOUT = timedelta(seconds=10)
"""The longest that the server may take for a call that is not held."""

_MOST_CALLERS = 100
_MOST_SIZES = 100

_SMALLER_FOR = 600.0
"""The seconds for which pages that were too large are asked for with fewer operations."""

_DESCRIBE, _SUMMARIZE = "DescribeOperation", "SummarizeOperations"

_RPCS: Mapping[str, str] = {
    "cancel": "CancelOperation",
    "pause": "PauseOperation",
    "resume": "ResumeOperation",
    "rerun": "RerunOperation",
    "terminate": "TerminateOperation",
    "delete": "DeleteOperation",
}
"""The method by which each action is requested."""


class ListQuery(NamedTuple):
    """A page of a list, as it is asked for."""

    parent: str
    filter: str
    size: int
    token: str


class Described(NamedTuple):
    """An operation, with what the server tells those who run it, if it does."""

    operation: operations_pb2.Operation
    description: DescribeOperationResponse | None


class Source:
    """A server, asked for many callers, each by their own credentials.

    Nothing is asked that no reader has asked for. A method that the server does not have is not
    asked for again for ten minutes.

    Args:
        server: The way to it.
        clock: Gives the monotonic time, in seconds.
    """

    def __init__(self, server: Server, clock: Callable[[], float] = time.monotonic) -> None:
        self.types = ServerTypes(server, clock)
        """The types of the server's messages."""
        self._server = server
        self._clock = clock
        self._callers: OrderedDict[Credentials, ClientCore] = OrderedDict()
        self._unusable = experience.Unusable()
        self._sizes: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()
        """The sizes of pages that are known to be small enough, and until when that counts."""
        self._has_shown_control = False

    @property
    def has_control(self) -> bool:
        """Whether the server has shown that it has ``lro.v1.OperationControlService``."""
        return self._has_shown_control and not self._lacks_rpc(_DESCRIBE)

    def lacks(self, *, is_described: bool = False) -> frozenset[str]:
        """Returns the actions that the server does not have, as far as it has shown that.

        Nothing is tried to find it out: a server without a Watch or descriptions is taken to have
        no other method of the same service.

        Args:
            is_described: Whether it has just described an operation, so that it has the service.
        """
        lacks = {verb for verb, rpc in _RPCS.items() if self._lacks_rpc(rpc)}
        if not is_described and any(map(self._lacks_rpc, (experience.WATCH, _DESCRIBE))):
            lacks |= CONTROL
        return frozenset(lacks)

    async def page(
        self, credentials: Credentials, query: ListQuery
    ) -> operations_pb2.ListOperationsResponse:
        """Returns a page of operations, of the size asked for or a smaller one.

        A page that is larger than a message may be is asked for again with a quarter of its size.

        Raises:
            LroError: The error of the server.
        """
        which = query.parent, query.filter
        size = min(query.size, self._size_of(which))
        while True:
            try:
                return await self._list(credentials, query._replace(size=size))
            except LroError as error:
                if not _is_too_large(error) or size == 1:
                    raise
            size = self.smaller(which, size)

    def smaller(self, which: tuple[str, str], size: int) -> int:
        """Notes that pages of a parent and a filter are too large, and returns a smaller size."""
        smaller = max(1, size // 4)
        self._sizes.pop(which, None)
        self._sizes[which] = smaller, self._clock() + _SMALLER_FOR
        if len(self._sizes) > _MOST_SIZES:
            self._sizes.popitem(last=False)
        return smaller

    async def summary(self, credentials: Credentials, parent: str) -> SummarizeOperationsResponse:
        """Returns the numbers of a parent's operations.

        Raises:
            LroError: The error of the server; UNIMPLEMENTED if it does not count them.
        """
        if self._lacks_rpc(_SUMMARIZE):
            raise LroError("this server counts no operations", code=Code.UNIMPLEMENTED)
        call = calls.summarize_call(parent, "", TIMEOUT)
        found: SummarizeOperationsResponse = await self._call(credentials, call)
        self._has_shown_control = True
        return found

    async def get(self, credentials: Credentials, name: str) -> operations_pb2.Operation:
        """Returns an operation.

        Raises:
            LroError: The error of the server.
        """
        found: operations_pb2.Operation = await self._caller(credentials).call(
            plan.get_call(name, TIMEOUT)
        )
        return found

    async def described(self, credentials: Credentials, name: str) -> Described:
        """Returns an operation, with its description where the server and its guard give one.

        Raises:
            LroError: The error of the server.
        """
        description = await self._describe(credentials, name)
        if description is not None:
            return Described(description.operation, description)
        return Described(await self.get(credentials, name), None)

    async def redescribed(
        self, credentials: Credentials, operation: operations_pb2.Operation
    ) -> Described:
        """Returns a state of an operation that has just come, with its description."""
        description = await self._describe(credentials, operation.name)
        if description is not None:
            return Described(description.operation, description)
        return Described(operation, None)

    async def with_request(self, credentials: Credentials, name: str) -> DescribeOperationResponse:
        """Returns the description of an operation, with the request that has started it.

        Raises:
            LroError: The error of the server; UNIMPLEMENTED if it gives no description.
        """
        found = await self._describe(credentials, name, with_request=True)
        if found is None:
            raise LroError("this server describes no operations to you", code=Code.UNIMPLEMENTED)
        return found

    def states(
        self, credentials: Credentials, name: str
    ) -> AsyncGenerator[operations_pb2.Operation, None]:
        """Yields an operation, and each state that it comes to, by the best call of the server."""
        watcher = self._caller(credentials).watcher(operations_pb2.Operation(name=name))
        return watcher.states(None)

    async def act(
        self,
        credentials: Credentials,
        verb: str,
        name: str,
        *,
        reason: str = "",
        request_id: str = "",
    ) -> str:
        """Requests an action, once.

        Args:
            credentials: The caller.
            verb: Such as ``cancel``.
            name: The operation's name.
            reason: Why; of ``terminate`` alone.
            request_id: Makes a ``rerun`` safe to repeat; one of its own unless given.

        Returns:
            The name of the operation that a rerun has started; empty for any other action.

        Raises:
            LroError: The error of the server.
        """
        answer = await self._call(credentials, _call(verb, name, reason, request_id))
        started: str = answer.operation.name if verb == "rerun" else ""
        return started

    def _caller(self, credentials: Credentials) -> ClientCore:
        """Returns the client of a caller: those who follow an operation by one share its calls."""
        found = self._callers.pop(credentials, None)
        if found is None:
            connection = self._server.connection(credentials)
            self._unusable = connection.unusable  # the same one, whoever the caller is
            found = ClientCore(connection, retry=None)
        self._callers[credentials] = found
        if len(self._callers) > _MOST_CALLERS:
            self._callers.popitem(last=False)
        return found

    def _size_of(self, which: tuple[str, str]) -> int:
        """Returns the size of a page that a parent and a filter are known to need."""
        size, until = self._sizes.get(which, (sys.maxsize, 0.0))
        return size if self._clock() < until else sys.maxsize

    def _lacks_rpc(self, rpc: str) -> bool:
        return self._unusable.has(rpc, self._clock())

    async def _call(self, credentials: Credentials, call: plan.Call) -> Any:
        """Makes a call, and remembers the method if the server does not have it."""
        try:
            return await self._caller(credentials).call(call, once=True)
        except LroError as error:
            if error.code is Code.UNIMPLEMENTED:
                self._unusable.add(call.method, self._clock())
            raise

    async def _list(
        self, credentials: Credentials, query: ListQuery
    ) -> operations_pb2.ListOperationsResponse:
        request = operations_pb2.ListOperationsRequest(
            name=query.parent,
            filter=query.filter,
            page_size=query.size,
            page_token=query.token,
        )
        page = await Listing(self._caller(credentials), request, TIMEOUT, None).page()
        assert page is not None, "the first page is always there"
        return page

    async def _describe(
        self, credentials: Credentials, name: str, *, with_request: bool = False
    ) -> DescribeOperationResponse | None:
        """Returns a description; None if the server has none, or not for this caller."""
        if self._lacks_rpc(_DESCRIBE):
            return None
        call = calls.describe_call(name, TIMEOUT, with_request=with_request)
        try:
            found: DescribeOperationResponse = await self._call(credentials, call)
        except LroError as error:
            if error.code in _LEAVES_GET:
                return None
            raise
        self._has_shown_control = True
        return found if found.operation.name == name else None


_LEAVES_GET = frozenset(
    {Code.UNIMPLEMENTED, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED, Code.INTERNAL, Code.UNKNOWN}
)
"""The errors of a description after which a Get may be answered all the same."""


def _is_too_large(error: LroError) -> bool:
    """Whether this side has refused an answer for its size, for which gRPC has no code alone."""
    return error.code is Code.RESOURCE_EXHAUSTED and bool(_TOO_LARGE.search(error.message))


_TOO_LARGE = re.compile(r"message larger than max|exceeds maximum", re.IGNORECASE)


def _call(verb: str, name: str, reason: str, request_id: str) -> plan.Call:
    match verb:
        case "cancel":
            return calls.cancel_call(name, TIMEOUT)
        case "pause":
            return calls.pause_call(name, TIMEOUT)
        case "resume":
            return calls.resume_call(name, TIMEOUT)
        case "rerun":
            return calls.rerun_call(name, request_id, validate_only=False, timeout=TIMEOUT)
        case "terminate":
            return calls.terminate_call(name, reason, TIMEOUT)
        case _:
            assert verb == "delete", verb
            return calls.delete_call(name, TIMEOUT)
