"""Operations of another server, as a program gives them to be imported: in groups, and checked."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from typing import TypeAlias

from google.longrunning import operations_pb2

from lro_grpc._errors import ConfigurationError, LroError, cut
from lro_grpc._operation.old_operation import OldOperation
from lro_grpc._stores.importer import Group, Imported

Old: TypeAlias = operations_pb2.Operation | OldOperation
"""An operation of another server, with or without what is known of its start."""


def groups_of(old_operations: Iterable[Old]) -> Iterator[Sequence[OldOperation]]:
    """Yields operations, some at a time.

    Raises:
        ConfigurationError: If one of them is none.
    """
    group = Group[OldOperation]()
    for one in old_operations:
        old = _checked(one)
        if group.add(old, old.operation.ByteSize()):
            yield group
            group = Group()
    yield group


async def async_groups_of(
    old_operations: Iterable[Old] | AsyncIterable[Old],
) -> AsyncIterator[Sequence[OldOperation]]:
    """Yields operations likewise, also of an asynchronous iterable."""
    if not isinstance(old_operations, AsyncIterable):
        for some in groups_of(old_operations):
            yield some
        return
    group = Group[OldOperation]()
    async for one in old_operations:
        old = _checked(one)
        if group.add(old, old.operation.ByteSize()):
            yield group
            group = Group()
    yield group


def total_of(outcomes: Sequence[Imported | LroError]) -> Imported:
    """Returns the numbers of a group.

    Raises:
        LroError: The first with which one of it was refused.
    """
    total = Imported()
    for outcome in outcomes:
        if isinstance(outcome, LroError):
            raise outcome
        total = total.plus(outcome)
    return total


def _checked(given: object) -> OldOperation:
    if isinstance(given, operations_pb2.Operation):
        return OldOperation(given)
    if isinstance(given, OldOperation) and isinstance(given.operation, operations_pb2.Operation):
        return given
    raise ConfigurationError(
        f"{cut(repr(given))} is no operation; give google.longrunning.Operation messages, or"
        " lro_grpc.OldOperation around them"
    )
