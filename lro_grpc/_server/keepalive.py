"""Options of a gRPC server under which a Wait may be silent for as long as an operation takes."""

from __future__ import annotations

KEEPALIVE_OPTIONS: tuple[tuple[str, int], ...] = (
    # A client may ping every 10 seconds, which is the least that a Go client does. gRPC's own
    # limit is five minutes while nothing is sent: after that many pings the connection is closed.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The server pings, too: a client that is gone gives back the place of its Wait, and no
    # firewall in between takes the connection for an idle one.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
)
"""For ``grpc.aio.server(options=…)`` and ``grpc.server(…, options=…)``."""
