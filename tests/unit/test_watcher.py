"""A watcher and its plans in virtual time, with servers that are functions of the call."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc._client import experience, plan
from lro_grpc._client.core import ClientCore, WaitMode
from lro_grpc._errors import Code, LroError, OperationTimeoutError
from lro_grpc._runtime.backoff import DEFAULT_BACKOFF, DEFAULT_RETRY, Backoff, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator

NAME = "operations/1"
WATCH, WAIT, GET = experience.WATCH, experience.WAIT, experience.GET

Answer = tuple[float, "operations_pb2.Operation | LroError"]


def running(name: str = NAME, *, step: int = 0) -> operations_pb2.Operation:
    one = operations_pb2.Operation(name=name)
    if step:
        one.metadata.Pack(Timestamp(seconds=step))
    return one


def done(name: str = NAME) -> operations_pb2.Operation:
    one = operations_pb2.Operation(name=name, done=True)
    one.metadata.Pack(Timestamp(seconds=99))
    one.response.Pack(Timestamp(seconds=7))
    return one


def failed(code: Code, *, retry_after: float | None = None) -> LroError:
    info = error_details_pb2.RetryInfo()
    if retry_after is not None:
        info.retry_delay.FromTimedelta(timedelta(seconds=retry_after))
    details = [] if retry_after is None else [info]
    return LroError("as the test says", code=code, details=details)


class VirtualSelector(selectors.SelectSelector):
    """Lets the time pass at once that a loop wants to wait for."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self.selector = VirtualSelector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now


class World:
    """A server that is a function of the call, and the one operation that is watched there.

    The server answers (seconds, answer). An answer that takes longer than the call's deadline is
    DEADLINE_EXCEEDED at the deadline, as gRPC has it. It lacks WatchOperation unless ``watch``
    says what comes of one: a list of answers, each so many seconds after the one before.
    """

    def __init__(
        self,
        server: Callable[[plan.Call], Answer],
        *,
        random: float = 0.5,
        watch: Callable[[], list[Answer]] | None = None,
    ) -> None:
        self.server = server
        self.streams = watch
        self.random = random
        self.loop = VirtualLoop()
        self.calls: list[plan.Call] = []
        self.methods: list[str] = []
        self.polls_after: float | None = None
        self.pauses: list[float] = []
        self.open = 0
        self.unusable = experience.Unusable()
        self.closing_seconds = 0.0
        """The time that a Watch takes to end once nobody reads it any more."""
        self.keeps_deadlines = True
        """Whether a call ends at its deadline, as gRPC has it."""
        self.backoff = DEFAULT_BACKOFF
        self.retry = DEFAULT_RETRY
        self.mode: WaitMode = "auto"
        self.restart()
        worlds.append(self)

    @property
    def now(self) -> float:
        return self.loop.time()

    @now.setter
    def now(self, now: float) -> None:
        self.loop.selector.now = now

    @property
    def operation(self) -> operations_pb2.Operation:
        return self.watcher.snapshot.operation

    def restart(self, operation: operations_pb2.Operation | None = None) -> None:
        """Begins with a new watcher, which has seen nothing of the operation."""
        core = ClientCore(
            self,
            backoff=self.backoff,
            retry=self.retry,
            wait=self.mode,
            clock=self,
            random=lambda: self.random,
        )
        self.watcher = core.watcher(operation or running())

    def close(self) -> None:
        assert not asyncio.all_tasks(self.loop)
        assert self.open == 0
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def and_what_is_left() -> Any:
            try:
                return await coroutine
            finally:
                for _ in range(10):  # what was cancelled ends
                    await asyncio.sleep(0)

        return self.loop.run_until_complete(and_what_is_left())

    def wait(
        self, timeout: float | timedelta | None = None, backoff: Backoff | None = None
    ) -> None:
        if isinstance(timeout, (int, float)):
            timeout = timedelta(seconds=timeout)
        if backoff:
            self.backoff = backoff
            self.restart()
        self.run(self.watcher.wait(timeout))

    def refresh(self) -> None:
        self.run(self.watcher.refresh())

    def states(self, timeout: timedelta | None = None) -> list[tuple[float, int]]:
        """Returns when which step was seen; 99 is done."""

        async def collect() -> list[tuple[float, int]]:
            found = []
            async for one in self.watcher.states(timeout):
                found.append((round(self.now - 1000, 3), step_of(one)))
            return found

        return self.run(collect())

    # As a clock:

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        task = asyncio.current_task()
        assert task is not None
        if "sleep" not in task.get_coro().__qualname__:  # it is no time limit, in a task of its own
            self.pauses.append(seconds)
        await asyncio.sleep(seconds)

    # As a connection:

    async def call(self, call: plan.Call) -> plan.Reply:
        assert call.timeout is not None
        assert call.timeout >= timedelta(0)
        assert call.request.name == NAME
        self.calls.append(call)
        self.methods.append(call.method)
        seconds, answer = self.server(call)
        limit = call.timeout.total_seconds() if self.keeps_deadlines else 1e9
        self.open += 1
        try:
            await asyncio.sleep(min(seconds, limit))
        finally:
            self.open -= 1
        if seconds > limit:
            return plan.Reply(failed(Code.DEADLINE_EXCEEDED))
        if isinstance(answer, LroError):
            return plan.Reply(answer)
        return plan.Reply(message=answer, poll_after=self.polls_after)

    async def watch(self, step: plan.Watch) -> AsyncGenerator[operations_pb2.Operation, None]:
        self.methods.append(WATCH)
        self.open += 1
        try:
            for seconds, answer in (
                self.streams() if self.streams else [(0.01, failed(Code.UNIMPLEMENTED))]
            ):
                await asyncio.sleep(seconds)
                if isinstance(answer, LroError):
                    raise answer
                yield answer
        finally:
            if self.closing_seconds:
                await asyncio.sleep(self.closing_seconds)
            self.open -= 1


