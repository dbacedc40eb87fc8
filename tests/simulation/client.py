"""Clients of a simulation, over a network that loses answers; each answer goes into the history."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any

import grpc
from google.longrunning import operations_pb2
from simulated_server import RpcError
from workload import METHODS, Plan, Request, random_plan

from lro.v1 import operation_control_service_pb2 as control_pb2

if TYPE_CHECKING:
    from cluster import Cluster
    from history import History, Known
    from observer import Observer
    from scenario import Scenario
    from simulated_loop import SimulatedLoop
    from simulated_server import Write
    from totals import Totals

PARENT = "projects/p/locations/l"
OPERATIONS = "/google.longrunning.Operations/"
CONTROL = "/lro.v1.OperationControlService/"

DEADLINE = 5.0
"""Seconds, of a call that does not wait."""

TRIES = 8
"""After which a client gives up to start its operation."""

UNDECIDED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
"""The codes that leave open whether a call has happened."""

NOT_FOUND = {grpc.StatusCode.NOT_FOUND}
FULL = {grpc.StatusCode.RESOURCE_EXHAUSTED}
REFUSALS = {
    # ABORTED: it was deleted, and still runs; or another one has its target.
    **dict.fromkeys(METHODS, FULL | {grpc.StatusCode.ABORTED}),
    f"{CONTROL}PauseOperation": NOT_FOUND | {grpc.StatusCode.FAILED_PRECONDITION},
    f"{CONTROL}ResumeOperation": NOT_FOUND | {grpc.StatusCode.FAILED_PRECONDITION},
    f"{CONTROL}TerminateOperation": NOT_FOUND | {grpc.StatusCode.FAILED_PRECONDITION},
}
"""The codes with which a method may refuse what is asked of it, if not with ``NOT_FOUND``."""


class Client:
    """Starts operations, and looks at them and stops them as it comes.

    Args:
        loop: Its random decides what is next.
        scenario: How bad the network is.
        cluster: The servers.
        history: Takes every answer.
        observer: Takes what must not be.
        plans: Where it notes what its operations are to do.
        totals: Where operations and lost answers are counted.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        scenario: Scenario,
        cluster: Cluster,
        history: History,
        observer: Observer,
        plans: dict[str, Plan],
        totals: Totals,
    ) -> None:
        self.loses_answers = True
        self._random = loop.random
        self._scenario = scenario
        self._cluster = cluster
        self._history = history
        self._observer = observer
        self._plans = plans
        self._totals = totals

    async def work(self) -> None:
        """Does a bit of everything."""
        random = self._random
        actions = (
            *(self.get, self.list, self.wait, self.watch, self.pause, self.pause),
            *(self.resume, self.cancel, self.cancel, self.delete, self.terminate),
        )
        for _ in range(random.randint(1, 4)):
            await asyncio.sleep(random.choice((0.0, 0.0, 0.3, self._scenario.lease)))
            for _ in range(random.randint(1, 3)):
                copies = random.choice((1, 1, 1, 2, 3))
                await self.start(random_plan(random, self._scenario.lease), copies)
            for _ in range(random.randint(0, 4)):
                await asyncio.sleep(random.choice((0.0, 0.0, 0.2, 2.0, self._scenario.lease)))
                if self._history.names:
                    name = random.choice(self._history.names)
                    with contextlib.suppress(RpcError):
                        await random.choice(actions)(name)

    async def start(self, plan: Plan, copies: int = 1) -> None:
        """Starts an operation: asks again while that is left open; all the copies at once."""
        request_id = str(uuid.UUID(int=len(self._plans) + 1, version=4))
        self._plans[request_id] = plan
        request = Request(parent=PARENT, instance_id=request_id, request_id=request_id)
        await asyncio.gather(*(self._start(plan.method, request) for _ in range(copies)))

    async def _start(self, method: str, request: Request) -> None:
        for _ in range(TRIES):
            known = dict(self._history.known)
            try:
                answer = await self._call(method, request)
            except RpcError as failed:
                if failed.code not in UNDECIDED:
                    return
                await asyncio.sleep(0.5)
            else:
                operation = operations_pb2.Operation.FromString(answer)
                self._history.start(request.request_id, known, operation)
                return

    async def get(self, name: str) -> None:
        await self._ask("GetOperation", operations_pb2.GetOperationRequest(name=name), DEADLINE)

    async def wait(self, name: str, timeout: float | None = None) -> bool:
        """Waits, and returns whether the operation is done."""
        if timeout is None:
            timeout = self._random.choice((0.0, 1.0, 8.0, 25.0))
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromMilliseconds(int(timeout * 1000))
        return await self._ask("WaitOperation", request, timeout + DEADLINE)

    async def watch(self, name: str, deadline: float | None = None) -> bool:
        """Watches, and returns whether the operation is done; some read slowly."""
        if deadline is None:
            deadline = self._random.choice((1.0, 8.0, 25.0))
        known = self._history.ask(name)

        async def read(message: bytes) -> None:
            nonlocal known
            await self._travel()
            operation = control_pb2.WatchOperationResponse.FromString(message).operation
            known = self._history.answered(name, known, operation)
            if self.loses_answers and self._random.random() < 0.2:
                await asyncio.sleep(self._random.choice((0.05, 1.0, self._scenario.lease)))

        request = control_pb2.WatchOperationRequest(name=name)
        try:
            await self._call(f"{CONTROL}WatchOperation", request, deadline, read)
        except RpcError as failed:
            if failed.code is grpc.StatusCode.NOT_FOUND:
                self._history.not_found(name)
            raise
        if known.outcome is None:
            self._observer.problems.append(f"a Watch of {name} has ended, and {name} has not")
        return known.outcome is not None

    async def cancel(self, name: str) -> None:
        request = operations_pb2.CancelOperationRequest(name=name)
        await self._named(f"{OPERATIONS}CancelOperation", request)

    async def pause(self, name: str) -> None:
        request = control_pb2.PauseOperationRequest(name=name)
        await self._control("PauseOperation", request, control_pb2.PauseOperationResponse)

    async def resume(self, name: str) -> None:
        request = control_pb2.ResumeOperationRequest(name=name)
        await self._control("ResumeOperation", request, control_pb2.ResumeOperationResponse)

    async def terminate(self, name: str) -> None:
        request = control_pb2.TerminateOperationRequest(name=name, reason="it is enough")
        await self._control("TerminateOperation", request, control_pb2.TerminateOperationResponse)

    async def delete(self, name: str) -> None:
        self._observer.to_be_deleted.add(name)
        request = operations_pb2.DeleteOperationRequest(name=name)
        await self._named(f"{OPERATIONS}DeleteOperation", request)
        self._history.deleted(name)

    async def list(self, name: str = "") -> None:
        """Lists everything, page by page."""
        del name
        known: dict[str, Known] = dict(self._history.known)
        found: list[operations_pb2.Operation] = []
        request = operations_pb2.ListOperationsRequest(
            name=PARENT, page_size=self._random.choice((1, 3, 100))
        )
        while True:
            answer = operations_pb2.ListOperationsResponse.FromString(
                await self._call(f"{OPERATIONS}ListOperations", request)
            )
            found += answer.operations
            if not answer.next_page_token:
                break
            request.page_token = answer.next_page_token
        self._history.listed(known, found)

    async def _ask(self, method: str, request: Any, deadline: float) -> bool:
        known = self._history.ask(request.name)
        answer = await self._named(OPERATIONS + method, request, deadline)
        operation = operations_pb2.Operation.FromString(answer)
        self._history.answered(request.name, known, operation)
        return operation.done

    async def _control(self, method: str, request: Any, response: Any) -> None:
        """Calls a method that answers with the operation as it is then."""
        known = self._history.ask(request.name)
        answer = await self._named(CONTROL + method, request)
        self._history.answered(request.name, known, response.FromString(answer).operation)

    async def _named(self, method: str, request: Any, deadline: float = DEADLINE) -> bytes:
        try:
            return await self._call(method, request, deadline)
        except RpcError as failed:
            if failed.code is grpc.StatusCode.NOT_FOUND:
                self._history.not_found(request.name)
            raise

    async def _call(
        self, method: str, request: Any, deadline: float = DEADLINE, write: Write | None = None
    ) -> bytes:
        """Does an RPC on any of the servers."""
        await self._travel()
        server = self._random.choice(self._cluster.servers)
        try:
            answer = await server.call(method, request.SerializeToString(), deadline, write)
        except RpcError as failed:
            self._observer.note("rpc", method, failed.code)
            if failed.code not in UNDECIDED | REFUSALS.get(method, NOT_FOUND):
                self._observer.problems.append(f"{method} has failed with {failed}")
            raise
        self._observer.note("rpc", method, len(answer))
        await self._travel()
        if self.loses_answers and self._random.random() < self._scenario.lost_answers:
            self._totals.faults["lost answer"] += 1
            raise RpcError(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        return answer

    async def _travel(self) -> None:
        if self._random.random() < 0.3:
            await asyncio.sleep(self._random.choice((0.0, 0.002, 0.1)))
