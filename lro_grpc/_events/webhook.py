"""An ``on_done`` that sends each event to a URL, signed.

The body is a CloudEvent 1.0 in structured mode: all of it is in the body, and so under the
signature, which is that of Standard Webhooks. A receiver is told as little as it needs to ask for
more; ``result`` sends it all.

What the receiver answers is its status alone: the body is not read, and a redirect not followed,
for it would lead where nobody has looked. Nothing of the environment is obeyed, such as HTTP_PROXY,
which would connect wherever it likes.
"""

from __future__ import annotations

import base64
import email.utils
import ipaddress
import logging
import ssl
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import NamedTuple
from urllib.parse import urlsplit

import anyio
import httpcore
import standardwebhooks
from cloudevents.core.bindings.http import to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from lro.v1 import completion_event_pb2
from lro_grpc._dialects import canonical_json
from lro_grpc._errors import Code, ConfigurationError, RetryableError, UndeliverableError, cut
from lro_grpc._events.addresses import Network, refusal
from lro_grpc._events.connecting import (
    AddressRefusedError,
    CheckedBackend,
    Resolve,
    system_addresses,
)
from lro_grpc._operation.completion_event import CompletionEvent
from lro_grpc._runtime.options import check_flag, check_function
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._runtime.threads import BoundedThreads

TYPE = "lro.v1.operation.done"
"""The CloudEvent's type."""

_SECONDS = 10.0
"""The time for all of a delivery, from the look-up of the host to the answer's status."""

_AT_ONCE = 16 * 1024
"""The most bytes of an event that become JSON on the event loop: it takes microseconds a value."""

_ANY = 2**31
"""More events than wait for the thread of large ones: few are told at a time."""

_Headers = Sequence[tuple[bytes | str, bytes | str]]

_LEAST_SECRET_BYTES = 24
"""The least that Standard Webhooks asks for."""

_GONE = 410
_MOST_OF_HOST = 253
_PORTS = {"http": 80, "https": 443}


class Webhook:
    """Sends completion events to a URL; given to ``Operations`` as its ``on_done``.

    Any 2xx answer is a success, and 410 ends the attempts. Everything else is tried again, a
    redirect too, and as late as ``Retry-After`` asks, up to an hour.

    Args:
        url: Where to: an ``http`` or ``https`` URL, which may lead into a private network. Or a
            function that is given the event and returns the URL; None to send nothing. It must not
            block. Such a URL may be a stranger's, and has to lead to public addresses.
        secrets: The secrets with which each event is signed, as the receivers have them:
            ``whsec_`` and at least 24 bytes in base64. Two while one takes the place of the other.
        allow: Networks that URLs of a function may lead to, though they are not public. Addresses
            of links, and those of clouds' metadata, are never allowed.
        result: Whether to send the operation, too, with its response or its error.
        source: The CloudEvents' ``source``, a URI reference; the service of the operation's method,
            such as ``/fleet.v1.FleetService``, unless given.
        ssl_context: How receivers are known; by the certificates of certifi unless given.
        resolve: Returns the addresses of a host and a port; the system's resolver unless given.

    Raises:
        ConfigurationError: If an option is not as described.
    """

    def __init__(
        self,
        url: str | Callable[[CompletionEvent], str | None],
        *,
        secrets: Sequence[str],
        allow: Iterable[str | Network] = (),
        result: bool = False,
        source: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        resolve: Resolve = system_addresses,
    ) -> None:
        check_flag("result", result)
        self._url_of = url if callable(url) else None
        self._fixed: _Target | None = None
        if not callable(url):
            try:
                self._fixed = _target_of(url)
            except UndeliverableError as wrong:
                raise ConfigurationError(wrong.message) from wrong
        check_function("resolve", resolve)
        self._signers = _signers_of(secrets)
        refused = partial(
            refusal, may_be_private=self._fixed is not None, allowed=_networks_of(allow)
        )
        self._backend = CheckedBackend(resolve, refused)
        self._result = result
        self._thread = BoundedThreads(1, waiting=_ANY)
        self._source = source
        self._ssl_context = ssl_context or httpcore.default_ssl_context()

    def destination(self, event: CompletionEvent) -> tuple[str, int]:
        """Returns the host and the port of an event's receiver: few of one are sent at a time."""
        target = self._target(event)
        return (target.host, target.port) if target else ("", 0)

    async def __call__(self, event: CompletionEvent) -> None:
        """Sends an event.

        Raises:
            RetryableError: If it was not received, and may be later.
            UndeliverableError: If it cannot be sent, or its receiver is gone.
        """
        target = self._target(event)
        if target is None:
            return
        now = datetime.now(timezone.utc)
        if self._result and event.data.ByteSize() > _AT_ONCE:
            headers, body = await self._thread.run("lro-webhook", self._message, event, now)
        else:
            headers, body = self._message(event, now)
        try:
            with anyio.fail_after(_SECONDS):
                status, retry_after = await self._post(target, headers, body)
        except TimeoutError as cause:
            raise RetryableError(
                f"{target.host} has not answered within {_SECONDS:g} s",
                code=Code.DEADLINE_EXCEEDED,
            ) from cause
        except AddressRefusedError as cause:
            # The caller may be a stranger, to whom the addresses of this network are no business.
            PROCESS.say(
                logging.WARNING,
                f"{event.name}: its event is not sent to {target.host}: {cause}: {cause.address}",
                kind=AddressRefusedError,
                extra={"operation": event.name},
            )
            raise RetryableError(f"{target.host} cannot be reached: {cause}") from cause
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as cause:
            why = str(cause) or type(cause).__name__
            raise RetryableError(f"{target.host} cannot be reached: {cut(why)}") from cause
        if status == _GONE:
            raise UndeliverableError(f"{target.host} has answered 410: nobody is there any more")
        if not 200 <= status < 300:
            what = ", a redirect, which is not followed" if 300 <= status < 400 else ""
            raise RetryableError(
                f"{target.host} has answered {status}{what}", retry_after=retry_after
            )

    async def _post(
        self, target: _Target, headers: _Headers, body: bytes
    ) -> tuple[int, timedelta | None]:
        """Returns the status of the answer, and the pause that it asks for."""
        # Of its own, for an answer whose body is not read ends the connection.
        pool = httpcore.AsyncConnectionPool(
            ssl_context=self._ssl_context, network_backend=self._backend
        )
        async with pool, pool.stream("POST", target.url, headers=headers, content=body) as answer:
            asked = [value for name, value in answer.headers if name.lower() == b"retry-after"]
            pause = _pause_of(asked[0], datetime.now(timezone.utc)) if asked else None
            return answer.status, pause

    def _message(self, event: CompletionEvent, now: datetime) -> tuple[_Headers, bytes]:
        """Returns the headers and the body of a request."""
        data = completion_event_pb2.CompletionEvent()
        data.CopyFrom(event.data)
        data.ClearField("caller")
        if not self._result:
            data.ClearField("operation")
        message_id = f"msg_{event.id}"
        made = CloudEvent(
            {
                "id": message_id,
                "source": self._source or f"/{event.method.rpartition('/')[0]}",
                "type": TYPE,
                "subject": event.name,
                "time": event.data.end_time.ToDatetime(tzinfo=timezone.utc),
                "datacontenttype": "application/json",
            },
            canonical_json.to_json(data),
        )
        message = to_structured(made, JSONFormat())
        body = message.body.decode()
        # It takes the zone of a time for UTC, whatever that is.
        signatures = [one.sign(message_id, now, body) for one in self._signers]
        return [
            *message.headers.items(),
            ("user-agent", "lro-grpc"),
            ("webhook-id", message_id),
            ("webhook-timestamp", str(int(now.timestamp()))),
            ("webhook-signature", " ".join(signatures)),
        ], message.body

    def _target(self, event: CompletionEvent) -> _Target | None:
        if self._url_of is None:
            return self._fixed
        url = self._url_of(event)
        return _target_of(url) if url else None


