"""Protos of which no Python can be made: refused with the file and the reason, and never run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.longrunning import operations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2
from zoo_protos import HEAD, rpc, run, zoo

from lro_grpc._codegen.plugin import respond as respond_to

pytestmark = [pytest.mark.codegen, pytest.mark.timeout(300)]

Respond = Callable[..., Any]

(TEXT,) = zoo(rpc("Feed")).values()


def request(file: str, **names: str) -> plugin_pb2.CodeGeneratorRequest:
    """Returns a request that no protoc has checked, such as one made of a stranger's image."""
    proto = descriptor_pb2.FileDescriptorProto(
        name=file, package=names.get("package", "zoo"), dependency=[operations_pb2.DESCRIPTOR.name]
    )
    message = names.get("message", "Meal")
    proto.message_type.add(name=message)
    full_name = f".{proto.package}.{message}" if proto.package else f".{message}"
    method = proto.service.add(name=names.get("service", "Zoo")).method.add(
        name=names.get("method", "Feed"),
        input_type=full_name,
        output_type=".google.longrunning.Operation",
    )
    info: Any = method.options.Extensions[operations_pb2.operation_info]
    info.response_type = info.metadata_type = full_name
    operations = descriptor_pb2.FileDescriptorProto()
    operations_pb2.DESCRIPTOR.CopyToProto(operations)
    return plugin_pb2.CodeGeneratorRequest(file_to_generate=[file], proto_file=[operations, proto])


@pytest.mark.parametrize(
    "name",
    [
        '""";import os;os.mkdir("pwned");""".proto',
        'zoo".proto',
        "zoo\\.proto",
        "1zoo.proto",
        "2024/zoo.proto",
        "a b/zoo.proto",
        "zoo;x.proto",
        "zoo\nx.proto",
        "\u202ezoo.proto",
        "ﬁsh.proto",  # Python would look for fish
        "a//zoo.proto",
        "../zoo.proto",
        "zoo'.proto",
        "zoo().proto",
    ],
)
def test_a_file_name_that_is_no_module_is_refused(name: str) -> None:
    response = respond_to(request(name))
    heading, reason = response.error.splitlines()
    assert heading == "no Python can be written for the protos"
    assert reason.startswith(f"{name!a}: its module would be ")
    assert not response.file


@pytest.mark.parametrize("what", ["package", "message", "service", "method"])
def test_a_name_that_is_none_in_a_proto_is_refused(what: str) -> None:
    hostile = 'a"); import os; os.abort(); ("'
    response = respond_to(request("zoo.proto", **{what: hostile}))
    assert not response.file
    assert response.error.splitlines()[1].startswith("'zoo.proto': '")
    assert "is no name that a proto can have" in response.error


def test_a_file_that_is_imported_is_held_to_the_same(respond: Respond) -> None:
    files = {
        **zoo(
            rpc("Feed", "Fish"),
            head=HEAD.replace("package zoo.v1;", 'package zoo.v1; import "my fish.proto";'),
        ),
        "my fish.proto": 'syntax = "proto3"; package zoo.v1; message Fish {}',
    }
    response = respond(files)
    assert response.error.splitlines()[1:] == [
        "'my fish.proto': its module would be 'my fish_pb2', which Python cannot import;"
        " rename the file or its folder"
    ]


def test_a_file_that_nothing_is_written_for_may_be_named_anyhow(respond: Respond) -> None:
    files = {**zoo(rpc("Feed")), "1 2.proto": 'syntax = "proto3"; message Fish {}'}
    response = respond(files)
    assert (response.error, len(response.file)) == ("", 1)


def test_a_comment_that_is_not_utf_8_is_refused(tmp_path: Path, plugin: Path) -> None:
    """By its line; one that is not read does not matter."""
    text = TEXT.encode().replace(b"message Ask", b"// caf\xe9\nmessage Ask")
    (tmp_path / "zoo.proto").write_bytes(text)
    command = [sys.executable, "-m", "lro_grpc._cli", "protoc", "--lro-grpc_out=.", "zoo.proto"]
    done = run(*command, cwd=tmp_path, plugin=plugin)
    assert (done.returncode, (tmp_path / "zoo_lro.py").exists()) == (0, True), done.stderr
    (tmp_path / "zoo_lro.py").unlink()
    (tmp_path / "zoo.proto").write_bytes(text.replace(b"  rpc Feed", b"  // caf\xe9\n  rpc Feed"))
    line = 1 + text[: text.index(b"  rpc Feed")].count(b"\n") + 1
    done = run(*command, cwd=tmp_path, plugin=plugin)
    assert done.returncode == 1
    assert f"zoo.proto:{line}: the comment above it is not UTF-8" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "zoo_lro.py").exists()


