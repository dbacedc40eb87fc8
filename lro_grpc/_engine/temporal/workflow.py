"""An operation as a workflow of one activity, for servers without Standalone Activities."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RawValue

from lro_grpc._engine.temporal.connection import DELIVERY


@workflow.defn(dynamic=True, sandboxed=False)
class OperationWorkflow:
    """Runs the activity of its own type: the operation's method."""

    @workflow.run
    async def run(self, arguments: Sequence[RawValue]) -> str:
        """Waits until the operation needs no worker any more.

        Args:
            arguments: The operation's name, and the seconds that a worker has between heartbeats.
        """
        converter = workflow.payload_converter()
        name = converter.from_payload(arguments[0].payload, str)
        seconds = converter.from_payload(arguments[1].payload, float)
        ended: str = await workflow.execute_activity(
            workflow.info().workflow_type,
            name,
            result_type=str,
            heartbeat_timeout=timedelta(seconds=seconds),
            **DELIVERY,
        )
        return ended
