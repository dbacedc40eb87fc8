"""``protos/generate.py``: what it writes, and what its check finds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

pytestmark = pytest.mark.codegen

ROOT = Path(__file__).parents[2]


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """A copy of the stubs, to spoil."""
    copy = tmp_path / "generated"
    shutil.copytree(ROOT / "generated", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_check_is_silent_on_what_was_generated(generated: Path) -> None:
    run = generate("--check", "--generated", generated)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_check_lists_stale_missing_and_orphaned_files(generated: Path) -> None:
    (generated / "lro" / "v1" / "state_pb2.py").write_text("stale = True\n")
    (generated / "lro" / "v1" / "state_pb2.pyi").unlink()
    (generated / "lro" / "py.typed").unlink()
    (generated / "lro" / "v1" / "gone_pb2.py").touch()
    run = generate("--check", "--generated", generated)
    assert run.returncode == 1
    assert re.findall(r"(?:missing|orphaned|stale): \S+", run.stderr) == [
        "missing: lro/py.typed",
        "missing: lro/v1/state_pb2.pyi",
        "orphaned: lro/v1/gone_pb2.py",
        "stale: lro/v1/state_pb2.py",
    ]


@pytest.mark.parametrize("state", ["broken", "missing"])
def test_generate_needs_no_stubs(generated: Path, state: str) -> None:
    if state == "missing":
        shutil.rmtree(generated)
    else:
        (generated / "lro" / "__init__.py").write_text("raise ImportError\n")
        (generated / "lro" / "old_pb2.py").touch()
    assert generate("--generated", generated).returncode == 0
    assert contents(generated) == contents(ROOT / "generated")
    assert [path.name for path in generated.parent.iterdir()] == ["generated"]


def test_a_proto_with_a_mistake_leaves_the_stubs_alone(generated: Path, tmp_path: Path) -> None:
    protos = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", protos)
    (protos / "lro" / "v1" / "broken.proto").write_text('syntax = "proto3"; message {}')
    run = generate("--protos", protos, "--generated", generated)
    assert run.returncode == 1
    assert "broken.proto" in run.stderr
    assert contents(generated) == contents(ROOT / "generated")


def test_every_rpc_comment_ends_with_its_aip(tmp_path: Path) -> None:
    image = tmp_path / "image.binpb"
    assert generate("--image", image).returncode == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file
    assert "google/longrunning/operations.proto" in {file.name for file in files}
    without = [
        f"{service.name}.{method.name}"
        for file in files
        if file.package.startswith("lro.")
        for s, service in enumerate(file.service)
        for m, method in enumerate(service.method)
        if not re.search(r"See https://google\.aip\.dev/\d+\.\n\Z", comment(file, [6, s, 2, m]))
    ]
    assert without == []


def generate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "protos" / "generate.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def comment(file: descriptor_pb2.FileDescriptorProto, path: list[int]) -> str:
    """Finds the comment of an element by its path of field numbers and indices in the file."""
    return next(
        location.leading_comments
        for location in file.source_code_info.location
        if location.path == path
    )