def test_an_argument_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lro_grpc._cli", "protoc", b"--python_out=.", b"z\xff.proto"],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        b"lro protoc: the argument 'z\\udcff.proto' is not UTF-8\n",
    )


def test_what_is_no_request_is_refused(plugin: Path) -> None:
    done = subprocess.run([plugin], input=b"no", capture_output=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"stdin is no request of protoc")


@pytest.mark.parametrize(
    "comment",
    [
        '"""',
        '""""',
        'ends with "',
        "ends with \\",
        '\\"""; raise SystemExit',
        "a\\\nb",
        "\u202eno\u202c bidi \u2066x\u2069",
        "line\u2028separator\x85and more",
        "zero\u200bwidth, a tab\tand \\u0041",
        "\ufeffa byte order mark",
    ],
)
def test_a_comment_is_text_whatever_it_holds(respond: Respond, comment: str) -> None:
    """It says the same, and its source shows all of its characters."""
    lines = "".join(f"  // {line}\n" for line in comment.split("\n"))
    (file,) = respond(zoo(rpc("Feed", comment=lines))).file
    assert all(c.isprintable() or c in "\n\t" for c in file.content)
    classes = (one for one in ast.parse(file.content).body if isinstance(one, ast.ClassDef))
    feed = next(one.body[1] for one in classes if one.name == "ZooClient")
    assert isinstance(feed, ast.FunctionDef)
    said = [line.strip() for line in (ast.get_docstring(feed) or "").splitlines()]
    assert said == comment.expandtabs().splitlines()


def without_its_file(sent: Any) -> None:
    sent.file_to_generate[:] = ["other.proto"]


def without_an_import(sent: Any) -> None:
    sent.proto_file[1].dependency.append("other.proto")


def without_what_an_import_imports(sent: Any) -> None:
    sent.proto_file[0].dependency.append("other.proto")
    sent.proto_file[0].public_dependency.append(len(sent.proto_file[0].dependency) - 1)


def with_a_public_import_of_no_place(sent: Any) -> None:
    sent.proto_file[0].public_dependency.append(-99)


def without_a_request_type(sent: Any) -> None:
    sent.proto_file[1].service[0].method[0].input_type = ".other.proto"


def without_a_type_s_name(sent: Any) -> None:
    sent.proto_file[1].service[0].method[0].output_type = ""


@pytest.mark.parametrize(
    "breaks",
    [
        without_its_file,
        without_an_import,
        without_what_an_import_imports,
        with_a_public_import_of_no_place,
        without_a_request_type,
        without_a_type_s_name,
    ],
)
def test_a_request_that_lacks_something_is_refused(breaks: Callable[[Any], None]) -> None:
    sent = request("zoo.proto")
    breaks(sent)
    found = respond_to(sent)
    assert not found.file
    assert "proto: " in found.error
    assert "the protos lack " in found.error


@pytest.mark.parametrize("what", ["Zoo", "Feed"])
def test_a_name_that_is_not_utf_8_is_refused(what: str) -> None:
    sent = request("zoo.proto")
    broken = sent.SerializeToString().replace(what.encode(), b"\xff" * len(what))
    found = respond_to(plugin_pb2.CodeGeneratorRequest.FromString(broken))
    assert not found.file
    assert "is not UTF-8" in found.error


def test_a_comment_without_a_place_is_a_comment() -> None:
    sent = request("zoo.proto")
    for path in ([], [6, 0], [6, 0, 2, 0]):
        sent.proto_file[1].source_code_info.location.add(path=path, leading_comments=" Hello.")
    assert "Hello." in respond_to(sent).file[0].content
    broken = sent.SerializeToString().replace(b" Hello.", b" \xffello.")
    found = respond_to(plugin_pb2.CodeGeneratorRequest.FromString(broken))
    assert "zoo.proto: the comment above it is not UTF-8" in found.error


def test_names_that_python_mangles_within_a_class_are_found() -> None:
    """One that begins with two underscores is another name there."""
    response = respond_to(request("__zoo.proto", service="_Zoo", message="__Meal", method="__Feed"))
    assert not response.error
    module = ast.parse(response.file[0].content)
    for one in (found for found in module.body if isinstance(found, ast.ClassDef)):
        said = [node.id for node in ast.walk(one) if isinstance(node, ast.Name)]
        said += [node.attr for node in ast.walk(one) if isinstance(node, ast.Attribute)]
        assert not [name for name in said if name.startswith("__") and not name.endswith("__")]
