from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from zoo_protos import run, write

from lro_grpc._codegen.includes import include_directory
from lro_grpc._codegen.plugin import respond as respond_to

_SCRIPT = f"""#!{sys.executable}
import sys
from lro_grpc._codegen.plugin import main
sys.exit(main())
"""

Generate = Callable[..., "subprocess.CompletedProcess[str]"]
Respond = Callable[..., plugin_pb2.CodeGeneratorResponse]


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed plugin; or a script of it, where this tree is not what was installed."""
    installed = Path(sys.executable).parent / "protoc-gen-lro-grpc"
    if installed.exists():
        return installed
    script = tmp_path_factory.mktemp("bin") / installed.name
    script.write_text(_SCRIPT)
    script.chmod(0o755)
    return script


@pytest.fixture
def generate(tmp_path: Path, plugin: Path) -> Generate:
    """Writes protos into ``tmp_path``, and what ``lro protoc`` makes of them into ``out``."""

    def generate(protos: Mapping[str, str], *options: str) -> subprocess.CompletedProcess[str]:
        write(tmp_path, protos)
        (tmp_path / "out").mkdir(exist_ok=True)
        code = "import sys; from lro_grpc._codegen.protoc import main; sys.exit(main(sys.argv[1:]))"
        given = options or ("--lro-grpc_out=out",)
        return run(sys.executable, "-c", code, *given, *protos, cwd=tmp_path, plugin=plugin)

    return generate


@pytest.fixture(scope="session")
def include() -> Iterator[Path]:
    with include_directory() as directory:
        yield directory


@pytest.fixture
def respond(tmp_path: Path, include: Path) -> Respond:
    """Asks the plugin about protos, as protoc would: in this process, which is quicker."""

    def respond(protos: Mapping[str, str], parameter: str = "") -> plugin_pb2.CodeGeneratorResponse:
        write(tmp_path, protos)
        files = compiled(tmp_path, include, list(protos), "--include_imports")
        request = plugin_pb2.CodeGeneratorRequest(
            file_to_generate=list(protos), parameter=parameter, proto_file=files.file
        )
        return respond_to(request)

    return respond


@pytest.fixture
def release(tmp_path: Path, include: Path) -> Callable[..., Path]:
    """Writes a descriptor set of protos, and returns where."""

    def release(protos: Mapping[str, str], *options: str) -> Path:
        write(tmp_path, protos)
        path = tmp_path / "old.binpb"
        path.write_bytes(compiled(tmp_path, include, list(protos), *options).SerializeToString())
        return path

    return release


def compiled(
    folder: Path, include: Path, names: list[str], *options: str
) -> descriptor_pb2.FileDescriptorSet:
    image = folder / "image.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{include}", *options]
    command += ["--include_source_info", f"--descriptor_set_out={image}", *names]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    return descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes())
