"""How a caller is given an operation: the same way by every RPC that names one."""

from __future__ import annotations

from lro_grpc._errors import OperationNotFoundError
from lro_grpc._operation import names
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
