"""The end of a load: everything is asked for once more, and judged."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import grpc
from checker import Verdict, judge
from killable import AT_ONCE_SECONDS
from load import PARENT
from remains import disorder

from lro.v1.operation_description_pb2 import OperationAttempt
from lro_grpc._runtime.clock import SystemClock
from lro_grpc.stores import Query, SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.longrunning import operations_pb2
    from killable import Client, Site
    from load import Board

TOGETHER = 100
"""How many calls are under way at a time."""
ENDING = {OperationAttempt.SUCCEEDED, OperationAttempt.FAILED, OperationAttempt.TERMINATED}
"""The outcomes after which no attempt follows."""
MAX_PATIENCE = 3
"""How many operations without an end are waited for before the others are given up, too."""


def settled(site: Site, board: Board) -> Verdict:
    """Ends everything that was started at a site, and returns what has come of it."""
    integrity = {site.integrity()}
    server = site.serve()
    ask_for_everything(board, server)
    server.drain()
    integrity.add(site.integrity())
    histories = asyncio.run(misfits(site))
    verdict = judged(site, board)
    verdict.wrong += [f"the file is not sound: {text}" for text in integrity - {"ok"}]
    verdict.wrong += histories
    return verdict


async def misfits(site: Site) -> list[str]:
    """Returns a sentence on each history at a site, which nobody serves now, that does not fit."""
    store = SqliteStore(site.store, SystemClock().now)
    found = []
    await store.open()
    page = await store.page(Query("-"), position=b"", size=TOGETHER, records=True)
    while True:
        for record in page.records:
            _, attempts = await store.read_attempts(record.name)
            kept = [n for n in range(1, record.attempt + 1) if n == 1 or n > record.attempt - 49]
            if [one.number for one in attempts] != kept:
                found.append(f"{record.name} in attempt {record.attempt} has others: {attempts}")
            if not all(one.worker and one.start_time <= one.end_time for one in attempts):
                found.append(f"{record.name} has attempts without a worker or an end: {attempts}")
            if any(one.outcome in ENDING for one in attempts[:-1]):
                found.append(f"{record.name} goes on after its end: {attempts}")
        if not page.position:
            break
        page = await store.page(Query("-"), position=page.position, size=TOGETHER, records=True)
    await store.close()
    return found


def judged(site: Site, board: Board, *, overlapping: bool = False) -> Verdict:
    """Returns what has come of what was started at a site, once everything was asked for.

    Args:
        site: The site.
        board: What its callers know.
        overlapping: Whether an attempt may have gone on for a moment beside the next one.
    """
    history = board.history
    verdict = judge(history, site.runs())
    ended = [(history.requests[one], end) for one, end in verdict.ends.items()]
    verdict.wrong += disorder(site, ended, overlapping=overlapping)
    return verdict


def ask_for_everything(board: Board, client: Client) -> None:
    """Ends everything that was started, and asks for it."""
    history = board.history
    for ids in _in_parts(list(history.requests)):
        requests = [(one, request) for one in ids if (request := board.send(one)) is not None]
        starts = [(history.begin("start", one), client.starting(what)) for one, what in requests]
        for call, answer in starts:
            with call:
                call.answers = [answer.result().SerializeToString()]
            board.acknowledged(call.about, call.name)
    for name in board.unwanted:  # some may be deleted by now; it is for the checker to judge
        with contextlib.suppress(grpc.RpcError), history.begin("cancel", name):
            client.cancel(name)
    for name in {call.about for call in history.calls if call.what == "pause"}:
        with contextlib.suppress(grpc.RpcError), history.begin("resume", name):
            client.resume(name)
    impatient = 0
    for operation in _walk(board, client):
        if not operation.done and impatient < MAX_PATIENCE:
            with history.begin("wait", operation.name) as call:
                ended = client.wait_for(operation.name, AT_ONCE_SECONDS)
                call.answers = [ended.SerializeToString()]
            impatient += not ended.done
    for names in _in_parts(list(board.names.values())):
        gets = [(history.begin("get", name), client.getting_bytes(name)) for name in names]
        for call, answer in gets:
            with contextlib.suppress(grpc.RpcError), call:
                call.answers = [answer.result()]
    _walk(board, client)


def _walk(board: Board, client: Client) -> list[operations_pb2.Operation]:
    with board.history.begin("walk", PARENT) as call:
        found = client.walk(PARENT)
        call.answers = [operation.SerializeToString() for operation in found]
    return found


def _in_parts(all_of_them: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(all_of_them), TOGETHER):
        yield all_of_them[begin : begin + TOGETHER]
