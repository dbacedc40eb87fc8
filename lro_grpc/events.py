"""Completion events sent to others: needs the extra ``events``.

::

    operations = lro_grpc.Operations(
        on_done=lro_grpc.events.Webhook("https://billing.internal/done", secrets=[SECRET])
    )
"""

from __future__ import annotations

from lro_grpc._extras import extra

with extra("events"):
    from lro_grpc._events.webhook import Webhook

__all__ = ["Webhook"]
