"""What a client makes of servers that misbehave: one documented outcome for each."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import bad_answers
import bad_ports
import grpc
import pytest
from fake_operations import GET, WAIT, WATCH, FakeOperations, FakeServer, operation
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from pages import Page
from partition import Cut
from sides import FastClock

from lro_grpc._errors import Code, LroError, OperationTimeoutError, WrongTypeError
from lro_grpc._runtime.backoff import DEFAULT_BACKOFF, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sides import Side

DOCUMENTATION = Page("learn/clients.md")
RESPONSE = Timestamp(seconds=7)
ENDED = operation(response=RESPONSE, metadata=RESPONSE)
KNOWN = operation(metadata=RESPONSE)
OTHER = operation("operations/2", response=RESPONSE)
UNKNOWN = any_pb2.Any(type_url="type.googleapis.com/nowhere.Nothing")
LONG, SHORT = timedelta(seconds=20), timedelta(seconds=0.15)

METHODS = (WATCH, WAIT, GET)
"""In the order in which a client tries them."""

GOES_ON = "goes on to the end"
LATE = "`OperationTimeoutError`"
WRONG_TYPE = "`WrongTypeError`"
NONE = "`None`"
NOTHING = "–"


def fails(code: str, reason: str = "") -> str:
    return f"`LroError`: {code}" + (f", {reason}" if reason else "")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the documentation's table."""

    server: str
    """What it does."""
    result: str
    """What comes of ``result()``."""
    updates: str
    """What comes of ``updates()``."""
    begin: Callable[..., Any]
    """Has the server behave so in the method by which it is followed. May return a context, which
    may give the target to connect to instead."""
    methods: tuple[str, ...] = METHODS
    """Those that may behave so."""
    how: dict[str, Any] = dataclasses.field(default_factory=lambda: {"backoff": DEFAULT_BACKOFF})
    """What the client is given."""
    timeout: timedelta | None = None
    """How long the caller waits, if that matters."""

    def cases(self) -> Iterator[Any]:
        for method in self.methods:
            if method != WATCH and self.result != NOTHING:
                yield pytest.param(self, "result", method, id=f"{self.server}-result-{method}")
            yield pytest.param(self, "updates", method, id=f"{self.server}-updates-{method}")


def answer_of(method: str, one: operations_pb2.Operation) -> Any:
    return [one] if method == WATCH else one


def always(fake: FakeOperations, one: operations_pb2.Operation) -> None:
    for method in METHODS:
        fake.always(method, answer_of(method, one))


def from_now_on(
    methods: tuple[str, ...], answer: Callable[[FakeOperations, str], Any]
) -> Callable[..., None]:
    """In each of the methods that the server has, whichever is called."""

    def begin(server: FakeServer, method: str) -> None:
        server.fake.put(ENDED)
        for one in methods:
            if METHODS.index(one) >= METHODS.index(method):
                server.fake.always(one, answer(server.fake, one))

    return begin


def a_few_times(times: int, answer: Any) -> Callable[..., None]:
    def begin(server: FakeServer, method: str) -> None:
        server.fake.put(ENDED)
        one = answer_of(method, answer) if isinstance(answer, operations_pb2.Operation) else answer
        server.fake.script(method, *[one] * times)

    return begin


def sends(*states: Any) -> Callable[..., None]:
    """In a Watch, whenever there is one."""
    return from_now_on((WATCH,), lambda fake, method: list(states))


def dies(server: FakeServer, method: str, *, then: operations_pb2.Operation | None) -> Any:
    server.fake.put(operation())
    return server.dies_during(method, then=then)


def is_done_after_some_gets(server: FakeServer) -> None:
    server.fake.put(ENDED)
    server.fake.script(GET, *[KNOWN] * 5)


@contextlib.contextmanager
def dies_of_each(server: FakeServer, method: str) -> Iterator[None]:
    is_done_after_some_gets(server)
    with server.dies_of(method):
        yield
    assert server.fake.count(method) <= 2