class _Target(NamedTuple):
    """A URL, and what it says of its host."""

    url: str
    host: str
    port: int


def _target_of(url: str) -> _Target:
    """Returns a URL that a webhook may have.

    Raises:
        UndeliverableError: If it is none. The words have not all of it: it may hold a secret.
    """
    why = ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, AttributeError, TypeError) as error:
        # Its words may have a part of a password.
        raise UndeliverableError(
            "a webhook's URL is none: its host or its port is wrong"
        ) from error
    if not url.isascii() or not url.isprintable() or " " in url:
        why = "has other characters than those of a URL; write its host in punycode"
    elif parts.scheme not in _PORTS:
        why = f"has the scheme {cut(parts.scheme)!r}; give one of http or https"
    elif not parts.hostname:
        why = "has no host"
    elif len(parts.hostname) > _MOST_OF_HOST:
        why = f"has a host of {len(parts.hostname)} characters; names have {_MOST_OF_HOST} at most"
    elif "@" in parts.netloc:
        why = "has a user; receivers know the sender by its signature"
    if why:
        raise UndeliverableError(f"a webhook's URL {why}")
    assert parts.hostname
    return _Target(url, parts.hostname, port or _PORTS[parts.scheme])


def _signers_of(secrets: Sequence[str]) -> Sequence[standardwebhooks.Webhook]:
    """Returns what signs with each secret.

    Raises:
        ConfigurationError: If there is none, or one is no secret. The words do not have it.
    """
    wanted = "give a list of texts: whsec_ and at least 24 random bytes in base64"
    if isinstance(secrets, (str, bytes)) or not secrets:
        raise ConfigurationError(f"secrets is empty, or no list; {wanted}")
    signers = []
    for number, secret in enumerate(secrets):
        try:
            signers.append(standardwebhooks.Webhook(secret))
            size = len(base64.b64decode(secret.removeprefix("whsec_") + "=="))
        except Exception as cause:
            raise ConfigurationError(f"secrets[{number}] is no secret; {wanted}") from cause
        if size < _LEAST_SECRET_BYTES:
            raise ConfigurationError(f"secrets[{number}] has {size} bytes; {wanted}")
    return signers


def _networks_of(allow: Iterable[str | Network]) -> Sequence[Network]:
    """Returns networks.

    Raises:
        ConfigurationError: If one is none.
    """
    try:
        return [ipaddress.ip_network(one) for one in allow]
    except (ValueError, TypeError) as cause:
        raise ConfigurationError(
            f"allow is {allow!r}; give networks, such as '10.1.0.0/16' ({cause})"
        ) from cause


def _pause_of(retry_after: bytes, now: datetime) -> timedelta | None:
    """Returns the pause that a Retry-After asks for, in seconds or as a date; None for none."""
    text = retry_after.decode("ascii", "replace").strip()
    if text.isdecimal():
        return timedelta(seconds=min(int(text[:9]), 86_400))
    try:
        until = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:  # its zone is -0000: UTC, as far as anybody knows
        until = until.replace(tzinfo=timezone.utc)
    return max(until - now, timedelta(0))
