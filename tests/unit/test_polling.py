from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from google.longrunning import operations_pb2
from hypothesis import given
from hypothesis import strategies as st

from lro_grpc import polling
from lro_grpc.errors import Code, LroError, OperationTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "operations/1"
WAIT, GET = "WaitOperation", "GetOperation"


def running(name: str = NAME) -> operations_pb2.Operation:
    return operations_pb2.Operation(name=name)


def done(name: str = NAME) -> operations_pb2.Operation:
    return operations_pb2.Operation(name=name, done=True)


def failed(code: Code) -> LroError:
    return LroError("as the test says", code=code)


class World:
    """Drives plans in virtual time against a server that is a function of the call.

    The server answers (seconds, answer). An answer that takes longer than the call's deadline is
    DEADLINE_EXCEEDED at the deadline, as gRPC has it.
    """

    def __init__(
        self,
        server: Callable[[polling.Call], tuple[float, operations_pb2.Operation | LroError]],
        *,
        random: float = 0.5,
        turn_after: float = 0.0,
    ) -> None:
        self.server = server
        self.random = random
        self.turn_after = turn_after
        self.now = 1000.0
        self.operation = running()
        self.calls: list[polling.Call] = []
        self.starts: list[float] = []
        self.pauses: list[float] = []
        self.unimplemented = polling.Unimplemented()

    @property
    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    def wait(
        self, timeout: float | timedelta | None = None, backoff: polling.Backoff | None = None
    ) -> None:
        if isinstance(timeout, (int, float)):
            timeout = timedelta(seconds=timeout)
        self.drive(
            polling.wait_steps(
                lambda: self.operation,
                timeout=timeout,
                backoff=backoff or polling.DEFAULT_BACKOFF,
                unimplemented=self.unimplemented,
                clock=lambda: self.now,
                random=lambda: self.random,
            )
        )

    def drive(self, steps: polling.Steps) -> None:
        trouble = None
        while True:
            try:
                step = steps.send(trouble)
            except StopIteration:
                return
            trouble = None
            match step:
                case polling.Turn(seconds):
                    self.now += min(self.turn_after, seconds)
                case polling.Pause(seconds):
                    assert seconds > 0
                    self.pauses.append(seconds)
                    self.now += seconds
                case polling.Call():
                    trouble = self.perform(step)

    def perform(self, call: polling.Call) -> LroError | None:
        assert call.timeout is not None
        assert call.timeout >= timedelta(0)
        assert call.request.name == NAME
        self.calls.append(call)
        self.starts.append(self.now)
        seconds, answer = self.server(call)
        limit = call.timeout.total_seconds()
        self.now += min(seconds, limit)
        if seconds > limit:
            return failed(Code.DEADLINE_EXCEEDED)
        if isinstance(answer, LroError):
            return answer
        self.operation = answer
        return None


def scripted(*answers: tuple[float, operations_pb2.Operation | LroError]):
    script = iter(answers)
    return lambda call: next(script)


def held(call: polling.Call) -> float:
    return call.request.timeout.ToTimedelta().total_seconds()


def honest(done_at: float, *, has_wait: bool = True):
    """A server whose operation is done at that time, and that answers calls in 10 ms."""

    def server(call: polling.Call) -> tuple[float, operations_pb2.Operation | LroError]:
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


def test_pauses_grow_to_the_maximum_and_are_fully_jittered() -> None:
    backoff = polling.Backoff(
        initial=timedelta(seconds=1), multiplier=2, maximum=timedelta(seconds=5)
    )
    assert list(itertools.islice(backoff.pauses(lambda: 1.0), 5)) == [1, 2, 4, 5, 5]
    assert list(itertools.islice(backoff.pauses(lambda: 0.5), 3)) == [0.5, 1, 2]
    assert list(itertools.islice(backoff.pauses(lambda: 0.0), 2)) == [0, 0]


def test_pauses_do_not_overflow() -> None:
    last = next(itertools.islice(polling.DEFAULT_BACKOFF.pauses(lambda: 1.0), 100_000, None))
    assert last == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial": timedelta(0)},
        {"multiplier": 0.5},
        {"maximum": timedelta(milliseconds=1)},
    ],
)
def test_a_schedule_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="0 < initial"):
        polling.Backoff(**wrong)  # type: ignore[arg-type]


def test_a_done_operation_needs_no_step() -> None:
    world = World(scripted())
    world.operation = done()
    world.wait()
    world.drive(polling.look_steps(lambda: world.operation))
    assert world.calls == []


