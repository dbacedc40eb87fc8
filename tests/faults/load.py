"""Callers that keep a server busy, and note all their calls and answers."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc
from call_history import OPEN, Call, History
from killable import batch, create, delete, expected, snapshot

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from google.longrunning import operations_pb2
    from google.protobuf.message import Message
    from killable import Client

    Ask = Callable[[], Iterable[operations_pb2.Operation] | None]
    """Makes a call, and returns the operations that it was answered with."""

STARTS = 50
"""Operations that one caller starts at most, unless told: what is started has to be checked."""
PARENT = "projects/p/locations/x2"
WAIT_SECONDS = 0.03
MAX_PAUSED = 5
"""How many operations may be paused before one is resumed."""
PAUSE_SECONDS = 0.03
"""Between a call without an answer and the next one."""
PATIENCE_SECONDS = 40


@dataclass
class Board:
    """The knowledge that callers share, beside the history of their calls."""

    history: History = field(default_factory=History)
    names: dict[str, str] = field(default_factory=dict)
    """The operations that were acknowledged, by request_id."""
    open: list[str] = field(default_factory=list)
    """The request_ids of starts that had no answer, to be sent again."""
    unanswered: int = 0
    """How many starts had none."""
    sent: Counter[str] = field(default_factory=Counter)
    """How often each start was sent."""
    unwanted: list[str] = field(default_factory=list)
    """Operations that run until someone cancels them, which is still to be done."""
    paused: list[str] = field(default_factory=list)
    """Operations of which a pause was tried, to be resumed."""
    deleted: set[str] = field(default_factory=set)
    """The request_ids of operations that someone deletes: sent again, they would start another."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def errand(self) -> tuple[str, str] | None:
        """Takes what is to be done first, if anything: which call, about what."""
        with self.lock:
            if self.open:
                return "start", self.open.pop()
            if self.unwanted:
                return "cancel", self.unwanted.pop()
            if len(self.paused) > MAX_PAUSED:
                return "resume", self.paused.pop()
            return None

    def send(self, request_id: str, times: int = 1) -> Message | None:
        """Returns what to send, that many times; None if it may not be sent again."""
        with self.lock:
            if request_id in self.deleted:
                return None
            self.sent[request_id] += times
            return self.history.requests[request_id]

    def acknowledged(self, request_id: str, name: str) -> None:
        with self.lock:
            is_new = request_id not in self.names
            self.names[request_id] = name
            if is_new and expected(self.history.requests[request_id]) is None:
                self.unwanted.append(name)

    def unacknowledged(self, request_id: str) -> None:
        with self.lock:
            if request_id not in self.names:
                self.open.append(request_id)
                self.unanswered += 1

    def forget(self, request_id: str) -> bool:
        """Whether the operation may be deleted: no start of it may be on its way any more."""
        with self.lock:
            is_wanted = expected(self.history.requests[request_id]) is not None
            if self.sent[request_id] > 1 or not is_wanted or request_id in self.deleted:
                return False
            self.deleted.add(request_id)
            return True


