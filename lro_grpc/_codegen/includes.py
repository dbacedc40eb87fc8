"""The include directory that protoc needs for protos with long-running operations.

The googleapis-common-protos wheel ships ``google/longrunning/operations.proto`` under another
name than the one it is registered and imported by, so that protoc cannot find it. The directory
made here holds it under its own name, beside the other protos of that wheel and this project's.

This module loads nothing but the standard library: the generator of the stubs uses it before
there are any.
"""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_GOOGLE_PACKAGES = ("google.api", "google.longrunning", "google.rpc", "google.type")
_REGISTERED_NAMES = {"operations_proto.proto": "operations.proto"}


@contextmanager
def include_directory() -> Iterator[Path]:
    """Makes an include directory for protoc, and removes it at the end.

    Yields:
        A directory with the protos of ``google_include_directory`` and this project's ``lro/v1``.

    Raises:
        FileNotFoundError: If a package's protos are missing from the installation.
    """
    with google_include_directory() as directory:
        _copy_protos(_schema_directory() / "v1", directory / "lro" / "v1")
        yield directory


@contextmanager
def export_directory(well_known: Path | None) -> Iterator[Path]:
    """Makes a directory with all protos that teams without Python need; removes it at the end.

    Args:
        well_known: The protos of ``google/protobuf``; None leaves them out.

    Yields:
        A directory with the protos of ``google_include_directory``, and all of this project's.

    Raises:
        FileNotFoundError: If a package's protos are missing from the installation.
    """
    with google_include_directory() as directory:
        _copy_protos(_schema_directory(), directory / "lro")
        if well_known is not None:
            _copy_protos(well_known, directory / "google" / "protobuf")
        yield directory


@contextmanager
def google_include_directory() -> Iterator[Path]:
    """Makes an include directory with Google's protos alone, and removes it at the end.

    Yields:
        A directory with ``google/api``, ``google/longrunning``, ``google/rpc`` and ``google/type``
        of googleapis-common-protos, each file under the name it is imported by.
        ``google/protobuf`` is not in it: protoc brings that itself.

    Raises:
        FileNotFoundError: If a package's protos are missing from the installation.
    """
    with tempfile.TemporaryDirectory(prefix="lro-include-") as name:
        directory = Path(name)
        for package in _GOOGLE_PACKAGES:
            for source in _package_directories(package):
                _copy_protos(source, directory.joinpath(*package.split(".")))
        yield directory


def _schema_directory() -> Path:
    """Finds ``lro``: beside the stubs in a wheel, in ``protos/`` in a checkout."""
    for stubs in _package_directories("lro"):
        for candidate in (stubs, stubs.parents[1] / "protos" / "lro"):
            if (candidate / "v1" / "state.proto").exists():
                return candidate
    raise FileNotFoundError("the protos of lro.v1 are missing: install lro-grpc again")


def _package_directories(package: str) -> list[Path]:
    """Finds the directories of an installed package; a namespace package may have several."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package} is missing: install lro-grpc again")
    return [Path(location) for location in spec.submodule_search_locations]


def _copy_protos(source: Path, target: Path) -> None:
    for proto in source.rglob("*.proto"):
        name = _REGISTERED_NAMES.get(proto.name, proto.name)
        copy = target / proto.relative_to(source).with_name(name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(proto, copy)
