"""Plain methods over HTTP: called on the server itself, by the paths of their annotations."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import grpc
import grpc.aio
import pytest
from google.api import http_pb2
from google.protobuf import empty_pb2, timestamp_pb2
from http_harness import PARENT, SECONDS, Fleet, Instance, serving
from museum import MUSEUM, Piece, PiecesRequest, PiecesResponse, add_museum

import lro_grpc
from lro.example.v1 import fleet_service_pb2
from lro_grpc._http.gateway import gateway


class WholeFleet(Fleet):
    """A fleet whose plain methods answer."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata: dict[str, Any] = {}
        self.remaining: float | None = None

    def GetInstance(self, request: Any, context: Any) -> Any:
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        if request.name.endswith("/none"):
            context.abort(grpc.StatusCode.NOT_FOUND, "no such instance")
        if request.name.endswith("/broken"):
            raise ValueError("the password is hunter2")
        return Instance(name=request.name, seed_rows=7)

    def ListInstances(self, request: Any, context: Any) -> Any:
        del context
        names = [f"{request.parent}/instances/{n}" for n in range(request.page_size)]
        return fleet_service_pb2.ListInstancesResponse(
            instances=[Instance(name=name) for name in names], next_page_token=request.page_token
        )


@pytest.fixture
def fleet() -> WholeFleet:
    return WholeFleet()


def test_plain_methods_are_where_their_annotations_say(serve: Any) -> None:
    http = serve(plain=True)
    name = f"{PARENT}/instances/i"
    assert http.get(f"/v1/{name}").ok == {"name": name, "seedRows": "7"}
    page = http.get(f"/v1/{PARENT}/instances?pageSize=2&pageToken=next").ok
    assert [one["name"][-1] for one in page["instances"]] == ["0", "1"]
    assert page["nextPageToken"] == "next"
    head = http.send("HEAD", f"/v1/{name}")
    assert (head.status, head.body) == (200, b"")
    assert http.send("PUT", f"/v1/{name}").headers["allow"] == "DELETE, GET, HEAD"


def test_the_server_is_called_with_the_headers_and_within_a_minute(
    serve: Any, fleet: WholeFleet
) -> None:
    sent = {"Authorization": "Bearer x", "X-Tenant": "t", "Cookie": "a=b"}
    assert serve(plain=True).get(f"/v1/{PARENT}/instances/i", headers=sent).status == 200
    assert fleet.metadata["authorization"] == "Bearer x"
    assert fleet.metadata["x-tenant"] == "t"
    assert fleet.metadata["x-forwarded-for"] == "127.0.0.1"
    assert "cookie" not in fleet.metadata
    assert fleet.remaining is not None  # the server has rounded it up
    assert round(fleet.remaining) <= 60


def test_errors_are_those_of_the_server(serve: Any) -> None:
    http = serve(plain=True)
    missing = http.get(f"/v1/{PARENT}/instances/none")
    assert missing.status == 404
    assert missing.json["error"]["status"] == "NOT_FOUND"
    assert missing.json["error"]["message"] == "no such instance"
    assert http.get(f"/v1/{PARENT}/instances?nope=1").status == 400
    assert http.get(f"/v1/{PARENT}/instances?pageSize=x").status == 400


@pytest.mark.parametrize("where", ["aio", "channel"])
def test_interceptors_of_the_server_are_asked(where: str) -> None:
    """The gateway leads nobody past them."""

    class Refusing(grpc.aio.ServerInterceptor):
        async def intercept_service(self, go_on: Any, details: Any) -> Any:
            if dict(details.invocation_metadata).get("authorization") == "Bearer good":
                return await go_on(details)

            async def refuse(request: Any, context: Any) -> Any:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

            return grpc.unary_unary_rpc_method_handler(refuse)

    def options(fleet: WholeFleet) -> Any:
        return serving(where, fleet, plain=True, interceptors=[Refusing()])

    with options(WholeFleet()) as http:
        path = f"/v1/{PARENT}/instances/i"
        assert http.get(path).status == 401
        assert http.get(path, headers={"Authorization": "Bearer good"}).status == 200