worlds: list[World] = []


@pytest.fixture(autouse=True)
def _end_of_the_worlds() -> Iterator[None]:
    yield
    while worlds:
        worlds.pop().close()


def step_of(one: operations_pb2.Operation) -> int:
    step = Timestamp()
    one.metadata.Unpack(step)
    return 99 if one.done else step.seconds


def scripted(*answers: Answer) -> Callable[[plan.Call], Answer]:
    script = iter(answers)
    return lambda call: next(script)


def held(call: plan.Call) -> float:
    return call.request.timeout.ToTimedelta().total_seconds()


def honest(done_at: float, *, has_wait: bool = True) -> World:
    """A server whose operation is done at that time, and that answers calls in 10 ms."""

    def server(call: plan.Call) -> Answer:
        left = done_at - (world.now - 1000)
        if call.method == GET:
            return 0.01, running() if left > 0 else done()
        if not has_wait:
            return 0.01, failed(Code.UNIMPLEMENTED)
        if left > held(call):
            return held(call) + 0.01, running()
        return max(left, 0) + 0.01, done()

    world = World(server)
    return world


def test_a_done_operation_needs_no_step() -> None:
    world = World(scripted())
    world.restart(done())
    world.wait()
    world.refresh()
    assert world.calls == []


def test_a_short_operation_takes_one_wait() -> None:
    world = honest(10)
    world.wait()
    assert world.methods == [WAIT]
    assert world.now == pytest.approx(1010.01)


def test_a_long_operation_is_held_half_a_minute_a_call_without_pauses() -> None:
    world = honest(100)
    world.wait()
    assert world.methods == [WAIT] * 4
    assert [held(call) for call in world.calls] == [30] * 4
    assert world.pauses == []


def test_without_wait_it_polls_and_remembers_for_ten_minutes() -> None:
    world = honest(10, has_wait=False)
    world.wait()
    assert world.methods[0] == WAIT
    assert set(world.methods[1:]) == {GET}
    assert world.now - 1010 < 2

    def methods_of_another_wait() -> list[str]:
        world.methods.clear()
        world.restart()
        world.wait()
        return list(world.methods)

    world.now = 1000 + 599
    assert methods_of_another_wait() == [GET]
    world.now = 1000 + 601
    assert methods_of_another_wait() == [WAIT, GET]


def test_polls_follow_the_schedule() -> None:
    """P5: the intervals are the caller's to set, for the server names none."""
    backoff = Backoff(initial=timedelta(seconds=1), multiplier=2, maximum=timedelta(seconds=8))
    world = honest(30, has_wait=False)
    world.random = 1.0
    world.wait(backoff=backoff)
    assert world.pauses == [1, 2, 4, 8, 8, 8]


def test_a_wait_that_is_answered_at_once_makes_no_busy_loop() -> None:
    """P9: a server may answer at once, again and again."""
    world = World(lambda call: (0.001, running()))
    with pytest.raises(OperationTimeoutError):
        world.wait(60)
    assert len(world.calls) < 50
    assert set(world.methods[:-1]) == {WAIT}


def test_a_wait_that_is_held_less_than_asked_is_repeated_at_once() -> None:
    world = World(lambda call: (5, running()) if world.now < 1050 else (0.01, done()))
    world.wait()
    assert world.pauses == []


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED])
def test_a_transient_error_is_waited_out(code: Code) -> None:
    """P13: UNAVAILABLE is tried again, and a deadline only says that it is not done yet."""
    world = World(lambda call: (0.001, failed(code) if world.now < 1060 else done()))
    world.wait()
    assert 60 < world.now - 1000 < 65
    assert len(world.calls) < 50


def test_pauses_begin_anew_after_a_wait_that_was_held() -> None:
    early = (0.01, running())
    world = World(scripted(*[early] * 5, (20, running()), early, (0.01, done())))
    world.wait()
    assert len(world.pauses) == 6
    assert world.pauses[5] == world.pauses[0] < world.pauses[4]


def test_a_server_that_went_down_is_asked_again_after_a_pause_only_and_by_a_get() -> None:
    down = (0.01, failed(Code.UNAVAILABLE))
    world = World(
        scripted((20, failed(Code.UNAVAILABLE)), down, down, (0.01, running()), (5, done()))
    )
    world.wait()
    assert world.methods == [WAIT, GET, GET, GET, WAIT]
    assert len(world.pauses) == 4


def test_after_a_wait_without_an_answer_comes_a_get() -> None:
    world = World(lambda call: (99, running()) if call.method == WAIT else (0.01, done()))
    world.wait()
    assert world.methods == [WAIT, GET]
    assert world.now == pytest.approx(1035.01)


