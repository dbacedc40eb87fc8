"""Prints the table of ``scale.md``: operations that are spread over databases by their project.

A project belongs to the database for which the hash of both is highest (rendezvous hashing). So all
processes agree without a table, and a new database takes from each of the others only what is its
own. Projects differ in size: the n-th largest starts 1/n of the operations of the largest.
"""

# ruff: noqa: T201  (a command prints)

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence

PROJECTS = 2_000
SEEDS = range(9)
DATABASES = (2, 4, 8, 16)
AVAILABLE = 0.999
"""The part of the time in which one database answers."""


def route(parent: str, databases: Sequence[str]) -> str:
    """Returns the database that has the operations of a parent.

    Args:
        parent: Such as ``projects/p/locations/l``; its first two segments count.
        databases: The databases, in any order.
    """
    project = "/".join(parent.split("/")[:2])
    return max(databases, key=lambda database: _digest(f"{database} {project}"))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def table() -> str:
    """Returns the table, in Markdown."""
    header = [
        "databases",
        "busiest ÷ mean, projects",
        "busiest ÷ mean, operations",
        "moved when one is added",
        "moved by `hash % n`",
        "a List of all is complete",
    ]
    lines = [header, ["---"] * len(header), *(_row(number) for number in DATABASES)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(number: int) -> list[str]:
    worlds = [[f"projects/{seed}-{n}/locations/l" for n in range(PROJECTS)] for seed in SEEDS]
    before = [f"database-{n}" for n in range(number)]
    after = [*before, f"database-{number}"]
    by_projects = [_imbalance(parents, before, [1.0] * PROJECTS) for parents in worlds]
    sizes = [1 / n for n in range(1, PROJECTS + 1)]
    by_operations = [_imbalance(parents, before, sizes) for parents in worlds]
    moved = [
        sum(route(one, before) != route(one, after) for one in parents) / PROJECTS
        for parents in worlds
    ]
    by_modulo = [
        sum(_number(one) % number != _number(one) % (number + 1) for one in parents) / PROJECTS
        for parents in worlds
    ]
    return [
        str(number),
        _median_and_most(by_projects),
        _median_and_most(by_operations),
        f"{statistics.median(moved):.0%}",
        f"{statistics.median(by_modulo):.0%}",
        f"{AVAILABLE**number:.2%}",
    ]


def _imbalance(parents: Sequence[str], databases: Sequence[str], sizes: Sequence[float]) -> float:
    """Returns how much the busiest database has, by the mean of all."""
    loads = dict.fromkeys(databases, 0.0)
    for parent, size in zip(parents, sizes, strict=True):
        loads[route(parent, databases)] += size
    return max(loads.values()) * len(databases) / sum(sizes)


def _number(text: str) -> int:
    return int.from_bytes(_digest(text), "big")


def _median_and_most(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}, at most {max(values):.2f}"


if __name__ == "__main__":
    print(table())