class Caller:
    """Calls a server until it has to end.

    Args:
        board: What it shares with the others.
        client: How it gets to the server.
        choose: Chooses what to call.
        slow: Whether calls may also end for want of an answer in time.
        starts: How many operations it starts at most.
    """

    def __init__(
        self,
        board: Board,
        client: Client,
        choose: random.Random,
        *,
        slow: bool = False,
        starts: int = STARTS,
    ) -> None:
        self._board = board
        self._history = board.history
        self._client = client
        self._choose = choose
        self._open = OPEN if slow else OPEN - {grpc.StatusCode.DEADLINE_EXCEEDED}
        self._starts = starts
        self._over = threading.Event()
        self._error: BaseException | None = None
        self.unanswered = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Returns when its last call is over."""
        self._over.set()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._step()
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller is ended
            self._error = error

    def _step(self) -> None:
        errand = self._board.errand()
        if errand is None:
            self._call_something()
            return
        what, about = errand
        if what == "start":
            self._start(about)
        elif what == "cancel":
            self._cancel(about)
        else:
            self._ask("resume", about, lambda: self._client.resume(about))

    def _call_something(self) -> None:
        board, choose, client = self._board, self._choose, self._client
        with board.lock:
            ids, names = list(board.names), list(board.names.values())
        if not names:
            self._start(self._new_request())
            return
        calls: list[tuple[float, Callable[[], object]]] = [
            (50 * (self._starts > 0), lambda: self._start(self._new_request())),
            (5, lambda: self._start(choose.choice(ids))),
            (7, lambda: self._cancel(choose.choice(names[-20:]))),
            (5, lambda: self._pause(choose.choice(names[-10:]))),
            (3, lambda: self._delete(choose.choice(ids[-100:]))),
            (8, lambda: self._wait(choose.choice(names[-20:]))),
            (10, lambda: self._get(choose.choice(names[-20:]))),
            (10, lambda: self._get(choose.choice(names))),
            (2, lambda: self._ask("page", PARENT, lambda: client.page(PARENT, 20).operations)),
            (0.3, lambda: self._ask("walk", PARENT, lambda: client.walk(PARENT))),
        ]
        weights, ways = zip(*calls, strict=True)
        choose.choices(ways, weights)[0]()

    def _new_request(self) -> str:
        """Notes a request before it is sent, and returns its request_id."""
        choose = self._choose
        self._starts -= 1
        request_id = str(uuid.UUID(int=choose.getrandbits(128), version=4))

        def own_id() -> str:
            tasks = {"noop": 4, f"{choose.randrange(1, 60)}ms": 6, "fail": 1, "stop": 1}
            tasks |= {f"{choose.randrange(1, 9)}steps": 4, "retry": 1}
            task = choose.choices(list(tasks), list(tasks.values()))[0]
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
        with self._board.lock:
            self._history.requests[request_id] = request
        return request_id

    def _start(self, request_id: str) -> None:
        """Starts an operation, now and then by two calls at the same time."""
        times = self._choose.choice([1] * 9 + [2])
        request = self._board.send(request_id, times)
        if request is None:
            return
        calls = [
            (self._history.begin("start", request_id), self._client.starting(request))
            for _ in range(times)
        ]
        for call, answer in calls:
            self._take(call, lambda answer=answer: [answer.result()])
            if call.ok:
                self._board.acknowledged(request_id, call.name)
            elif call.is_open:
                self._board.unacknowledged(request_id)

    def _cancel(self, name: str) -> None:
        call = self._ask("cancel", name, lambda: self._client.cancel(name))
        if call.is_open:
            with self._board.lock:
                self._board.unwanted.append(name)

    def _pause(self, name: str) -> None:
        self._ask("pause", name, lambda: self._client.pause(name))
        with self._board.lock:
            self._board.paused.append(name)

    def _wait(self, name: str) -> None:
        self._ask("wait", name, lambda: [self._client.wait_for(name, WAIT_SECONDS)])

    def _get(self, name: str) -> None:
        self._ask("get", name, lambda: [self._client.get(name)])

    def _delete(self, request_id: str) -> None:
        if self._board.forget(request_id):
            name = self._board.names[request_id]
            self._ask("delete", name, lambda: self._client.delete(name))

    def _ask(self, what: str, about: str, ask: Ask) -> Call:
        call = self._history.begin(what, about)
        self._take(call, ask)
        return call

    def _take(self, call: Call, ask: Ask) -> None:
        """Takes the answer of a call, if there is one; a refusal is for the checker to judge."""
        try:
            with call:
                call.answers = [operation.SerializeToString() for operation in ask() or ()]
        except grpc.RpcError:
            if call.is_open:
                assert call.code in self._open, f"{call} has no answer"
                self.unanswered += 1
                self._over.wait(PAUSE_SECONDS)
