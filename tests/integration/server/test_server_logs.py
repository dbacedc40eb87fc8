"""The log of a server: the fields of each line name its operation."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from server_harness import (
    FLEET,
    Held,
    Instance,
    defined_with,
    fleet,
)

import lro_grpc
from lro_grpc.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from server_harness import Server

    Serve = Callable[..., Server]

METHOD = f"/{FLEET}/CreateInstance"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    caplog.set_level(logging.DEBUG, "lro_grpc")
    return Log(caplog)


class Log:
    """The lines that were logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def of(self, name: str) -> list[logging.LogRecord]:
        """Returns the lines whose fields name an operation."""
        return [one for one in self._caplog.records if vars(one).get("operation") == name]

    def lines(self, name: str) -> list[tuple[str, int, str]]:
        """Returns the level, the attempt, and the text without the name; not those of Waits."""
        lines = [one for one in self.of(name) if not hasattr(one, "wait_end")]
        assert {vars(one)["method"] for one in lines} == {METHOD}
        return [
            (one.levelname, vars(one)["attempt"], one.getMessage().replace(name, "it"))
            for one in lines
        ]

    def records(self) -> list[logging.LogRecord]:
        """Returns all lines."""
        return self._caplog.records

    def nameless(self) -> list[str]:
        """Returns the texts of lines about an operation that have no field to name it."""
        lines = [one for one in self._caplog.records if one.name.startswith("lro_grpc")]
        texts = [one.getMessage() for one in lines if not hasattr(one, "operation")]
        return [text for text in texts if "operations/" in text]


def of(handler_keyword: str, run: Callable[[Any, Any], Any], **options: Any) -> Any:
    """Returns a fleet whose handler has this keyword."""
    return fleet(
        "CreateInstance",
        defined_with(handler_keyword, lambda _, *arguments: run(*arguments)),
        **options,
    )


def test_an_operation_that_succeeds(serve: Serve, handler_keyword: str, log: Log) -> None:
    server = serve(of(handler_keyword, lambda *_: Instance()))
    name = server.create().name
    server.done(name)
    server.stop()
    assert sorted(log.lines(name), key=lambda line: line[1:]) == [
        ("DEBUG", 0, "it: started"),
        ("INFO", 1, "it: SUCCEEDED"),
        ("DEBUG", 1, "it: attempt 1 begins"),
    ]
    assert log.nameless() == []


def test_an_attempt_that_fails_and_is_retried(serve: Serve, handler_keyword: str, log: Log) -> None:
    def run(request: Any, op: Any) -> Instance:
        if op.attempt < 3:
            raise lro_grpc.RetryableError("the disk is full", retry_after=timedelta(0))
        raise lro_grpc.LroError("no disk", code=lro_grpc.Code.NOT_FOUND)

    server = serve(of(handler_keyword, run))
    name = server.create().name
    server.done(name)
    server.stop()
    outcomes = [line for line in log.lines(name) if line[0] != "DEBUG"]
    retried = "failed, to be tried again after 0.0 s: the disk is full"
    assert outcomes == [
        ("WARNING", 1, f"it: attempt 1 {retried}"),
        ("WARNING", 2, f"it: attempt 2 {retried}"),
        ("INFO", 3, "it: FAILED: no disk"),
    ]
    assert log.nameless() == []


def test_an_unexpected_error_has_its_incident_as_a_field(
    serve: Serve, handler_keyword: str, log: Log
) -> None:
    def run(request: Any, op: Any) -> Instance:
        raise ZeroDivisionError

    server = serve(of(handler_keyword, run))
    name = server.create().name
    error = server.done(name).error
    server.stop()
    (line,) = [one for one in log.of(name) if one.levelname == "ERROR"]
    assert vars(line)["incident"] in error.message
    assert vars(line)["attempt"] == 1
    assert line.exc_info is not None


def test_a_cancel(serve: Serve, held: Held, log: Log) -> None:
    server = serve(held.servicer(concurrency=1))
    running = server.create().name
    assert held.next() == running
    waiting = server.create().name
    for name in (waiting, running):
        server.cancel(name)
        server.done(name)
    server.stop()
    asked = ("INFO", 1, "it: cancel was asked for; it is CANCELLING")
    ended = ("INFO", 1, "it: CANCELLED: the operation was cancelled")
    assert [line for line in log.lines(running) if line[0] != "DEBUG"] == [asked, ended]
    assert [line for line in log.lines(waiting) if line[0] != "DEBUG"] == [
        ("INFO", 0, "it: cancel was asked for; it is CANCELLED")
    ]


