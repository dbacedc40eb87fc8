"""A client amid threads, signals and forks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent import futures
from datetime import timedelta

import grpc
import pytest
from fake_operations import GET, WAIT, WATCH, FakeServer, operation
from google.protobuf.timestamp_pb2 import Timestamp

from lro_grpc._client.operations import OperationsClient
from lro_grpc._errors import Code

THREADS = ("lro-call", "lro-client", "lro-watch")
"""The names of the threads that a client begins."""
RESPONSE = Timestamp(seconds=7)
LONG = timedelta(seconds=20)

BEGINNING = """
import os, sys, grpc
from lro_grpc import OperationsClient

channel = grpc.insecure_channel(sys.argv[1])
client = OperationsClient(channel)
"""


def begin(program: str, server: FakeServer) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", BEGINNING + textwrap.dedent(program), server.target],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "1"},
    )


@pytest.mark.parametrize(
    ("wait", "method"),
    [("future.result()", WAIT), ("list(future.updates())", WATCH), ("future.done()", GET)],
)
def test_an_interrupt_ends_a_wait_and_the_client_goes_on(
    server: FakeServer, wait: str, method: str
) -> None:
    server.fake.put(operation(metadata=RESPONSE))
    server.fake.script(GET, *[server.fake.hang] * (method == GET))
    program = f"""
        future = client.attach("operations/1")
        try:
            {wait}
        except KeyboardInterrupt:
            print("interrupted")
        print(client.get("operations/1").name)
        channel.close()
    """
    with begin(program, server) as process:
        assert server.fake.arrived[method].acquire(timeout=20)
        process.send_signal(signal.SIGINT)
        assert server.fake.gone[method].acquire(timeout=20)
        out, err = process.communicate(timeout=20)
    # On a busy machine asyncio logs, in its debug mode, that a callback took long.
    rest = [line for line in err.splitlines() if not line.startswith("Executing <")]
    assert (out, rest) == ("interrupted\noperations/1\n", [])
    assert process.returncode == 0


def test_a_child_that_was_forked_off_waits_by_itself(server: FakeServer) -> None:
    server.fake.put(operation(response=RESPONSE))
    program = """
        print(client.attach("operations/1").result())  # there is a thread that does not come along
        channel.close()
        sys.stdout.flush()
        if child := os.fork():
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        channel = grpc.insecure_channel(sys.argv[1])
        print(OperationsClient(channel).attach("operations/1").result())
        channel.close()
    """
    with begin(program, server) as process:
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "seconds: 7\n\n" * 2), errors
    assert server.fake.calls == [WAIT, WAIT]


def test_a_process_ends_though_iterations_have_not(server: FakeServer) -> None:
    server.fake.put(operation(response=RESPONSE))
    server.fake.put(operation("operations/2"))
    server.fake.put(operation("operations/3"))
    program = """
        import lro_grpc
        futures = [client.attach(name) for name in ("operations/1", "operations/2", "operations/3")]
        updates, cyclic = futures[1].updates(), [futures[2].updates()]
        cyclic.append(cyclic)
        completed = lro_grpc.as_completed(futures[:2])
        print(next(updates).done, next(cyclic[0]).done, next(completed).name)
    """
    with begin(program, server) as process:
        try:
            assert process.communicate(timeout=20) == ("False False operations/1\n", "")
        finally:
            process.kill()
    assert process.returncode == 0


def test_many_threads_use_one_client(server: FakeServer) -> None:
    names = [f"operations/{number}" for number in range(100)]
    for name in names:
        server.fake.put(operation(name, response=RESPONSE))
    with grpc.insecure_channel(server.target) as channel:
        client = OperationsClient(channel)

        def use(name: str) -> bool:
            future = client.attach(name, response=Timestamp)
            assert future.done()
            assert [one.done for one in client.attach(name).updates(LONG)] == [True]
            return future.result(LONG) == RESPONSE

        with futures.ThreadPoolExecutor(25) as pool:
            assert all(pool.map(use, names * 2))


def test_many_threads_use_one_future(server: FakeServer) -> None:
    server.fake.put(operation())
    with grpc.insecure_channel(server.target) as channel:
        future = OperationsClient(channel).attach("operations/1")
        with futures.ThreadPoolExecutor(20) as pool:
            results = [pool.submit(future.result, LONG) for _ in range(10)]
            updates = [pool.submit(list, future.updates(LONG)) for _ in range(10)]
            assert server.fake.arrived[WATCH].acquire(timeout=10)
            server.fake.put(operation(response=RESPONSE))
            assert [one.result() for one in results] == [RESPONSE] * 10
            assert all(one.result()[-1].done for one in updates)
    assert server.fake.count(WATCH) == 1
    assert server.fake.count(WAIT) <= 1


def test_a_thousand_futures_wait_in_one_thread(server: FakeServer) -> None:
    """Another one reads what the server says of all of them, if it has a call for that."""
    with grpc.insecure_channel(server.target) as channel:
        client = OperationsClient(channel)
        waiting = [client.attach(f"operations/{number}").concurrent() for number in range(1000)]
        assert server.fake.arrived[WAIT].acquire(timeout=20)
        threads = [one.name for one in threading.enumerate() if one.name in THREADS]
        assert sorted(threads) in (["lro-client"], ["lro-client", "lro-watch"])
        codes = {one.exception(20).code for one in waiting}
    assert codes == {Code.NOT_FOUND}


def test_two_clients_of_one_channel_share_what_is_known_of_the_server(server: FakeServer) -> None:
    """P6."""
    server.fake.always(WAIT, grpc.StatusCode.UNIMPLEMENTED)
    server.fake.put(operation(response=RESPONSE))
    with grpc.insecure_channel(server.target) as channel:
        for _ in range(2):
            client = OperationsClient(channel)
            assert client.attach("operations/1").result(LONG) == RESPONSE
    assert server.fake.calls == [WAIT, GET, GET]
    with grpc.insecure_channel(server.target) as channel:
        assert OperationsClient(channel).attach("operations/1").result(LONG) == RESPONSE
    assert server.fake.calls[3:] == [WAIT, GET]


def test_the_thread_of_the_client_ends_when_there_is_nothing_to_do(server: FakeServer) -> None:
    server.fake.put(operation(response=RESPONSE))
    with grpc.insecure_channel(server.target) as channel:
        client = OperationsClient(channel)
        client.get("operations/1")
        (thread,) = (one for one in threading.enumerate() if one.name == "lro-client")
        thread.join(30)
        assert not thread.is_alive()
        assert client.attach("operations/1").result(LONG) == RESPONSE


def test_a_wait_in_the_very_thread_that_waits_for_all_is_an_error(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.fake.put(operation(response=RESPONSE))
    server.fake.put(operation("operations/2"))
    with grpc.insecure_channel(server.target) as channel:
        client = OperationsClient(channel)
        other = client.attach("operations/2")
        tried = threading.Event()

        def wait_there(_: object) -> None:
            try:
                other.result(LONG)
            finally:
                tried.set()

        client.attach("operations/1").concurrent().add_done_callback(wait_there)
        assert tried.wait(10)
        assert client.attach("operations/1").result(LONG) == RESPONSE
    assert "add_done_callback" in caplog.text
