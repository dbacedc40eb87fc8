"""Operations of google-api-core's REST client as our futures."""

from __future__ import annotations

import http.server
import json
import threading
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fleet import Instance
from google.api_core import operation, operations_v1
from google.auth.credentials import AnonymousCredentials
from google.longrunning import operations_pb2
from google.protobuf import json_format, struct_pb2
from google.rpc import error_details_pb2

import lro_grpc
from lro_grpc import Code, compat

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "projects/p/operations/1"
QUICK = lro_grpc.Backoff(initial=timedelta(milliseconds=10), maximum=timedelta(milliseconds=50))


class Server(http.server.ThreadingHTTPServer):
    """Gives the answers that a test wants, in turn; the last one for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str]] = []
        self.answers: deque[tuple[int, str]] = deque()

    def will_answer(self, status: int, body: Any) -> None:
        self.answers.append((status, body if isinstance(body, str) else json.dumps(body)))

    def will_refuse(self, status: int, message: str, *details: Any) -> None:
        error = {"code": status, "message": message, "details": details}
        self.will_answer(status, {"error": error})

    def will_end(self) -> None:
        one = operations_pb2.Operation(name=NAME, done=True)
        one.response.Pack(Instance(name="i"))
        self.will_answer(200, json_format.MessageToDict(one))


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        server = self.server
        server.requests.append((self.command, self.path))
        status, body = server.answers.popleft() if len(server.answers) > 1 else server.answers[0]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    transport = operations_v1.OperationsRestTransport(
        host=f"http://127.0.0.1:{server.server_port}", credentials=AnonymousCredentials()
    )
    yield operations_v1.AbstractOperationsClient(transport=transport)
    transport._session.close()  # neither it nor the client has a close


@pytest.fixture
def future(client: Any) -> Any:
    started = operations_pb2.Operation(name=NAME)
    return compat.future(operation.from_gapic(started, client, Instance), backoff=QUICK)


def test_it_is_polled_until_it_is_done(server: Server, future: Any) -> None:
    server.will_answer(200, {"name": NAME})
    server.will_end()
    assert future.result() == Instance(name="i")
    assert server.requests == [("GET", f"/v1/{NAME}")] * 2


def test_it_is_cancelled(server: Server, future: Any) -> None:
    server.will_answer(200, {})
    assert future.cancel()
    assert server.requests == [("POST", f"/v1/{NAME}:cancel")]


def test_a_server_that_is_away_is_waited_for(server: Server, future: Any) -> None:
    server.will_refuse(503, "busy")
    server.will_answer(502, "<html>Bad Gateway</html>")
    server.will_end()
    assert future.result() == Instance(name="i")
    assert len(server.requests) == 3


def test_an_error_has_its_reason_and_every_detail(server: Server, future: Any) -> None:
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "NOT_YOURS",
        "domain": "fleet.example.com",
        "metadata": {"zone": "a"},
    }
    unknown = {"@type": "type.googleapis.com/fleet.Unknown", "zone": "a"}
    server.will_refuse(403, "not yours", info, unknown)
    with pytest.raises(lro_grpc.LroError, match="not yours") as raised:
        future.result()
    error = raised.value
    assert (error.code, error.reason) == (Code.PERMISSION_DENIED, "NOT_YOURS")
    assert (error.domain, error.metadata) == ("fleet.example.com", {"zone": "a"})
    first, second = error.details
    assert isinstance(first, error_details_pb2.ErrorInfo)
    assert isinstance(second, struct_pb2.Struct)
    assert second["zone"] == "a"


def test_an_error_that_is_not_json_has_its_code(server: Server, future: Any) -> None:
    server.will_answer(404, "<html>Not Found</html>")
    with pytest.raises(lro_grpc.LroError, match="Not Found") as raised:
        future.result()
    assert (raised.value.code, raised.value.reason) == (Code.NOT_FOUND, "NOT_FOUND")


def test_a_name_that_has_no_route_is_an_error(server: Server, client: Any) -> None:
    started = operations_pb2.Operation(name="nowhere")
    future = compat.future(operation.from_gapic(started, client, Instance), backoff=QUICK)
    with pytest.raises(lro_grpc.LroError, match="ValueError") as raised:
        future.result()
    assert raised.value.code is Code.UNKNOWN
    assert server.requests == []
