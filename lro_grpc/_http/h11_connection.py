"""A connection whose HTTP is parsed by h11, which is in Python."""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from lro_grpc._http.connections import PROTOCOL_LOG, BoundedServer, Connection


class H11Connection(Connection, H11Protocol):
    """One connection; see :class:`Connection`."""

    def __init__(self, server: BoundedServer) -> None:
        Connection.__init__(self, server)
        H11Protocol.__init__(self, server.config, server.server_state, server.lifespan.state)
        self.logger = PROTOCOL_LOG

    @property
    def is_in_head(self) -> bool:
        """Whether the next byte belongs to a head."""
        return self.conn.their_state is h11.IDLE

    @property
    def is_plain_body(self) -> bool:
        """Whether a body comes, and not in chunks."""
        return self.conn.their_state is h11.SEND_BODY and not any(
            name == b"transfer-encoding" for name, _ in self.headers or ()
        )

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP; there is no answer to what comes after the answer has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        with self.ending_response():
            super().on_response_complete()
