"""Answers of servers that go wrong in a way of their own: functions for a ``FakeOperations``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import grpc

if TYPE_CHECKING:
    from collections.abc import Sequence


def refuses_for_now(
    request: Any,
    context: grpc.ServicerContext,
    header: Sequence[tuple[str, str | bytes]] = (("grpc-retry-pushback-ms", "20"),),
) -> NoReturn:
    """Refuses the call, and says in a header when to come again."""
    del request
    context.set_trailing_metadata(tuple(header))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls")
