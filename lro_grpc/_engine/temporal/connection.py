"""A connection to Temporal, by which operations are submitted.

An operation's name is its id there, and belongs to one activity or workflow at a time: to submit an
operation twice does no harm. When that one has ended, the id is free again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import (
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)
from temporalio.exceptions import ActivityAlreadyStartedError, WorkflowAlreadyStartedError
from temporalio.service import RetryConfig, RPCError, RPCStatusCode

from lro_grpc._engine.temporal import core_log
from lro_grpc._engine.temporal.options import Temporal

_CONNECT_TIMEOUT = timedelta(seconds=5)
_RPC_TIMEOUT = timedelta(seconds=10)

DELIVERY: Mapping[str, Any] = {
    "start_to_close_timeout": timedelta(days=365),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1),
        backoff_coefficient=1.5,
        maximum_interval=timedelta(seconds=15),
    ),
}
"""An activity is delivered again and again. The time limits of operations are the store's."""

_ENDS = "it ends the connection; it may want TLS by tls=, or a certificate of this process"

_REASONS = {
    "InvalidCertificate": "its certificate is not of an authority that tls= trusts",
    "Unauthenticated": "it does not know the api_key",
    "ConnectionRefused": "nothing listens there",
    "dns error": "no machine has that name",
    "transport error": _ENDS,
    "connection closed": _ENDS,
    "ConnectionReset": _ENDS,
}
"""The meaning of errors of the connection, by a part of their text."""

_FEW_RETRIES = RetryConfig(max_retries=3)
"""Of submissions: what fails is found by the next look at the store."""

_HAS_ENDED = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)

_AlreadyStarted = (ActivityAlreadyStartedError, WorkflowAlreadyStartedError)

_ATTRIBUTES = [
    SearchAttributeKey.for_keyword(name) for name in ("LroOperation", "LroMethod", "LroTarget")
]
"""The search attributes that an operation has, in a namespace that has them."""


@dataclass(frozen=True)
class Connection:
    """A connection, and what was found out about the server."""

    client: Client
    patient_client: Client
    """One whose calls are tried again for longer, for a worker."""
    standalone: bool
    """Whether operations are Standalone Activities there."""
    has_attributes: bool
    """Whether the namespace has the search attributes of operations."""

    async def submit(
        self, name: str, method: str, target: str, *, queue: str, lease: timedelta, anew: bool
    ) -> None:
        """Has an operation delivered to a worker; nothing changes if it is about to be already.

        Args:
            name: Its name, which is the id.
            method: Its method, which is the type of the activity.
            target: Its target, for the search attributes.
            queue: The task queue.
            lease: The time without a heartbeat after which another worker is given it.
            anew: Whether to terminate an earlier submission, which is ending or waits for a time
                that does not count any more.

        Raises:
            RPCError: If Temporal does not take it.
        """
        values = zip(_ATTRIBUTES, (name, method, target), strict=True)
        attributes = [SearchAttributePair(*pair) for pair in values if self.has_attributes]
        options: dict[str, Any] = {
            "id": name,
            "task_queue": queue,
            "search_attributes": TypedSearchAttributes(attributes),
            "rpc_timeout": _RPC_TIMEOUT,
        }
        start: Callable[[], Awaitable[object]]
        if self.standalone:
            options |= {**DELIVERY, "heartbeat_timeout": lease}
            start = partial(self.client.start_activity, method, name, **options)
        else:
            options["args"] = [name, lease.total_seconds()]
            start = partial(self.client.start_workflow, method, **options)
        try:
            await start()
        except _AlreadyStarted:
            if anew:
                await self._terminate(name)
                with contextlib.suppress(*_AlreadyStarted):  # another process was first
                    await start()

    async def _terminate(self, name: str) -> None:
        """Terminates the submission of an operation, unless it has ended."""
        client = self.client
        get_handle = client.get_activity_handle if self.standalone else client.get_workflow_handle
        try:
            await get_handle(name).terminate(reason="it is ready now", rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status not in _HAS_ENDED:
                raise


async def connect(options: Temporal) -> Connection:
    """Connects, and finds out what the server can do.

    Raises:
        RPCError: If the namespace is not there, or may not be used.
        RuntimeError: If the server cannot be reached.
    """
    core_log.send_to_python()
    make_client = partial(
        Client.connect,
        options.address,
        namespace=options.namespace,
        tls=options.tls,
        api_key=options.api_key,
        connect_timeout=_CONNECT_TIMEOUT,
    )
    client, patient_client = await make_client(retry_config=_FEW_RETRIES), await make_client()
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=options.namespace), timeout=_RPC_TIMEOUT
    )
    standalone = options.standalone
    if standalone is None:
        standalone = described.namespace_info.capabilities.standalone_activities
    return Connection(client, patient_client, standalone, await _has_attributes(client))


async def _has_attributes(client: Client) -> bool:
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace), timeout=_RPC_TIMEOUT
        )
    except RPCError:  # it is an administrator's call: not all may make it
        return False
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    return all(listed.custom_attributes.get(one.name) == keyword for one in _ATTRIBUTES)


def reason_of(error: Exception) -> str:
    """Returns in a sentence why a connection cannot be made; the error's own text if it is new."""
    text = str(error)
    return next((reason for part, reason in _REASONS.items() if part in text), text)
