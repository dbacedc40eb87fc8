"""Operations of a handler that does nothing, so many at a time, from their starts to their ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro_grpc._stores.store import Store

AT_A_TIME = 250

PARENT = "projects/p/locations/l"
METHOD = "/lro.example.v1.FleetService/CreateInstance"
_REQUEST = fleet_service_pb2.CreateInstanceRequest(parent=PARENT).SerializeToString()

Run = Callable[[int], Awaitable[None]]
"""Takes so many jobs from their starts to their ends."""


@contextlib.asynccontextmanager
async def operations(
    store: Store,
    prepare: Callable[..., lro_grpc.Prepared] | None = None,
    options: lro_grpc.MethodOptions | None = None,
) -> AsyncIterator[Run]:
    """Gives what runs jobs, each an operation on a store, in this process."""

    async def nothing(request: object, op: object) -> fleet_service_pb2.Instance:
        del request, op
        return fleet_service_pb2.Instance()

    served = lro_grpc.Operations(store, limits=lro_grpc.Limits(queue=100 * AT_A_TIME))
    served.add_method(
        METHOD,
        nothing,
        request=fleet_service_pb2.CreateInstanceRequest,
        response=fleet_service_pb2.Instance,
        prepare=prepare,
        options=options,
    )
    await served.start()
    room = asyncio.Semaphore(AT_A_TIME)
    store.subscribe(lambda _, record: room.release() if record.done else None)
    calls = served.local()
    yield lambda jobs: each(jobs, room, lambda: calls.call(METHOD, _REQUEST, None))
    await served.stop(lambda: asyncio.sleep(0))


async def each(jobs: int, room: asyncio.Semaphore, start: Callable[[], Awaitable[object]]) -> None:
    """Starts jobs, as many at a time as there is room, and returns when all have ended.

    Args:
        jobs: How many.
        room: Has ``AT_A_TIME`` places at first; whatever ends a job, releases one.
        start: Starts a job.
    """
    starts = set()
    for _ in range(jobs):
        await room.acquire()
        starts.add(task := asyncio.ensure_future(start()))
        task.add_done_callback(starts.discard)
    for _ in range(AT_A_TIME):
        await room.acquire()
    for _ in range(AT_A_TIME):
        room.release()