@pytest.mark.parametrize("method", [WAIT, GET])
@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.PERMISSION_DENIED, Code.INTERNAL])
def test_another_error_ends_the_wait(code: Code, method: str) -> None:
    """P13: nothing else is."""
    world = World(lambda call: (0.01, failed(code)))
    if method == GET:
        world.unusable.add(WAIT, world.now)
    with pytest.raises(LroError) as caught:
        world.wait()
    assert caught.value.code is code
    assert world.methods == [method]


def test_get_unusable_ends_the_wait() -> None:
    world = World(lambda call: (0.01, failed(Code.UNIMPLEMENTED)))
    with pytest.raises(LroError) as caught:
        world.wait()
    assert caught.value.code is Code.UNIMPLEMENTED
    assert world.methods == [WAIT, GET]


@pytest.mark.parametrize("has_wait", [True, False])
@pytest.mark.parametrize("timeout", [0.05, 1, 10, 100])
def test_a_timeout_names_the_operation_and_polls_last_at_the_deadline(
    timeout: float, has_wait: bool
) -> None:
    world = honest(1e6, has_wait=has_wait)
    with pytest.raises(OperationTimeoutError, match=NAME) as caught:
        world.wait(timeout)
    assert caught.value.operation is world.operation
    assert timeout <= world.now - 1000 <= timeout + 0.02


def test_a_wait_that_was_held_to_the_end_is_the_last_poll() -> None:
    world = honest(1e6)
    with pytest.raises(OperationTimeoutError):
        world.wait(10)
    assert world.methods == [WAIT]


@pytest.mark.parametrize("has_wait", [True, False])
@pytest.mark.parametrize(
    ("takes", "timeout"), [(0.95, 1), (1.9, 2), (2.85, 3), (9.99, 10), (0.001, 0.002)]
)
def test_an_operation_that_is_done_before_the_timeout_is_no_timeout(
    takes: float, timeout: float, has_wait: bool
) -> None:
    world = honest(takes, has_wait=has_wait)
    world.random = 1.0
    world.wait(timeout)
    assert world.operation.done


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_a_slow_server_has_half_a_second_to_answer_the_last_poll(seconds: float) -> None:
    world = World(lambda call: (seconds, done() if len(world.calls) > 1 else running()))
    world.unusable.add(WAIT, world.now)
    world.backoff = Backoff(timedelta(seconds=100), maximum=timedelta(seconds=100), jitter=False)
    world.restart()
    world.wait(3)
    assert world.now == pytest.approx(1003 + seconds)


def test_an_answer_of_before_the_end_that_comes_after_it_is_no_last_poll() -> None:
    def server(call: plan.Call) -> Answer:
        return 0.2, done() if world.now >= 1002.95 else running()

    world = World(server)
    world.unusable.add(WAIT, world.now)
    world.backoff = Backoff(timedelta(seconds=2.7), maximum=timedelta(seconds=9), jitter=False)
    world.restart()
    world.wait(3)  # the second Get begins at 2.9, and the operation is done at 2.95
    assert world.methods == [GET, GET, GET]


def test_a_server_that_never_answers_ends_half_a_second_after_the_timeout() -> None:
    world = World(lambda call: (1e9, running()))
    with pytest.raises(OperationTimeoutError, match="DEADLINE_EXCEEDED") as caught:
        world.wait(60)
    assert world.now == pytest.approx(1060.5)
    assert isinstance(caught.value.__cause__, LroError)
    assert len(world.calls) < 10


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_is_one_get(timeout: float) -> None:
    world = World(scripted((0.01, running()), (0.01, done())))
    with pytest.raises(OperationTimeoutError):
        world.wait(timeout)
    assert world.methods == [GET]
    world.now += 1
    world.wait(timeout)
    assert world.methods == [GET, GET]


def test_the_longest_timeout_is_no_problem() -> None:
    world = honest(10, has_wait=False)
    world.wait(timedelta.max)
    assert world.operation.done


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED])
def test_a_refresh_passes_over_a_transient_error(code: Code) -> None:
    world = World(scripted((0.01, failed(code))))
    world.refresh()
    assert world.methods == [GET]


def test_a_refresh_raises_any_other_error() -> None:
    world = World(scripted((0.01, failed(Code.NOT_FOUND))))
    with pytest.raises(LroError, match="as the test says"):
        world.refresh()


ANSWERS = st.one_of(
    st.builds(running),
    st.sampled_from([Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED]).map(failed),
)


@given(
    timeout=st.floats(0.001, 300),
    random=st.floats(0.2, 0.999),
    script=st.lists(st.tuples(st.floats(0, 100), ANSWERS), min_size=1, max_size=20),
)
def test_whatever_the_server_does_the_wait_is_bounded_in_time_and_calls(
    timeout: float, random: float, script: list[tuple[float, operations_pb2.Operation | LroError]]
) -> None:
    answers = itertools.cycle(script)
    world = World(lambda call: next(answers), random=random)
    with pytest.raises(LroError) as caught:
        world.wait(timeout)
    assert isinstance(caught.value, OperationTimeoutError) or caught.value.code is (
        Code.UNIMPLEMENTED
    )
    assert world.now - 1000 <= timeout + 0.5 + 1e-6
    assert len(world.calls) <= 45 + timeout * (1 + 2 / random)