MARKS = PiecesResponse(
    pieces=[Piece(name="a"), Piece(name="b")],
    total=2**40,
    first=Piece(name="a"),
    made=timestamp_pb2.Timestamp(seconds=5),
)


class Museum:
    """The museum's answers, and the requests that it has had."""

    def __init__(self) -> None:
        self.page = PiecesResponse()
        self.request: Any = None
        self.answers = {
            "ListPieces": self.pieces,
            "SearchPieces": self.pieces,
            "UpdatePiece": self.update,
            "DeletePiece": lambda request, context: empty_pb2.Empty(),
        }

    def pieces(self, request: Any, context: Any) -> Any:
        self.request = request
        return self.page

    def update(self, request: Any, context: Any) -> Any:
        self.request = request
        return request.piece

    def add(self, registrar: Any) -> None:
        add_museum(self.answers, registrar)


@pytest.fixture
def museum() -> Museum:
    return Museum()


def test_a_response_body_is_one_field_of_the_response(serve: Any, museum: Museum) -> None:
    http = serve(plain=True, add=museum.add)
    museum.page = MARKS
    assert http.get("/v1/museums/m/pieces").ok == [{"name": "a"}, {"name": "b"}]
    assert http.get("/v1/pieces:count").ok == str(2**40)
    assert http.get("/v1/pieces:first").ok == {"name": "a"}
    assert http.get("/v1/pieces:made").ok == "1970-01-01T00:00:05Z"
    assert set(http.get("/v1/pieces").ok) == {"pieces", "total", "first", "made"}


def test_a_field_that_is_not_set_has_its_default_for_a_response_body_or_null(
    serve: Any, museum: Museum
) -> None:
    http = serve(plain=True, add=museum.add)
    assert http.get("/v1/museums/m/pieces").ok == []
    assert http.get("/v1/pieces:count").ok == "0"
    assert http.get("/v1/pieces:first").ok is None
    assert http.get("/v1/pieces:made").ok is None


def test_a_request_is_made_of_path_query_and_body(serve: Any, museum: Museum) -> None:
    http = serve(plain=True, add=museum.add)
    asked = "?pageSize=3&kinds=STATUE&kinds=PAINTING&place.city=Rome&since=1970-01-01T00:00:05Z"
    assert http.get(f"/v1/museums/m/pieces{asked}").status == 200
    request = museum.request
    assert (request.parent, request.page_size, request.place.city) == ("museums/m", 3, "Rome")
    assert (list(request.kinds), request.since.seconds) == ([2, 1], 5)
    assert http.post("/v1/museums/m/pieces:search", {"pageSize": 4}).ok == {}
    assert (museum.request.parent, museum.request.page_size) == ("museums/m", 4)
    changed = http.send(
        "PATCH", "/v1/museums/m/pieces/p?updateMask=title,room", {"title": "t", "name": "other"}
    )
    assert changed.ok == {"name": "museums/m/pieces/p", "title": "t"}
    assert list(museum.request.update_mask.paths) == ["title", "room"]
    assert http.send("DELETE", "/v1/pieces/p").ok == {}


@pytest.mark.parametrize(
    ("method", "path", "named", "why"),
    [
        ("GET", "/v1/pieces:watch", "WatchPieces", "it streams"),
        ("POST", "/v1/pieces:send", "SendPieces", "it streams"),
        ("GET", "/v1/museums/m/pieces/p:download", "DownloadPiece", "google.api.HttpBody"),
    ],
)
def test_streams_and_arbitrary_bytes_are_refused(
    serve: Any, museum: Museum, method: str, path: str, named: str, why: str
) -> None:
    reply = serve(plain=True, add=museum.add).send(method, path)
    assert reply.status == 501
    error = reply.json["error"]
    assert error["details"][0]["reason"] == "NOT_SERVED"
    assert f"{MUSEUM}/{named} is not served over HTTP" in error["message"]
    assert why in error["message"]


