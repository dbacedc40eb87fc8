"""The number of operations in each state, of a server that counts them; none are counted here."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

from lro.v1.operation_summary_pb2 import SummarizeOperationsResponse
from lro_grpc._console.servers import Credentials
from lro_grpc._console.shared import Shared
from lro_grpc._errors import LroError
from lro_grpc._operation.states import JOB

Counts = Mapping[str, str]
"""The number of operations by their state, such as ``RUNNING``, as text: ``1,200+``."""

_SECONDS_BETWEEN = 10.0
"""The least time between two counts of one parent: a server with many operations has work to do."""

_LONGEST_WAIT = 0.3
"""The seconds for which a page waits for its first counts, and no page for later ones."""

_MOST_KEPT = 100


class StateCounts:
    """The latest counts of each parent, as each caller may see them.

    Args:
        summarize: Asks the server for the counts of a parent.
    """

    def __init__(
        self, summarize: Callable[[Credentials, str], Awaitable[SummarizeOperationsResponse]]
    ) -> None:
        self._summarize = summarize
        self._asked: Shared[None] = Shared(_SECONDS_BETWEEN)
        self._latest: OrderedDict[tuple[Credentials, str], Counts] = OrderedDict()

    async def of(self, credentials: Credentials, parent: str) -> Counts:
        """Returns the latest counts; empty as long as there are none, or the server refuses them.

        Args:
            credentials: The caller.
            parent: The parent.
        """
        key = credentials, parent

        async def ask() -> None:
            try:
                found = _by_state(await self._summarize(credentials, parent))
            except LroError:
                found = {}  # the list tells what is wrong, if it is not this alone
            self._latest.pop(key, None)
            self._latest[key] = found
            if len(self._latest) > _MOST_KEPT:
                self._latest.popitem(last=False)

        asking = asyncio.ensure_future(self._asked.get(key, ask))
        await asyncio.wait([asking], timeout=0 if key in self._latest else _LONGEST_WAIT)
        asking.cancel()  # it goes on for all who share it
        return self._latest.get(key, {})


def _by_state(summary: SummarizeOperationsResponse) -> Counts:
    numbers: dict[int, int] = {}
    estimated = set()
    for one in summary.counts:
        numbers[one.state] = numbers.get(one.state, 0) + one.count
        if one.lower_bound:
            estimated.add(one.state)
    return {
        JOB.name_of(state).removeprefix("JOB_STATE_"): f"{number:,}"
        + ("+" if state in estimated else "")
        for state, number in sorted(numbers.items())
    }
