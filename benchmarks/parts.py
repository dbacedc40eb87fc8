"""The parts of the benchmarks, and what they have in common: servers, and filled stores."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from benchmarks import (
    counts,
    database,
    fair,
    filled,
    futures,
    get_operation,
    http_get,
    incumbent,
    labels,
    million,
    notice,
    progress,
    server,
    shared_claims,
    shared_many,
    shared_notice,
    shared_takeover,
    start_to_done,
    start_to_done_shared,
    start_to_done_temporal,
    tails,
    waiters,
    workers,
)
from benchmarks.figure import Figure


class Common:
    """The things that several parts use, made for the first of them; they end with the context."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Common:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @functools.cached_property
    def server(self) -> server.Server:
        """A process with two servers."""
        return self._stack.enter_context(server.serving())

    @functools.cached_property
    def on_uvloop(self) -> server.Server:
        """The same on another event loop."""
        return self._stack.enter_context(server.serving("uvloop"))

    @functools.cached_property
    def postgres(self) -> database.Database:
        """A PostgreSQL server."""
        return self._stack.enter_context(database.running())

    @functools.cached_property
    def filled(self) -> tuple[filled.Filled, filled.Filled]:
        """Stores with many operations, and with few."""
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        return (self._filled(folder, filled.MANY), self._filled(folder, filled.FEW))

    def _filled(self, folder: str, number: int) -> filled.Filled:
        url = self._stack.enter_context(self.postgres.schema())
        return filled.fill(Path(folder, f"{number}.db"), url, number)

    @functools.cached_property
    def backlogged(self) -> tuple[filled.Filled, filled.Filled]:
        """The same stores, from now on with as many more, which wait."""
        many, few = self.filled
        return (filled.add_backlog(many), filled.add_backlog(few))


PARTS: Mapping[str, Callable[[Common], list[Figure]]] = {
    "get": lambda common: get_operation.measure(common.server),
    "get-uvloop": lambda common: get_operation.measure_on_uvloop(common.on_uvloop, common.server),
    "notice": lambda common: notice.measure(common.server),
    "http": lambda _: http_get.measure(),
    "tails": lambda _: tails.measure(),
    "start-to-done": lambda _: start_to_done.measure(),
    "waiters": lambda _: waiters.measure(),
    "progress": lambda _: progress.measure(),
    "incumbent": lambda _: incumbent.measure(),
    "futures": lambda _: futures.measure(),
    "start-to-done-postgres": lambda common: start_to_done_shared.measure(common.postgres),
    "backlog": lambda common: shared_claims.measure(common.postgres),
    "notice-postgres": lambda common: shared_notice.measure(common.postgres),
    "many-postgres": lambda common: shared_many.measure(common.postgres),
    "takeover": lambda common: shared_takeover.measure(common.postgres),
    "workers": lambda common: workers.measure(common.postgres),
    "temporal": lambda common: start_to_done_temporal.measure(common.postgres),
    "million": lambda common: million.measure(*common.filled),
    "labels": lambda common: labels.measure(common.postgres, common.filled[0]),
    "counts": lambda common: counts.measure(*common.filled),
    "counts-backlog": lambda common: counts.measure(*common.backlogged),
    "fair": lambda common: fair.measure(common.postgres, *common.backlogged),
}
"""Each part by its name, in the order in which they run."""
