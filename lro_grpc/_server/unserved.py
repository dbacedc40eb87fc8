"""Operations that wait, and that no handler of this process can go on with.

A release may no longer have a method, or its types may not fit those of a former release. Such an
operation is left as it is: another release, or this one with ``former_names``, goes on with it.
It must not wait unseen: the start and the first claims warn of it, and Get says so.

Whether *nobody* serves it is known of an exclusive store alone: of a shared one another process
may. So the start only mentions it there; a Cancel leaves to that process what is to be undone, and
only a Terminate ends it.
"""

from __future__ import annotations

import logging

from lro_grpc._errors import UnservedError, cut
from lro_grpc._operation.fit import Served, misfit
from lro_grpc._operation.record import Record
from lro_grpc._stores.store import Store
from lro_grpc._wire.plain_text import one_line

_log = logging.getLogger("lro_grpc")

_MOST_NAMED = 10
"""Methods that the warning at the start names."""

_REMEDY = (
    "start a release that serves them, give the method that goes on with them former_names, or"
    " %s them"
)


class Unserved:
    """Knows of such operations, and warns of them.

    Args:
        store: Where the operations are kept.
        served: All that this process serves; complete at the start.
    """

    def __init__(self, store: Store, served: Served) -> None:
        self._store = store
        self._served = served
        self._warned: set[str] = set()
        self.may_be_any = False
        """Whether there may be one with which nobody will go on."""

    async def load(self) -> None:
        """Looks for operations of methods that are not served, and tells of them; at the start."""
        waiting = await self._store.waiting_methods()
        unserved = {one: count for one, count in waiting.items() if one not in self._served}
        if not self._store.exclusive:
            if unserved:
                _log.info("%s; another process has to serve them", _what_waits(unserved))
            return
        self._store.subscribe(self._on_change)
        if unserved:
            self.may_be_any = True
            self._warned.update(unserved)
            _warn_of(unserved)

    def refused(self, error: UnservedError) -> None:
        """Notes that a claim was refused; warns, once for each method."""
        self.may_be_any = self._store.exclusive
        method = error.metadata["method"]
        if method not in self._warned:
            self._warned.add(method)
            _log.warning(
                "%s; it waits, as all others like it: %s",
                one_line(error.message),
                _REMEDY % ("cancel" if self._store.exclusive else "terminate"),
                extra={"operation": error.metadata["operation"], "method": method},
            )

    def why(self, record: Record) -> str:
        """Returns why nobody will go on with an operation; empty if someone may."""
        return misfit(record, self._served) if self.may_be_any and record.claimable else ""

    def _on_change(self, _before: Record | None, record: Record) -> None:
        """Warns of an operation that comes to wait later, such as one that is resumed."""
        if record.method not in self._served and record.claimable:
            self.may_be_any = True
            if record.method not in self._warned:
                self._warned.add(record.method)
                _warn_of({record.method: 1})


def _warn_of(unserved: dict[str, int]) -> None:
    _log.warning("%s; %s", _what_waits(unserved), _REMEDY % "cancel")


def _what_waits(unserved: dict[str, int]) -> str:
    """Returns a sentence on how many operations wait for which methods."""
    most = sorted(unserved.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{count} of {cut(method)!a}" for method, count in most[:_MOST_NAMED])
    more = f" and of {len(most) - _MOST_NAMED} more" if len(most) > _MOST_NAMED else ""
    total = sum(unserved.values())
    count = "1 operation waits" if total == 1 else f"{total} operations wait"
    return f"{count} for methods that are not served here: {named}{more}"
