"""Webhooks: what a receiver gets, what its answers mean, and where no request ever goes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ipaddress
import json
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
import standardwebhooks
from cloudevents.core.bindings.http import HTTPMessage, from_structured
from cloudevents.core.formats.json import JSONFormat
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.longrunning import operations_pb2
from google.protobuf import json_format, struct_pb2
from receiver import answering, receiving

import lro_grpc
from lro.v1 import completion_event_pb2, state_pb2
from lro_grpc import CompletionEvent, RetryableError, UndeliverableError
from lro_grpc._events import webhook as module
from lro_grpc.events import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SECRET = "whsec_" + base64.b64encode(b"1" * 24).decode()
OTHER = "whsec_" + base64.b64encode(b"2" * 24).decode()
NAME = "projects/p/locations/l/operations/op-1"
LOCAL = ["127.0.0.0/8"]


def event(**values: Any) -> CompletionEvent:
    data = completion_event_pb2.CompletionEvent(
        name=NAME,
        method="fleet.v1.FleetService/CreateInstance",
        caller="ann",
        labels={"team": "blue"},
        state=state_pb2.JOB_STATE_FAILED,
        code=8,  # type: ignore[arg-type]
        operation=operations_pb2.Operation(name=NAME, done=True, error={"code": 8}),
        **values,
    )
    data.end_time.FromMicroseconds(1_800_000_000_250_000)
    return CompletionEvent("abc234", data, 1)


def hook(url: Any, **options: Any) -> Webhook:
    return Webhook(url, secrets=[SECRET], **options)


def requested(url: str) -> Callable[[CompletionEvent], str]:
    """Returns what a URL made from a request is given as."""
    return lambda _: url


def resolving(*answers: Sequence[str]) -> Any:
    """Returns a resolver that gives one answer after the other, the last one for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        del host, port
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def test_a_receiver_gets_a_signed_cloud_event() -> None:
    """With little in it: neither who has started the operation, nor what came of it."""
    async with receiving() as receiver:
        await hook(f"http://127.0.0.1:{receiver.port}/done?x=1")(event())
    (got,) = receiver.received
    assert got.line == "POST /done?x=1 HTTP/1.1"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-type"] == "application/cloudevents+json"
    assert got.headers["webhook-id"] == "msg_abc234"
    standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)
    made = from_structured(HTTPMessage(got.headers, got.body), JSONFormat())
    assert made.get_specversion() == "1.0"
    assert (made.get_id(), made.get_type()) == ("msg_abc234", "lro.v1.operation.done")
    assert (made.get_source(), made.get_subject()) == ("/fleet.v1.FleetService", NAME)
    assert made.get_time() == event().data.end_time.ToDatetime(tzinfo=timezone.utc)
    assert made.get_data() == {
        "name": NAME,
        "method": "fleet.v1.FleetService/CreateInstance",
        "labels": {"team": "blue"},
        "state": "JOB_STATE_FAILED",
        "code": "RESOURCE_EXHAUSTED",
        "endTime": "2027-01-15T08:00:00.250Z",
    }


async def test_the_result_is_sent_if_it_is_asked_for() -> None:
    async with receiving() as receiver:
        await hook(f"http://127.0.0.1:{receiver.port}", result=True, source="//fleet")(event())
    sent = json.loads(receiver.received[0].body)
    data = json_format.ParseDict(sent["data"], completion_event_pb2.CompletionEvent())
    assert data.operation == event().operation
    assert not data.caller
    assert sent["source"] == "//fleet"


async def test_the_loop_goes_on_while_a_large_result_becomes_json() -> None:
    """A caller's operation may have a million values."""
    large = event()
    values = struct_pb2.ListValue(values=[struct_pb2.Value(number_value=1)] * 20_000)
    large.data.operation.response.Pack(values)
    is_made = asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[str]:
        del host, port
        is_made.set()  # the host is asked for once the request is made
        return ["127.0.0.1"]

    async with receiving() as receiver:
        url = f"http://localhost:{receiver.port}"
        sending = asyncio.create_task(hook(url, result=True, resolve=resolve)(large))
        rounds = 0
        while not is_made.is_set():
            rounds += 1
            await asyncio.sleep(0)
        await sending
    assert rounds > 10
    data = json.loads(receiver.received[0].body)["data"]
    assert len(data["operation"]["response"]["value"]) == 20_000


