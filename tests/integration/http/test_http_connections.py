"""Connections that send or read nothing are ended, and keep nobody else from being served."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from busy_machine import is_said_of_it
from google.longrunning import operations_pb2, operations_pb2_grpc
from http_harness import SECONDS, Http

import lro_grpc
from lro_grpc._http.gateway import gateway
from lro_grpc.http import listening_in_thread

MOST = 20
HAS_HTTPTOOLS = importlib.util.find_spec("httptools") is not None
"""Whether the parser is httptools, which takes no line that ends without a carriage return."""
HALF_A_HEAD = b"GET /v1/operations HTTP/1.1\r\nHost: localhost\r\nX-Slow"
A_GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED_ABC = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

Scope = dict[str, Any]


class App:
    """Answers with what it is told to, and knows when a request is over."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)
        self.body = b"hello"

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        self.begun.release()
        try:
            if scope["path"] == "/held":
                while (await receive())["type"] != "http.disconnect":
                    pass
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(64 if scope["path"] == "/large" else 1):
                await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self.ended.release()


@pytest.fixture
def app() -> App:
    return App()


@contextlib.contextmanager
def listening(app: Any, **limits: Any) -> Iterator[Http]:
    limits = {"max_connections": MOST, "grace": timedelta(seconds=1), **limits}
    with listening_in_thread(app, "127.0.0.1:0", **limits) as port:
        yield Http(port)


