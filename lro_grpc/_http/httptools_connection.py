"""A connection whose HTTP is parsed by httptools, which is in C, and refuses what h11 refuses.

To be faster must not mean to take more. llhttp, the parser, has no bound of its own for what is no
body; it takes a request that names no host, a body in an encoding that nobody undoes, the trailers
of a body for headers of its request, and the spaces behind a value for a part of it.

Nor to take less. A client may offer another protocol, as Java's offers HTTP/2 with each request,
and a server pass over that (RFC 9110, 7.8). llhttp then gives the head alone, and takes all behind
it, be that a body or the next request, for the other protocol. So such a request is parsed again,
without the offer.
"""

from __future__ import annotations

from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lro_grpc._http.connections import MOST_HEAD, PROTOCOL_LOG, BoundedServer, Connection


class _Parser(httptools.HttpRequestParser):  # type: ignore[misc]  # it has no types
    """Parses what comes on a connection, all of which is HTTP."""

    def __init__(self, connection: HttptoolsConnection) -> None:
        super().__init__(connection)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._connection = connection

    def feed_data(self, data: bytes) -> None:
        """Takes what was read."""
        parser = self
        while True:  # may be of many requests that offer another protocol
            try:
                httptools.HttpRequestParser.feed_data(parser, data)
            except httptools.HttpParserUpgrade as offer:
                (end_of_head,) = offer.args
                data = self._connection.head_without_offer() + data[end_of_head:]
                parser = self._connection.parser = _Parser(self._connection)
            else:
                return


class HttptoolsConnection(Connection, HttpToolsProtocol):
    """One connection; see :class:`Connection`."""

    def __init__(self, server: BoundedServer) -> None:
        Connection.__init__(self, server)
        HttpToolsProtocol.__init__(self, server.config, server.server_state, server.lifespan.state)
        self.logger = PROTOCOL_LOG
        self.parser = _Parser(self)
        self._is_in_head = True
        self._is_in_body = False
        self._is_chunked = False
        self._is_refused = False
        self._head_bytes = 0
        """The bytes since the last of a body: of a head, of trailers, of the line of a chunk."""

    @property
    def is_in_head(self) -> bool:
        """Whether the next byte belongs to a head."""
        return self._is_in_head

    @property
    def is_plain_body(self) -> bool:
        """Whether a body comes, and not in chunks."""
        return self._is_in_body and not self._is_chunked

    def data_received(self, data: bytes) -> None:
        """Takes what was read."""
        if self._is_refused:
            return
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MOST_HEAD:
            self.send_400_response("The head is too long.")

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP; there is no answer to what comes after the answer has begun."""
        if self._is_refused:
            return
        self._is_refused = True
        if self.cycle.response_started if self._is_in_body else not self.is_idle:
            self.transport.abort()
            return
        super().send_400_response(msg)
        if self._is_in_body:  # its request is not answered once more
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def on_message_begin(self) -> None:
        """Begins a head."""
        super().on_message_begin()
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header; a trailer is none."""
        if self._is_in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Begins a request."""
        names = [name for name, _ in self.headers]
        hosts = names.count(b"host")
        if hosts > 1 or not (hosts or self.parser.get_http_version() == "1.0"):
            raise httptools.HttpParserError("a request names one host")
        encodings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if encodings not in ([], [b"chunked"]):
            raise httptools.HttpParserError("a body is in chunks, or in no encoding")
        if self._offers_another_protocol:
            if b"upgrade" not in names:
                raise httptools.HttpParserError("a CONNECT is for a proxy")
            return
        self._is_in_head, self._is_in_body = False, True
        self._is_chunked = bool(encodings)
        # uvicorn takes few targets, and of those a path and a query: none names another host.
        path, _, query = self.url.partition(b"?")
        self.url = b"/"
        super().on_headers_complete()
        root = self.root_path
        self.scope["path"] = root + unquote(path.decode("ascii"))
        self.scope["raw_path"] = root.encode("ascii") + path
        self.scope["query_string"] = query

    def on_body(self, body: bytes) -> None:
        """Takes a part of a body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request."""
        if self._offers_another_protocol:
            return
        self._head_bytes = 0
        self._is_in_head, self._is_in_body = True, False
        super().on_message_complete()

    @property
    def _offers_another_protocol(self) -> bool:
        """Whether the parser leaves all behind the head to another protocol."""
        return bool(self.parser.should_upgrade())

    def head_without_offer(self) -> bytes:
        """Returns the head that was parsed, without what offers another protocol."""
        version = self.parser.get_http_version().encode("ascii")
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        with self.ending_response():
            super().on_response_complete()