async def test_each_of_two_secrets_verifies_it() -> None:
    async with receiving() as receiver:
        await Webhook(f"http://127.0.0.1:{receiver.port}", secrets=[OTHER, SECRET])(event())
    (got,) = receiver.received
    assert len(got.headers["webhook-signature"].split()) == 2
    for secret in (SECRET, OTHER):
        standardwebhooks.Webhook(secret).verify(got.body, got.headers)
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(got.body + b" ", got.headers)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
async def test_a_signature_is_right_in_each_zone(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    async with receiving() as receiver:
        await hook(f"http://127.0.0.1:{receiver.port}")(event())
    (got,) = receiver.received
    standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content"])
async def test_any_2xx_is_a_success(status: str) -> None:
    async with receiving(answering(status, body=b"thanks")) as receiver:
        await hook(f"http://127.0.0.1:{receiver.port}")(event())


async def failure(receiver_answer: Any) -> lro_grpc.LroError:
    async with receiving(receiver_answer) as receiver:
        with pytest.raises(lro_grpc.LroError) as failed:
            await hook(f"http://127.0.0.1:{receiver.port}/secret-path")(event())
    assert "secret-path" not in str(failed.value)
    assert "127.0.0.1" in str(failed.value)
    return failed.value


async def test_a_redirect_is_a_failure_and_not_followed() -> None:
    async with receiving() as other:
        there = answering("302 Found", f"location: http://127.0.0.1:{other.port}/")
        error = await failure(there)
    assert isinstance(error, RetryableError)
    assert "302, a redirect, which is not followed" in error.message
    assert other.connections == 0


async def test_410_ends_the_attempts() -> None:
    assert isinstance(await failure(answering("410 Gone")), UndeliverableError)


TOMORROW = format_datetime(datetime.datetime.now(timezone.utc) + timedelta(days=1), usegmt=True)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [
        ("120", 120, 120),
        ("0", 0, 0),
        pytest.param(TOMORROW, 43_200, 86_400, id="tomorrow"),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ("9" * 50, 86_400, 86_400),
    ],
)
async def test_a_retry_after_is_passed_on(header: str, least: int, most: int) -> None:
    error = await failure(answering("429 Too Many Requests", f"Retry-After: {header}"))
    assert isinstance(error, RetryableError)
    assert error.retry_after is not None
    assert least <= error.retry_after.total_seconds() <= most


NO_ZONE = f"retry-after: Thu, 01 Jan 1970 00:00:00 +{'9' * 20}"


@pytest.mark.parametrize("headers", [(), ("retry-after: soon",), ("retry-after: -5",), (NO_ZONE,)])
async def test_a_retry_after_that_is_none_is_nothing(headers: tuple[str, ...]) -> None:
    error = await failure(answering("503 Service Unavailable", *headers))
    assert isinstance(error, RetryableError)
    assert error.retry_after is None