@pytest.mark.parametrize(
    "query",
    [
        *("extra.string_value=x", "extra.numberValue=5", "extra=x", "since.seconds=5"),
        *("parent=%FF", "%ED%A0%80=1", "alt=%FF"),
        *("pageSize=1_0", "pageSize=%d9%a5", "place.height=1_000", "atLeast=1_0", "kinds=1_0"),
        *("key=!!", "key=A%0A"),
    ],
)
def test_a_query_that_its_types_have_not_is_refused(serve: Any, museum: Museum, query: str) -> None:
    reply = serve(plain=True, add=museum.add).get(f"/v1/pieces?{query}")
    assert reply.status == 400
    assert reply.json["error"]["details"][0]["reason"] == "MALFORMED_REQUEST"
    assert museum.request is None


def test_a_query_has_numbers_and_bytes_as_json_writes_them(serve: Any, museum: Museum) -> None:
    http = serve(plain=True, add=museum.add)
    for text in ("1000", "1e3", "1000.0"):
        assert http.get(f"/v1/pieces?place.height={text}&atLeast=-7&kinds=2").status == 200
        request = museum.request
        assert (request.place.height, request.at_least.value, list(request.kinds)) == (
            1000,
            -7,
            [2],
        )


def test_a_field_counts_before_the_parameter_that_googles_clients_send_with_any_request(
    serve: Any, museum: Museum
) -> None:
    http = serve(plain=True, add=museum.add)
    assert http.get("/v1/pieces?key=-_8%3D&alt=json&access_token=t").status == 200
    assert museum.request == PiecesRequest(key=b"\xfb\xff")
    assert http.post("/v1/museums/m/pieces:search?key=k", {"key": "AA=="}).status == 200
    assert museum.request.key == b"\0"


@pytest.mark.parametrize("depth", [60, 95])
def test_json_that_is_deeper_than_a_message_may_be_is_refused(
    serve: Any, museum: Museum, depth: int
) -> None:
    http = serve(plain=True, add=museum.add)
    path = "/v1/museums/m/pieces/p"
    assert http.send("PATCH", path, {"anything": json.loads("[" * 30 + "]" * 30)}).status == 200
    museum.request = None
    reply = http.send("PATCH", path, {"anything": json.loads("[" * depth + "]" * depth)})
    assert reply.status == 400
    assert reply.json["error"]["details"][0]["reason"] == "MALFORMED_REQUEST"
    assert museum.request is None


def test_what_a_server_does_not_implement_is_501(serve: Any, museum: Museum) -> None:
    assert serve(plain=True, add=museum.add).get("/v1/museums/m/pieces/p").status == 501


def test_a_body_within_limits_and_of_the_own_origin(serve: Any, museum: Museum) -> None:
    """As for methods that start operations."""
    http = serve(plain=True, add=museum.add, options={"max_body": 100, "max_values": 10})
    path = "/v1/museums/m/pieces:search"
    assert http.post(path, {"pageToken": "x" * 200}).status == 413
    assert http.post(path, {"kinds": [1] * 20}).status == 413
    assert http.post(path, body=b"{}", headers={"content-type": "text/plain"}).status == 415
    assert http.post(path, {}, headers={"Origin": "https://evil.example"}).status == 403
    assert http.get("/v1/pieces", headers={"Host": "evil.example"}).status == 421
    assert museum.request is None