@contextlib.contextmanager
def is_reset_at_each(server: FakeServer, method: str) -> Iterator[str]:
    is_done_after_some_gets(server)
    server.fake.always(method, server.fake.hang)
    with bad_ports.cut_at_each(server, method) as target:
        yield target
    assert server.fake.count(method) <= 2


@contextlib.contextmanager
def answers_at_random(server: FakeServer, method: str) -> Iterator[None]:
    is_done_after_some_gets(server)
    in_a_stream = method == WATCH
    answer = bad_answers.at_random_in_a_stream if in_a_stream else bad_answers.at_random
    server.fake.always(method, answer(seed=7))
    yield
    assert server.fake.count(method) == 1


def is_away_for_a_minute(server: FakeServer, method: str) -> None:
    clock = FastClock()
    back = clock.monotonic() + 60

    def answer(request: Any, context: grpc.ServicerContext, called: str) -> Any:
        if clock.monotonic() < back:
            context.abort(grpc.StatusCode.UNAVAILABLE, "there is no server in this place")
        return answer_of(called, ENDED)

    for one in METHODS[METHODS.index(method) :]:
        server.fake.always(one, functools.partial(answer, called=one))


@contextlib.contextmanager
def an_aio_server_stops(server: FakeServer, method: str) -> Iterator[None]:
    """The server in its place stops while it is called, and the other one takes over."""
    server.fake.put(operation())
    thread = threading.Thread(target=lambda: asyncio.run(_stop_during_a_call()))

    async def _stop_during_a_call() -> None:
        called = asyncio.Event()
        place = grpc.aio.server(options=[("grpc.so_reuseport", 0)])

        async def hold(request: Any, context: Any) -> Any:
            called.set()
            await asyncio.Event().wait()

        async def hold_stream(request: bytes, context: Any) -> Any:
            await hold(request, context)
            yield b""

        class Holding(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> Any:
                name = details.method.rpartition("/")[2]
                if METHODS.index(name) < METHODS.index(method):
                    return None
                if name == WATCH:
                    return grpc.unary_stream_rpc_method_handler(hold_stream)
                return grpc.unary_unary_rpc_method_handler(hold)

        place.add_generic_rpc_handlers([Holding()])
        place.add_insecure_port(server.target)
        await place.start()
        started.set()
        await called.wait()
        await place.stop(0)
        server.fake.put(ENDED)
        server.start()

    started = threading.Event()
    server.stop()
    thread.start()
    assert started.wait(10)
    yield
    thread.join()


@contextlib.contextmanager
def its_caller_closes_the_channel(server: FakeServer, method: str, side: Side) -> Iterator[None]:
    server.fake.put(operation())
    server.fake.always(GET, server.fake.hang)

    def close() -> None:
        server.fake.arrived[method].acquire(timeout=10)
        if side.is_async:
            asyncio.run_coroutine_threadsafe(side.channel.close(), side.loop).result(10)
        else:
            side.channel.close()

    thread = threading.Thread(target=close)
    thread.start()
    yield
    thread.join()


def breaks_bytes(*methods: str) -> Callable[..., None]:
    def begin(server: FakeServer, method: str) -> None:
        server.fake.put(ENDED)
        server.broken.update(methods)

    return begin


def ends_without_a_result(server: FakeServer, method: str) -> None:
    server.fake.put(operation(done=True))


def has_an_unknown(field: str) -> Callable[..., None]:
    def begin(server: FakeServer, method: str) -> None:
        one = operations_pb2.Operation(name="operations/1", done=True, response=ENDED.response)
        getattr(one, field).CopyFrom(UNKNOWN)
        server.fake.put(one)

    return begin


def port(make: Callable[[], Any]) -> Callable[..., Any]:
    return lambda server, method: make()


def cuts_during(how: Cut, *, mends: bool) -> Callable[..., Any]:
    def begin(server: FakeServer, method: str) -> Any:
        # The call during which it is cut is held; any other returns the done operation.
        server.fake.script(method, server.fake.hang)
        server.fake.put(ENDED)
        return bad_ports.cut_during(server, method, how, mends=mends)

    return begin


def status(code: str) -> grpc.StatusCode:
    return grpc.StatusCode[code]


def step(number: int) -> operations_pb2.Operation:
    return operation(metadata=Timestamp(seconds=number))


FAST = {"clock": FastClock(), "backoff": DEFAULT_BACKOFF}
QUICK: dict[str, Any] = {}

ROWS = [
    # It comes and goes.
    Row("dies, and comes back", GOES_ON, GOES_ON, functools.partial(dies, then=ENDED), how=QUICK),
    Row("dies, and stays away", LATE, LATE, functools.partial(dies, then=None)),
    Row(
        "is UNAVAILABLE for a minute",
        GOES_ON,
        GOES_ON,
        is_away_for_a_minute,
        how=FAST,
        timeout=100 * LONG,
    ),
    Row(
        "is a `grpc.aio` server that stops, and another takes its place",
        GOES_ON,
        GOES_ON,
        an_aio_server_stops,
        how=QUICK,
    ),
    Row(
        "answers CANCELLED three times, as one that shuts down may",
        GOES_ON,
        GOES_ON,
        a_few_times(3, status("CANCELLED")),
        how=QUICK,
    ),
    Row(
        "answers CANCELLED again and again",
        fails("CANCELLED"),
        fails("CANCELLED"),
        from_now_on(METHODS, lambda fake, method: status("CANCELLED")),
        how=QUICK,
    ),
    Row(
        "lets deadlines of its own pass: DEADLINE_EXCEEDED",
        GOES_ON,
        GOES_ON,
        a_few_times(3, status("DEADLINE_EXCEEDED")),
        how=QUICK,
    ),
    # It does not answer.
    Row(
        "never answers",
        LATE,
        LATE,
        from_now_on(METHODS, lambda fake, method: fake.hang),
    ),
    Row(
        "never answers, except a Get",
        GOES_ON + ", with the last poll",
        GOES_ON + ", with the last poll",
        from_now_on((WATCH, WAIT), lambda fake, method: fake.hang),
        methods=(WATCH, WAIT),
        timeout=SHORT,
    ),
    Row(
        "takes a Watch, and sends nothing for 35 s",
        NOTHING,
        GOES_ON,
        from_now_on((WATCH,), lambda fake, method: fake.hang),
        methods=(WATCH,),
        how=FAST,
        timeout=100 * LONG,
    ),
    Row(
        "accepts connections, and says nothing",
        LATE,
        LATE,
        port(bad_ports.silent),
        methods=(WATCH, WAIT),
    ),
    Row(
        "does not even accept connections", LATE, LATE, port(bad_ports.full), methods=(WATCH, WAIT)
    ),
    Row("speaks HTTP/1.1", LATE, LATE, port(bad_ports.http), methods=(WATCH, WAIT)),
    Row(
        "is behind a proxy that resets every connection",
        LATE,
        LATE,
        lambda server, method: bad_ports.cut(server, Cut.RESET),
        methods=(WATCH, WAIT),
    ),
    Row(
        "is behind a proxy that resets the connection during a call",
        GOES_ON,
        GOES_ON,
        cuts_during(Cut.RESET, mends=True),
        how=QUICK,
    ),
    Row(
        "is behind a proxy that falls silent during a call",
        LATE,
        LATE,
        cuts_during(Cut.STALL, mends=False),
        methods=(WATCH, WAIT),
    ),
    # It answers too soon.
    Row(
        "answers at once, not done, for a while",
        GOES_ON,
        GOES_ON,
        a_few_times(5, operation()),
        how=QUICK,
    ),
    Row(
        "answers at once, and is never done",
        LATE,
        LATE,
        lambda server, method: always(server.fake, operation()),
    ),
    *(
        Row(
            f"ends every Watch at once, with {code}",
            NOTHING,
            GOES_ON,
            sends(status(code)),
            methods=(WATCH,),
            how=QUICK,
        )
        for code in (
            "UNAVAILABLE",
            "RESOURCE_EXHAUSTED",
            "PERMISSION_DENIED",
            "NOT_FOUND",
            "INTERNAL",
            "UNIMPLEMENTED",
            "CANCELLED",
            "DEADLINE_EXCEEDED",
        )
    ),
    Row(
        "ends every Watch at once, without a state",
        NOTHING,
        GOES_ON,
        sends(),
        methods=(WATCH,),
        how=QUICK,
    ),
    Row(
        "ends every Watch at once, after one state",
        NOTHING,
        GOES_ON,
        sends(operation()),
        methods=(WATCH,),
        how=QUICK,
    ),
    # It answers something else.
    Row(
        "answers with another operation",
        fails("INTERNAL", "WRONG_OPERATION"),
        fails("INTERNAL", "WRONG_OPERATION"),
        lambda server, method: always(server.fake, OTHER),
    ),
    Row(
        "sends another operation in a Watch",
        NOTHING,
        GOES_ON,
        sends(OTHER),
        methods=(WATCH,),
    ),
    Row(
        "sends a Watch message without an operation",
        NOTHING,
        GOES_ON,
        sends(operations_pb2.Operation()),
        methods=(WATCH,),
    ),
    Row(
        "answers bytes that are no message",
        fails("INTERNAL"),
        fails("INTERNAL"),
        breaks_bytes(*METHODS),
    ),
    Row(
        "sends bytes that are no message in a Watch",
        NOTHING,
        GOES_ON,
        breaks_bytes(WATCH),
        methods=(WATCH,),
    ),
    Row(
        "has a response of a type that nobody knows",
        WRONG_TYPE,
        GOES_ON,
        has_an_unknown("response"),
    ),
    Row("has metadata of a type that nobody knows", GOES_ON, GOES_ON, has_an_unknown("metadata")),
    Row("ends without a response", NONE, GOES_ON, ends_without_a_result),
    *(
        Row(
            f"answers {code}",
            fails(code),
            fails(code),
            from_now_on(METHODS, lambda fake, method, code=code: status(code)),
        )
        for code in (
            "NOT_FOUND",
            "PERMISSION_DENIED",
            "INTERNAL",
            "RESOURCE_EXHAUSTED",
            "UNIMPLEMENTED",
        )
    ),
    Row(
        "answers RESOURCE_EXHAUSTED, and says when to come again",
        GOES_ON,
        GOES_ON,
        a_few_times(3, bad_answers.refuses_for_now),
        how=QUICK,
    ),
    Row(
        "answers INTERNAL for a while, which the client's `Retry` has among its codes",
        GOES_ON,
        GOES_ON,
        a_few_times(7, status("INTERNAL")),
        how={"retry": Retry(codes={Code.INTERNAL})},
    ),
    # Its Wait, or its Watch, is not to be trusted.
    Row(
        "answers a Wait or a Watch at random, without the metadata and the result",
        GOES_ON,
        GOES_ON,
        answers_at_random,
        methods=(WATCH, WAIT),
        how=QUICK,
    ),
    Row(
        "dies of each Wait or Watch",
        GOES_ON + ", after two deaths",
        GOES_ON + ", after two deaths",
        dies_of_each,
        methods=(WATCH, WAIT),
        how=QUICK,
    ),
    Row(
        "is behind a proxy that resets the connection at each Wait or Watch",
        GOES_ON + ", after two resets",
        GOES_ON + ", after two resets",
        is_reset_at_each,
        methods=(WATCH, WAIT),
        how=QUICK,
    ),
    # It sends too much.
    Row(
        "floods a Watch with states",
        NOTHING,
        GOES_ON,
        sends(*(step(number) for number in range(1, 1000)), ENDED),
        methods=(WATCH,),
    ),
    Row(
        "repeats a state",
        NOTHING,
        GOES_ON + ", each state once",
        sends(*[step(1)] * 99, *[ENDED] * 2),
        methods=(WATCH,),
    ),
    Row(
        "sends states after the end",
        NOTHING,
        GOES_ON + ", and no further",
        sends(step(1), ENDED, step(2), operation(error=5)),
        methods=(WATCH,),
    ),
    Row(
        "is well, but the caller closes the channel",
        fails("FAILED_PRECONDITION", "CHANNEL_CLOSED"),
        fails("FAILED_PRECONDITION", "CHANNEL_CLOSED"),
        its_caller_closes_the_channel,
    ),
]


@pytest.mark.parametrize(("row", "what", "method"), [case for row in ROWS for case in row.cases()])
def test_each_bad_server_has_its_documented_outcome(
    side: Side, server: FakeServer, row: Row, what: str, method: str
) -> None:
    """C8: there is a pause between calls that the server did not hold."""
    for lacking in METHODS[: METHODS.index(method)]:
        server.fake.always(lacking, grpc.StatusCode.UNIMPLEMENTED)
    needs_side = row.begin is its_caller_closes_the_channel
    context = row.begin(server, method, *([side] if needs_side else []))
    with context or contextlib.nullcontext() as target, contextlib.ExitStack() as stack:
        if isinstance(target, str):
            side = stack.enter_context(contextlib.closing(type(side)(target)))
        future = side.client(**row.how).future(operation(), response=Timestamp)
        expected = row.result if what == "result" else row.updates
        follow = follow_results if what == "result" else follow_updates
        if expected == LATE:
            with pytest.raises(OperationTimeoutError, match="operations/1") as late:
                follow(side, future, SHORT)
            assert late.value.elapsed < LONG
        elif expected == WRONG_TYPE:
            for _ in range(2):
                with pytest.raises(WrongTypeError, match=r"nowhere\.Nothing"):
                    follow(side, future, LONG)
        elif expected.startswith("`LroError`"):
            with pytest.raises(LroError) as caught:
                follow(side, future, LONG)
            code = caught.value.code.name
            reason = "" if caught.value.reason == code else caught.value.reason
            assert fails(code, reason) == expected
        else:
            follow(side, future, row.timeout or LONG)
            if row.result != WRONG_TYPE:
                assert side.run(future.result()) == (None if row.result == NONE else RESPONSE)
    assert len(server.fake.calls) < 100  # no busy loop


def test_every_client_of_a_channel_polls_a_server_that_one_has_caught(
    side: Side, server: FakeServer
) -> None:
    server.fake.always(WATCH, grpc.StatusCode.UNIMPLEMENTED)
    server.fake.always(WAIT, bad_answers.at_random(seed=7))
    is_done_after_some_gets(server)
    assert side.run(side.client().future(KNOWN).result(LONG)) == RESPONSE
    server.fake.calls.clear()
    assert side.run(side.client().attach("operations/1").result(LONG)) == RESPONSE
    assert server.fake.calls == [GET]


def test_a_wait_that_says_nothing_is_no_news(side: Side, server: FakeServer) -> None:
    server.fake.always(WATCH, grpc.StatusCode.UNIMPLEMENTED)
    server.fake.always(WAIT, operations_pb2.Operation())
    is_done_after_some_gets(server)
    assert side.run(side.client().attach("operations/1").result(LONG)) == RESPONSE
    assert server.fake.count(WAIT) == 1


def follow_results(side: Side, future: Any, timeout: timedelta) -> None:
    side.run(future.result(timeout))


def follow_updates(side: Side, future: Any, timeout: timedelta) -> None:
    updates = side.items(future.updates(timeout))
    assert [one.done for one in updates] == [False] * (len(updates) - 1) + [True]
    assert all(one != following for one, following in itertools.pairwise(updates))


def test_the_documentation_has_the_same_table() -> None:
    section = DOCUMENTATION.partition("## What the client makes of bad servers")[2]
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", section.partition("\n## ")[0], re.M)
    assert rows[1:] == [(row.server, row.result, row.updates) for row in ROWS]