def test_ten_who_wait_share_the_calls_and_each_has_its_own_time() -> None:
    world = honest(45)

    async def ten() -> list[Any]:
        waits = [world.watcher.wait(timedelta(seconds=5 * n)) for n in range(1, 11)]
        return await asyncio.gather(*waits, return_exceptions=True)

    outcomes = world.run(ten())
    late = [type(one) for one in outcomes[:8]]
    assert late == [OperationTimeoutError] * 8
    assert outcomes[9] is None
    assert world.methods.count(WAIT) == 2
    assert world.methods.count(GET) <= 9  # the last poll of each that is too early
    elapsed = [one.elapsed.total_seconds() for one in outcomes[:8]]
    assert elapsed == pytest.approx([5 * n for n in range(1, 9)], abs=0.05)


def test_the_last_polls_of_those_whose_time_ends_together_are_one() -> None:
    world = honest(1e6, has_wait=False)

    async def ten() -> list[Any]:
        waits = [world.watcher.wait(timedelta(seconds=0.5)) for _ in range(10)]
        return await asyncio.gather(*waits, return_exceptions=True)

    world.random = 0.999
    world.backoff = Backoff(timedelta(seconds=5))
    world.restart()
    assert {type(one) for one in world.run(ten())} == {OperationTimeoutError}
    assert world.methods == [WAIT, GET, GET]


def test_no_call_goes_on_when_nobody_waits() -> None:
    world = honest(1e6)

    async def give_up() -> None:
        task = asyncio.ensure_future(world.watcher.wait(None))
        await asyncio.sleep(1)
        assert world.open == 1
        task.cancel()
        await asyncio.sleep(0.001)
        assert world.open == 0

    world.run(give_up())


def test_an_error_that_ends_the_follower_is_raised_by_all_and_the_next_wait_begins_anew() -> None:
    answers = iter([failed(Code.PERMISSION_DENIED), done()])
    world = World(lambda call: (0.01, next(answers)))

    async def three() -> list[Any]:
        waits = [world.watcher.wait(None) for _ in range(3)]
        return await asyncio.gather(*waits, return_exceptions=True)

    codes = [one.code for one in world.run(three())]
    assert codes == [Code.PERMISSION_DENIED] * 3
    world.wait()
    assert world.methods == [WAIT, WAIT]


def test_every_waiter_has_an_error_of_its_own() -> None:
    world = World(lambda call: (0.01, failed(Code.PERMISSION_DENIED)))

    async def six() -> list[Any]:
        waits = [world.watcher.wait(None) for _ in range(3)]
        refreshes = [world.watcher.refresh() for _ in range(3)]
        return await asyncio.gather(*waits, *refreshes, return_exceptions=True)

    errors = world.run(six())
    assert {one.code for one in errors} == {Code.PERMISSION_DENIED}
    assert len({id(one) for one in errors}) == 6


def test_when_every_other_task_is_cancelled_a_wait_does_not_go_on_for_ever() -> None:
    world = honest(1e6)

    async def cancel_all_but_the_wait() -> None:
        waiting = asyncio.ensure_future(world.watcher.wait(None))
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - {waiting, asyncio.current_task()}:
            task.cancel()
        with pytest.raises(LroError, match="cancelled") as caught:
            await waiting
        assert caught.value.code is Code.CANCELLED

    world.run(cancel_all_but_the_wait())


@pytest.mark.parametrize("turns", range(8))
def test_a_get_that_was_given_up_takes_no_other_along(turns: int) -> None:
    world = honest(10, has_wait=False)
    world.unusable.add(WAIT, world.now)

    async def refresh_then_wait() -> None:
        given_up = asyncio.ensure_future(world.watcher.refresh())
        await asyncio.sleep(0.005)
        given_up.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        refreshing = asyncio.ensure_future(world.watcher.refresh())
        await world.watcher.wait(timedelta(seconds=100))
        await refreshing

    world.run(refresh_then_wait())
    assert world.operation.done


def test_a_server_says_when_to_poll_again() -> None:
    """P5: the pause is what it asks for, and up to a tenth longer, so that not all come at once."""
    world = honest(10, has_wait=False)
    world.polls_after = 2.0
    world.wait()
    assert world.pauses == pytest.approx([2.1] * 5)


@pytest.mark.parametrize("times", [3, 4])
def test_cancelled_is_what_a_server_says_that_shuts_down_until_it_says_so_again_and_again(
    times: int,
) -> None:
    answers = iter([failed(Code.CANCELLED)] * times + [done()] * 9)
    world = World(lambda call: (0.01, next(answers)))
    if times == 3:
        world.wait()
    else:
        with pytest.raises(LroError) as caught:
            world.wait()
        assert caught.value.code is Code.CANCELLED
    assert len(world.methods) == 4


@pytest.mark.parametrize("method", [WAIT, GET])
@pytest.mark.parametrize("code", [Code.INTERNAL, Code.RESOURCE_EXHAUSTED, Code.NOT_FOUND])
def test_a_wait_outlives_the_codes_of_the_retry_as_long_as_it_lasts(
    code: Code, method: str
) -> None:
    """C3."""
    world = World(lambda call: (0.01, failed(code) if world.now < 1060 else done()))
    world.retry = Retry(codes={code})
    if method == GET:
        world.unusable.add(WAIT, world.now)
    world.restart()
    world.wait()
    assert 60 < world.now - 1000 < 65
    assert len(world.calls) < 50