def test_a_caller_who_leaves_ends_the_call() -> None:
    """Else calls of clients that are gone would go on, and hold the server's places."""
    begun, cancelled = threading.Event(), threading.Event()

    async def wait(request: Any, context: Any) -> Any:
        begun.set()
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def add(registrar: Any) -> None:
        add_museum({"ListPieces": wait}, registrar)

    with serving("aio", Fleet(), plain=True, add=add) as http:
        with http.connect() as connection:
            connection.sendall(b"GET /v1/pieces HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert begun.wait(SECONDS)
        assert cancelled.wait(SECONDS)


def test_a_server_that_is_away_is_503_without_its_address() -> None:
    async def status() -> tuple[int, bytes]:
        sent: list[Any] = []

        async def receive() -> Any:
            await asyncio.sleep(SECONDS)

        async def send(message: Any) -> None:
            sent.append(message)

        operations = lro_grpc.Operations("memory:")
        server = grpc.aio.server()
        add_museum({}, operations.attach(server))
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            app = gateway(operations, channel=channel)
            path = "/v1/pieces"
            scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": path}
            more = {"raw_path": path.encode(), "query_string": b"", "headers": []}
            await app({**scope, **more}, receive, send)
        return sent[0]["status"], sent[1]["body"]

    code, body = asyncio.run(status())
    assert code == 503
    assert b"127.0.0.1" not in body


RULE = {f"{MUSEUM}/GetPiece": http_pb2.HttpRule(get="/v1/other/{name}")}


def test_a_rule_of_the_gateways_own_takes_the_place_of_the_annotation(
    serve: Any, museum: Museum
) -> None:
    museum.answers["GetPiece"] = lambda request, context: Piece(name=request.name)
    http = serve(plain=True, add=museum.add, options={"rules": RULE})
    assert http.get("/v1/other/x").ok == {"name": "x"}
    assert http.get("/v1/museums/m/pieces/p").status == 405


def test_a_rule_for_any_http_method_is_for_those_that_have_none_of_their_own(
    serve: Any, museum: Museum
) -> None:
    museum.answers["GetPiece"] = lambda request, context: Piece(name=request.name)
    rules = {
        f"{MUSEUM}/ListPieces": any_method("/v1/x/{parent}"),
        f"{MUSEUM}/GetPiece": http_pb2.HttpRule(get="/v1/x/{name}"),
    }
    http = serve(plain=True, add=museum.add, options={"rules": rules})
    for http_method in ("PUT", "POST", "SEARCH"):
        museum.request = None
        assert http.send(http_method, "/v1/x/a").ok == {}
        assert museum.request.parent == "a"
    assert http.get("/v1/x/a").ok == {"name": "a"}
    assert "*" not in http.send("OPTIONS", "*").headers["allow"]


def any_method(path: str) -> http_pb2.HttpRule:
    return http_pb2.HttpRule(custom=http_pb2.CustomHttpPattern(kind="*", path=path))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"WatchPieces": http_pb2.HttpRule(get="/v1/x")}, "streams"),
        ({"MovePiece": http_pb2.HttpRule(get="/v1/x")}, "changes something"),
        ({"MovePiece": any_method("/v1/x")}, "changes something"),
        (
            {"MovePiece": http_pb2.HttpRule(post="/v1/x", response_body="name")},
            "leave response_body out",
        ),
        (
            {"GetPiece": http_pb2.HttpRule(get="/v1/x", response_body="nope")},
            "test.museum.v1.Piece has not",
        ),
        ({"UpdatePiece": http_pb2.HttpRule(patch="/v1/x", body="piece.name")}, "a field of a"),
        ({"UpdatePiece": http_pb2.HttpRule(patch="/v1/x", body="updateMask")}, "'update_mask'"),
        ({"ListPieces": http_pb2.HttpRule(get="/v1/x/{pageSize}")}, "'page_size'"),
    ],
)
def test_rules_that_cannot_be_are_refused_at_once(rules: Any, message: str) -> None:
    operations = lro_grpc.Operations("memory:")
    add_museum({}, operations.attach(grpc.server(None)))
    named = {f"{MUSEUM}/{name}": rule for name, rule in rules.items()}
    with (
        grpc.insecure_channel("127.0.0.1:1") as channel,
        pytest.raises(lro_grpc.ConfigurationError, match=message),
    ):
        gateway(operations, channel=channel, rules=named)


def test_a_channel_that_cannot_be_used_is_refused() -> None:
    async def refused() -> None:
        operations = lro_grpc.Operations("memory:")
        operations.attach(grpc.server(None))
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            with pytest.raises(lro_grpc.ConfigurationError, match=r"grpc\.insecure_channel"):
                gateway(operations, channel=channel)
            with pytest.raises(lro_grpc.ConfigurationError, match=r"no\.Service"):
                gateway(channel=channel, services=["no.Service"])

    asyncio.run(refused())


def test_methods_that_start_operations_are_found_by_their_service() -> None:
    with serving("channel", Fleet(), plain=True) as http:
        assert http.send("DELETE", f"/v1/{PARENT}/instances/i").ok["name"]
        assert http.post(f"/v1/{PARENT}/instances:batchCreate", {}).status == 501