async def test_a_receiver_that_drips_is_not_read() -> None:
    """Nor one whose body never ends: its status is all that is asked for."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\nx")
        with contextlib.suppress(OSError):  # the sender has closed the connection
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0)

    async with receiving(drip) as receiver:
        await asyncio.wait_for(hook(f"http://127.0.0.1:{receiver.port}")(event()), 60)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nx: y\r\n"])
async def test_a_receiver_that_does_not_answer_in_time_has_failed(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.2)
    over = asyncio.Event()

    async def hang(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await over.wait()

    error = await failure_while(hang, over)
    assert "has not answered within 0.2 s" in error.message


async def failure_while(answer: Any, over: asyncio.Event) -> lro_grpc.LroError:
    async with receiving(answer) as receiver:
        with pytest.raises(RetryableError) as failed:
            await hook(f"http://127.0.0.1:{receiver.port}")(event())
        over.set()
    return failed.value


@pytest.mark.parametrize("sent", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b""])
async def test_what_is_no_http_answer_is_a_failure(sent: bytes) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(sent)

    assert isinstance(await failure(answer), RetryableError)


SPELLINGS = [
    *("127.0.0.1", "localhost", "LOCALHOST.", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1"),
    *("127.1", "127.0.1", "0", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
    *("[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]", "[::]", "127.255.255.254"),
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]"),
    *("[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[fd00:ec2::254]"),
    *("192.0.0.192", "168.63.129.16", "100.100.100.200", "[fe80::1]", "10.0.0.1", "[fc00::1]"),
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_a_url_of_a_request_leads_to_no_address_that_is_not_public(host: str) -> None:
    """However it is spelled: nothing is sent, not even a connection is made."""
    async with receiving() as receiver:
        with pytest.raises(RetryableError, match="cannot be reached"):
            await hook(requested(f"http://{host}:{receiver.port}/"))(event())
    assert receiver.connections == 0


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "2852039166", "[::ffff:169.254.169.254]", "168.63.129.16"]
)
async def test_no_url_leads_to_metadata(host: str) -> None:
    """Neither the author's own, nor what is allowed."""
    for webhook in (
        hook(f"http://{host}/"),
        hook(requested(f"http://{host}/"), allow=["0.0.0.0/0", ipaddress.ip_network("::/0")]),
    ):
        with pytest.raises(RetryableError, match=r"its address is a link's, a cloud's own"):
            await webhook(event())


