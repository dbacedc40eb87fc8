"""Fifty kills at random moments under load, and a history of what the callers were told.

``LRO_FAULT_SEED`` repeats a choice of moments and calls (not their exact timing), and
``LRO_FAULT_KILLS`` makes it longer.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import grpc
import pytest
from google.longrunning import operations_pb2
from killable import (
    Server,
    Site,
    batch,
    create,
    delete,
    expected,
    expected_content,
    id_of,
    names_of,
    outcome,
    reason,
    seen,
    snapshot,
    states,
)

from lro.example.v1 import fleet_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

KILLS = int(os.environ.get("LRO_FAULT_KILLS", "50"))
SEED = int(os.environ.get("LRO_FAULT_SEED", "0")) or random.SystemRandom().getrandbits(32)

CALLERS = 3
STARTS_PER_SERVER = 30
"""Operations that one caller starts on one server at most: what is started has to be checked."""
LOAD_SECONDS = (0.03, 0.4)
OPENING_SECONDS = (0.0, 0.03)
"""Between the moment before a server opens its store and the moment it answers calls."""
PARENT = "projects/p/locations/x2"
OPENING_SHARE = 0.1
"""The share of the servers that are killed within that time."""
WAIT_SECONDS = 0.03
MAX_PATIENCE = 3
"""How many operations without an end are waited for before the others are given up, too."""
CANCELLED = 1

# A grpc.aio server that goes down cancels what it has accepted and not yet begun to handle.
GONE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}

T = TypeVar("T")


class Gone(Exception):  # noqa: N818 - not an error: it is what the test is about
    """The server was killed, or goes down; whether it has done what it was asked is open."""


@dataclass
class History:
    """What callers have asked for and have been told; what they have been told must stay true."""

    started: dict[str, Message] = field(default_factory=dict)
    """Requests by their request_id, noted before they were sent."""
    names: dict[str, str] = field(default_factory=dict)
    """The operations that were acknowledged, by request_id."""
    open: list[str] = field(default_factory=list)
    """The request_ids whose acknowledgement was lost."""
    unanswered: int = 0
    """How often one was."""
    unwanted: list[str] = field(default_factory=list)
    """Operations that run until someone cancels them, which is still to be done."""
    killed: set[int] = field(default_factory=set)
    """The processes that were killed, not those that went down in good order."""
    cancels: set[str] = field(default_factory=set)
    """Operations of which a cancel was tried, noted before it was sent."""
    cancelled_at: dict[str, int] = field(default_factory=dict)
    """When the first cancel of an operation was acknowledged, in nanoseconds."""
    ends: dict[str, bytes] = field(default_factory=dict)
    """The bytes of each operation that was seen to be done."""
    doubled: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledged(self, request_id: str, name: str) -> None:
        with self.lock:
            if request_id not in self.names and expected(self.started[request_id]) is None:
                self.unwanted.append(name)
            if self.names.setdefault(request_id, name) != name:
                self.doubled.append(f"{request_id}: {self.names[request_id]} and {name}")

    def told(self, name: str, body: bytes, end: bytes | None) -> None:
        """Notes what a call has told of an operation.

        Args:
            name: The operation.
            body: The operation as it was told.
            end: How it was when it was done, if that was known before the call was made.
        """
        operation = operations_pb2.Operation.FromString(body)
        if operation.done:
            with self.lock:
                end = self.ends.setdefault(name, body)
        if end is not None and end != body:
            before = operations_pb2.Operation.FromString(end)
            self.doubled.append(f"{name} ended as {before}, and was seen as {operation}")


class Caller:
    """Calls one server until it is gone."""

    def __init__(self, history: History, server: Server, choose: random.Random) -> None:
        self._history = history
        self._server = server
        self._choose = choose
        self._starts = 0
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def begin(self) -> Caller:
        self._thread.start()
        return self

    def check(self) -> None:
        """Fails if the caller has given up on a server that is there."""
        assert self._thread.is_alive(), self.error or "the server was gone before it was killed"

    def end(self) -> None:
        """Returns when the caller has noticed that its server is gone."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while True:
                self._step()
        except Gone:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller is ended
            self.error = error

    def _step(self) -> None:
        history, what = self._history, self._choose.random()
        with history.lock:
            request_id = history.open.pop() if history.open else ""
            unwanted = history.unwanted.pop() if history.unwanted and not request_id else ""
            names = list(history.names.values())
            ids = list(history.names)
        if request_id:
            self._start(request_id)
        elif unwanted:
            self._cancel(unwanted)
        elif (what < 0.6 and self._starts < STARTS_PER_SERVER) or not names:
            self._starts += 1
            self._start(self._new_request())
        elif what < 0.65:  # a start that was acknowledged is asked for again
            self._start(self._choose.choice(ids))
        elif what < 0.72:
            self._cancel(self._recent(names))
        elif what < 0.8:
            self._wait(self._recent(names))
        else:
            self._get(self._choose.choice([self._recent(names), self._choose.choice(names)]))

    def _recent(self, names: list[str]) -> str:
        return self._choose.choice(names[-20:])

    def _new_request(self) -> str:
        """Notes a request before it is sent, and returns its request_id."""
        choose = self._choose
        request_id = str(uuid.UUID(int=choose.getrandbits(128), version=4))

        def own_id() -> str:
            tasks = ["noop", f"{choose.randrange(1, 60)}ms", "fail", "stop"]
            task = choose.choices(tasks, [4, 8, 1, 1])[0]
            return f"i{choose.getrandbits(60):015x}-{task}"

        what = choose.random()
        if what < 0.45:
            request: Message = create(PARENT, own_id(), request_id=request_id)
        elif what < 0.8:
            request = snapshot(PARENT, own_id(), request_id=request_id)
        elif what < 0.95:
            tasks = ["1ms", "2ms", "noop", choose.choice(["3ms", "fail", "stop"])]
            choose.shuffle(tasks)
            own_ids = [f"b{choose.getrandbits(60):015x}-{task}" for task in tasks]
            request = batch(PARENT, own_ids, request_id=request_id)
        else:
            request = delete(PARENT, f"d{choose.getrandbits(60):015x}-5ms", request_id=request_id)
        with self._history.lock:
            self._history.started[request_id] = request
        return request_id

    def _start(self, request_id: str) -> None:
        """Starts an operation, now and then by two calls at the same time."""
        history = self._history
        with history.lock:
            request = history.started[request_id]
            end = history.ends.get(history.names.get(request_id, ""))
        calls = [self._server.starting(request) for _ in range(self._choose.choice([1] * 9 + [2]))]
        gone: Gone | None = None
        for call in calls:
            try:
                operation = _answer(call.result)
            except Gone as error:
                gone = error
                continue
            history.acknowledged(request_id, operation.name)
            history.told(operation.name, operation.SerializeToString(), end)
        if gone is not None:
            with history.lock:
                if request_id not in history.names:
                    history.open.append(request_id)
                    history.unanswered += 1
            raise gone

    def _cancel(self, name: str) -> None:
        history = self._history
        with history.lock:
            history.cancels.add(name)
        try:
            _answer(self._server.cancel, name)
        except Gone:
            with history.lock:
                history.unwanted.append(name)
            raise
        with history.lock:
            history.cancelled_at.setdefault(name, time.time_ns())

    def _wait(self, name: str) -> None:
        self._ask(lambda: self._server.wait_for(name, WAIT_SECONDS).SerializeToString(), name)

    def _get(self, name: str) -> None:
        self._ask(lambda: self._server.get_bytes(name), name)

    def _ask(self, call: Callable[[], bytes], name: str) -> None:
        with self._history.lock:
            end = self._history.ends.get(name)
        try:
            self._history.told(name, _answer(call), end)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            self._history.lost.append(f"{name} was acknowledged, and was not found later")