def test_a_refresh_passes_over_the_codes_of_the_retry() -> None:
    world = World(scripted((0.01, failed(Code.INTERNAL))))
    world.retry = Retry(codes=[Code.INTERNAL])
    world.restart()
    world.refresh()
    assert world.methods == [GET]


@pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE])
@pytest.mark.parametrize(
    ("asked", "pause"), [(7, 7), (7.5, 7.5), (59, 59), (3600, 60), (10**9, 60)]
)
def test_a_refusal_that_says_when_to_come_again_is_heeded_for_up_to_a_minute(
    code: Code, asked: float, pause: float
) -> None:
    world = World(scripted((0.01, failed(code, retry_after=asked)), (0.01, done())))
    world.wait()
    assert world.pauses == pytest.approx([pause * 1.05])


@pytest.mark.parametrize("asked", [0, -5])
def test_a_refusal_makes_no_pause_shorter(asked: float) -> None:
    refusal = failed(Code.RESOURCE_EXHAUSTED, retry_after=asked)
    world = World(lambda call: (0.01, refusal))
    with pytest.raises(OperationTimeoutError):
        world.wait(60)
    assert len(world.calls) < 50


def test_a_timeout_ends_a_pause_that_a_server_asks_for() -> None:
    refusal = failed(Code.UNAVAILABLE, retry_after=50)
    world = World(lambda call: (0.01, refusal if len(world.calls) == 1 else done()))
    world.wait(2)
    assert world.methods == [WAIT, GET]
    assert world.now == pytest.approx(1002.01)


# Servers whose Wait is not to be trusted:


def lie(**fields: Any) -> operations_pb2.Operation:
    return operations_pb2.Operation(name=NAME, done=True, **fields)


LIES = [
    lie(),
    lie(response={}),
    lie(response={"value": b"\x08\x07"}),
    lie(error={}),
    lie(error={"message": "no"}),
]


@pytest.mark.parametrize("answer", LIES, ids=str)
@pytest.mark.parametrize("watches", [False, True])
def test_a_done_answer_that_lacks_something_is_confirmed_and_its_server_polled_from_then_on(
    answer: operations_pb2.Operation, watches: bool
) -> None:
    def server(call: plan.Call) -> Answer:
        if call.method == WAIT:
            return 0.01, answer
        return 0.01, done() if world.now >= 1010 else running(step=1)

    world = World(server, watch=lambda: [(0.01, answer)])
    if watches:
        assert [step for _, step in world.states()] == [1, 99]
    else:
        world.wait()
    assert world.operation == done()
    assert world.methods[0] == (WATCH if watches else WAIT)
    assert set(world.methods[1:]) == {GET}
    world.methods.clear()
    world.restart()
    world.wait()
    assert world.methods == [GET]


@pytest.mark.parametrize(
    "answer", [running(), lie(error={"code": 5}), lie(metadata={"type_url": "x/no.Such"})], ids=str
)
def test_metadata_that_has_gone_is_a_reason_to_doubt(answer: operations_pb2.Operation) -> None:
    world = World(lambda call: (0.01, answer if call.method == WAIT else done()))
    world.restart(running(step=1))
    world.wait()
    assert world.methods == [WAIT, GET]
    assert world.operation == done()


@pytest.mark.parametrize("answer", LIES, ids=str)
def test_what_a_get_confirms_is_believed_and_so_is_the_next_wait(
    answer: operations_pb2.Operation,
) -> None:
    """P2: some services have no result to give."""
    world = World(lambda call: (0.01, answer))
    world.wait()
    assert world.operation == answer
    world.restart()
    world.wait()
    assert world.methods == [WAIT, GET] * 2


def test_a_get_that_lacks_the_same_is_no_reason_to_poll() -> None:
    """The operation has ended between the two answers, and its server leaves metadata out then."""
    bare = done()
    bare.ClearField("metadata")
    world = World(lambda call: (0.01, running() if call.method == WAIT else bare))
    world.restart(running(step=1))
    world.wait()
    assert world.methods == [WAIT, GET]
    assert not world.unusable.has(WAIT, world.now)


def test_a_doubt_that_no_get_resolves_for_a_while_is_asked_again() -> None:
    gets = iter([failed(Code.UNAVAILABLE), failed(Code.DEADLINE_EXCEEDED), done()])
    world = World(lambda call: (0.01, lie() if call.method == WAIT else next(gets)))
    world.wait()
    assert world.methods == [WAIT, GET, GET, GET]
    assert world.operation == done()


def test_nothing_of_a_doubted_answer_is_seen() -> None:
    world = World(lambda call: (0.01, lie()) if call.method == WAIT else (0.5, running(step=1)))
    with pytest.raises(OperationTimeoutError) as caught:
        world.wait(0.3)
    assert not caught.value.operation.done


