"""The entry point of ``lro``: it needs no extra to say which one is missing."""

from __future__ import annotations

import sys

_CLI_MODULES = ("typer", "click", "rich", "grpc_health", "grpc_reflection")


def main() -> int:
    """Runs the command line.

    Returns:
        The exit code; 2 for wrong usage, and where an extra is missing.
    """
    if sys.argv[1:2] == ["protoc"]:  # needs the extra codegen, and not the extra cli
        from lro_grpc.codegen.protoc import main as protoc

        return protoc(sys.argv[2:])
    try:
        from lro_grpc.cli.app import app
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in _CLI_MODULES:
            raise
        print(f"lro needs {missing.name}: pip install 'lro-grpc[cli]'", file=sys.stderr)
        return 2
    app(prog_name="lro")
    return 0


if __name__ == "__main__":
    sys.exit(main())
