"""A supervisor whose workers run the Python code that it is given, after a prelude of their own.

Run as ``python supervisor_process.py COUNT STOP_SECONDS FOLDER CODE``. It prints ``ready`` once all
workers serve.
"""

from __future__ import annotations

import asyncio
import sys

from lro_grpc._cli.workers import WorkerDiedError, supervise

PRELUDE = """
import fcntl, os, signal, sys, time
from lro_grpc._cli.lifeline import Lifeline
descriptor, folder, stop_seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
lifeline = Lifeline(descriptor, stop_seconds)
alive = open(os.path.join(folder, str(os.getpid())), "w")
fcntl.flock(alive, fcntl.LOCK_EX)
print(os.getpid(), flush=True)

def is_first():  # of all workers of this supervisor
    try:
        os.mkdir(os.path.join(folder, "first"))
    except FileExistsError:
        return False
    return True

def serve():
    lifeline.ready()
    while True:
        signal.pause()
"""
"""A worker prints its process id, and locks a file of that name for as long as it lives."""


def main() -> int:
    count, stop_seconds, folder, code = sys.argv[1:]

    def command(_: int, lifeline: int) -> list[str]:
        return [sys.executable, "-c", PRELUDE + code, str(lifeline), folder, stop_seconds]

    try:
        asyncio.run(
            supervise(
                command,
                int(count),
                ready=lambda: print("ready", flush=True),
                stop_seconds=float(stop_seconds),
            )
        )
    except WorkerDiedError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