@pytest.mark.parametrize(
    "code", [Code.UNAVAILABLE, Code.CANCELLED, Code.INTERNAL, Code.RESOURCE_EXHAUSTED]
)
@pytest.mark.parametrize("watches", [False, True])
def test_a_server_that_does_not_survive_a_wait_is_polled_once_it_has_happened_again(
    code: Code, watches: bool
) -> None:
    refusal = failed(code, retry_after=0)

    def server(call: plan.Call) -> Answer:
        if call.method == WAIT:
            return 0.5, refusal
        return 0.01, done() if world.now >= 1100 else running()

    world = World(server, watch=lambda: [(0.01, running()), (0.1, refusal)])
    world.retry = Retry(codes={Code.INTERNAL})
    world.restart()
    if watches:
        world.states()
    else:
        world.wait()
    assert world.methods.count(WAIT) == 2
    assert world.methods.count(WATCH) == 2 * watches
    world.methods.clear()
    world.restart()
    world.wait()
    assert world.methods == [GET]


def test_a_server_that_has_restarted_twice_is_trusted_if_it_answered_a_wait_in_between() -> None:
    down = (3, failed(Code.UNAVAILABLE))
    up = (0.01, running())
    world = World(scripted(down, up, (30, running()), down, up, (30, running()), (1, done())))
    world.wait()
    assert world.methods == [WAIT, GET, WAIT, WAIT, GET, WAIT, WAIT]


def test_a_wait_whose_deadline_passes_again_and_again_is_still_a_wait() -> None:
    """A front end may end each call after so many seconds."""
    late = (15, failed(Code.DEADLINE_EXCEEDED))
    world = World(lambda call: late if call.method == WAIT else (0.01, running()))
    with pytest.raises(OperationTimeoutError):
        world.wait(300)
    assert world.methods.count(WAIT) > 15


@pytest.mark.parametrize("watches", [False, True])
def test_a_client_that_polls_calls_nothing_but_get(watches: bool) -> None:
    world = honest(10)
    world.mode = "poll"
    world.restart()
    if watches:
        world.states()
    else:
        world.wait()
    assert set(world.methods) == {GET}
    assert world.operation.done


# What changes on the way:


def three_steps() -> list[Answer]:
    return [(0.01, running(step=1)), (1, running(step=2)), (1, running(step=3)), (1, done())]


def test_a_watch_shows_every_state_that_the_server_sends() -> None:
    world = World(scripted(), watch=three_steps)
    assert world.states() == [(0.01, 1), (1.01, 2), (2.01, 3), (3.01, 99)]
    assert world.methods == [WATCH]


def test_a_state_that_is_sent_again_is_shown_once() -> None:
    world = World(
        scripted(),
        watch=lambda: [(0.01, running(step=1)), *[(10.0, running(step=1))] * 9, (1, done())],
    )
    assert world.states() == [(0.01, 1), (91.01, 99)]


def test_the_states_of_a_done_operation_are_one_and_need_no_call() -> None:
    world = World(scripted())
    world.restart(done())
    assert world.states() == [(0, 99)]
    assert world.methods == []


def test_the_first_state_comes_from_the_server_though_it_is_the_known_one() -> None:
    world = World(scripted(), watch=three_steps)
    world.restart(running(step=1))
    assert world.states() == [(0.01, 1), (1.01, 2), (2.01, 3), (3.01, 99)]


def test_who_is_slow_sees_the_latest_and_never_misses_the_end() -> None:
    world = World(scripted(), watch=three_steps)

    async def slow() -> list[int]:
        found = []
        async for one in world.watcher.states(None):
            found.append(step_of(one))
            await asyncio.sleep(2.5)
        return found

    assert world.run(slow()) == [1, 3, 99]


def test_those_who_watch_and_those_who_wait_share_one_stream() -> None:
    world = World(scripted((99, running())), watch=three_steps)

    async def all_of_them() -> None:
        async def consume() -> None:
            async for _ in world.watcher.states(None):
                pass

        waiting = asyncio.ensure_future(world.watcher.wait(None))
        await asyncio.sleep(0.5)
        await asyncio.gather(consume(), consume(), waiting, world.watcher.wait(None))

    world.run(all_of_them())
    assert world.methods == [WAIT, WATCH]  # the Wait was there before anyone wanted changes


def silent_after(*answers: Answer) -> list[Answer]:
    """A Watch that stays open when it has sent these."""
    return [*answers, (1e6, done())]


async def first(states: AsyncGenerator[operations_pb2.Operation, None]) -> int:
    return step_of(await anext(states))


def test_after_a_watch_has_broken_the_first_state_comes_from_the_server_again() -> None:
    """The known one may be old: the operation has gone on while nobody saw it."""
    streams = iter(
        [
            [(0.01, running(step=1)), (10, failed(Code.UNAVAILABLE))],
            silent_after((0.01, running(step=5))),
        ]
    )
    world = World(lambda call: (0.01, running(step=4)), watch=lambda: next(streams))

    async def join_after_the_break() -> int:
        one = world.watcher.states(None)
        assert await first(one) == 1
        reading = asyncio.ensure_future(anext(one))
        await asyncio.sleep(10.001)
        other = world.watcher.states(None)
        begun = await first(other)
        assert step_of(await reading) == 4
        await one.aclose()
        await other.aclose()
        return begun

    assert world.run(join_after_the_break()) == 4
    assert world.methods[:2] == [WATCH, GET]