def test_an_attempt_that_is_stopped_gives_its_operation_back(
    serve: Serve, held: Held, log: Log
) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    server.stop()
    assert log.lines(name)[-1] == ("INFO", 1, "it: attempt 1 gave it back; it is QUEUED")


def test_an_attempt_that_is_lost(serve: Serve, file_url: str, log: Log) -> None:
    held = Held("def")

    def run(request: Any, op: Any) -> Instance:
        held.began.put(op.name)
        held.gate.block()
        return Instance()

    first = serve(of("def", run), store=file_url, grace=0.1)
    name = first.create().name
    held.next()
    first.stop()
    held.gate.open()
    second = serve(of("def", run), store=file_url)
    second.done(name)
    second.stop()
    warnings = [line for line in log.lines(name) if line[0] == "WARNING"]
    assert ("WARNING", 1, "it: attempt 1 lost its worker") in warnings
    assert ("WARNING", 1, "it: attempt 1 ended without an outcome") in warnings
    assert log.lines(name)[-1][1:] == (2, "it: SUCCEEDED")
    assert log.nameless() == []


def test_an_operation_that_is_terminated(serve: Serve, log: Log) -> None:
    held = Held("def")

    def run(request: Any, op: Any) -> Instance:
        held.began.put(op.name)
        held.gate.block()
        return Instance()

    server = serve(of("def", run))
    name = server.create().name
    held.next()
    server.terminate(name, "it hangs")
    held.gate.open()
    server.stop()
    ended = ("INFO", 1, "it: attempt 1 has ended, for the operation was terminated")
    assert ended in log.lines(name)
    assert not [line for line in log.lines(name) if "without an outcome" in line[2]]


def test_what_fails_for_many_operations_is_counted(serve: Serve, log: Log) -> None:
    def run(request: Any, op: Any) -> Instance:
        raise ValueError(op.name)

    server = serve(of("def", run))
    names = [server.create().name for _ in range(60)]
    incidents = {server.done(name).error.message.rpartition(" ")[2] for name in names}
    server.stop()
    raised = [one for one in log.records() if "raised unexpectedly" in one.getMessage()]
    *first, count = raised
    assert incidents == {vars(one)["incident"] for one in first}
    assert len(first) == 5
    assert vars(count)["repeated"] == 55
    assert count.getMessage().endswith("(55 times more)")


def test_an_operation_that_expires(serve: Serve, held: Held, log: Log) -> None:
    clock = ManualClock()
    server = serve(
        held.servicer(concurrency=1, timeout=timedelta(minutes=1)),
        clock=clock,
        lease=timedelta(hours=1),
    )
    running = server.create().name
    held.next()
    waiting = server.create().name
    clock.advance(timedelta(minutes=2))
    for name, attempt in ((running, 1), (waiting, 0)):
        server.done(name)
        level, last, text = log.lines(name)[-1]
        assert (level, last) == ("INFO", attempt)
        assert text.startswith("it: EXPIRED: it was not done within")
    server.stop()


def test_a_handlers_own_lines_carry_the_fields(
    serve: Serve, handler_keyword: str, log: Log
) -> None:
    def run(request: Any, op: Any) -> Instance:
        op.log.info("half of %s", "it", extra={"rows": 7})
        return Instance()

    server = serve(of(handler_keyword, run))
    name = server.create().name
    server.done(name)
    server.stop()
    (line,) = [one for one in log.of(name) if one.name == "lro_grpc.handler"]
    assert line.getMessage() == "half of it"
    fields = {"rows": 7, "operation": name, "attempt": 1, "method": METHOD}
    assert vars(line).items() >= fields.items()


def test_a_terminate_has_its_reason(serve: Serve, held: Held, log: Log) -> None:
    server = serve(held.servicer())
    name = server.create().name
    held.next()
    server.terminate(name, "ticket 7")
    said = "it: terminate was asked for (ticket 7); it is FAILED"
    assert ("INFO", 1, said) in log.lines(name)


def test_a_store_that_fails_is_in_the_log_once_a_minute(
    serve: Serve, held: Held, file_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else an idle server says nothing of it, though every caller is refused."""
    server = serve(held.servicer(), store=file_url)
    with contextlib.closing(sqlite3.connect(file_url.removeprefix("sqlite:///"))) as file:
        file.execute(
            "CREATE TRIGGER t BEFORE INSERT ON operations BEGIN INSERT INTO gone VALUES (1); END"
        )
        file.commit()
    for _ in range(3):
        with pytest.raises(grpc.RpcError, match="its file cannot be read or written"):
            server.create()
    lines = [one for one in caplog.records if "no such table" in one.getMessage()]
    assert [one.levelname for one in lines] == ["WARNING"]
