"""Leaves out of a page the operations that no client could read, so that a list goes past them."""

from __future__ import annotations

import dataclasses
import logging

from google.longrunning import operations_pb2

from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._stores.store import Page


class ReadablePages:
    """Takes pages as a store has them, and gives those that clients can read.

    Only an operation that was stored under another limit is too large. Each is logged once.

    Args:
        most: The most bytes of an operation that a client can read.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._logged: set[str] = set()

    def readable(self, page: Page) -> Page:
        """Returns the page without operations that are too large, whose names are in it."""
        if all(len(one) <= self._most for one in page.operations):
            return page
        too_large = [one for one in page.operations if len(one) > self._most]
        found = [operations_pb2.Operation.FromString(one).name for one in too_large]
        for name, operation in zip(found, too_large, strict=True):
            if name not in self._logged:
                self._logged.add(name)
                text = (
                    f"{name} is left out of lists: it has {len(operation)} bytes, and clients read"
                    f" {self._most} of a page"
                )
                PROCESS.say(logging.ERROR, text, kind="too large", extra={"operation": name})
        return dataclasses.replace(
            page,
            operations=[one for one in page.operations if len(one) <= self._most],
            records=[one for one in page.records if len(one.operation) <= self._most],
            unreachable=[*page.unreachable, *found],
        )
