"""GetOperation: calls a second, beside a servicer that answers from a dictionary."""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from google.longrunning import operations_pb2

from benchmarks.figure import Figure
from benchmarks.server import Server

CALLS = 10_000
ROUNDS = 9


def measure(server: Server) -> list[Figure]:
    """Loads both servers in turn, and takes the median of each."""
    if shutil.which("h2load") is None:
        sys.exit("h2load is missing; on Debian: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder, "request.bin")
        request = operations_pb2.GetOperationRequest(name=server.name).SerializeToString()
        body.write_bytes(b"\0" + len(request).to_bytes(4, "big") + request)
        rounds = [(_rate(server.ours, body), _rate(server.by_hand, body)) for _ in range(ROUNDS)]
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


def _rate(address: str, body: Path) -> float:
    url = f"http://{address}/google.longrunning.Operations/GetOperation"
    headers = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    command = ["h2load", "-c", "4", "-m", "25", "-n", str(CALLS), "-d", str(body), *headers, url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert f"{CALLS} succeeded" in output, output
    found = re.search(r"([0-9.]+) req/s", output)
    assert found is not None, output
    return float(found.group(1))
