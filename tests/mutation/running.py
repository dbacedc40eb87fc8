"""Runs tests in a fork of a process that has imported what the package and its tests need.

To import gRPC and its like takes longer than most tests do. Nothing of the package is imported
before the fork, and nothing of gRPC is used.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_IMPORTED = [
    "asyncio",
    "google.api.annotations_pb2",
    "google.longrunning.operations_pb2_grpc",
    "google.protobuf.json_format",
    "google.rpc.error_details_pb2",
    "grpc.aio",
    "hypothesis.stateful",
    "pytest",
    "sqlite3",
    "starlette.applications",
]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(_IMPORTED)


def exit_code(
    arguments: Sequence[str],
    tree: Path,
    environment: Mapping[str, str],
    output: Path,
    limit: float,
) -> int | None:
    """Runs pytest, and returns its exit code; None if it does not end.

    Args:
        arguments: Those of pytest.
        tree: Where the tests are.
        environment: Replaces that of this process.
        output: The file that it prints to.
        limit: The seconds that it has.
    """
    process = _forks.Process(
        target=_run, args=(list(arguments), str(tree), dict(environment), str(output))
    )
    process.start()
    process.join(limit)
    code = process.exitcode
    if code is None:
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return code


def _run(arguments: list[str], tree: str, environment: dict[str, str], output: str) -> None:
    os.setsid()  # so that it ends with all that it has begun
    os.chdir(tree)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = [tree, *environment["PYTHONPATH"].split(os.pathsep)]
    with open(output, "wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import pytest

    # Plugins that were imported before are told of; they assert nothing.
    code = pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *arguments])
    sys.stdout.flush()
    os._exit(code)
