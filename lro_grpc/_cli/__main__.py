"""The entry point of ``lro``, which needs no extra itself to say that one is missing."""

from __future__ import annotations

import os
import signal
import sys

_CLI_MODULES = ("typer", "click", "rich", "yaml", "grpc_health", "grpc_reflection")


def main() -> int:
    """Runs the command line.

    Returns:
        The exit code; 2 for wrong usage, and where an extra is missing.
    """
    if sys.argv[1:2] == ["protoc"]:  # needs the extra codegen, and not the extra cli
        from lro_grpc._codegen.protoc import main as protoc

        return protoc(sys.argv[2:])
    is_server = sys.argv[1:2] in (["serve"], ["work"])
    if is_server:
        # A signal ends it before it drains, too, though it be the first process of a container,
        # which none ends that has no handler.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        from lro_grpc._cli import listed

        if listed.complete():
            return 0
        from lro_grpc._cli.app import app
        from lro_grpc._cli.loaded_later import MissingModuleError
    except ModuleNotFoundError as missing:
        return _say_missing(missing)
    if not is_server and "GRPC_VERBOSITY" not in os.environ:
        _silence_grpc()
    try:
        app(prog_name="lro")
    except MissingModuleError as error:
        return _say_missing(error.missing)
    return 0


def _say_missing(missing: ModuleNotFoundError) -> int:
    """Says which module of the extra is missing; raises the error if it is of no extra."""
    if (missing.name or "").partition(".")[0] not in _CLI_MODULES:
        raise missing
    print(f"lro needs {missing.name}: pip install 'lro-grpc[cli]'", file=sys.stderr)
    return 2


def _silence_grpc() -> None:
    """Keeps stderr for the one line of an error.

    gRPC's core writes its own log to the file descriptor, whatever ``sys.stderr`` is, and has read
    ``GRPC_VERBOSITY`` when it was imported.
    """
    ours = os.dup(sys.stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.stderr = os.fdopen(ours, "w", buffering=1, errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
