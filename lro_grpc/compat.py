"""Operations of Google's own clients, as futures of this package. Needs the extra ``compat``.

A method of any generated Google client that starts an operation returns a
``google.api_core.operation.Operation``, and its async twin an ``AsyncOperation``. Wrapped, either
one has updates, progress, details and honest timeouts::

    from lro_grpc import compat

    future = compat.future(client.create_cluster(request))
    future = compat.async_future(await async_client.create_cluster(request))

Responses and metadata are of the very types that the client declares, proto-plus or protobuf.

Google's clients have no call that sends changes or waits for the end, so the operation is polled:
through the wrapped object, with the client's own credentials and transport. A server that has
WaitOperation or WatchOperation is waited for at the server, if the client's channel is given::

    future = compat.future(client.create_cluster(request), channel=client.transport.grpc_channel)

The wrapped object may be used beside the future; neither sees the states that the other has seen.
"""

from __future__ import annotations

from lro_grpc._extras import extra

with extra("compat"):
    from lro_grpc._compat.futures import async_future, future

__all__ = ["async_future", "future"]
