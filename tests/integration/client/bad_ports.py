"""Ports behind which there is no proper gRPC server, and networks that break."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

from partition import Cut, Network

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_operations import FakeServer


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """The system accepts the connections; nobody reads what comes in."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def full() -> Iterator[str]:
    """Whoever wants to connect gets no answer at all, as behind a firewall that drops packets."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def http() -> Iterator[str]:
    """Answers every connection in HTTP/1.1."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextlib.contextmanager
def cut(server: FakeServer, how: Cut) -> Iterator[str]:
    """The way to the server is cut from the beginning."""
    with contextlib.closing(Network(str(server.port))) as network:
        network.cut(how)
        yield f"127.0.0.1:{network.port}"


@contextlib.contextmanager
def cut_during(server: FakeServer, method: str, how: Cut, *, mends: bool) -> Iterator[str]:
    """The way to the server is cut once it is called."""
    with contextlib.closing(Network(str(server.port))) as network:

        def act() -> None:
            server.fake.arrived[method].acquire(timeout=10)
            network.cut(how)
            if mends:
                network.mend()

        thread = threading.Thread(target=act)
        thread.start()
        yield f"127.0.0.1:{network.port}"
        thread.join()


@contextlib.contextmanager
def cut_at_each(server: FakeServer, method: str) -> Iterator[str]:
    """The way to the server is cut, and mended, whenever it is called."""
    is_over = threading.Event()
    with contextlib.closing(Network(str(server.port))) as network:

        def act() -> None:
            while server.fake.arrived[method].acquire() and not is_over.is_set():
                network.cut(Cut.RESET)
                network.mend()

        thread = threading.Thread(target=act)
        thread.start()
        try:
            yield f"127.0.0.1:{network.port}"
        finally:
            is_over.set()
            server.fake.arrived[method].release()
            thread.join()
