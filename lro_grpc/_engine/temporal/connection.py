"""The connection to Temporal: what the server there can do, and how it is given an operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.common import (
    ActivityIDConflictPolicy,
    ActivityIDReusePolicy,
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.service import RetryConfig, RPCError

from lro_grpc._engine.temporal.options import Temporal

_CONNECT_TIMEOUT = timedelta(seconds=5)
_RPC_TIMEOUT = timedelta(seconds=10)

_FEW_RETRIES = RetryConfig(max_retries=3)
"""Of submissions: what fails is found by the next look at the store."""

DELIVERY: Mapping[str, Any] = {
    "start_to_close_timeout": timedelta(days=365),
    "retry_policy": RetryPolicy(
        initial_interval=timedelta(seconds=1),
        backoff_coefficient=1.5,
        maximum_interval=timedelta(seconds=15),
    ),
}
"""How an activity is delivered: again and again. The time limits of operations are the store's."""

_ATTRIBUTES = [
    SearchAttributeKey.for_keyword(name) for name in ("LroOperation", "LroMethod", "LroTarget")
]
"""The search attributes that an operation has, in a namespace that has them."""


@dataclass(frozen=True)
class Connection:
    """A connection, and what was found out about the server."""

    client: Client
    standalone: bool
    """Whether operations are Standalone Activities there."""
    has_attributes: bool
    """Whether the namespace has the search attributes of operations."""

    async def submit(
        self, name: str, method: str, target: str, *, queue: str, lease: timedelta
    ) -> None:
        """Has an operation delivered to a worker; nothing changes if it is about to be already.

        Args:
            name: Its name, which is the id.
            method: Its method, which is the type of the activity.
            target: Its target, for the search attributes.
            queue: The task queue.
            lease: The time without a heartbeat after which another worker is given it.

        Raises:
            RPCError: If Temporal does not take it.
        """
        values = zip(_ATTRIBUTES, (name, method, target), strict=True)
        attributes = TypedSearchAttributes(
            [SearchAttributePair(*pair) for pair in values if self.has_attributes]
        )
        if self.standalone:
            await self.client.start_activity(
                method,
                name,
                id=name,
                task_queue=queue,
                heartbeat_timeout=lease,
                id_conflict_policy=ActivityIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=ActivityIDReusePolicy.ALLOW_DUPLICATE,
                search_attributes=attributes,
                rpc_timeout=_RPC_TIMEOUT,
                **DELIVERY,
            )
        else:
            await self.client.start_workflow(
                method,
                args=[name, lease.total_seconds()],
                id=name,
                task_queue=queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                search_attributes=attributes,
                rpc_timeout=_RPC_TIMEOUT,
            )


async def connect(options: Temporal) -> Connection:
    """Connects, and finds out what the server can do.

    Raises:
        RPCError: If the namespace is not there, or may not be used.
        RuntimeError: If the server cannot be reached.
    """
    client = await make_client(options, _FEW_RETRIES)
    described = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=options.namespace), timeout=_RPC_TIMEOUT
    )
    standalone = options.standalone
    if standalone is None:
        standalone = described.namespace_info.capabilities.standalone_activities
    return Connection(client, standalone, await _has_attributes(client))


async def make_client(options: Temporal, retries: RetryConfig | None = None) -> Client:
    """Connects a client.

    Args:
        options: Say where, and as whom.
        retries: How often its calls are tried again; as often as is usual unless given.

    Raises:
        RuntimeError: If the server cannot be reached.
    """
    return await Client.connect(
        options.address,
        namespace=options.namespace,
        tls=options.tls,
        api_key=options.api_key,
        retry_config=retries,
        connect_timeout=_CONNECT_TIMEOUT,
    )


async def _has_attributes(client: Client) -> bool:
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace), timeout=_RPC_TIMEOUT
        )
    except RPCError:  # it is an administrator's call: not all may make it
        return False
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    return all(listed.custom_attributes.get(one.name) == keyword for one in _ATTRIBUTES)
