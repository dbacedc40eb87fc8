"""``lro db import``, as a process: a file of another server's operations, good and bad."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sqlite3
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, struct_pb2
from lro_process import Lro
from old_operations import FOREIGN, PARENT, line_of, old_operations
from test_serve import create, serving

from lro_grpc import OperationsClient
from lro_grpc._cli.operation_lines import MOST_LINE_BYTES

TO_VERSION_13 = """
DROP INDEX operations_by_key;
DROP INDEX operations_held_by_key;
DROP INDEX operations_ranked;
ALTER TABLE operations DROP COLUMN concurrency_key;
CREATE INDEX operations_ranked ON operations (method, queue_order, sequence)
    WHERE lease_expire_time = 0 AND state IN (1, 6) AND scheduled_time = 0 AND queue_order <> 0;
PRAGMA user_version = 13;
"""
"""Makes the tables of the version before of a store's."""


@pytest.fixture
def lro() -> Lro:
    return Lro("127.0.0.1:1")


def write(path: Path, number: int) -> list[operations_pb2.Operation]:
    olds = list(old_operations(number))
    path.write_text("".join(f"{line_of(old)}\n" for old in olds), encoding="utf-8")
    return olds


@pytest.mark.parametrize("kind", ["file", "postgres"])
def test_callers_find_the_operations_of_a_file(
    lro: Lro, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = "operations.db" if kind == "file" else request.getfixturevalue("postgres")
    store = url if kind == "postgres" else "sqlite:///operations.db"
    olds = write(tmp_path / "old.jsonl", 150)
    dry = lro("db", "import", "old.jsonl", url, "--dry-run", cwd=tmp_path)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.endswith(": 150 operations would be imported, 0 there already\n")
    assert not (tmp_path / "operations.db").exists()
    first = lro("db", "import", "old.jsonl", url, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.endswith(": 150 operations imported, 0 there already\n")
    again = lro("db", "import", "old.jsonl", url, cwd=tmp_path)
    assert again.stdout.endswith(": 0 operations imported, 150 there already\n")
    dry = lro("db", "import", "old.jsonl", url, "--dry-run", cwd=tmp_path)
    assert dry.stdout.endswith(": 0 operations would be imported, 150 there already\n")
    with (
        serving("--store", store, cwd=tmp_path) as served,
        grpc.insecure_channel(served.target) as channel,
    ):
        client = OperationsClient(channel)
        new = create(channel, "new").name
        client.attach(new).result()
        listed = [one for one in client.list(PARENT) if one.name != new]
        assert [one.name for one in listed] == [one.name for one in reversed(olds)]
        for found, old in zip(listed, reversed(olds), strict=True):
            assert found.done
            assert found == old if old.done else found.error.code == 10


def test_what_a_server_lists_is_what_another_one_imports(lro: Lro, tmp_path: Path) -> None:
    write(tmp_path / "old.jsonl", 14)
    lro("db", "import", "old.jsonl", "old.db", cwd=tmp_path)
    with serving("--store", "sqlite:///old.db", cwd=tmp_path) as served:
        everything = ("list", PARENT, "--output", "json", "--target", served.target)
        listed = lro(*everything).stdout
        piped = lro("db", "import", "-", "new.db", cwd=tmp_path, stdin=listed)
    assert (piped.returncode, piped.stderr) == (0, "")
    assert piped.stdout == "new.db: 14 operations imported, 0 there already\n"
    with serving("--store", "sqlite:///new.db", cwd=tmp_path) as served:
        found = lro(*everything[:-1], served.target).stdout
    assert found.splitlines() == listed.splitlines()[::-1]


def test_what_cannot_be_listed_as_json_is_refused_and_never_changed(
    lro: Lro, tmp_path: Path
) -> None:
    google = "type.googleapis.com/google.protobuf."
    nan = struct_pb2.Value(number_value=math.nan)
    deep = struct_pb2.Struct(fields={"a": nan})
    responses = [
        any_pb2.Any(type_url=f"{google}StringValue", value=b"\xff"),
        any_pb2.Any(type_url=f"{google}Value", value=nan.SerializeToString()),
        any_pb2.Any(type_url=f"{google}Struct", value=deep.SerializeToString()),
        any_pb2.Any(type_url=f"{google}Timestamp", value=b"\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
    ]
    olds = [
        operations_pb2.Operation(name=f"{PARENT}/operations/{n}", done=True, response=response)
        for n, response in enumerate(responses)
    ]
    (tmp_path / "old.jsonl").write_text("\n".join(map(line_of, olds)))
    lro("db", "import", "old.jsonl", "old.db", cwd=tmp_path)
    with serving("--store", "sqlite:///old.db", cwd=tmp_path) as served:
        listed = lro("list", PARENT, "--output", "json", "--target", served.target).stdout
    assert len(listed.splitlines()) == len(olds)
    run = lro("db", "import", "-", "new.db", cwd=tmp_path, stdin=listed)
    assert (
        run.stdout == f"new.db: 0 operations imported, 0 there already, {len(olds)} lines refused\n"
    )
    assert run.stderr.count("give the operation in base64") == len(olds)


def test_bad_lines_are_told_by_their_numbers_and_the_others_are_stored(
    lro: Lro, tmp_path: Path
) -> None:
    (good, other, unfinished) = (*old_operations(2), list(old_operations(6))[-1])
    changed = operations_pb2.Operation()
    changed.CopyFrom(good)
    changed.response.CopyFrom(FOREIGN)
    lines = [
        line_of(good),
        "no json",
        line_of(good),
        line_of(changed),
        "x" * (MOST_LINE_BYTES + 7),
        json.dumps({"name": "a/b", "done": True, "response": {}}),
        line_of(unfinished),
        line_of(other)[:-30],
    ]
    (tmp_path / "old.jsonl").write_text("\n".join(lines))
    for how, would in (("--dry-run", "would be "), ("--retention=90d", "")):
        run = lro("db", "import", "old.jsonl", how, "--unfinished", "leave", cwd=tmp_path)
        assert run.returncode == 1
        assert run.stdout == (
            f"operations.db: 1 operations {would}imported, 1 there already,"
            f" 1 that are not done left out, 5 lines refused\n"
        )
        said = run.stderr.splitlines()
        assert [line.split(":")[1] for line in said] == [f" line {n}" for n in (2, 4, 5, 6, 8)]
        assert "'projects/p/locations/l/operations/old-0' is stored already" in said[1]
        assert f"more than {MOST_LINE_BYTES:,} bytes" in said[2]
        assert "is the file cut off?" in said[4]
    (tmp_path / "old.jsonl").write_text(line_of(other))
    run = lro("db", "import", "old.jsonl", cwd=tmp_path)
    assert run.stdout == "operations.db: 1 operations imported, 0 there already\n"


def test_an_import_that_is_killed_goes_on(lro: Lro, tmp_path: Path) -> None:
    olds = write(tmp_path / "old.jsonl", 300)
    os.mkfifo(tmp_path / "pipe")
    with lro.started("db", "import", str(tmp_path / "pipe"), str(tmp_path / "a.db")) as process:
        with (tmp_path / "pipe").open("w") as pipe:
            pipe.writelines(f"{line_of(old)}\n" for old in olds[:150])
            pipe.write("bad\n" + "\n".join(map(line_of, olds[150:250])) + "\n")
            pipe.flush()
            assert "line 151" in process.stderr.readline()  # two groups are stored by now
            process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    again = lro("db", "import", "old.jsonl", "a.db", cwd=tmp_path)
    stored, there = (int(again.stdout.split()[n]) for n in (1, 4))
    assert stored + there == 300
    assert there >= 199  # beside the bad line


def test_types_are_those_of_the_modules_that_are_named(lro: Lro, tmp_path: Path) -> None:
    response = {"@type": "type.googleapis.com/mine.Made", "name": "a"}
    old = {"name": "operations/1", "done": True, "response": response}
    (tmp_path / "old.jsonl").write_text(json.dumps(old))
    (tmp_path / "mine_types.py").write_text(
        "from google.protobuf import descriptor_pb2, descriptor_pool\n"
        "file = descriptor_pb2.FileDescriptorProto(name='mine.proto', package='mine')\n"
        "field = file.message_type.add(name='Made').field.add(name='name', number=1)\n"
        "field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL\n"
        "descriptor_pool.Default().Add(file)\n"
    )
    unknown = lro("db", "import", "old.jsonl", cwd=tmp_path)
    assert unknown.returncode == 1
    assert "name the module that defines it with --types" in unknown.stderr
    missing = lro("db", "import", "old.jsonl", "--types", "nowhere", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (
        2,
        "lro: --types nowhere: No module named 'nowhere'\n",
    )
    known = lro("db", "import", "old.jsonl", "--types", "mine_types", cwd=tmp_path)
    assert (known.returncode, known.stderr) == (0, "")


def test_what_would_be_gone_at_once_is_not_called_imported(lro: Lro, tmp_path: Path) -> None:
    write(tmp_path / "old.jsonl", 1)
    run = lro("db", "import", "old.jsonl", "memory:", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("lro: memory: would be gone when this command ends; give a file")
    dry = lro("db", "import", "old.jsonl", "memory:", "--dry-run", cwd=tmp_path)
    assert dry.stdout == "memory:: 1 operations would be imported, 0 there already\n"


def test_a_dry_run_leaves_the_tables_of_an_older_release_as_they_are(
    lro: Lro, tmp_path: Path
) -> None:
    write(tmp_path / "old.jsonl", 1)
    lro("db", "import", "old.jsonl", "a.db", cwd=tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        connection.executescript(TO_VERSION_13)
    dry = lro("db", "import", "old.jsonl", "a.db", "--dry-run", cwd=tmp_path)
    assert (dry.returncode, dry.stdout) == (2, "")
    assert "a.db has schema version 13, and not 14; start a server of this release" in dry.stderr
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (13,)
    real = lro("db", "import", "old.jsonl", "a.db", cwd=tmp_path)
    assert real.stdout == "a.db: 0 operations imported, 1 there already\n"


def test_a_dry_run_makes_no_tables_in_an_empty_file(lro: Lro, tmp_path: Path) -> None:
    write(tmp_path / "old.jsonl", 1)
    (tmp_path / "a.db").touch()
    dry = lro("db", "import", "old.jsonl", "a.db", "--dry-run", cwd=tmp_path)
    assert dry.stdout == "a.db: 1 operations would be imported, 0 there already\n"
    assert (tmp_path / "a.db").read_bytes() == b""


def test_a_file_that_is_missing_is_named(lro: Lro, tmp_path: Path) -> None:
    missing = lro("db", "import", "old.jsonl", cwd=tmp_path)
    assert missing.returncode == 1
    assert "old.jsonl" in missing.stderr
    assert not (tmp_path / "operations.db").exists()
