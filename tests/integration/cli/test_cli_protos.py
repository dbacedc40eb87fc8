"""``lro protos``: all that protoc needs, for a team without Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from lro_process import Lro

ROOT = Path(__file__).parents[3]


@pytest.fixture
def lro() -> Lro:
    return Lro("127.0.0.1:1")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_it_writes_the_protos_under_the_names_they_are_imported_by(
    lro: Lro, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "protos"
    result = lro("protos", str(folder))
    assert (result.returncode, result.stderr) == (0, "")
    found = contents(folder)
    assert result.stdout == f"{folder}: {len(found)} protos; give protoc -I {folder}\n"
    own = {f"lro/{name}": text for name, text in contents(ROOT / "protos" / "lro").items()}
    assert own.items() <= found.items()
    assert {
        "google/api/annotations.proto",
        "google/longrunning/operations.proto",
        "google/protobuf/descriptor.proto",
        "google/rpc/status.proto",
    } <= found.keys()
    assert [name for name in found if not name.endswith(".proto")] == []


@pytest.mark.codegen
def test_protoc_needs_nothing_else(lro: Lro, tmp_path: Path) -> None:
    """Whatever the language: each import of each file is there, also for a protoc without any."""
    assert lro("protos", str(tmp_path)).returncode == 0
    names = sorted(contents(tmp_path))
    image = tmp_path / "image.binpb"
    program = "import sys; from grpc_tools import protoc; sys.exit(protoc.main(sys.argv))"
    command = ["protoc", f"-I{tmp_path}", f"--descriptor_set_out={image}", *names]
    run = subprocess.run(
        [sys.executable, "-c", program, *command[1:]], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file
    assert sorted(file.name for file in files) == names


@pytest.mark.codegen
@pytest.mark.parametrize("command", ["build", "lint"])
def test_buf_needs_nothing_else(lro: Lro, tmp_path: Path, command: str) -> None:
    """Without a network, that is: its own registry has the dependencies of ``buf.yaml``."""
    assert lro("protos", str(tmp_path)).returncode == 0
    options = ["--config", str(ROOT / "protos" / "buf.yaml"), "--path", str(tmp_path / "lro")]
    buf = Path(sys.executable).parent / "buf"
    run = subprocess.run(
        [buf, command, tmp_path, *(options if command == "lint" else ())],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_it_may_be_repeated_and_leaves_other_files_alone(lro: Lro, tmp_path: Path) -> None:
    (tmp_path / "mine.proto").write_text("mine")
    assert lro("protos", str(tmp_path)).returncode == 0
    before = contents(tmp_path)
    assert lro("protos", str(tmp_path)).returncode == 0
    assert contents(tmp_path) == before
    assert before["mine.proto"] == b"mine"


def test_files_with_other_contents_are_replaced_by_force_alone(lro: Lro, tmp_path: Path) -> None:
    for name in ("lro/v1/state.proto", "google/api/http.proto"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("theirs")
    before = contents(tmp_path)
    result = lro("protos", str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"lro: {tmp_path} has other files of these names: google/api/http.proto,"
        " lro/v1/state.proto; give another folder, or --force to replace them\n"
    )
    assert contents(tmp_path) == before
    assert lro("protos", str(tmp_path), "--force").returncode == 0
    state = ROOT / "protos" / "lro" / "v1" / "state.proto"
    assert contents(tmp_path)["lro/v1/state.proto"] == state.read_bytes()


def test_a_link_is_replaced_and_what_it_points_to_is_not(lro: Lro, tmp_path: Path) -> None:
    theirs, folder = tmp_path / "theirs", tmp_path / "protos"
    (folder / "lro" / "v1").mkdir(parents=True)
    (folder / "lro" / "v1" / "state.proto").symlink_to(theirs)
    assert lro("protos", str(folder)).returncode == 2
    assert lro("protos", str(folder), "--force").returncode == 0
    assert not (folder / "lro" / "v1" / "state.proto").is_symlink()
    assert not theirs.exists()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(lro: Lro, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = lro("protos", str(tmp_path / "file" / "protos"))
    assert result.returncode == 1
    assert result.stderr.startswith("lro: ")
    assert str(tmp_path / "file") in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_without_a_name_is_wrong_usage(lro: Lro, tmp_path: Path) -> None:
    """As ``lro protos "$UNSET"`` gives it: it would be the present folder."""
    result = lro("protos", "", cwd=tmp_path, PYTHONPATH=f"{ROOT}:{ROOT / 'generated'}")
    assert (result.returncode, list(tmp_path.iterdir())) == (2, [])
