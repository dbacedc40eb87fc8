"""``lro protoc``, as someone uses it who has one proto and nothing else.

It runs in a process of its own, for grpc_tools changes how modules are imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lro_grpc._codegen import protoc

if TYPE_CHECKING:
    from pathlib import Path

PROTO = """
syntax = "proto3";
package zoo.v1;

import "google/api/annotations.proto";
import "google/longrunning/operations.proto";
import "google/rpc/status.proto";
import "lro/v1/operation_metadata.proto";

service Zoo {
  rpc Feed(FeedRequest) returns (google.longrunning.Operation) {
    option (google.api.http) = {post: "/v1/zoo:feed" body: "*"};
    option (google.longrunning.operation_info) = {
      response_type: "FeedResponse"
      metadata_type: "lro.v1.OperationMetadata"
    };
  }
}

message FeedRequest {}

message FeedResponse {
  google.rpc.Status sick = 1;
  lro.v1.OperationMetadata metadata = 2;
}
"""

READ_BACK = """
from google.longrunning import operations_pb2
import zoo_pb2, zoo_pb2_grpc
feed = zoo_pb2.DESCRIPTOR.services_by_name["Zoo"].methods_by_name["Feed"]
info = feed.GetOptions().Extensions[operations_pb2.operation_info]
print(info.response_type, info.metadata_type, zoo_pb2_grpc.ZooServicer.__name__)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An empty directory but for the proto, with one for temporary files beside it."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "zoo.proto").write_text(PROTO)
    return tmp_path / "work"


@pytest.mark.codegen
def test_a_proto_with_operation_info_compiles_in_an_empty_directory(directory: Path) -> None:
    run = lro_protoc(directory, "--python_out=.", "--grpc_python_out=.", "zoo.proto")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert python(directory, READ_BACK).stdout == (
        "FeedResponse lro.v1.OperationMetadata ZooServicer\n"
    )
    assert {path.name for path in directory.iterdir()} - {"__pycache__"} == {
        "zoo.proto",
        "zoo_pb2.py",
        "zoo_pb2_grpc.py",
    }


@pytest.mark.codegen
def test_nothing_is_left_behind(directory: Path) -> None:
    assert lro_protoc(directory, "--python_out=.", "zoo.proto").returncode == 0
    assert list((directory.parent / "tmp").iterdir()) == []


@pytest.mark.codegen
@pytest.mark.parametrize("option", ["-Iprotos", "--proto_path=protos"])
def test_directories_that_the_caller_names_are_searched_first(directory: Path, option: str) -> None:
    protos = directory / "protos"
    protos.mkdir()
    (protos / "zoo.proto").write_text(PROTO.replace("sick", "hungry"))
    assert lro_protoc(directory, option, "--python_out=.", "zoo.proto").returncode == 0
    assert b"hungry" in (directory / "zoo_pb2.py").read_bytes()


@pytest.mark.codegen
def test_the_exit_code_is_that_of_protoc(directory: Path) -> None:
    (directory / "zoo.proto").write_text(PROTO.replace("google.rpc.Status", "Unknown"))
    run = lro_protoc(directory, "--python_out=.", "zoo.proto")
    assert run.returncode == 1
    assert '"Unknown" is not defined' in run.stderr


def test_without_grpc_tools_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "grpc_tools", None)
    assert protoc.main(["--version"]) == 2
    assert "pip install 'lro-grpc[codegen]'" in capsys.readouterr().err


def lro_protoc(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from lro_grpc._codegen.protoc import main; sys.exit(main(sys.argv[1:]))"
    return python(directory, code, *arguments)


def python(directory: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=directory,
        env={**os.environ, "TMPDIR": str(directory.parent / "tmp")},
        capture_output=True,
        text=True,
        check=False,
    )
