"""A page of a stranger's changes nothing, and reads nothing, through the browser of a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from google.api import http_pb2
from http_harness import FLEET, PARENT, Http, Reply, start

import lro_grpc
from lro_grpc._http.gateway import gateway

CREATE = f"/v1/{PARENT}/instances?instanceId=b"
FACE = "/face/v1.0/instances?instanceId=c"
RULES = {
    f"{FLEET}/CreateInstance": http_pb2.HttpRule(
        post="/v1/{parent=projects/*/locations/*}/instances",
        body="instance",
        additional_bindings=[http_pb2.HttpRule(put="/face/v1.0/instances", body="instance")],
    )
}

OF_ANOTHER_SITE = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://["},
    {"Origin": "http://127.0.0.1"},  # another port is another origin
    {"Origin": "http://localhost.evil.example:{port}"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:{port}"},
    {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
]

OF_ITS_OWN = [
    {},
    {"Origin": "http://127.0.0.1:{port}"},
    {"Origin": "https://127.0.0.1:{port}"},  # a proxy in front of it has the certificate
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},  # of a proxy's other name
    {"Sec-Fetch-Site": "none"},
]


@pytest.fixture
def http(serve: Any) -> Http:
    served: Http = serve(options={"rules": RULES})
    return served


def with_port(headers: Mapping[str, str], http: Http) -> dict[str, str]:
    return {name: value.replace("{port}", str(http.port)) for name, value in headers.items()}


def refused(reply: Reply, status: int, reason: str) -> str:
    assert reply.status == status, reply
    error = reply.json["error"]
    if "details" in error:
        assert error["details"][0]["reason"] == reason
    message: str = error["message"]
    return message


@pytest.mark.parametrize("headers", OF_ANOTHER_SITE)
def test_a_page_of_another_site_changes_nothing(http, headers):
    name = start(http)
    headers = with_port(headers, http)
    for method, path, body in [
        ("POST", f"/v1/{name}:cancel", None),
        ("POST", f"/v1/{name}:cancel", b"{}"),
        ("POST", f"/v1/{name}:pause", None),
        ("DELETE", f"/v1/{name}", None),
        ("POST", CREATE, None),
        ("POST", CREATE, b"{}"),
        ("PUT", FACE, None),
    ]:
        reply = http.send(method, path, body=body, headers=headers)
        message = refused(reply, 403, "CROSS_SITE")
        assert "allow_origins" in message
    assert len(http.get(f"/v1/{PARENT}/operations").ok["operations"]) == 1
    assert "done" not in http.get(f"/v1/{name}", headers=headers).ok


@pytest.mark.parametrize("headers", OF_ITS_OWN)
def test_a_page_of_the_server_and_what_is_no_browser_may_call(http, headers):
    name = start(http)
    headers = with_port(headers, http)
    assert http.post(f"/v1/{name}:cancel", headers=headers).ok == {}
    assert http.send("DELETE", f"/v1/{name}", headers=headers).ok == {}


@pytest.mark.parametrize("origin", ["https://page.example", "https://console.example:8443"])
@pytest.mark.parametrize("site", [{}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_page_of_an_origin_that_is_named_may_change_things(serve, origin, site):
    named = {"allow_origins": ["https://page.example"]}
    http = serve(options={**named, "public_url": "https://console.example:8443/lro"})
    name = start(http)
    assert http.post(f"/v1/{name}:cancel", headers={"Origin": origin, **site}).ok == {}
    other = http.post(f"/v1/{name}:cancel", headers={"Origin": f"{origin}.evil.example", **site})
    refused(other, 403, "CROSS_SITE")


def test_pages_of_every_origin_may_call_if_the_operator_says_so(serve):
    http = serve(options={"allow_origins": ["*"]})
    name = start(http)
    assert http.post(f"/v1/{name}:cancel", headers={"Origin": "https://any.example"}).ok == {}


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "text/plain; application/json", "multipart/form-data",
                     "application/x-www-form-urlencoded", "application/jsonx"],
)  # fmt: skip
def test_a_body_that_a_form_could_send_is_refused(http, content_type):
    """A page sends such a one without asking first; a browser without Origin is imaginable."""
    length = {"Content-Length": "2"}  # http.client is given no body, and adds no type of its own
    headers = length if content_type is None else {**length, "Content-Type": content_type}
    with http.connect() as connection:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join([f"POST {CREATE} HTTP/1.1", "Host: localhost", *lines, "", ""])
        connection.sendall(head.encode() + b"{}")
        assert connection.recv(12) == b"HTTP/1.1 415"
    assert http.get(f"/v1/{PARENT}/operations").ok == {}


OTHER_HOSTS = ["evil.example", "evil.example:{port}", "localhost.evil.example", "127.0.0.1.nip.io",
               "evil.localhost.example", "", ":{port}", "127.0.0.1@evil.example", "[::1",
               "0x7f000001", "a.b@127.0.0.1", "evil", "[evil.example]",
               "evil.example#localhost"]  # fmt: skip


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_a_name_that_was_led_here_is_answered_nothing(http, host):
    name = start(http)
    headers = with_port({"Host": host}, http)
    for method, path in [
        ("GET", f"/v1/{PARENT}/operations"),
        ("GET", f"/v1/{name}:watch"),
        ("GET", "/nowhere"),
        ("OPTIONS", f"/v1/{name}"),
        ("POST", f"/v1/{name}:cancel"),
    ]:
        reply = http.send(method, path, headers=headers)
        message = refused(reply, 421, "UNKNOWN_HOST")
        assert "allowed_hosts" in message
    assert "done" not in http.get(f"/v1/{name}").ok


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:{port}", "localhost.", "127.0.0.1:{port}", "[::1]:{port}",
             "10.1.2.3", "[2001:db8::1]"],
)  # fmt: skip
def test_an_address_cannot_be_led_elsewhere(http, host):
    assert http.get("/v1/operations", headers=with_port({"Host": host}, http)).ok == {}


@pytest.mark.parametrize(
    ("options", "host"),
    [({"public_url": "https://api.example.com"}, "api.example.com"),
     ({"public_url": "https://api.example.com:8443/x"}, "API.example.com:443"),
     ({"allowed_hosts": ["lro.internal"]}, "lro.internal:8080"),
     ({"allowed_hosts": ["lro.internal:8080"]}, "lro.internal"),
     ({"allowed_hosts": ["*.example.com"]}, "a.b.example.com"),
     ({"allowed_hosts": ["*"]}, "anything.example")],
)  # fmt: skip
def test_a_host_that_is_named_is_answered_for(serve, options, host):
    http = serve(options=options)
    assert http.get("/v1/operations", headers={"Host": host}).ok == {}
    if "*" not in options.get("allowed_hosts", ()):
        other = http.get("/v1/operations", headers={"Host": f"{host.partition(':')[0]}.evil"})
        refused(other, 421, "UNKNOWN_HOST")
        bare = http.get("/v1/operations", headers={"Host": "example.com"})
        refused(bare, 421, "UNKNOWN_HOST")


@pytest.mark.parametrize("host", ["https://api.example.com", "a/b", "", "*.", "a b"])
def test_an_allowed_host_that_is_none_is_refused(host):
    if not host:
        gateway(lro_grpc.Operations("memory:"), allowed_hosts=[host])  # nothing is named by it
        return
    with pytest.raises(lro_grpc.ConfigurationError, match="is no host"):
        gateway(lro_grpc.Operations("memory:"), allowed_hosts=[host])


@pytest.mark.parametrize(
    "rule",
    [http_pb2.HttpRule(get="/v1/create"),
     http_pb2.HttpRule(
         post="/v1/x", body="*", additional_bindings=[http_pb2.HttpRule(get="/v1/create")]
     ),
     http_pb2.HttpRule(custom=http_pb2.CustomHttpPattern(kind="HEAD", path="/v1/create"))],
)  # fmt: skip
def test_a_rule_that_starts_operations_by_a_link_is_refused(rule):
    operations = lro_grpc.Operations("memory:")
    from lro.example.v1 import fleet_service_pb2 as fleet

    operations.add_method(
        f"{FLEET}/CreateInstance",
        lambda request, op: fleet.Instance(),
        request=fleet.CreateInstanceRequest,
        response=fleet.Instance,
    )
    with pytest.raises(lro_grpc.ConfigurationError, match="must change nothing"):
        gateway(operations, rules={f"{FLEET}/CreateInstance": rule})
