"""Names of the gRPC metadata that this package reads and writes."""

from __future__ import annotations

POLL_AFTER = "lro-poll-after-ms"
"""In the initial metadata of a GetOperation: the pause before the next one that the server asks
for, in whole milliseconds (P5); HTTP's ``Retry-After`` for gRPC."""

UNSERVED = "lro-unserved"
"""In the initial metadata of a GetOperation: why the operation waits, and no handler of the server
will go on with it."""

REQUEST_PARAMS = "x-goog-request-params"
"""In the metadata of a call: fields of its request by which a front end routes it (AIP-4222)."""

STATUS_DETAILS = "grpc-status-details-bin"
"""In the trailing metadata of a call that failed: a serialized ``google.rpc.Status``, with the
details for which gRPC's own code and message have no room."""