def _answer(call: Callable[..., T], *arguments: object) -> T:
    try:
        return call(*arguments)
    except grpc.RpcError as error:
        if error.code() in GONE:
            raise Gone from error
        raise


def _live_and_die(site: Site, history: History, choose: random.Random, *, by_signal: bool) -> None:
    """One server's life: it opens the store, is called, and is killed, or asked to go down."""
    colours = {"server": choose.choice(["aio", "sync"]), "batch": choose.choice(["async", "def"])}
    never = threading.Event()
    server = site.begin(**colours)
    if not by_signal:
        history.killed.add(server.process)
    if not by_signal and choose.random() < OPENING_SHARE:
        never.wait(choose.uniform(*OPENING_SECONDS))
        server.kill()
        server.close()
        return
    server.until_serving()
    seeds = [choose.getrandbits(32) for _ in range(CALLERS)]
    callers = [Caller(history, server, random.Random(seed)).begin() for seed in seeds]
    never.wait(choose.uniform(*LOAD_SECONDS))
    for caller in callers:
        caller.check()
    if by_signal:
        server.drain()
    else:
        server.kill()
    for caller in callers:
        caller.end()
    server.close()


def _settle(site: Site, history: History) -> dict[str, operations_pb2.Operation]:
    """Starts everything once more and waits for its end; returns it by request_id."""
    server = site.serve()
    for request_id, request in history.started.items():
        history.acknowledged(request_id, server.started(request).name)
    for name in history.unwanted:
        history.cancels.add(name)
        server.cancel(name)
    settled = {}
    for request_id, name in history.names.items():
        try:
            server.wait(name)
            body = server.get_bytes(name)
        except (AssertionError, grpc.RpcError) as error:
            history.lost.append(f"{name} has no end: {error}")
            if len(history.lost) > MAX_PATIENCE:
                break
        else:
            history.told(name, body, None)
            settled[request_id] = operations_pb2.Operation.FromString(body)
    listed = Counter(_listed(server))
    server.drain()
    known = set(history.names.values())
    history.lost += [f"{name} is not listed" for name in known - listed.keys()]
    history.doubled += [f"{name} is nobody's" for name in listed.keys() - known]
    history.doubled += [f"{name} is listed {n} times" for name, n in listed.items() if n > 1]
    return settled


