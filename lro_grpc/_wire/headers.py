"""Names of the headers that this package reads and writes."""

from __future__ import annotations

POLL_AFTER = "lro-poll-after-ms"
"""The response header (initial metadata) of GetOperation with which a server names the pause before
the next one, in whole milliseconds (P5); HTTP's ``Retry-After`` for gRPC."""