def test_one_wait_is_enough_for_a_short_operation() -> None:
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
        world.calls.clear()
        world.operation = running()
        world.wait()
        return world.methods

    world.now = 1000 + 599
    assert methods_of_another_wait() == [GET]
    world.now = 1000 + 601
    assert methods_of_another_wait() == [WAIT, GET]


def test_polls_follow_the_schedule() -> None:
    """P5: the intervals are the caller's to set, for the server names none."""
    backoff = polling.Backoff(
        initial=timedelta(seconds=1), multiplier=2, maximum=timedelta(seconds=8)
    )
    world = honest(30, has_wait=False)
    world.random = 1.0
    world.wait(backoff=backoff)
    assert world.pauses == [1, 2, 4, 8, 8, 8]


def test_a_wait_that_is_answered_at_once_makes_no_busy_loop() -> None:
    """P9: a server may answer at once, again and again."""
    world = World(lambda call: (0.001, running()))
    with pytest.raises(OperationTimeoutError):
        world.wait(60)
    assert len(world.calls) < 40
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
    assert len(world.calls) < 40


def test_pauses_begin_anew_after_a_wait_that_was_held() -> None:
    early = (0.01, running())
    world = World(scripted(*[early] * 5, (20, running()), early, (0.01, done())))
    world.wait()
    assert len(world.pauses) == 6
    assert world.pauses[5] == world.pauses[0] < world.pauses[4]


def test_a_server_that_went_down_is_asked_again_after_a_pause_only() -> None:
    world = World(scripted((20, failed(Code.UNAVAILABLE)), (0.01, done())))
    world.wait()
    assert world.methods == [WAIT, WAIT]
    assert len(world.pauses) == 1


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
        world.unimplemented.add(WAIT, world.now)
    with pytest.raises(LroError) as caught:
        world.wait()
    assert caught.value.code is code
    assert world.methods == [method]


def test_get_unimplemented_ends_the_wait() -> None:
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
    assert timeout - 0.2 <= world.now - 1000 <= timeout


def test_a_wait_that_was_held_to_the_end_is_the_last_poll() -> None:
    world = honest(1e6)
    with pytest.raises(OperationTimeoutError):
        world.wait(10)
    assert world.methods == [WAIT]


@pytest.mark.parametrize("has_wait", [True, False])
def test_an_operation_done_just_before_the_last_poll_is_not_a_timeout(has_wait: bool) -> None:
    world = honest(9.79, has_wait=has_wait)
    world.random = 1.0
    world.wait(10)
    assert world.operation.done


def test_a_server_that_never_answers_ends_at_the_deadline() -> None:
    world = World(lambda call: (1e9, running()))
    with pytest.raises(OperationTimeoutError, match="DEADLINE_EXCEEDED") as caught:
        world.wait(60)
    assert world.now == pytest.approx(1060)
    assert isinstance(caught.value.__cause__, LroError)
    assert len(world.calls) < 10


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_is_no_call(timeout: float) -> None:
    world = World(scripted())
    with pytest.raises(OperationTimeoutError):
        world.wait(timeout)


def test_the_longest_timeout_is_no_problem() -> None:
    world = honest(10, has_wait=False)
    world.wait(timedelta.max)
    assert world.operation.done


def test_one_that_got_no_turn_still_polls_at_its_deadline() -> None:
    world = honest(5)
    world.turn_after = 99
    world.wait(10)
    assert world.methods == [GET]
    assert world.now == pytest.approx(1009.81)


def test_one_that_got_the_turn_of_a_finished_wait_makes_no_call() -> None:
    world = World(scripted())
    steps = polling.wait_steps(
        lambda: world.operation,
        timeout=None,
        backoff=polling.DEFAULT_BACKOFF,
        unimplemented=world.unimplemented,
        clock=lambda: world.now,
        random=lambda: 0.5,
    )
    assert isinstance(next(steps), polling.Turn)
    world.operation = done()
    with pytest.raises(StopIteration):
        steps.send(None)


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED])
def test_a_look_takes_a_transient_error_for_no_news(code: Code) -> None:
    world = World(scripted((0.01, failed(code))))
    world.drive(polling.look_steps(lambda: world.operation))
    assert world.methods == [GET]


def test_a_look_raises_any_other_error() -> None:
    world = World(scripted((0.01, failed(Code.NOT_FOUND))))
    with pytest.raises(LroError, match="as the test says"):
        world.drive(polling.look_steps(lambda: world.operation))


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
    assert world.now - 1000 <= timeout + 1e-6
    assert len(world.calls) <= 45 + timeout * (1 + 2 / random)
