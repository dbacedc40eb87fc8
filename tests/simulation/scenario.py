"""The choices of a seed, made before a run: no two runs have the same faults, some have none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lro_grpc._testing.faulty_store import Faults

if TYPE_CHECKING:
    from random import Random

FAULTS = ("kill", "freeze", "part", "restart", "set_clock")
"""What may befall a server, or in the end the time of day."""


@dataclass(frozen=True)
class Scenario:
    is_sqlite: bool
    servers: int
    """How many share the store."""
    clients: int
    queue: int
    """How many operations of a method may wait."""
    lease: float
    """In seconds; so are the others."""
    sweep: float
    retention: float
    store_faults: Faults
    lost_notices: float
    """From 0 to 1; so are the others."""
    late_writes: float
    """To a store that is shared."""
    lost_answers: float
    """Of RPCs."""
    disk_errors: float
    harm: tuple[str, ...]
    """Which of ``FAULTS`` there are."""
    harmers: int
    """How many of them at a time, at most."""

    @property
    def store_is_reliable(self) -> bool:
        return not (self.store_faults.before or self.late_writes or self.disk_errors)


def random_scenario(kind: str, random: Random) -> Scenario:
    """Returns a scenario on a store: ``memory`` or ``sqlite``."""
    is_sqlite = kind == "sqlite"
    servers = 1 if is_sqlite else random.randint(1, 3)
    rate = random.choice((0.0, 0.01, 0.05, 0.15))
    lease = random.choice((3.0, 6.0, 15.0))
    return Scenario(
        is_sqlite=is_sqlite,
        servers=servers,
        clients=random.randint(1, 4),
        queue=random.choice((6, 10_000)) if servers == 1 else 10_000,  # others' are counted late
        lease=lease,
        sweep=random.choice((1.0, 2.0, 5.0)),
        retention=random.choice((20.0, 30 * 86400.0)),
        store_faults=Faults(
            before=rate,
            after=rate,
            delay=random.choice((0.0, 0.1, 0.5)),
            disconnect=rate / 5,
            longest_delay=random.choice((0.01, 0.3, 2.0, lease)),
        ),
        lost_notices=random.choice((0.0, 0.2, 1.0)),
        late_writes=random.choice((0.0, 0.0, 0.05)),
        lost_answers=random.choice((0.0, 0.02, 0.1)),
        disk_errors=random.choice((0.0, 0.02)) if is_sqlite else 0.0,
        harm=tuple(fault for fault in FAULTS if random.random() < 0.5),
        harmers=random.randint(1, 3),
    )
