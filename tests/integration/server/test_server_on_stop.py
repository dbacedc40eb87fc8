"""``op.on_stop``: wakes a handler that blocks, when its attempt has to stop."""

from __future__ import annotations

import asyncio
import queue
import threading
from datetime import timedelta
from typing import Any

import pytest
from server_harness import SECONDS, Gate, Instance, Server, errors_logged, fleet

from lro_grpc import Code, StopReason

Serve = Any


class Sleeper:
    """A handler that sleeps until its attempt has to stop, and notes what it was called with."""

    def __init__(self, handler_keyword: str) -> None:
        self.began: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.calls: list[StopReason] = []
        self.was_on_loop: list[bool] = []
        self.run = self._run_async if handler_keyword == "async def" else self._run

    def _note(self, reason: StopReason) -> None:
        self.calls.append(reason)
        self.was_on_loop.append(asyncio._get_running_loop() is not None)

    def _run(self, op: Any) -> Any:
        if op.attempt > 1:
            return Instance()
        woken = threading.Event()

        def wake(reason: StopReason) -> None:
            self._note(reason)
            woken.set()

        with op.on_stop(wake):
            self.began.put(op.name)
            assert woken.wait(SECONDS)
        op.raise_if_stopped()
        raise AssertionError("it was woken, and has not to stop")

    async def _run_async(self, op: Any) -> Any:
        if op.attempt > 1:
            return Instance()
        with op.on_stop(self._note):
            self.began.put(op.name)
            await asyncio.sleep(SECONDS)
        raise AssertionError("nobody has stopped it")

    def servicer(self, **options: Any) -> Any:
        def run(_: Any, request: Any, op: Any) -> Any:
            return self.run(op)

        async def run_async(_: Any, request: Any, op: Any) -> Any:
            return await self.run(op)

        is_async = self.run == self._run_async
        return fleet("CreateInstance", run_async if is_async else run, **options)


@pytest.mark.parametrize("reason", [StopReason.CANCEL, StopReason.TIMEOUT, StopReason.SHUTDOWN])
def test_it_is_called_once_with_the_reason(
    serve: Serve, handler_keyword: str, reason: StopReason
) -> None:
    sleeper = Sleeper(handler_keyword)
    timeout = timedelta(milliseconds=200) if reason is StopReason.TIMEOUT else None
    server = serve(sleeper.servicer(timeout=timeout))
    name = server.create().name
    sleeper.began.get(timeout=SECONDS)
    if reason is StopReason.SHUTDOWN:
        server.stop()
    else:
        if reason is StopReason.CANCEL:
            server.cancel(name)
        code = Code.CANCELLED if reason is StopReason.CANCEL else Code.DEADLINE_EXCEEDED
        assert server.done(name).error.code == code
        server.stop()
    assert sleeper.calls == [reason]
    assert sleeper.was_on_loop == [handler_keyword == "async def"]


def test_a_terminated_handler_is_woken(serve: Serve, handler_keyword: str) -> None:
    sleeper = Sleeper(handler_keyword)
    server = serve(sleeper.servicer())
    name = server.create().name
    sleeper.began.get(timeout=SECONDS)
    server.terminate(name, "stuck")
    server.stop()
    assert sleeper.calls == [StopReason.LEASE_LOST]


def served(serve: Serve, run: Any) -> tuple[Server, str]:
    server = serve(fleet("CreateInstance", lambda _, request, op: run(op)))
    return server, server.create().name


def test_it_is_called_at_once_where_the_attempt_has_to_stop_already(serve: Serve) -> None:
    gate, began, calls = Gate(), threading.Event(), []

    def run(op: Any) -> Any:
        began.set()
        while op.stop_reason is None:
            pass
        op.on_stop(calls.append)
        calls.append(None)
        op.raise_if_stopped()

    server, name = served(serve, run)
    assert began.wait(SECONDS)
    server.cancel(name)
    assert server.done(name).error.code == Code.CANCELLED
    assert calls == [StopReason.CANCEL, None]
    gate.open()


def test_it_is_called_no_more_once_it_is_taken_back(serve: Serve) -> None:
    gate, began, calls = Gate(), threading.Event(), []

    def run(op: Any) -> Any:
        with op.on_stop(calls.append):
            pass
        op.on_stop(calls.append).close()
        began.set()
        gate.block()
        return Instance()

    server, name = served(serve, run)
    assert began.wait(SECONDS)
    server.cancel(name)
    gate.open()
    server.done(name)
    server.stop()
    assert calls == []


def test_it_is_called_no_more_once_the_handler_has_ended(serve: Serve) -> None:
    calls: list[StopReason] = []

    def run(op: Any) -> Any:
        op.on_stop(calls.append)
        return Instance()

    server, name = served(serve, run)
    assert server.done(name).HasField("response")
    server.stop()
    assert calls == []


def test_what_it_raises_is_logged_and_stops_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    began, woken = threading.Event(), threading.Event()

    def fail(reason: StopReason) -> None:
        raise SystemExit(f"a tiger: {reason.name}")

    def run(op: Any) -> Any:
        op.on_stop(fail)
        op.on_stop(lambda _: woken.set())
        began.set()
        assert woken.wait(SECONDS)
        op.raise_if_stopped()

    server, name = served(serve, run)
    assert began.wait(SECONDS)
    server.cancel(name)
    assert server.done(name).error.code == Code.CANCELLED
    (line,) = errors_logged(caplog)
    assert name in line
    assert "a tiger: CANCEL" in caplog.text


class AsyncWake:
    """What no look at a function tells from a plain one."""

    async def __call__(self, reason: StopReason) -> None: ...


async def wake() -> None: ...


@pytest.mark.parametrize("callback", [AsyncWake(), lambda _: wake()], ids=["object", "lambda"])
def test_a_coroutine_that_it_returns_is_logged(
    serve: Serve, callback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would await it, so the handler would be woken by nothing."""
    began, woken = threading.Event(), threading.Event()

    def run(op: Any) -> Any:
        op.on_stop(callback)
        op.on_stop(lambda _: woken.set())
        began.set()
        assert woken.wait(SECONDS)
        op.on_stop(callback)  # late
        op.raise_if_stopped()

    server, name = served(serve, run)
    assert began.wait(SECONDS)
    server.cancel(name)
    assert server.done(name).error.code == Code.CANCELLED
    assert len(errors_logged(caplog)) == 2
    assert caplog.text.count("has returned a coroutine, which nobody awaits") == 2


def test_an_attempt_stops_though_there_is_no_thread_for_it(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, gate, start = threading.Event(), Gate(), threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name.endswith("on_stop"):
            raise RuntimeError("can't start new thread")
        start(thread)

    def run(op: Any) -> Any:
        op.on_stop(print)
        began.set()
        gate.pass_by(op)

    server, name = served(serve, run)
    assert began.wait(SECONDS)
    monkeypatch.setattr(threading.Thread, "start", start_others)
    server.cancel(name)
    assert server.done(name).error.code == Code.CANCELLED
    (line,) = errors_logged(caplog)
    assert f"{name}: op.on_stop calls nothing" in line


@pytest.mark.parametrize("wrong", [None, "wake", asyncio.sleep])
def test_it_is_a_plain_function(serve: Serve, wrong: Any) -> None:
    errors: list[TypeError] = []

    def run(op: Any) -> Any:
        with pytest.raises(TypeError, match="give a plain function") as raised:
            op.on_stop(wrong)
        errors.append(raised.value)
        return Instance()

    server, name = served(serve, run)
    assert server.done(name).HasField("response")
    assert len(errors) == 1