@contextlib.contextmanager
def connections(http: Http, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Opens connections, and sends the same on each."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(number):
            connection = stack.enter_context(http.connect())
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
            opened.append(connection)
        yield opened


def received(connection: socket.socket) -> bytes:
    """Returns all that comes until the server ends the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            found += part
    return found


def is_over(connection: socket.socket) -> bool:
    """Returns whether the server has ended a connection by now."""
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_a_grace_below_a_second_is_given_to_requests_that_are_under_way(app):
    async def slow(scope: Scope, receive: Any, send: Any) -> None:
        app.begun.release()
        await asyncio.sleep(0.4)  # longer than it takes the server to see that it is to stop
        await app(scope, receive, send)

    with contextlib.ExitStack() as stack:
        with listening(slow, grace=timedelta(seconds=0.5)) as http:
            one = stack.enter_context(http.connect())
            one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            app.begun.acquire()
        assert received(one).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"G", HALF_A_HEAD, A_GET, A_GET + HALF_A_HEAD])
def test_the_connections_that_wait_for_a_request_are_not_more_than_may_be(app, sent):
    with listening(app, head_timeout=timedelta(minutes=5)) as http, \
            connections(http, 5 * MOST, sent) as opened:  # fmt: skip
        assert http.get("/").status == 200
        over = [is_over(one) for one in opened] if sent[:4] != b"GET " else []
        if sent in (b"", b"G"):
            assert over.count(False) <= MOST
            assert over[:MOST] == [True] * MOST  # those that waited longest
        for _ in range(MOST):
            assert http.get("/").status == 200


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD, A_GET + HALF_A_HEAD])
def test_a_head_that_does_not_come_ends_the_connection(app, sent):
    with listening(app, head_timeout=timedelta(seconds=0.3)) as http, \
            connections(http, 3, sent) as opened:  # fmt: skip
        answers = [received(one) for one in opened]  # it is the server that ends each
    assert [one.count(b"HTTP/1.1 200") for one in answers] == [sent.count(A_GET)] * 3


def test_a_head_that_comes_a_byte_at_a_time_ends_the_connection(app):
    with listening(app, head_timeout=timedelta(seconds=0.3)) as http, http.connect() as one:
        one.settimeout(0.02)
        with contextlib.suppress(ConnectionError):
            for _ in range(2000):
                one.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    if not one.recv(1):
                        break
            else:
                raise AssertionError("it goes on for ever")


def test_a_body_after_the_answer_does_not_keep_the_connection(app):
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with listening(app, head_timeout=timedelta(seconds=0.3)) as http, http.connect() as one:
        one.sendall(head + b"x")
        assert received(one).startswith(b"HTTP/1.1 200")


def test_while_all_have_a_request_in_progress_the_next_is_refused(app):
    held = b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n"
    in_progress = MOST - MOST // 10
    with listening(app) as http, connections(http, in_progress, held) as opened:
        for _ in opened:
            assert app.begun.acquire(timeout=SECONDS)
        for _ in range(MOST):
            reply = http.get("/")
            assert reply.status == 503
            assert reply.headers["retry-after"] == "1"
            assert reply.json["error"]["status"] == "UNAVAILABLE"
        with connections(http, 2 * MOST, HALF_A_HEAD):
            assert http.get("/").status == 503
        assert not any(map(is_over, opened))
        opened[0].close()
        assert app.ended.acquire(timeout=SECONDS)
        while http.get("/").status == 503:
            pass  # until the server has heard of it
        assert http.get("/").status == 200


def test_a_client_that_does_not_read_is_cut_off(app):
    app.body = b"x" * 1_000_000
    large = b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with listening(app, write_timeout=timedelta(seconds=0.3)) as http, \
            connections(http, 3, large) as opened:  # fmt: skip
        for _ in opened:
            assert app.ended.acquire(timeout=SECONDS)
        assert all(len(received(one)) < 40_000_000 for one in opened)
        assert http.get("/large").status == 200  # by a client that does


def test_an_answer_that_is_not_read_to_its_end_does_not_keep_the_connection(app):
    """Also where the app has handed over all of it, and nobody else needs the place."""
    app.body = b"x" * 40_000_000
    limits = {"write_timeout": timedelta(seconds=0.3), "grace": timedelta(minutes=5)}
    with contextlib.ExitStack() as clients, listening(app, **limits) as http:
        clients.enter_context(connections(http, 3, A_GET))
        for _ in range(3):
            assert app.ended.acquire(timeout=SECONDS)
        # The server has stopped, for which it waits until all connections are over.


def test_answers_that_nobody_reads_are_held_up_to_a_bound(app, monkeypatch):
    """As many connections are ended as it takes, those first that read nothing."""
    monkeypatch.setattr("lro_grpc._http.connections._MOST_UNREAD", 100_000_000)
    app.body = b"x" * 40_000_000
    limits = {"write_timeout": timedelta(minutes=5), "head_timeout": timedelta(seconds=30)}
    with listening(app, **limits) as http, connections(http, 6, A_GET) as opened:
        for _ in range(4):
            assert app.ended.acquire(timeout=SECONDS)
        assert len(http.get("/").body) == len(app.body)
        for one in opened:
            one.close()


@pytest.mark.parametrize("lines", [300, 30_000])
def test_a_head_of_too_many_lines_is_refused(app, lines):
    with listening(app) as http, http.connect() as one:
        with contextlib.suppress(ConnectionError):
            one.sendall(A_GET[:-2] + b"a:\r\n" * lines + b"\r\n")
        answer = received(one)
    assert answer.startswith(b"HTTP/1.1 400 ") or (not answer and lines > 300)  # reset on its way
    assert not app.begun.acquire(blocking=False)


def test_a_body_may_have_many_lines(app):
    with listening(app) as http:
        assert http.post("/", body=b"[\n" * 5000).status == 200


@pytest.mark.parametrize("left", [3, 2, 1, 0])
@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_body_may_have_many_lines_wherever_a_read_ends(app, monkeypatch, line_end, left):
    body = b"\n" * 4000
    head = CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(body))
    head = head.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 1000 + b"\r\n\r\n")
    head = head.replace(b"\r\n", line_end)
    monkeypatch.setattr("lro_grpc._http.connections._COSTLY_READ", len(head) - left)
    is_taken = line_end == b"\r\n" or not HAS_HTTPTOOLS
    with listening(app) as http, http.connect() as one:
        one.sendall(head + body)
        assert one.recv(12) == (b"HTTP/1.1 200" if is_taken else b"HTTP/1.1 400")


@pytest.mark.parametrize("rest", [b"nonsense\r\n", b"4000\r\n" + b"\n" * 0x4000])
def test_what_comes_after_the_answer_is_not_logged(app, caplog, rest):
    """The app has not waited for the body."""
    with listening(app, head_timeout=timedelta(seconds=0.3)) as http, http.connect() as one:
        one.sendall(CHUNKED)
        assert one.recv(12) == b"HTTP/1.1 200"
        assert app.ended.acquire(timeout=SECONDS)
        with contextlib.suppress(ConnectionError):
            one.sendall(rest)
        received(one)
    assert [one.getMessage() for one in caplog.records if one.levelname != "INFO"] == []


@pytest.mark.parametrize("begin", [b"", CHUNKED])
def test_of_tiny_chunks_few_are_taken_at_a_time(begin):
    """To take one costs as much as to take a kilobyte of a body that is not in chunks."""
    sizes = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            sizes.append(len(message["body"]))
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with listening(app) as http, http.connect() as one:
        one.sendall(begin)
        one.sendall(CHUNKED[len(begin) :] + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.1 200"
    assert sum(sizes) == 20_000
    assert max(sizes) < 1000


class Told:
    """Answers once it has the body, and keeps what it was told of the request."""

    def __init__(self) -> None:
        self.scope: Scope = {}
        """That of the last one."""
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        if message["type"] == "http.disconnect":
            return
        self.scope = scope
        self.bodies.append(body + message["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(
    ("version", "hosts", "status"),
    [("1.1", 0, b"400"), ("1.1", 1, b"200"), ("1.1", 2, b"400"), ("1.0", 0, b"200")],
)
def test_a_request_names_one_host(app, version, hosts, status):
    with listening(app) as http, http.connect() as one:
        lines = [f"GET / HTTP/{version}", *["Host: localhost"] * hosts, "", ""]
        one.sendall("\r\n".join(lines).encode())
        assert one.recv(12) == b"HTTP/1.1 " + status


def test_the_target_of_a_request_is_passed_on_as_it_is():
    app = Told()
    with listening(app) as http, http.connect() as one:
        one.sendall(A_GET.replace(b" / ", b" http://elsewhere/a%2Fb?c=%20?d "))
        assert one.recv(12) == b"HTTP/1.1 200"
    assert app.scope["raw_path"] == b"http://elsewhere/a%2Fb"
    assert app.scope["path"] == "http://elsewhere/a/b"
    assert app.scope["query_string"] == b"c=%20?d"


def test_the_trailers_of_a_body_are_no_headers():
    app = Told()
    with listening(app) as http, http.connect() as one:
        one.sendall(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: me\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.1 200"
    assert [name for name, _ in app.scope["headers"]] == [b"host", b"transfer-encoding"]


@pytest.mark.parametrize("framing", ["Content-Length: 3\r\n\r\nabc", CHUNKED_ABC])
def test_a_request_that_offers_another_protocol_is_answered_in_http(framing):
    """As Java's client has it, which offers HTTP/2 with a body; more requests may follow."""
    app = Told()
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    request = f"POST /a?b HTTP/1.1\r\nHost: localhost\r\n{offer}{framing}".encode()
    with listening(app) as http, http.connect() as one:
        one.sendall(request * 4)
        one.sendall(A_GET.replace(b"Host", b"Connection: close\r\nHost"))
        assert received(one).count(b"HTTP/1.1 200 ") == 5
    assert app.bodies == [b"abc"] * 4 + [b""]


def test_a_request_that_offers_another_protocol_may_come_a_byte_at_a_time():
    app = Told()
    request = A_GET[:-2] + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
    with listening(app) as http, http.connect() as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            one.sendall(bytes([byte]))
        assert one.recv(12) == b"HTTP/1.1 200"
    assert app.bodies == [b"abc"]


@pytest.mark.parametrize("encoding", ["gzip", "gzip, chunked", "chunked, chunked"])
def test_a_body_in_an_encoding_but_chunks_is_refused(encoding):
    app = Told()
    with listening(app) as http, http.connect() as one:
        one.sendall(CHUNKED.replace(b"chunked", encoding.encode()) + b"1\r\nx\r\n0\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.1 400"
    assert app.bodies == []


def test_the_spaces_around_the_value_of_a_header_are_no_part_of_it():
    app = Told()
    with listening(app) as http, http.connect() as one:
        one.sendall(A_GET[:-2] + b"X-User: \t ada \t \r\n\r\n")
        assert one.recv(12) == b"HTTP/1.1 200"
    assert dict(app.scope["headers"])[b"x-user"] == b"ada"


@pytest.mark.parametrize("line", [b"a: b\r\n", b"a"], ids=["lines", "line"])
def test_trailers_without_an_end_are_refused(line):
    app = Told()
    with listening(app) as http, http.connect() as one:
        one.sendall(CHUNKED + b"1\r\nx\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(400):
                one.sendall(line * (1000 // len(line)))
        answer = received(one)
    assert answer[:12] in (b"", b"HTTP/1.1 400")
    assert app.scope == {}


def test_a_request_that_ends_wrong_has_one_answer():
    with listening(Told()) as http, http.connect() as one:
        one.sendall(CHUNKED + b"1\r\nx\r\nnonsense\r\n")
        assert received(one).count(b"HTTP/1.1 400 ") == 1


def test_what_a_client_sends_wrong_is_not_logged(app, caplog):
    with listening(app) as http:
        for nonsense in (b"\x16\x03\x01\r\n\r\n", A_GET[:-2] + b"Upgrade: websocket\r\n"
                         b"Connection: upgrade\r\n\r\n"):  # fmt: skip
            with http.connect() as one:
                one.sendall(nonsense)
                assert one.recv(12)[:9] == b"HTTP/1.1 "
    assert [one.getMessage() for one in caplog.records if one.levelname != "INFO"] == []


def test_pipelined_requests_are_answered(app):
    with listening(app, max_connections=1) as http, http.connect() as one:
        one.sendall(A_GET * 20 + A_GET[:-2] + b"Connection: close\r\n\r\n")
        assert received(one).count(b"HTTP/1.1 200") == 21


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_connections", 0),
        ("max_connections", True),
        ("max_connections", 2.5),
        ("head_timeout", timedelta(0)),
        ("head_timeout", None),
        ("write_timeout", timedelta(0)),
        ("write_timeout", 0),
        ("write_timeout", "30"),
        ("grace", None),
        ("grace", timedelta(seconds=-1)),
    ],
)
def test_a_limit_that_cannot_be_is_refused(app, option, value):
    with (
        pytest.raises(lro_grpc.ConfigurationError) as raised,
        listening(app, **{option: value}),
    ):
        raise AssertionError
    assert raised.value.message.startswith(f"{option} is {value!r}; give a ")


@contextlib.contextmanager
def limited_process(code: str, descriptors: int, log: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs a program that may have few file descriptors."""
    limit = f'ulimit -n {descriptors}; exec "$0" "$@"'
    with log.open("w") as stderr, subprocess.Popen(
        ["sh", "-c", limit, sys.executable, *code.split()], cwd=log.parent, stderr=stderr,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_http_takes_no_descriptor_that_grpc_needs(tmp_path):
    """The command's own server, and a client that opens more connections than it may have files."""
    code = "-m lro_grpc._cli serve --store memory: --listen 127.0.0.1:0 --http 127.0.0.1:0"
    log = tmp_path / "log"
    with limited_process(code, 200, log) as process:
        assert process.stdout is not None
        banner = [process.stdout.readline() for _ in range(2)]
        target, address = (re.findall(r"127\.0\.0\.1:\d+", line)[0] for line in banner)
        http = Http(int(address.rpartition(":")[2]))
        with connections(http, 400, HALF_A_HEAD):
            for _ in range(3):
                with grpc.insecure_channel(target) as channel:
                    stub = operations_pb2_grpc.OperationsStub(channel)
                    request = operations_pb2.ListOperationsRequest(name="operations")
                    assert not stub.ListOperations(request, timeout=SECONDS).operations
                assert http.get("/v1/operations").ok == {}
    lines = log.read_text().splitlines()
    said = [line for line in lines if not is_said_of_it(line) and not line.startswith("  ")]
    assert said == []


PROGRAM = """
import sys
from lro_grpc.http import listening_in_thread

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

with listening_in_thread(app, "127.0.0.1:0", max_connections=10_000) as port:
    print(port, flush=True)
    sys.stdin.read()
"""


def test_without_a_free_descriptor_the_log_stays_short(tmp_path):
    """Here the limit is above what the process may have; or something else has taken them all."""
    (tmp_path / "program.py").write_text(PROGRAM)
    log = tmp_path / "log"
    with limited_process("program.py", 60, log) as process:
        assert process.stdout is not None
        http = Http(int(process.stdout.readline()))
        with connections(http, 150, HALF_A_HEAD), http.connect() as one:
            one.settimeout(2)  # in which accepting is tried again, and not logged again
            with pytest.raises(TimeoutError):
                one.recv(1)
        assert http.get("/").status == 200
    lines = log.read_text().splitlines()
    assert len(lines) == 1
    assert "no HTTP connection can be accepted at present" in lines[0]


def test_the_gateway_answers_beside_connections_that_wait(tmp_path):
    operations = lro_grpc.Operations(f"sqlite:///{tmp_path / 'o.db'}")
    operations.start_sync()
    with listening(gateway(operations)) as http, connections(http, 3 * MOST, HALF_A_HEAD):
        assert http.get("/v1/operations").ok == {}
    operations.stop_sync(lambda: None)
