"""The code of docs/learn/events.md, as it stands there."""

from __future__ import annotations

import http.server
import json
import queue
import re
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import standardwebhooks
from pages import Page
from server_harness import SECONDS, fleet
from test_webhook import SECRET

import lro_grpc
import lro_grpc.events

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Page("learn/events.md")
TELLS, SENDS, RECEIVES = PAGE.texts("python")
(BODY,) = PAGE.texts("json")


class Seen(set[str]):
    """What was seen; tells whether something is new."""

    def add(self, one: str) -> bool:  # type: ignore[override]
        is_new = one not in self
        super().add(one)
        return is_new


class Receiver:
    """The page's receiver, as it runs."""

    def __init__(self) -> None:
        self.handled: queue.Queue[Any] = queue.Queue()
        self.requests: queue.Queue[urllib.request.Request] = queue.Queue()
        names: dict[str, Any] = {
            "http": http,
            "standardwebhooks": standardwebhooks,
            "SECRET": SECRET,
            "seen": Seen(),
            "handle": self.handled.put,
        }
        exec(RECEIVES, names)
        page: Any = names["Receiver"]
        page.log_message = lambda *_: None
        self.server = http.server.HTTPServer(("127.0.0.1", 0), page)
        self.url = f"http://127.0.0.1:{self.server.server_port}/done"

    def send(self, body: bytes, headers: dict[str, str]) -> int:
        """Sends a request as anybody may, and returns the status of the answer."""
        request = urllib.request.Request(self.url, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


def work(self: Any, request: Any, op: Any) -> Any:
    raise lro_grpc.LroError("no room", code=lro_grpc.Code.RESOURCE_EXHAUSTED)


def test_a_receiver_takes_each_event_once_and_none_that_is_forged(
    serve: Any, receiver: Receiver
) -> None:
    names: dict[str, Any] = {"lro_grpc": lro_grpc, "SECRET": SECRET}
    exec(SENDS.replace("https://billing.internal/done", receiver.url), names)
    sent: queue.Queue[lro_grpc.CompletionEvent] = queue.Queue()
    on_done = names["on_done"]

    async def twice(event: lro_grpc.CompletionEvent) -> None:
        await on_done(event)
        await on_done(event)
        sent.put(event)

    server = serve(fleet("CreateInstance", work), on_done=twice)
    name = server.create().name
    event = sent.get(timeout=SECONDS)
    data = receiver.handled.get(timeout=SECONDS)
    assert (data["name"], data["state"]) == (name, "JOB_STATE_FAILED")
    assert receiver.handled.empty()
    shown = json.loads(BODY)
    assert data.keys() == shown["data"].keys()
    forged = json.dumps({**shown, "id": f"msg_{event.id}x"}).encode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,YQ=="}
    assert receiver.send(forged, headers) == 401
    assert receiver.handled.empty()


def test_the_page_tells_by_mail(serve: Any) -> None:
    mails: queue.Queue[tuple[str, str]] = queue.Queue()

    async def send_mail(to: str, text: str) -> None:
        mails.put((to, text))

    names: dict[str, Any] = {"lro_grpc": lro_grpc, "send_mail": send_mail}
    exec(TELLS.partition("operations = ")[0], names)
    server = serve(
        fleet("CreateInstance", work), on_done=names["tell"], identify=lambda context: "ann"
    )
    name = server.create().name
    assert mails.get(timeout=SECONDS) == ("ann", f"{name}: JOB_STATE_FAILED")


def test_the_page_has_every_value_of_an_event() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    public = {name for name in dir(lro_grpc.CompletionEvent) if not name.startswith("_")}
    assert named == public
