"""Faults of replicas and of the PostgreSQL that they share, and the time until all answer again."""

from __future__ import annotations

import enum
import threading
import time
import uuid
from collections import defaultdict
from concurrent import futures
from typing import TYPE_CHECKING

import grpc
from killable import PATIENCE_SECONDS, create
from load import PARENT
from partition import Cut
from replicas import LEASE_SECONDS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from load import Board
    from replicas import Replica, Replicas

FREEZE_SECONDS = 2 * LEASE_SECONDS
CUT_SECONDS = 4.0
PAUSE_SECONDS = 0.02
"""Between a start that has failed and the next one."""


class Fault(enum.Enum):
    """A fault that passes."""

    KILL = "kill -9 of a replica"
    FREEZE = "SIGSTOP of a replica"
    TERMINATE = "pg_terminate_backend of all"
    CRASH = "kill -9 of Postgres"
    CUT = "cut between a replica and Postgres"


class Faults:
    """Makes faults, one at a time.

    Args:
        replicas: What they happen to.
        board: What is known of the calls: those that are made after each fault are noted there.
        choose: Chooses a fault's victim.
    """

    def __init__(self, replicas: Replicas, board: Board, choose: random.Random) -> None:
        self._replicas = replicas
        self._board = board
        self._choose = choose
        self.recoveries: dict[Fault, list[float]] = defaultdict(list)
        """After each fault was over: the seconds until all replicas had acknowledged a start."""

    def make(self, fault: Fault) -> None:
        """Makes a fault, and returns when it is over and all replicas have answered since."""
        ways: dict[Fault, Callable[[], None]] = {
            Fault.KILL: self._kill,
            Fault.FREEZE: self._freeze,
            Fault.TERMINATE: self._replicas.terminate_connections,
            Fault.CRASH: self._crash,
            Fault.CUT: self._cut,
        }
        ways[fault]()
        self.recoveries[fault].append(self._until_all_answer())

    def _kill(self) -> None:
        replica = self._choose.choice(self._replicas.all)
        self._board.history.killed.add(replica.server.process)
        replica.server.kill()
        replica.restart()

    def _freeze(self) -> None:
        replica = self._choose.choice(self._replicas.all)
        replica.server.freeze()
        try:
            threading.Event().wait(FREEZE_SECONDS)
        finally:
            replica.server.thaw()

    def _crash(self) -> None:
        self._replicas.postgres.kill()
        self._replicas.postgres.start()

    def _cut(self) -> None:
        network = self._choose.choice(self._replicas.all).network
        network.cut(self._choose.choice([*Cut]))
        threading.Event().wait(CUT_SECONDS)
        network.mend()

    def _until_all_answer(self) -> float:
        began = time.monotonic()
        ids = [str(uuid.UUID(int=self._choose.getrandbits(128), version=4)) for _ in range(3)]
        with futures.ThreadPoolExecutor() as threads:
            list(threads.map(self._until_answer, self._replicas.all, ids))
        return time.monotonic() - began

    def _until_answer(self, replica: Replica, request_id: str) -> None:
        """Returns when a replica has acknowledged a start."""
        board, end = self._board, time.monotonic() + PATIENCE_SECONDS
        with board.lock:
            board.history.requests[request_id] = create(
                PARENT, f"a{request_id[:8]}-noop", request_id=request_id
            )
        while time.monotonic() < end:
            request = board.send(request_id)
            assert request is not None
            try:
                with board.history.begin("start", request_id) as call:
                    call.answers = [replica.client.started(request).SerializeToString()]
            except grpc.RpcError:
                assert call.is_open, f"a start was refused with {call.code}"
                threading.Event().wait(PAUSE_SECONDS)
            else:
                board.acknowledged(request_id, call.name)
                return
        raise AssertionError(f"the replica at {replica.port} does not answer any more")