def _listed(server: Server) -> Iterator[str]:
    token = ""
    while True:
        page = server.page(PARENT, 1000, token)
        yield from (operation.name for operation in page.operations)
        token = page.next_page_token
        if not token:
            return


class Check:
    """Finds what has come of operations that would not have come of them without a kill."""

    def __init__(self, site: Site, history: History) -> None:
        self._site = site
        self._history = history
        self._runs = {
            name: [run for run in runs if run.what == "run"] for name, runs in site.runs().items()
        }
        files = site.files()
        self._built = {file for file in files if file[0] != "."}
        self._partial = {file.split(".")[2] for file in files - self._built}

    def doubled(self) -> list[str]:
        """Attempts that were made twice, or of operations that nobody has started."""
        known = set(self._history.names.values())
        return [
            f"{name} was run {times} times as attempt {attempt}"
            for name, runs in self._runs.items()
            for attempt, times in Counter(run.attempt for run in runs).items()
            if times > 1 or name not in known
        ]

    def wrong(self, request: Message, operation: operations_pb2.Operation) -> Iterator[str]:
        """What is wrong with an operation that is done."""
        name, metadata, found = operation.name, seen(operation), outcome(operation)
        runs = self._runs.get(name, [])
        once = isinstance(request, fleet_service_pb2.DeleteInstanceRequest)
        if found == expected(request):
            if not runs or runs[-1].attempt != metadata.attempt:
                yield f"{name} has the outcome of attempt {metadata.attempt}, of {runs}"
        elif operation.error.code == CANCELLED:
            if name not in self._history.cancels:
                yield f"{name} was cancelled by nobody"
        elif not once or reason(operation.error) != "WORKER_LOST":
            yield f"{name} ended with {found}, not with {expected(request)}"
        if once and any(run.process in self._history.killed for run in runs[:-1]):
            yield f"{name} was run again after a kill, though it may run once only: {runs}"
        acknowledged = self._history.cancelled_at.get(name)
        if not metadata.cancel_requested and (
            metadata.end_time.ToNanoseconds() > (acknowledged or float("inf"))
        ):
            yield f"{name} has forgotten a cancel that was acknowledged"
        yield from self._disorder(request, operation)

    def _disorder(self, request: Message, operation: operations_pb2.Operation) -> Iterator[str]:
        """What is wrong with the files of an operation, or with the states of a batch."""
        name = operation.name
        if isinstance(request, fleet_service_pb2.DeleteInstanceRequest):
            return
        for built in names_of(request):
            own_id = id_of(built)
            if operation.HasField("response"):
                on_disk = self._site.content(own_id) if own_id in self._built else b""
                if on_disk != expected_content(built) or own_id in self._partial:
                    yield f"{name} succeeded without building {built}"
            elif self._must_clean_up(request, operation) and (
                own_id in self._built or own_id in self._partial
            ):
                yield f"{name} failed and left {built} behind"
        ends = {"READY"} if operation.HasField("response") else {"ROLLED_BACK", "FAILED"}
        if not set(states(operation)) <= ends:
            yield f"{name} has ended with {states(operation)}"

    @staticmethod
    def _must_clean_up(request: Message, operation: operations_pb2.Operation) -> bool:
        """A batch always must; of the others those that were not cut off by a cancel."""
        is_batch = isinstance(request, fleet_service_pb2.BatchCreateInstancesRequest)
        return is_batch or operation.error.code != CANCELLED


@pytest.mark.timeout(60 + 2 * KILLS)
def test_nothing_acknowledged_is_lost_or_doubled_by_kills_at_random_moments(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    print(f"LRO_FAULT_SEED={SEED}")
    began = time.monotonic()
    choose = random.Random(SEED)
    history = History()

    for number in range(KILLS):
        _live_and_die(site, history, choose, by_signal=False)
        if number % 10 == 9:
            _live_and_die(site, history, choose, by_signal=True)
    crashed = site.integrity()
    open_to_the_end = len(history.open)
    settled = _settle(site, history)

    check = Check(site, history)
    history.doubled += check.doubled()
    wrong = [
        problem
        for request_id, operation in settled.items()
        for problem in check.wrong(history.started[request_id], operation)
    ]
    attempts = max((seen(operation).attempt for operation in settled.values()), default=0)
    with capsys.disabled():
        print(
            f"\nseed {SEED}: {len(history.started)} operations started,"
            f" {len(history.names)} acknowledged ({history.unanswered} of them on a later try,"
            f" {open_to_the_end} after the last kill), {len(history.cancels)} cancelled;"
            f" {len(history.killed)} kills; {len(history.lost)} lost,"
            f" {len(history.doubled)} doubled, {len(wrong)} wrong; at most {attempts} attempts;"
            f" {time.monotonic() - began:.0f} s"
        )
    assert history.lost == []
    assert history.doubled == []
    assert wrong == []
    assert (crashed, site.integrity()) == ("ok", "ok")
    assert len(history.killed) == KILLS
    assert len(settled) == len(history.started) > KILLS
    assert attempts > 1, "no kill has met an operation that was running"
    assert history.unanswered, "no kill has met a start"
