"""Options of a gRPC server under which Waits may be silent for long, and come all at once."""

from __future__ import annotations

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    # A client may ping every 10 seconds, which is the least that a Go client does. gRPC's own
    # limit is five minutes while nothing is sent: after that many pings the connection is closed.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The server pings, too: a client that is gone gives back the place of its Wait, and no
    # firewall in between takes the connection for an idle one.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Calls may come faster than the server begins them, as when those of a replica that is gone
    # do. Of more than 1,000 that wait to be begun, gRPC's own limit, it ends some with CANCELLED.
    ("grpc.server.max_pending_requests", 50_000),
    ("grpc.server.max_pending_requests_hard_limit", 50_000),
    # It ends those that have waited for 30 seconds, too, with CANCELLED, which no client takes for
    # a reason to call again. Their own deadlines are for that.
    ("grpc.server_max_unrequested_time_in_server", 600),
)
"""For ``grpc.aio.server(options=…)`` and ``grpc.server(…, options=…)``."""
