"""Bulk actions: what is remembered of one after its end, for ten minutes."""

from __future__ import annotations

import asyncio
import gc
import weakref

from lro_grpc import Code, LroError
from lro_grpc._console.bulk import Job


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
