"""Why a Wait was answered: the log and a metric say so."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from server_harness import SECONDS, Held, in_thread

from lro_grpc import Limits
from lro_grpc.otel import OpenTelemetry

if TYPE_CHECKING:
    from collections.abc import Callable

    from server_harness import Server

    Serve = Callable[..., Server]

pytestmark = pytest.mark.parametrize("handler_keyword", ["async def"], indirect=True)


class Ends:
    """The ends of Waits, as the log and the metric have them."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "lro_grpc")
        self._caplog = caplog
        self._reader = InMemoryMetricReader()
        self.telemetry = OpenTelemetry(meter_provider=MeterProvider([self._reader]))

    def logged(self, name: str) -> list[str]:
        """Returns the reasons for which Waits for an operation ended."""
        lines = [one for one in self._caplog.records if hasattr(one, "wait_end")]
        for line in lines:
            assert vars(line)["operation"] == name
            assert line.levelname == "DEBUG"
            assert line.name == "lro_grpc"
            text = line.getMessage()
            assert text.startswith(f"{name}: a Wait ended after ")
            assert text.endswith(f" s: {vars(line)['wait_end']}")
        return [vars(line)["wait_end"] for line in lines]

    def measured(self) -> dict[str, tuple[int, float]]:
        """Returns how many Waits ended for each reason, and after how many seconds in all."""
        points = self._points("lro.operation.wait.duration")
        return {point.attributes["lro.wait.end"]: (point.count, point.sum) for point in points}

    def wait_for_a_waiter(self) -> None:
        """Returns when a Wait stays open."""
        while sum(point.value for point in self._points("lro.operation.waiter.active")) < 1:
            pass

    def _points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        scopes = [scope for of in data.resource_metrics for scope in of.scope_metrics]
        metrics = [metric for scope in scopes for metric in scope.metrics]
        return [point for one in metrics if one.name == name for point in one.data.data_points]


@pytest.fixture
def ends(caplog: pytest.LogCaptureFixture) -> Ends:
    return Ends(caplog)


def started(serve: Serve, held: Held, ends: Ends, **how: Any) -> tuple[Server, str]:
    """Returns a server, and an operation of it that runs until the gate is open."""
    server = serve(held.servicer(), telemetry=ends.telemetry, **how)
    name = server.create().name
    held.next()
    return server, name


@pytest.mark.parametrize(
    ("reason", "limit", "deadline", "max_wait"),
    [
        ("timeout", 0.1, 60, 60),
        ("timeout", 0.1, None, 60),
        ("timeout", 0, 60, 60),
        ("timeout", 0.1, None, 0.1),
        ("deadline", 60, 5, 60),  # its margin is the longest there is
        ("max_wait", 60, None, 0.1),
        ("max_wait", None, 60, 0.1),
    ],
)
def test_the_shortest_of_its_times_ends_a_wait(
    serve: Serve,
    held: Held,
    ends: Ends,
    reason: str,
    limit: float | None,
    deadline: float | None,
    max_wait: float,
) -> None:
    server, name = started(serve, held, ends, max_wait=timedelta(seconds=max_wait))
    assert not server.wait(name, limit, deadline=deadline).done
    assert ends.logged(name) == [reason]
    ((measured, (count, seconds)),) = ends.measured().items()
    assert (measured, count) == (reason, 1)
    assert (0 if limit == 0 else 0.099) <= seconds < SECONDS


def test_the_end_of_the_operation_ends_a_wait(serve: Serve, held: Held, ends: Ends) -> None:
    server, name = started(serve, held, ends)
    waiting = server.waiting(name, 60)
    held.gate.open()
    assert waiting.result(SECONDS).done
    assert server.wait(name, 0).done  # done counts before any time
    assert ends.logged(name) == ["done", "done"]
    assert ends.measured()["done"][0] == 2


def test_a_drain_ends_a_wait(serve: Serve, held: Held, ends: Ends) -> None:
    server, name = started(serve, held, ends)
    waiting = server.waiting(name, 60)
    ends.wait_for_a_waiter()
    in_thread(server.stop)
    assert not waiting.result(SECONDS).done
    assert ends.logged(name) == ["drain"]
    assert ends.measured()["drain"][0] == 1


def test_a_wait_for_which_there_is_no_place(serve: Serve, held: Held, ends: Ends) -> None:
    server, name = started(serve, held, ends, max_waiters=1, limits=Limits(waiters=1))
    waiting = server.waiting(name, 60)
    ends.wait_for_a_waiter()
    assert not server.wait(name, 60).done
    assert ends.logged(name) == ["no_place"]
    held.gate.open()
    assert waiting.result(SECONDS).done
    assert ends.logged(name) == ["no_place", "done"]
    assert ends.measured().keys() == {"no_place", "done"}
