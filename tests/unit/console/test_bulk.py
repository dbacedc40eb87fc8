"""Bulk actions: what is remembered of one after its end, for ten minutes."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from lro_grpc import Code, LimitReachedError, LroError
from lro_grpc._console.bulk import Job, Jobs


def test_no_error_is_kept_but_what_a_page_shows_of_it() -> None:
    """An error holds its whole call; a thousand of them, of each of a hundred actions, are much."""
    errors: list[weakref.ref[LroError]] = []

    async def act(name: str) -> None:
        error = LroError("no, " + "n" * 100_000, code=Code.PERMISSION_DENIED)
        errors.append(weakref.ref(error))
        raise error

    async def acted() -> None:
        names = [f"operations/{number}" for number in range(1_000)]
        job = Job("id", "cancel", (), names, "", "")
        await job.run(act)
        assert (job.done, job.refused) == (0, 1_000)
        assert [one.name for one in job.refusals] == names[:500]
        assert {one.code for one in job.refusals} == {"PERMISSION_DENIED"}
        assert all(one.message.startswith("no, ") for one in job.refusals)
        assert sum(len(one.message) for one in job.refusals) < 500 * 500
        gc.collect()
        assert len(errors) == 1_000
        assert not any(one() for one in errors)

    asyncio.run(acted())


def test_a_caller_leaves_room_to_others() -> None:
    async def acted() -> None:
        jobs, may_end = Jobs(), asyncio.Event()

        async def act(name: str) -> None:
            del name
            await may_end.wait()

        def start(caller: str) -> Job:
            return jobs.start("cancel", ["operations/a"], act, (("authorization", caller),))

        of_ann = [start("ann") for _ in range(4)]
        with pytest.raises(LimitReachedError, match="4 bulk actions of yours are running"):
            start("ann")
        others = [start(caller) for caller in ("bob", "eve", "dan") for _ in range(4)]
        with pytest.raises(LimitReachedError, match="16 bulk actions are running"):
            start("joe")
        may_end.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        assert not any(job.is_running for job in (*of_ann, *others))
        assert start("ann").is_running

    asyncio.run(acted())
