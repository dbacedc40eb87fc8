"""The slowest calls, at half of the load that a server carries, and with a stranger's load beside.

A client in a process of its own calls at a constant rate, half of that which was found before. The
baseline is a server that stores nothing, called by the same client at the same rate. Besides it
prints of the slowest notices how much of their time is within commits, within the garbage
collector, and within what the loops of the server and of the client were late.
"""

from __future__ import annotations

import collections
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks import stranger
from benchmarks.figure import Figure, percentile, shown
from benchmarks.moments import overlap

SECONDS = 3.0
ROUNDS = 3
KINDS = ("ours", "bare")

CAUSES = (
    ("commit", "server", "commit"),
    ("its collector", "server", "gc"),
    ("its loop was late", "server", "loop"),
    ("the client's collector", "client", "gc"),
    ("the client's loop was late", "client", "loop"),
)
"""The names of causes: ours, whose it is, and its name there."""

Round = Mapping[str, Any]
"""The notes of client and server."""


class Server:
    """The process, from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.target = f"127.0.0.1:{self._read()}"

    @contextlib.contextmanager
    def noted(self, into: dict[str, Any]) -> Iterator[None]:
        """Has it note what holds it up while the context lasts."""
        self.ask()
        yield
        into["server"] = self.ask()

    def ask(self) -> Any:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def measure(rounds: int = ROUNDS, seconds: float = SECONDS) -> list[Figure]:
    """Calls both servers in turn, first alone, and then beside a stranger."""
    with contextlib.ExitStack() as stack:
        servers = {kind: stack.enter_context(_serving(kind)) for kind in KINDS}
        rates = [_round(servers["ours"], 0, seconds)["client"]["rate"] for _ in range(rounds)]
        half = statistics.median(rates) / 2
        figures = [_saturated(rates)]
        for beside, load in (("", contextlib.nullcontext), (", beside a stranger", stranger.busy)):
            found: dict[str, list[Round]] = {kind: [] for kind in KINDS}
            with load():
                for _ in range(rounds):
                    for kind, server in servers.items():
                        found[kind].append(_round(server, half, seconds))
            figures += _figures(f"at {half:,.0f} a second{beside}", found)
            _print_causes(beside, found)
    return figures


def _saturated(rates: Sequence[float]) -> Figure:
    return Figure(
        what="operations of one caller as fast as it can; the load is half of it",
        ours=rates,
        baseline=rates,
        unit="operations a second",
        goal="(shown; it is its own baseline)",
        meets=shown,
    )


def _figures(when: str, found: Mapping[str, Sequence[Round]]) -> Iterator[Figure]:
    for what in ("start", "Get", "finish to notice"):
        times = {kind: [_times(one, what) for one in rounds] for kind, rounds in found.items()}
        for name, percent in (("median", 50), ("p95", 95), ("p99", 99)):
            yield Figure(
                what=f"{what}, {when}, {name}",
                ours=[percentile(one, percent) for one in times["ours"]],
                baseline=[percentile(one, percent) for one in times["bare"]],
                unit="ms",
                goal="(shown; the baseline stores nothing)",
                meets=shown,
                cpu=_cpu(found) if (what, name) == ("start", "median") else {},
            )
        if what == "finish to notice":
            yield Figure(
                what=f"{what}, {when}, p95 beside its median",
                ours=[percentile(one, 95) for one in times["ours"]],
                baseline=[percentile(one, 50) for one in times["ours"]],
                unit="ms",
                goal="(shown)" if "stranger" in when else "≤ 3 ×",
                meets=shown if "stranger" in when else lambda _, ratio: ratio <= 3,
            )


def _cpu(found: Mapping[str, Sequence[Round]]) -> Mapping[str, tuple[list[float], list[float]]]:
    """Returns the CPU microseconds of an operation with its start, its Wait and a Get."""

    def of(kind: str, whose: str) -> list[float]:
        return [one[whose]["cpu"] * 1e6 / len(one["client"]["notices"]) for one in found[kind]]

    return {whose: (of("ours", whose), of("bare", whose)) for whose in ("server", "client")}


def _times(one: Round, what: str) -> list[float]:
    if what in one["client"]:
        return one["client"][what]
    return [(known - ended) / 1e6 for ended, known in one["client"]["notices"]]


def _print_causes(beside: str, found: Mapping[str, Sequence[Round]]) -> None:
    """Prints, of all notices and of the slowest twentieth, how long what held them up."""
    print(f"finish to notice{beside}: milliseconds of a notice, and within what")
    for kind, rounds in found.items():
        for which, least in (("all", 0), ("the slowest 5 %", 95)):
            times = {"in all": 0.0, **{name: 0.0 for name, _, _ in CAUSES}}
            number = 0
            for one in rounds:
                limit = percentile(_times(one, "finish to notice"), least) * 1e6
                for ended, known in one["client"]["notices"]:
                    if known - ended < limit:
                        continue
                    number += 1
                    times["in all"] += known - ended
                    for name, whose, cause in CAUSES:
                        spans = one[whose]["spans"].get(cause, [])
                        times[name] += overlap(spans, ended, known)
            shares = ", ".join(
                f"{name} {total / number / 1e6:.2f}" for name, total in times.items()
            )
            print(f"  {kind}, {which}: {shares}")
        for whose in ("server", "client"):
            switches = statistics.median(one[whose]["switches"] for one in rounds)
            longest: dict[str, float] = collections.defaultdict(float)
            for one in rounds:
                for cause, spans in one[whose]["spans"].items():
                    most = max((end - begin for begin, end in spans), default=0) / 1e6
                    longest[cause] = max(longest[cause], most)
            text = ", ".join(f"{cause} {most:.1f}" for cause, most in longest.items())
            print(f"  {kind}, {whose}: put off a core {switches:.0f} times; the longest: {text}")


@contextlib.contextmanager
def _serving(kind: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.tails_server", kind, folder]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield Server(process)
            finally:
                process.kill()


def _round(server: Server, rate: float, seconds: float) -> Round:
    """Has a new client call the server; with the rate 0 as fast as it can."""
    noted: dict[str, Any] = {}
    command = [sys.executable, "-m", "benchmarks.tails_client", server.target]
    with subprocess.Popen(
        [*command, str(rate), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        with server.noted(noted):
            print(file=client.stdin, flush=True)
            noted["client"] = json.loads(client.stdout.readline())
    return noted


if __name__ == "__main__":
    for figure in measure():
        print(figure.row())
