"""Operations that a test steers: what each says next, and how it ends, is the test's to trigger."""

from __future__ import annotations

import contextlib
import queue
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import struct_pb2

import lro_grpc
from lro_grpc import testing
from lro_grpc._runtime.clock import SystemClock

PARENT = "projects/shop/locations/eu-west1"
SERVICE = "/shop.v1.Tables"
SOON = 0.05
"""The seconds after which a handler sees that it has to stop."""

FOR_ANN = {
    "identify": lambda context: dict(context.invocation_metadata()).get("x-user", ""),
    "authorize": lambda access: access.caller == "ann",
}
"""Options of a server that lets only one caller do anything."""

Struct = struct_pb2.Struct
Step = Callable[[Any], Any]
"""What a handler does next, with its operation's context; it ends if that is a response."""


class Steered:
    """A running server, whose operations do what a test says."""

    def __init__(self) -> None:
        self._steps: dict[str, queue.Queue[Step]] = defaultdict(queue.Queue)
        self.served: testing.Served

    @property
    def target(self) -> str:
        """The server's address."""
        return self.served.target

    def start(self, target: str, method: str = "CopyTable", *, caller: str = "") -> Operation:
        """Starts an operation on a target, which is its own in a test."""
        steps = self._steps[target]  # before a handler looks for it: two threads would make two
        request = Struct()
        request.update({"target": target})
        started = self.served.operations.start_operation_sync(
            f"{SERVICE}/{method}", request, caller=caller
        )
        return Operation(self, started.name, steps)

    def finish(self, count: int) -> list[str]:
        """Starts operations that succeed at once, and returns their names when all have."""
        started = [self.start(f"tables/part-{number:03}") for number in range(1, count + 1)]
        for one in started:
            one.succeed()
        for one in started:
            one.wait()
        return [one.name for one in started]

    def add_methods(self, operations: lro_grpc.Operations) -> None:
        options = lro_grpc.MethodOptions(pausable=True, concurrency=64)
        for method in ("CopyTable", "RestoreBackup", "ReindexTable", "CreateReplicas"):
            operations.add_method(
                f"{SERVICE}/{method}",
                self._run,
                request=Struct,
                response=Struct,
                prepare=self._prepare,
                options=options,
            )

    def _prepare(self, request: Struct, context: Any) -> lro_grpc.Prepared:
        del context
        return lro_grpc.Prepared(target=f"{PARENT}/{request['target']}", parent=PARENT)

    def _run(self, request: Struct, op: Any) -> Struct:
        steps = self._steps[str(request["target"])]
        while True:
            op.checkpoint()
            with contextlib.suppress(queue.Empty):
                ended = steps.get(timeout=SOON)(op)
                if ended is not None:
                    response: Struct = ended
                    return response


class Operation:
    """An operation that waits for what its test says."""

    def __init__(self, steered: Steered, name: str, steps: queue.Queue[Step]) -> None:
        self.name = name
        self._steered = steered
        self._steps = steps

    def then(self, step: Step) -> None:
        """Has the handler do something."""
        self._steps.put(step)

    def report(self, percent: int, detail: str = "") -> None:
        """Has it report its progress."""
        self.then(lambda op: op.progress(percent, detail))

    def succeed(self, **response: Any) -> None:
        """Has it return a response."""
        result = Struct()
        result.update(response)
        self.then(lambda op: result)

    def fail(self, message: str, **how: Any) -> None:
        """Has it raise an error."""

        def raise_error(op: Any) -> None:
            del op
            raise lro_grpc.LroError(message, **{"code": lro_grpc.Code.INTERNAL, **how})

        self.then(raise_error)

    def wait(self) -> None:
        """Returns when it is done."""
        self._steered.served.client.wait(self.name)


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[Steered]:
    """Serves operations while the context lasts; its times are those of today.

    Args:
        **options: Of :class:`lro_grpc.Operations`.
    """
    found = Steered()
    with testing.serve(configure=found.add_methods, clock=SystemClock(), **options) as served:
        found.served = served
        yield found
