"""Calls of h2load, many at a time, and the CPU time that they cost."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import cpu
from benchmarks.needed import NeededError


class Load(NamedTuple):
    """The result of a run of calls."""

    rate: float
    """Calls a second."""
    servers: Sequence[float]
    """CPU microseconds a call of each of the server's processes."""
    client: float
    """CPU microseconds a call of h2load."""

    @property
    def server(self) -> float:
        """CPU microseconds a call of all of the server's processes."""
        return sum(self.servers)


def load(url: str, calls: int, *options: str, servers: Sequence[int]) -> Load:
    """Makes calls, each of which succeeds.

    Args:
        url: What is called.
        calls: How many.
        options: Of h2load: how many at a time, and over how many connections.
        servers: The server's processes.
    """
    if shutil.which("h2load") is None:
        raise NeededError("h2load; on Debian: apt-get install nghttp2-client")
    before, client = [cpu.of(one) for one in servers], cpu.ended_children()
    command = ["h2load", *options, "-n", str(calls), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    after = [cpu.of(one) for one in servers]
    assert f"{calls} succeeded" in output, output
    found = re.search(r"([0-9.]+) req/s", output)
    assert found is not None, output
    return Load(
        rate=float(found.group(1)),
        servers=[(end - begin) * 1e6 / calls for begin, end in zip(before, after, strict=True)],
        client=(cpu.ended_children() - client) * 1e6 / calls,
    )


def load_grpc(
    address: str,
    method: str,
    request: bytes,
    calls: int,
    *,
    at_a_time: int,
    connections: int,
    servers: Sequence[int],
) -> Load:
    """Calls a gRPC method with one serialized request, so many times at once."""
    headers = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    at_once = ("-c", str(connections), "-m", str(at_a_time // connections))
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(request).to_bytes(4, "big") + request)
        body.flush()
        options = (*at_once, "-d", body.name, *headers)
        return load(f"http://{address}{method}", calls, *options, servers=servers)
