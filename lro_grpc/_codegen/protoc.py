"""``lro protoc``: protoc that finds the protos a long-running method imports, and the plugins."""

# ruff: noqa: T201  (a command prints)

from __future__ import annotations

import os
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from lro_grpc._codegen.includes import include_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

_INCLUDE_OPTIONS = ("-I", "--proto_path")


def main(args: Sequence[str]) -> int:
    """Runs grpc_tools.protoc with Google's protos and ``lro/v1`` to be imported.

    They are searched after the directories that the caller names with ``-I`` or ``--proto_path``,
    or after the working directory if it names none. Plugins are looked for beside the running
    Python, then on the PATH.

    Args:
        args: The arguments for protoc, as on its command line.

    Returns:
        The exit code of protoc; 2 if grpc_tools is not installed, or an argument is not UTF-8.
    """
    try:
        # Imported here, for it is optional, and for it changes how every `*_pb2` is imported.
        from grpc_tools import protoc
    except ImportError:
        print("lro protoc needs grpcio-tools: pip install 'lro-grpc[codegen]'", file=sys.stderr)
        return 2
    for arg in args:
        if any(0xDC80 <= ord(c) <= 0xDCFF for c in arg):  # bytes of the command line, escaped
            print(f"lro protoc: the argument {arg!a} is not UTF-8", file=sys.stderr)
            return 2
    beside = Path(sys.executable).parent
    os.environ["PATH"] = os.pathsep.join([str(beside), os.environ.get("PATH", os.defpath)])
    named = any(arg.startswith(_INCLUDE_OPTIONS) for arg in args)
    with (
        include_directory() as include,
        resources.as_file(resources.files("grpc_tools") / "_proto") as well_known,
    ):
        paths = ([] if named else ["-I."]) + [f"-I{include}", f"-I{well_known}"]
        return int(protoc.main(["protoc", *args, *paths]))  # type: ignore[no-untyped-call]