@pytest.mark.parametrize(
    "answer", [["93.184.216.34", "127.0.0.1"], ["127.0.0.1", "93.184.216.34"], ["127.0.0.1", "::1"]]
)
async def test_a_host_with_one_address_that_is_refused_gets_nothing(
    answer: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the address; a description, which a stranger may read, has not."""
    async with receiving() as receiver:
        webhook = hook(requested(f"http://host.test:{receiver.port}"), resolve=resolving(answer))
        with pytest.raises(RetryableError, match=r"its address is not public") as refused:
            await webhook(event())
    assert receiver.connections == 0
    assert "127.0.0.1" not in str(refused.value)
    assert "host.test: its address is not public: 127.0.0.1" in caplog.text


async def test_a_host_is_looked_up_once_for_each_connection() -> None:
    """What was checked is what is connected to; a later answer is checked anew."""
    looked_up = resolving(["127.0.0.1"], ["169.254.169.254"])
    async with receiving() as receiver:
        webhook = hook(
            requested(f"http://host.test:{receiver.port}"), resolve=looked_up, allow=LOCAL
        )
        await webhook(event())
        with pytest.raises(RetryableError, match="its address is a link's"):
            await webhook(event())
    assert receiver.received[0].headers["host"] == f"host.test:{receiver.port}"
    assert receiver.connections == 1


async def test_another_address_of_a_host_is_tried() -> None:
    """On 127.0.0.2 nobody listens."""
    both = resolving(["127.0.0.2", "127.0.0.1"])
    async with receiving() as receiver:
        await hook(requested(f"http://h.test:{receiver.port}"), resolve=both, allow=LOCAL)(event())
    assert len(receiver.received) == 1


async def test_a_host_that_is_not_found_is_a_failure() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError(f"no such host as {host}:{port}")

    for resolver in (resolve, resolving([])):
        with pytest.raises(RetryableError, match=r"host\.test cannot be reached"):
            await hook("http://host.test/", resolve=resolver)(event())


async def test_hosts_that_nobody_answers_for_hold_no_thread_of_the_event_loop() -> None:
    """It has few, and all else that is looked up needs one of them."""
    until = threading.Event()
    executor = ThreadPoolExecutor(1)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(executor)
    held = loop.run_in_executor(None, until.wait)
    try:
        async with receiving() as receiver:
            await hook(f"http://localhost:{receiver.port}/")(event())
        assert len(receiver.received) == 1
    finally:
        until.set()
        await held


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        await hook(f"http://127.0.0.1:{receiver.port}/")(event())
        with pytest.raises(RetryableError):
            await hook("http://169.254.169.254/")(event())
    assert (proxy.connections, receiver.connections) == (0, 1)


async def test_tls_is_for_the_name_of_the_host(tmp_path: Path) -> None:
    serves, trusts = certificate(tmp_path, "hooks.test")
    names: list[str | None] = []
    serves.sni_callback = lambda _connection, name, _context: names.append(name)
    async with receiving(tls=serves) as receiver:
        here = resolving(["127.0.0.1"])
        right, wrong = (
            hook(f"https://{host}:{receiver.port}/", ssl_context=trusts, resolve=here)
            for host in ("hooks.test", "other.test")
        )
        await right(event())
        with pytest.raises(RetryableError, match=r"other\.test cannot be reached"):
            await wrong(event())
        with pytest.raises(RetryableError, match="certificate"):
            await hook(f"https://hooks.test:{receiver.port}/", resolve=here)(event())
    assert names[:2] == ["hooks.test", "other.test"]
    assert [one.headers["host"] for one in receiver.received] == [f"hooks.test:{receiver.port}"]


def certificate(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Returns the contexts of a server with that name, and of one who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now, day = datetime.datetime.now(timezone.utc), timedelta(days=1)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "server.pem"
    file.write_bytes(private + made.public_bytes(pem))
    serves = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serves.load_cert_chain(file)
    return serves, ssl.create_default_context(cadata=made.public_bytes(pem).decode())


BAD_URLS = [
    *("", "ftp://example.com/", "file:///etc/passwd", "example.com/x", "http:///x", "//a/b"),
    *("http://user@example.com/", "http://a:b@example.com/", "http://127.0.0.1%2f@example.com/"),
    *("http://①②⑦.0.0.1/", "http://exämple.com/", "http://a\r\nb/", "http://a b/", "http://a:b/"),
    *("http://example.com:99999/", "http://[::1/", "gopher://example.com/"),
    f"http://{'a' * 254}/",
]


@pytest.mark.parametrize("url", BAD_URLS)
async def test_what_is_no_url_of_a_receiver_is_refused(url: str) -> None:
    """The author's own when it is given; a stranger's is given up."""
    with pytest.raises(lro_grpc.ConfigurationError, match="a webhook's URL"):
        hook(url)
    if url:
        with pytest.raises(UndeliverableError, match="a webhook's URL"):
            await hook(requested(url))(event())


@pytest.mark.parametrize(
    "url", ["http://ann:hidden#1@a.test/", "http://ann:hidden\u2100@a.test/", "http://[hidden/"]
)
def test_what_is_said_of_a_wrong_url_has_no_secret_of_it(url: str) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="a webhook's URL is none") as refused:
        hook(url)
    assert "hidden" not in refused.value.message


@pytest.mark.parametrize("url", [None, ""])
async def test_an_event_without_a_url_is_sent_to_nobody(url: Any) -> None:
    webhook = hook(lambda _: url)
    await webhook(event())
    assert webhook.destination(event()) == ("", 0)


def test_a_destination_is_a_host_and_a_port() -> None:
    assert hook("https://a.test/x").destination(event()) == ("a.test", 443)
    assert hook(requested("http://A.test:81/y")).destination(event()) == ("a.test", 81)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secrets": []}, "secrets is empty"),
        ({"secrets": SECRET}, "secrets is empty, or no list"),
        ({"secrets": ["whsec_"]}, r"secrets\[0\] is no secret"),
        ({"secrets": [SECRET, "whsec_!"]}, r"secrets\[1\] is no secret"),
        ({"secrets": ["whsec_c2hvcnQ="]}, r"secrets\[0\] has 5 bytes; give .* 24 random bytes"),
        ({"allow": ["10.0.0.1/8"]}, "allow is .*; give networks"),
        ({"allow": 5}, "allow is 5"),
        ({"result": "yes"}, "result is 'yes'; give True or False"),
        ({"resolve": 5}, "resolve is 5; give a function"),
    ],
)
def test_wrong_options_are_refused(options: Any, words: str) -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match=words) as refused:
        Webhook("https://a.test/", **{"secrets": [SECRET], **options})
    assert SECRET not in str(refused.value)
