"""Writes the stubs of ``protos/`` into ``generated/``, or prints how the two differ.

It must work when the stubs are missing or broken, and so imports nothing that imports them.
"""

# ruff: noqa: T201  (a command prints)

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from lro_grpc._codegen.includes import google_include_directory

PROTOS = Path(__file__).resolve().parent
ROOT = PROTOS.parent
GENERATED = ROOT / "generated"
PACKAGE_MARK = '"""Written by `make generate` from protos/. Do not edit."""\n'


class GenerationError(Exception):
    """Tells that protoc refused the protos; it has already said why."""


def main() -> int:
    """Runs the command line and returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="compare, and fail on a difference")
    mode.add_argument("--image", type=Path, metavar="FILE", help="write a descriptor set instead")
    parser.add_argument("--protos", type=Path, default=PROTOS, help="where the protos are")
    parser.add_argument("--generated", type=Path, default=GENERATED, help="where the stubs are")
    arguments = parser.parse_args()
    try:
        if arguments.image:
            write_image(arguments.protos, arguments.image)
            return 0
        if arguments.check:
            return report(differences(arguments.protos, arguments.generated))
        replace(arguments.protos, arguments.generated)
    except GenerationError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def write_stubs(protos: Path, target: Path) -> None:
    """Writes the stubs of every proto under ``protos`` into ``target``."""
    files = proto_files(protos)
    services = [file for file in files if file.endswith("_service.proto")]
    target.mkdir(parents=True, exist_ok=True)
    run_protoc(
        protos,
        [plugin("mypy"), f"--python_out={target}", f"--mypy_out=quiet:{target}", *files],
    )
    # The gRPC plugin writes a module for a file without services, too: name those that have one.
    run_protoc(
        protos,
        [
            plugin("mypy_grpc"),
            f"--grpc_python_out={target}",
            f"--mypy_grpc_out=quiet:{target}",
            *services,
        ],
    )
    run_protoc(protos, [plugin("lro-grpc"), f"--lro-grpc_out={target}", *services])
    # googleapis-common-protos types its enums in protoc's way, which knows no ValueType.
    for stub in target.rglob("*_pb2.pyi"):
        stub.write_text(stub.read_text().replace("_code_pb2.Code.ValueType", "_code_pb2.Code"))
    for directory in sorted({target / parent for file in files for parent in Path(file).parents}):
        if directory != target:
            (directory / "__init__.py").write_text(PACKAGE_MARK)
    (target / "lro" / "py.typed").touch()


def write_image(protos: Path, image: Path) -> None:
    """Writes the descriptor set that buf reads, with imports and comments."""
    image.parent.mkdir(parents=True, exist_ok=True)
    options = ["--include_imports", "--include_source_info", f"--descriptor_set_out={image}"]
    run_protoc(protos, [*options, *proto_files(protos)])


def replace(protos: Path, generated: Path) -> None:
    """Puts fresh stubs in the place of ``generated``, which is untouched until they are whole."""
    generated.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".generated-", dir=generated.parent) as directory:
        fresh, old = Path(directory, "fresh"), Path(directory, "old")
        write_stubs(protos, fresh)
        if generated.exists():
            generated.rename(old)
        fresh.rename(generated)


def differences(protos: Path, generated: Path) -> list[str]:
    """Lists the files of ``generated`` that are not what would be written now."""
    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        write_stubs(protos, fresh)
        wanted, present = contents(fresh), contents(generated)
    found = [f"missing: {name}" for name in wanted.keys() - present.keys()]
    found += [f"orphaned: {name}" for name in present.keys() - wanted.keys()]
    found += [
        f"stale: {name}" for name in wanted.keys() & present.keys() if wanted[name] != present[name]
    ]
    return sorted(found)


def report(found: list[str]) -> int:
    """Prints the differences and returns the exit code that they mean."""
    if not found:
        return 0
    print("generated/ is not what protos/ says:", file=sys.stderr)
    for line in found:
        print(f"  {line}", file=sys.stderr)
    print("Run `make generate` and commit what it writes.", file=sys.stderr)
    return 1


def contents(directory: Path) -> dict[str, bytes]:
    """Reads every file below ``directory``, but Python's own caches."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def proto_files(protos: Path) -> list[str]:
    """Lists the protos below ``protos`` by the names they are imported by."""
    return sorted(path.relative_to(protos).as_posix() for path in protos.rglob("*.proto"))


def plugin(name: str) -> str:
    """Names a protoc plugin of this environment; protoc wants the whole path."""
    return f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}"


def run_protoc(protos: Path, arguments: list[str]) -> None:
    """Runs protoc on the include directories that the protos need."""
    with google_include_directory() as include:
        paths = [f"-I{directory}" for directory in (protos, include)]
        run = subprocess.run(  # noqa: S603  (the arguments are this script's own)
            [sys.executable, "-m", "grpc_tools.protoc", *paths, *arguments],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    for line in run.stderr.splitlines():
        # protoc does not look into operation_info, whose types have to be imported.
        if not line.endswith(" is unused."):
            print(line, file=sys.stderr)
    if run.returncode != 0:
        raise GenerationError("protoc refused the protos; nothing was written")


if __name__ == "__main__":
    sys.exit(main())
