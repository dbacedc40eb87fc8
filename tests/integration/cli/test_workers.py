"""The supervisor of worker processes, as a real process with real workers."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
import supervisor_process

from lro_grpc._cli.workers import pause_before_restart

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAINS = "signal.signal(signal.SIGTERM, lambda *_: sys.exit()); serve()"
STAYS = "signal.signal(signal.SIGTERM, signal.SIG_IGN); serve()"
ENOUGH_SECONDS = 60.0


class Supervisor:
    """A supervisor that runs, and what it has said."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, count: int) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.stdout: IO[str] = process.stdout
        self.stderr: IO[str] = process.stderr
        self.pids: dict[int, list[int]] = {}
        """The processes that each worker has been."""
        self.lines: list[str] = []
        self._folder = folder
        self._count = count

    def await_ready(self) -> None:
        """Waits until all workers serve, and have said which processes they are."""
        while "ready" not in self.lines or len(self.pids) < self._count:
            self._take(self.stdout.readline())

    def read_until(self, wanted: str) -> None:
        """Reads its output up to a line that matches."""
        while not re.fullmatch(wanted, self._take(self.stdout.readline())):
            pass

    def end(self) -> tuple[int, str]:
        """Waits until it has ended; returns its exit code, and what it has logged."""
        for line in self.stdout:
            self._take(line)
        logged = self.stderr.read()
        return self.process.wait(ENOUGH_SECONDS), logged

    def _take(self, line: str) -> str:
        assert line, f"it has ended; {self.lines}; {self.stderr.read()}"
        line = line.removesuffix("\n")
        self.lines.append(line)
        if started := re.fullmatch(r"\[(\d+)\] (\d+)", line):
            self.pids.setdefault(int(started[1]), []).append(int(started[2]))
        return line

    def await_end_of(self, pid: int) -> None:
        """Waits until a worker is no more."""
        with open(self._folder / str(pid)) as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)


