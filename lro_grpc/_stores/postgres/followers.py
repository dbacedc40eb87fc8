"""Calls followers with what other processes make of operations, or leave for this one to claim.

Each operation that is followed has the version of its row that its followers have seen last: so one
that has not changed since costs neither a row nor a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, TypeVar

from lro_grpc._operation.record import Record
from lro_grpc._runtime.repeated_lines import PROCESS
from lro_grpc._stores.postgres.notice import hash_of

T = TypeVar("T")

Follower = Callable[[Record | None], None]
"""Takes the latest state of an operation, None once it is gone."""

_MOST_MISSED = 10_000
"""The hashes that are remembered of notices which were for nobody."""

_UNSEEN = -1
"""The version of a row that no follower has seen."""

GONE = 0
"""The version of a row that is not there; those of rows are positive."""


class Seen(NamedTuple):
    """An operation as a read has found it."""

    version: int
    """That of its row; ``GONE`` for none."""
    record: Record | None


class Look(NamedTuple):
    """The findings of a read of some operations."""

    seen: Mapping[str, Seen]
    """Those that have changed."""
    left: Collection[str] = ()
    """The names for which the answer had no room: they are still to be read."""


class Followers:
    """Whom to tell what; see the module."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[object, Follower]] = {}
        self._versions: dict[str, int] = {}
        self._names: dict[str, set[str]] = {}
        """The names that are followed, by their hashes."""
        self._missed: dict[str, None] = {}
        """The latest hashes of notices that were for nobody."""
        self._methods: dict[str, str] = {}
        """The methods that this process claims, and their hashes."""
        self._of_work: dict[object, tuple[Callable[[str], bool], Callable[[str], None]]] = {}

    def follow(self, name: str, follower: Follower) -> Callable[[], None]:
        """Tells of the operation of a name; see ``Store.follow``."""
        key = object()
        if name not in self._by_name:
            self._by_name[name] = {}
            self._versions[name] = _UNSEEN
            self._names.setdefault(hash_of(name), set()).add(name)
        self._by_name[name][key] = follower

        def unfollow() -> None:
            followers = self._by_name.get(name, {})
            if followers.pop(key, None) is not None and not followers:
                self._forget(name)

        return unfollow

    def follow_work(
        self, has_room: Callable[[str], bool], follower: Callable[[str], None]
    ) -> Callable[[], None]:
        """Tells of methods with work; see ``Store.follow_work``."""
        key = object()
        self._of_work[key] = (has_room, follower)

        def unfollow() -> None:
            self._of_work.pop(key, None)

        return unfollow

    def add_methods(self, methods: Iterable[str]) -> None:
        """Takes methods that this process claims: of these it wants to hear, and of no others."""
        for method in methods:
            if method not in self._methods:
                self._methods[method] = hash_of(method)

    @property
    def methods(self) -> Collection[str]:
        """The methods that this process claims."""
        return tuple(self._methods)

    def has_room(self, method: str) -> bool:
        """Returns whether this process will claim, itself, what becomes ready of a method."""
        return any(has_room(method) for has_room, _ in self._of_work.values())

    def versions(self, names: Iterable[str] | None = None) -> Mapping[str, int]:
        """Returns the versions that were seen of those operations that are followed.

        Args:
            names: Of these; None for all.
        """
        if names is None:
            return dict(self._versions)
        return {name: self._versions[name] for name in names if name in self._versions}

    def names_of(self, hashes: Collection[str]) -> Iterable[str]:
        """Returns the names that are followed and have one of some hashes.

        The other hashes are remembered for a while; see ``has_missed``.
        """
        for one in hashes:
            if one not in self._names:
                self._missed.pop(one, None)
                self._missed[one] = None
        while len(self._missed) > _MOST_MISSED:
            del self._missed[next(iter(self._missed))]
        return [name for one in hashes for name in self._names.get(one, ())]

    def has_missed(self, name: str) -> bool:
        """Returns whether a notice of an operation has come while nobody followed it.

        So it is where one asks to cancel what this process has claimed, and has no answer yet.
        """
        return hash_of(name) in self._missed

    def methods_of(self, hashes: Collection[str]) -> Iterable[str]:
        """Returns the methods that this process claims and that have one of some hashes."""
        return [method for method, hash_ in self._methods.items() if hash_ in hashes]

    def tell(self, name: str, seen: Seen) -> None:
        """Tells the followers of an operation what a read has found."""
        if name in self._versions:
            self._versions[name] = seen.version
            _call(list(self._by_name[name].values()), seen.record)

    def tell_work(self, methods: Iterable[str]) -> None:
        """Tells that operations of some methods may wait."""
        for method in methods:
            _call([follower for _, follower in self._of_work.values()], method)

    def _forget(self, name: str) -> None:
        del self._by_name[name], self._versions[name]
        hash_ = hash_of(name)
        self._names[hash_].discard(name)
        if not self._names[hash_]:
            del self._names[hash_]


def _call(followers: Iterable[Callable[[T], None]], news: T) -> None:
    """Calls followers. One that raises, by a bug, keeps it from no other one."""
    for follower in followers:
        try:
            follower(news)
        except Exception as error:  # noqa: BLE001 - the others hear of it whatever this one does
            text = "a follower of changes of other processes has raised"
            PROCESS.say(logging.ERROR, text, error=error)
