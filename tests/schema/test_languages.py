"""The options by which each proto has a place in every language (AIP-191)."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from test_golden import schema_files

FILES = [file.name for file in schema_files()]


def options_of(name: str) -> descriptor_pb2.FileOptions:
    file = descriptor_pb2.FileDescriptorProto()
    descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
    return file.options


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) >= 7


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_the_options_of_each_language(name: str) -> None:
    *package, file = name.split("/")
    upper = [part.capitalize() for part in package]
    words = file.removesuffix(".proto").split("_")
    options = options_of(name)
    assert options.csharp_namespace == ".".join(upper)
    assert options.go_package == f"lro-grpc/{'/'.join(package)};{''.join(package)}"
    assert options.java_multiple_files
    assert options.java_outer_classname == "".join(map(str.capitalize, words)) + "Proto"
    assert options.java_package == ".".join(package)
    assert options.objc_class_prefix.startswith("LRO")
    assert options.php_namespace == "\\".join(upper)
    assert options.ruby_package == "::".join(upper)


def test_no_class_of_a_file_has_the_name_of_a_message() -> None:
    """Java would refuse it."""
    for name in FILES:
        file = descriptor_pool.Default().FindFileByName(name)
        assert options_of(name).java_outer_classname not in file.message_types_by_name


def test_files_of_a_package_agree() -> None:
    """AIP-191: ``file-option-consistency``."""
    prefixes: dict[str, set[str]] = {}
    for name in FILES:
        package = name.rpartition("/")[0]
        prefixes.setdefault(package, set()).add(options_of(name).objc_class_prefix)
    assert prefixes == {"lro/v1": {"LRO"}, "lro/example/v1": {"LROEX"}}