def test_a_state_of_this_very_moment_is_one_of_now() -> None:
    """Who joins as an answer comes need not wait for the next one."""
    world = World(lambda call: (0.01, running(step=1)))
    world.mode = "poll"
    world.restart()

    async def join_at_the_answer() -> None:
        one, other = world.watcher.states(None), world.watcher.states(None)
        assert await first(one) == 1
        begin = world.now
        assert await first(other) == 1
        assert world.now == begin
        await one.aclose()
        await other.aclose()

    world.run(join_at_the_answer())
    assert world.methods == [GET]


def test_a_watch_that_goes_on_for_one_who_waits_serves_who_joins() -> None:
    """The one who wanted updates has left meanwhile."""
    world = World(scripted(), watch=lambda: silent_after((0.01, running(step=1))))

    async def join_a_wait() -> None:
        one = world.watcher.states(None)
        assert await first(one) == 1
        waiting = asyncio.ensure_future(world.watcher.wait(None))
        await asyncio.sleep(1)
        await one.aclose()
        other = world.watcher.states(None)
        assert await first(other) == 1
        await other.aclose()
        waiting.cancel()

    world.run(join_a_wait())
    assert world.methods == [WATCH]


def test_a_watch_that_ends_slowly_ends_for_itself_alone() -> None:
    """Another one has begun, and has sent a state: whoever joins has it at once."""
    world = World(scripted(), watch=lambda: silent_after((0.01, running(step=1))))
    world.closing_seconds = 5

    async def join_two() -> None:
        one = world.watcher.states(None)
        assert await first(one) == 1
        await one.aclose()
        other = world.watcher.states(None)
        assert await first(other) == 1
        await asyncio.sleep(10)  # the first Watch is over
        third = world.watcher.states(None)
        before = world.now
        assert await first(third) == 1
        assert world.now == before
        await other.aclose()
        await third.aclose()
        await asyncio.sleep(10)

    world.run(join_two())
    assert world.methods == [WATCH, WATCH]


def test_a_wait_that_was_given_up_puts_off_no_last_poll_of_others() -> None:
    """Nor the answer that was due of it: nobody waits for that any more."""
    is_done = False

    def server(call: plan.Call) -> Answer:
        if call.method == GET:  # it takes most of the time that the last poll has
            return 0.4, done() if is_done else running()
        return 99, running()

    world = World(server, watch=lambda: silent_after((0.01, running(step=1))))

    async def give_up_and_look_on() -> None:
        nonlocal is_done
        waiting = asyncio.ensure_future(world.watcher.wait(None))
        await asyncio.sleep(5)
        waiting.cancel()
        await asyncio.sleep(0.01)
        is_done = True
        assert [step_of(one) async for one in world.watcher.states(timedelta(seconds=28))] == [
            1,
            99,
        ]

    world.run(give_up_and_look_on())
    assert world.methods == [WAIT, WATCH, GET]


def test_a_get_that_is_not_answered_in_time_is_no_news() -> None:
    """Even of a connection that knows no deadlines."""
    world = World(lambda call: (1e6, running()))
    world.keeps_deadlines = False
    world.unusable.add(WAIT, world.now)

    async def two() -> list[Any]:
        waits = [world.watcher.wait(timedelta(seconds=seconds)) for seconds in (13, 25)]
        return await asyncio.gather(*waits, world.watcher.refresh(), return_exceptions=True)

    *late, refreshed = world.run(two())
    assert [type(one) for one in late] == [OperationTimeoutError] * 2
    assert refreshed is None
    assert world.now == pytest.approx(1025.5)


