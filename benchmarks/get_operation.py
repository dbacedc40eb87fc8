"""GetOperation: calls a second, beside a servicer that answers from a dictionary."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile

from google.longrunning import operations_pb2

from benchmarks.figure import Figure
from benchmarks.server import Server

CALLS = 10_000
AT_A_TIME = 100
ROUNDS = 9


def measure(server: Server) -> list[Figure]:
    """Loads both servers in turn, and takes the median of each."""
    name = server.name
    rounds = [(rate(server.ours, name), rate(server.by_hand, name)) for _ in range(ROUNDS)]
    rounds = rounds[1:]  # the first warms up
    return [
        Figure(
            what="GetOperation",
            ours=statistics.median(ours for ours, _ in rounds),
            baseline=statistics.median(by_hand for _, by_hand in rounds),
            unit="calls/s",
            goal="≥ 0.9 × a dict servicer",
            meets=lambda _, ratio: ratio >= 0.9,
        )
    ]


def rate(address: str, name: str, calls: int = CALLS, connections: int = 4) -> float:
    """Gets an operation again and again, a hundred times at once; returns the calls a second."""
    if shutil.which("h2load") is None:
        sys.exit("h2load is missing; on Debian: apt-get install nghttp2-client")
    request = operations_pb2.GetOperationRequest(name=name).SerializeToString()
    at_once = ("-c", str(connections), "-m", str(AT_A_TIME // connections), "-n", str(calls))
    headers = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    url = f"http://{address}/google.longrunning.Operations/GetOperation"
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(request).to_bytes(4, "big") + request)
        body.flush()
        command = ["h2load", *at_once, "-d", body.name, *headers, url]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"{calls} succeeded" in output, output
    found = re.search(r"([0-9.]+) req/s", output)
    assert found is not None, output
    return float(found.group(1))
