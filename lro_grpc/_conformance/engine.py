"""The contract of an engine, as tests that any engine can be put through; see ``engine_cases``."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue

from lro_grpc._conformance.engine_cases import LEASE, METHOD, PATIENCE, Future, with_folder
from lro_grpc._conformance.engine_keys import EngineKeys
from lro_grpc._errors import (
    Code,
    LroError,
    OperationCancelledError,
    OperationFailedError,
    RetryableError,
)

_HOUR = timedelta(hours=1)


async def _until(future: Future, state: str, attempt: int) -> None:
    """Waits for an operation to be in a state, after or in an attempt."""
    seen: list[tuple[str, int | None]] = []
    async for update in future.updates(PATIENCE):
        seen.append((update.state.name.removeprefix("JOB_STATE_"), update.attempt))
        if seen[-1] == (state, attempt):
            return
    raise AssertionError(f"{future.name} was never {state} with attempt {attempt}: {seen}")


class EngineConformance(EngineKeys):
    """The promises of operations to their callers, whatever the engine; subclass it with one."""

    @with_folder
    async def test_a_handler_gets_the_request_and_the_caller_its_response(
        self, folder: Path
    ) -> None:
        """One attempt does, if nothing fails."""

        def run(request: StringValue, op: Any) -> StringValue:
            return StringValue(value=f"{request.value}, attempt {op.attempt}")

        async with self.served(folder, run) as caller:
            future = await caller.start("made")
            assert (await future.result(PATIENCE)).value == "made, attempt 1"

    @with_folder
    async def test_no_more_run_at_once_than_the_method_allows(self, folder: Path) -> None:
        """And each of those that wait has its turn."""
        running: set[str] = set()
        most = 0

        async def run(request: StringValue, op: Any) -> StringValue:
            nonlocal most
            running.add(op.name)
            most = max(most, len(running))
            await asyncio.sleep(0.01)
            running.discard(op.name)
            return request

        async with self.served(folder, run, concurrency=2) as caller:
            futures = [await caller.start(str(number)) for number in range(12)]
            values = [(await future.result(PATIENCE)).value for future in futures]
        assert values == [str(number) for number in range(12)]
        assert most <= 2

    @with_folder
    async def test_an_error_reaches_the_caller_with_its_code(self, folder: Path) -> None:
        """The handler's own code and words."""

        def run(request: StringValue, op: Any) -> StringValue:
            raise LroError("size is 9; give at most 8", code=Code.OUT_OF_RANGE)

        async with self.served(folder, run) as caller:
            error = await (await caller.start()).exception(PATIENCE)
        assert isinstance(error, OperationFailedError)
        assert (error.code, error.message) == (Code.OUT_OF_RANGE, "size is 9; give at most 8")

    @with_folder
    async def test_an_error_to_retry_begins_another_attempt_after_its_pause(
        self, folder: Path
    ) -> None:
        """Not before; and later as the engine can."""
        begun: list[float] = []

        async def run(request: StringValue, op: Any) -> StringValue:
            begun.append(asyncio.get_running_loop().time())
            if op.attempt == 1:
                raise RetryableError("busy", retry_after=timedelta(seconds=1.5))
            return StringValue(value=str(op.attempt))

        async with self.served(folder, run) as caller:
            assert (await (await caller.start()).result(PATIENCE)).value == "2"
        first, second = begun
        assert second - first >= 1.4, "it has begun before its time"

    @with_folder
    async def test_a_delayed_start_begins_at_its_time(self, folder: Path) -> None:
        """Not before, and what was started after it does not wait for it."""
        begun: dict[str, float] = {}

        def run(request: StringValue, op: Any) -> StringValue:
            begun[request.value] = time.monotonic()
            return request

        async with self.served(folder, run) as caller:
            started_at = time.monotonic()
            start = caller.operations.start_operation
            delayed = await start(METHOD, StringValue(value="delayed"), delay=1.5)
            await (await caller.start("at once")).result(PATIENCE)
            assert [*begun] == ["at once"]
            await caller.attach(delayed.name).result(PATIENCE)
        assert begun["delayed"] - started_at >= 1.4, "it has begun before its time"

    @with_folder
    async def test_the_last_attempt_ends_with_the_handlers_own_error(self, folder: Path) -> None:
        """The method says how many attempts there are."""
        attempts: list[int] = []

        def run(request: StringValue, op: Any) -> StringValue:
            attempts.append(op.attempt)
            raise RetryableError("busy", code=Code.ABORTED)

        async with self.served(folder, run, max_attempts=2) as caller:
            error = await (await caller.start()).exception(PATIENCE)
        assert isinstance(error, OperationFailedError)
        assert (error.code, error.message, attempts) == (Code.ABORTED, "busy", [1, 2])

    @with_folder
    async def test_progress_shows_while_the_handler_runs(self, folder: Path) -> None:
        """Callers need not wait for the end."""
        seen = asyncio.Event()

        async def run(request: StringValue, op: Any) -> StringValue:
            op.progress(40, "copying")
            await seen.wait()
            return request

        async with self.served(folder, run) as caller:
            future = await caller.start()
            async for update in future.updates(PATIENCE):
                if (update.progress_percent, update.status_detail) == (40, "copying"):
                    seen.set()
            assert seen.is_set()
            await future.result(PATIENCE)

    @with_folder
    async def test_a_cancel_stops_the_handler(self, folder: Path) -> None:
        """And calls what it has registered with ``op.on_stop``."""
        stopped = asyncio.Event()

        async def run(request: StringValue, op: Any) -> StringValue:
            op.on_stop(lambda _: stopped.set())
            await asyncio.Event().wait()
            return request

        async with self.served(folder, run) as caller:
            future = await caller.start()
            await _until(future, "RUNNING", 1)
            await future.cancel()
            assert isinstance(await future.exception(PATIENCE), OperationCancelledError)
        assert stopped.is_set()

    @with_folder
    async def test_what_is_cancelled_while_it_waits_never_runs(self, folder: Path) -> None:
        """It does not keep what waits behind it, either."""
        ran: list[str] = []
        gate = asyncio.Event()

        async def run(request: StringValue, op: Any) -> StringValue:
            ran.append(request.value)
            await gate.wait()
            return request

        async with self.served(folder, run, concurrency=1) as caller:
            first = await caller.start("first")
            await _until(first, "RUNNING", 1)
            waiting, last = await caller.start("waiting"), await caller.start("last")
            await waiting.cancel()
            gate.set()
            assert isinstance(await waiting.exception(PATIENCE), OperationCancelledError)
            await last.result(PATIENCE)
        assert ran == ["first", "last"]

    @with_folder
    async def test_a_paused_operation_goes_on_from_its_checkpoint(self, folder: Path) -> None:
        """In another attempt."""

        async def run(request: StringValue, op: Any) -> StringValue:
            while op.checkpoint_state is None or op.attempt == 1:
                await op.checkpoint(b"halfway")
                await asyncio.sleep(0.01)
            return StringValue(value=f"{op.checkpoint_state.decode()}, attempt {op.attempt}")

        async with self.served(folder, run, pausable=True) as caller:
            future = await caller.start()
            await _until(future, "RUNNING", 1)
            await future.pause()
            await _until(future, "PAUSED", 1)
            await future.resume()
            assert (await future.result(PATIENCE)).value == "halfway, attempt 2"

    @with_folder
    async def test_a_retry_that_is_paused_and_resumed_waits_no_longer(self, folder: Path) -> None:
        """Its memory of the time before counts no more."""

        async def run(request: StringValue, op: Any) -> StringValue:
            if op.attempt == 1:
                raise RetryableError("busy", retry_after=_HOUR)
            return StringValue(value=str(op.attempt))

        async with self.served(folder, run, pausable=True) as caller:
            future = await caller.start()
            await _until(future, "QUEUED", 1)
            await future.pause()
            await future.resume()
            assert (await future.result(PATIENCE)).value == "2"

    @with_folder
    async def test_a_retry_that_is_cancelled_is_undone_at_once(self, folder: Path) -> None:
        """Its checkpoint says that there is something to undo."""

        async def run(request: StringValue, op: Any) -> StringValue:
            if op.attempt == 1:
                await op.checkpoint(b"halfway")
                raise RetryableError("busy", retry_after=_HOUR)
            op.progress(detail=f"undone from {op.checkpoint_state.decode()}")
            await op.checkpoint()
            return request

        async with self.served(folder, run) as caller:
            future = await caller.start()
            await _until(future, "QUEUED", 1)
            await future.cancel()
            assert isinstance(await future.exception(PATIENCE), OperationCancelledError)
        assert future.metadata is not None
        assert future.metadata.status_detail == "undone from halfway"

    @with_folder
    async def test_a_time_limit_ends_the_operation(self, folder: Path) -> None:
        """Whatever its handler does."""

        async def run(request: StringValue, op: Any) -> StringValue:
            await asyncio.Event().wait()
            return request

        async with self.served(folder, run, timeout=timedelta(seconds=1)) as caller:
            error = await (await caller.start()).exception(PATIENCE)
        assert isinstance(error, OperationFailedError)
        assert error.code is Code.DEADLINE_EXCEEDED

    @with_folder
    async def test_a_handler_that_runs_for_more_than_a_lease_is_left_alone(
        self, folder: Path
    ) -> None:
        """Its lease is renewed, and nobody else is given it."""

        async def run(request: StringValue, op: Any) -> StringValue:
            await asyncio.sleep(1.5 * LEASE.total_seconds())
            return StringValue(value=str(op.attempt))

        async with self.served(folder, run) as caller:
            assert (await (await caller.start()).result(PATIENCE)).value == "1"

    @with_folder
    async def test_a_batch_that_fails_is_rolled_back(self, folder: Path) -> None:
        """Targets that were created are deleted again."""
        made: list[str] = []

        async def create(target: str) -> None:
            if target == "c":
                raise LroError("no room", code=Code.RESOURCE_EXHAUSTED)
            made.append(target)

        async def delete(target: str) -> None:
            made.remove(target)

        async def run(request: StringValue, op: Any) -> StringValue:
            await op.batch(["a", "b", "c"], create=create, delete=delete)
            return request

        async with self.served(folder, run) as caller:
            error = await (await caller.start()).exception(PATIENCE)
        assert isinstance(error, OperationFailedError)
        assert (error.code, made) == (Code.RESOURCE_EXHAUSTED, [])

    @with_folder
    async def test_an_attempt_that_is_lost_is_followed_by_another(self, folder: Path) -> None:
        """As when its worker stood still for too long."""

        async def run(request: StringValue, op: Any) -> StringValue:
            if op.attempt == 1:
                await asyncio.Event().wait()
            return StringValue(value=str(op.attempt))

        async with self.served(folder, run) as caller:
            future = await caller.start()
            await _until(future, "RUNNING", 1)
            await caller.operations._lose_worker()
            assert (await future.result(PATIENCE)).value == "2"

    @with_folder
    async def test_what_a_server_leaves_the_next_one_goes_on_with(self, folder: Path) -> None:
        """An operation that ran is given back, and one that waited is found."""
        is_over = False

        async def run(request: StringValue, op: Any) -> StringValue:
            if not is_over:
                await asyncio.Event().wait()
            return StringValue(value=f"{request.value}, attempt {op.attempt}")

        async with self.served(folder, run, concurrency=1) as caller:
            running = await caller.start("ran")
            await _until(running, "RUNNING", 1)
            waiting = await caller.start("waited")
        is_over = True
        async with self.served(folder, run, concurrency=1) as caller:
            values = [
                (await caller.attach(future.name).result(PATIENCE)).value
                for future in (running, waiting)
            ]
        assert values == ["ran, attempt 2", "waited, attempt 1"]