def test_what_goes_wrong_in_the_follower_is_an_error_of_every_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mistake of this package, or of an interceptor; it must not make a wait go on for ever."""

    def server(call: plan.Call) -> Answer:
        raise ZeroDivisionError("a mistake")

    world = World(server)

    async def two() -> list[Any]:
        waits = [world.watcher.wait(None) for _ in range(2)]
        return await asyncio.gather(*waits, return_exceptions=True)

    errors = world.run(two())
    assert [type(one) for one in errors] == [LroError] * 2
    assert all(isinstance(one.__cause__, ZeroDivisionError) for one in errors)
    assert "a mistake" in str(errors[0])
    assert f"cannot follow {NAME}" in caplog.text


def changing(done_at: float, *, has_wait: bool) -> World:
    """A server without Watch, of whose operation the step is the second."""

    def server(call: plan.Call) -> Answer:
        passed = world.now - 1000
        if call.method == WAIT and not has_wait:
            return 0.01, failed(Code.UNIMPLEMENTED)
        took = 0.01
        if call.method == WAIT:
            took += min(held(call), max(done_at - passed, 0))
        return took, done() if passed + took >= done_at else running(step=int(passed + took))

    world = World(server)
    return world


@pytest.mark.parametrize("has_wait", [True, False])
def test_without_watch_changes_are_seen_all_the_same(has_wait: bool) -> None:
    world = changing(10.5, has_wait=has_wait)
    world.backoff = Backoff(maximum=timedelta(seconds=1))
    world.restart()
    states = world.states()
    assert [step for _, step in states] == sorted({step for _, step in states})
    assert len(states) > 8
    assert states[-1][1] == 99
    assert states[-1][0] < (10.6 if has_wait else 11.5)
    assert len(world.methods) < 40


@pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.PERMISSION_DENIED, Code.INTERNAL])
def test_a_watch_that_is_refused_is_replaced_by_waits_for_a_while(code: Code) -> None:
    world = changing(40.5, has_wait=True)
    world.streams = lambda: [(0.01, failed(code))]
    states = world.states()
    assert states[-1] == (40.5, 99) or states[-1][0] < 40.6
    assert world.methods.count(WATCH) == 2
    assert world.methods[0] == WATCH
    assert set(world.methods) == {WATCH, WAIT}


def test_a_watch_that_is_refused_late_is_replaced_by_a_wait_too() -> None:
    """A slow way to the server is no reason to ask it for ever."""
    world = World(lambda call: (1, failed(Code.NOT_FOUND)))
    world.streams = lambda: [(1, failed(Code.NOT_FOUND))]
    with pytest.raises(LroError, match="as the test says") as caught:
        world.states(timedelta(seconds=60))
    assert caught.value.code is Code.NOT_FOUND
    assert world.methods == [WATCH, WAIT]


def test_a_watch_that_is_closed_at_once_is_no_busy_loop() -> None:
    world = changing(20.5, has_wait=True)
    world.streams = lambda: [(0.01, running(step=1))]
    assert world.states()[-1][0] < 20.6
    assert len(world.methods) < 30


def test_a_watch_that_ends_late_is_begun_again() -> None:
    streams = iter([[(5.0, running(step=1))], [(5.0, running(step=2)), (1.0, done())]])
    world = World(scripted(), watch=lambda: next(streams))
    assert world.states() == [(5, 1), (10, 2), (11, 99)]
    assert world.methods == [WATCH, WATCH]


def test_a_watch_of_a_server_that_goes_down_is_begun_again_when_it_is_back() -> None:
    down, up = (0.01, failed(Code.UNAVAILABLE)), (0.01, running(step=1))
    streams = iter([[(5.0, running(step=1)), down], [(5.0, running(step=2)), (1, done())]])
    world = World(scripted(*[down] * 5, up), watch=lambda: next(streams))
    assert [step for _, step in world.states()] == [1, 2, 99]
    assert world.methods == [WATCH, *[GET] * 6, WATCH]
    assert len(world.pauses) == 7


def test_where_no_stream_gets_through_a_wait_may() -> None:
    world = changing(5.5, has_wait=True)
    world.streams = lambda: [(0.01, failed(Code.UNAVAILABLE))]
    assert [step for _, step in world.states()] == [0, 1, 2, 3, 4, 5, 99]
    assert world.methods[:3] == [WATCH, GET, WAIT]


def test_a_watch_that_falls_idle_is_given_up() -> None:
    world = World(scripted((0.01, done())), watch=lambda: [(1, running(step=1)), (1e6, done())])
    assert world.states() == [(1, 1), (36.01, 99)]
    assert world.methods == [WATCH, GET]


@pytest.mark.parametrize("watches", [True, False])
def test_the_states_end_with_a_timeout_that_names_the_operation(watches: bool) -> None:
    world = changing(1e6, has_wait=True)
    if watches:
        world.streams = lambda: [(0.01, running(step=1)), (1e6, done())]
    with pytest.raises(OperationTimeoutError, match=NAME) as caught:
        world.states(timedelta(seconds=5))
    assert 5 <= caught.value.elapsed.total_seconds() <= 5.02


def test_another_operations_name_in_a_watch_is_an_error() -> None:
    answer = running("operations/2")
    world = World(lambda call: (0.01, answer), watch=lambda: [(0.01, answer)])
    with pytest.raises(LroError, match=r"operations/2.*operations/1"):
        world.states()


def test_a_get_that_is_answered_late_takes_nothing_back() -> None:
    world = World(lambda call: (1.5, running(step=1)), watch=three_steps)

    async def refresh_in_between() -> list[int]:
        seen = []
        async for one in world.watcher.states(None):
            seen.append(step_of(one))
            if seen == [1]:
                refreshing = asyncio.ensure_future(world.watcher.refresh())
        await refreshing
        return seen

    assert world.run(refresh_in_between()) == [1, 2, 3, 99]


@given(
    random=st.floats(0.2, 0.999),
    streams=st.lists(
        st.lists(st.tuples(st.floats(0, 40), ANSWERS), max_size=4), min_size=1, max_size=8
    ),
    script=st.lists(st.tuples(st.floats(0, 100), ANSWERS), min_size=1, max_size=8),
)
def test_whatever_a_watch_does_the_states_are_bounded_in_time_and_calls(
    random: float, streams: list[list[Answer]], script: list[Answer]
) -> None:
    answers, watches = itertools.cycle(script), itertools.cycle(streams)
    world = World(lambda call: next(answers), watch=lambda: next(watches), random=random)
    with pytest.raises(LroError) as caught:
        world.states(timedelta(seconds=100))
    assert isinstance(caught.value, OperationTimeoutError) or caught.value.code is (
        Code.UNIMPLEMENTED
    )
    assert world.now - 1000 <= 100.5 + 1e-6
    assert len(world.methods) <= 145 + 100 * (1 + 2 / random)
