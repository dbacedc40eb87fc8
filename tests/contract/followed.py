"""The followers of one process's store: they are notified of what other processes change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from lro_grpc.stores import Record


class Followed:
    """What follows operations, and work; see ``SharedStore.follow`` and ``follow_work``."""

    def __init__(self) -> None:
        self.followers: dict[str, list[Callable[[Record | None], None]]] = {}
        self.workers: list[tuple[Callable[[str], bool], Callable[[str], None]]] = []

    def follow(self, name: str, follower: Callable[[Record | None], None]) -> Callable[[], None]:
        followers = self.followers.setdefault(name, [])
        followers.append(follower)

        def end() -> None:
            followers.remove(follower)
            if not followers:
                self.followers.pop(name, None)

        return end

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        worker = (has_room, follower)
        self.workers.append(worker)
        return lambda: self.workers.remove(worker)

    def has_room(self, method: str) -> bool:
        """Returns whether this process can take on an operation itself."""
        return any(has_room(method) for has_room, _ in self.workers)

    def notify(self, record: Record) -> None:
        """Notifies of an operation that another process has changed."""
        state = None if record.done and record.deleted else record
        for follower in tuple(self.followers.get(record.name, ())):
            follower(state)

    def notify_of_work(self, method: str) -> None:
        """Notifies of an operation that another process has left to be claimed."""
        for _, follower in tuple(self.workers):
            follower(method)
