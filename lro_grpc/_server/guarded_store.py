"""How a caller asks for something to apply_safely to an operation: the same way for every event."""

from __future__ import annotations

from google.protobuf.message import Message

from lro_grpc._errors import OperationNotFoundError
from lro_grpc._operation import names
from lro_grpc._operation.events import Event
from lro_grpc._runtime.log import log_asked
from lro_grpc._server.access import Guard
from lro_grpc._server.rpc.call import EMPTY, Call, parse
from lro_grpc._stores.store import Store


async def read(store: Store, name: str) -> bytes:
    """Returns the served bytes of a name; what is stored need not be checked to be a name.

    Args:
        store: Where the operations are kept.
        name: As the caller has sent it.

    Raises:
        InvalidNameError: If it is no operation's name.
        OperationNotFoundError: If no operation has it.
    """
    try:
        return await store.operation(name)
    except OperationNotFoundError:
        names.split(name)
        raise


class Asking:
    """Lets events apply_safely at a caller's request.

    Args:
        store: Where the operations are kept.
        guard: Lets in who may.
    """

    def __init__(self, store: Store, guard: Guard) -> None:
        self._store = store
        self._guard = guard

    async def ask(
        self, permission: str, kind: type[Message], event: Event, body: bytes, call: Call
    ) -> bytes:
        """Answers an RPC that names an operation, by an event that happens to it.

        Args:
            permission: See :class:`lro_grpc._server.access.Access`.
            kind: The request's type; its ``name`` is the operation's.
            event: What is to apply_safely.
            body: The RPC's body.
            call: The RPC.

        Returns:
            A serialized ``google.protobuf.Empty``.
        """
        request = parse(kind, body)
        name: str = getattr(request, "name")  # noqa: B009 - a Message has no fields of its own
        await self._guard.check(permission, name, request, call)
        names.split(name)
        log_asked(event, await self._store.apply(name, event))
        return EMPTY