@contextlib.contextmanager
def supervising(
    folder: Path, code: str, *, count: int = 3, stop_seconds: float = ENOUGH_SECONDS
) -> Iterator[Supervisor]:
    """Runs a supervisor in a process group of its own, as a terminal would."""
    script = supervisor_process.__file__
    with subprocess.Popen(
        [sys.executable, script, str(count), str(stop_seconds), str(folder), code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Supervisor(process, folder, count)
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_all_workers(tmp_path: Path, number: signal.Signals) -> None:
    with supervising(tmp_path, DRAINS) as supervisor:
        supervisor.await_ready()
        assert {worker: len(pids) for worker, pids in supervisor.pids.items()} == {1: 1, 2: 1, 3: 1}
        supervisor.process.send_signal(number)
        assert supervisor.end() == (0, "")
        for (pid,) in supervisor.pids.values():
            supervisor.await_end_of(pid)


def test_a_signal_before_all_serve_ends_those_that_there_are(tmp_path: Path) -> None:
    code = f"is_first() or time.sleep(1000); {DRAINS}"
    with supervising(tmp_path, code) as supervisor:
        for number in (1, 2, 3):
            if number not in supervisor.pids:
                supervisor.read_until(rf"\[{number}\] \d+")
        supervisor.process.terminate()
        assert supervisor.end() == (0, "")
        assert "ready" not in supervisor.lines


def test_a_worker_that_dies_is_started_again(tmp_path: Path) -> None:
    with supervising(tmp_path, DRAINS) as supervisor:
        supervisor.await_ready()
        os.kill(supervisor.pids[2][0], signal.SIGKILL)
        supervisor.read_until(r"\[2\] \d+")
        supervisor.process.terminate()
        exit_code, logged = supervisor.end()
        assert exit_code == 0
        assert re.findall(r"^lro: worker 2 has ended with SIGKILL; .*", logged, re.MULTILINE) == [
            "lro: worker 2 has ended with SIGKILL; it is started again in 0.1 s"
        ]
        assert {worker: len(pids) for worker, pids in supervisor.pids.items()} == {1: 1, 2: 2, 3: 1}
        assert supervisor.lines.count("ready") == 1


CANNOT_START_AGAIN = f"""
is_first() or os.path.exists(os.path.join(folder, "database")) or sys.exit("the database is away")
{DRAINS}
"""


def await_failed_start(supervisor: Supervisor) -> None:
    """Waits until the second worker could not start, while the first one serves."""
    failed = "lro: worker 2 has ended with exit code 1; it is started again in 5.0 s\n"
    while (line := supervisor.stderr.readline()) != failed:
        assert line == "[2] the database is away\n"


def test_a_worker_that_cannot_start_ends_none_that_serves(tmp_path: Path) -> None:
    with supervising(tmp_path, CANNOT_START_AGAIN, count=2) as supervisor:
        await_failed_start(supervisor)
        (tmp_path / "database").touch()
        supervisor.await_ready()
        assert len(supervisor.pids[1]) == 1
        supervisor.process.terminate()
        assert supervisor.end() == (0, "")


def descriptors(pid: int) -> set[int]:
    """Returns the descriptors that a process has open."""
    return {int(number) for number in os.listdir(f"/proc/{pid}/fd")}


def test_a_process_that_cannot_be_begun_ends_no_worker_that_serves(tmp_path: Path) -> None:
    with supervising(tmp_path, DRAINS, count=2) as supervisor:
        supervisor.await_ready()
        pid = supervisor.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(supervisor.pids[2][0], signal.SIGKILL)
        failed = "worker 2 cannot be begun: [Errno 24] Too many open files; it is started again"
        assert any(failed in line for line in supervisor.stderr)
        before = descriptors(pid)
        free = (number for number in itertools.count() if number not in before)
        *_, last = itertools.islice(free, 5)  # for the lifeline, one pipe, and not the other one
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (last + 1, limits[1]))
        assert any(failed in line for line in supervisor.stderr)
        assert descriptors(pid) == before
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        supervisor.read_until(r"\[2\] \d+")
        supervisor.process.terminate()
        assert supervisor.end() == (0, "")
        assert len(supervisor.pids[1]) == 1


def test_all_end_once_no_worker_can_serve_any_more(tmp_path: Path) -> None:
    with supervising(tmp_path, CANNOT_START_AGAIN, count=2) as supervisor:
        supervisor.read_until(r"\[1\] \d+")
        await_failed_start(supervisor)
        os.kill(supervisor.pids[1][0], signal.SIGKILL)
        exit_code, logged = supervisor.end()
        assert exit_code == 1
        *_, sentence, one, other = logged.splitlines()
        found = re.fullmatch(
            r"worker ([12]) has ended with exit code 1, as it has 5 times within 30 s, and no"
            " worker serves any more; its last lines:",
            sentence,
        )
        assert found, sentence
        last = f"    {supervisor.pids[int(found[1])][-1]}"
        assert {one, other} == {last, "    the database is away"}


@pytest.mark.parametrize(("given", "expected"), [("2", 2), ("'no such table'", 1)])
def test_what_keeps_the_first_from_serving_ends_all_at_once(
    tmp_path: Path, given: str, expected: int
) -> None:
    with supervising(tmp_path, f"sys.exit({given})") as supervisor:
        exit_code, logged = supervisor.end()
        assert exit_code == expected
        assert f"worker 1 has ended with exit code {expected} before it served" in logged
        assert len(supervisor.lines) == 1


def test_a_worker_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    with supervising(tmp_path, STAYS, count=2, stop_seconds=0.2) as supervisor:
        supervisor.await_ready()
        supervisor.process.terminate()
        exit_code, logged = supervisor.end()
        assert exit_code == 1
        assert logged == "not drained after 0.2 s, and killed: worker 1, 2\n"
        for (pid,) in supervisor.pids.values():
            supervisor.await_end_of(pid)


@pytest.mark.parametrize("code", [DRAINS, STAYS], ids=["drains", "does not"])
def test_no_worker_outlives_a_supervisor_that_is_killed(tmp_path: Path, code: str) -> None:
    with supervising(tmp_path, code, stop_seconds=0.2) as supervisor:
        supervisor.await_ready()
        supervisor.process.kill()
        for (pid,) in supervisor.pids.values():
            supervisor.await_end_of(pid)


COUNTS = """
number = 0
def count(*_):
    global number
    number += 1
    os.write(1, b"signal %d\\n" % number)  # print cannot be interrupted by another print
    if number == 2:
        sys.exit()
signal.signal(signal.SIGTERM, count)
signal.signal(signal.SIGINT, count)
serve()
"""


def test_each_signal_reaches_each_worker_once_and_a_second_one_hurries_them(tmp_path: Path) -> None:
    """As of Ctrl-C, which a terminal sends to all processes of a group."""
    with supervising(tmp_path, COUNTS, count=2) as supervisor:
        supervisor.await_ready()
        for number in (1, 2):
            os.killpg(supervisor.process.pid, signal.SIGINT)
            for _ in range(2):
                supervisor.read_until(rf"\[\d\] signal {number}")
        assert supervisor.end() == (0, "")
        assert len(supervisor.lines) == 2 + 1 + 4


def test_output_is_passed_on_with_the_number_of_the_worker_or_as_json(tmp_path: Path) -> None:
    code = f"""
print("plain")
print('{{"json": 1}}')
print("x" * 100_000)
print("a warning", file=sys.stderr)
{DRAINS}
"""
    with supervising(tmp_path, code, count=1) as supervisor:
        supervisor.await_ready()
        supervisor.process.terminate()
        assert supervisor.end() == (0, "[1] a warning\n")
        lines = supervisor.lines
        lines.remove("ready")
        assert lines == [
            f"[1] {supervisor.pids[1][0]}",
            "[1] plain",
            '{"json": 1}',
            "[1] " + "x" * 65536,
            "[1] " + "x" * (100_000 - 65536),
        ]


def test_a_reader_that_has_stopped_keeps_no_supervisor_from_its_drain(tmp_path: Path) -> None:
    code = """
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
lifeline.ready()
while True:
    os.write(2, b"x" * 1000 + b"\\n")
"""
    with supervising(tmp_path, code, count=2) as supervisor:
        supervisor.await_ready()
        supervisor.process.terminate()
        assert supervisor.process.wait(ENOUGH_SECONDS) == 0  # nobody has read its stderr


def test_pauses_grow_with_each_death_up_to_five_seconds() -> None:
    apart = [n * 29.0 for n in range(9)]  # too far from each other for it to be given up
    pauses = [pause_before_restart(apart[: n + 1]) for n in range(9)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5])


def test_a_life_that_was_long_makes_the_pause_short_again() -> None:
    assert pause_before_restart([0, 1, 2, 40]) == pytest.approx(0.1)
    assert pause_before_restart([0, 1, 2, 40, 41]) == pytest.approx(0.2)


@pytest.mark.parametrize(("last", "given_up"), [(30.0, True), (30.1, False)])
def test_the_fifth_death_within_half_a_minute_is_the_last(last: float, given_up: bool) -> None:
    assert (pause_before_restart([0, 1, 2, 3, last]) is None) == given_up
    assert (pause_before_restart([-100, 0, 1, 2, 3, last]) is None) == given_up


@pytest.mark.parametrize("module", ["workers", "lifeline", "shared_port"])
def test_what_a_supervisor_is_made_of_loads_no_grpc(module: str) -> None:
    code = f"import lro_grpc._cli.{module}, sys; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=ENOUGH_SECONDS).returncode == 0
