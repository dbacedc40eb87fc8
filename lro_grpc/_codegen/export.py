"""Writes into a folder all the protos that protoc needs to make clients in any language."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from lro_grpc._codegen.includes import export_directory
from lro_grpc._errors import ConfigurationError

_LISTED = 5
"""The most files that an error names."""


def export(directory: Path, *, overwrite: bool = False) -> int:
    """Writes the protos of this project and Google's, each under the name it is imported by.

    A file that is there with the same contents is left alone.

    Args:
        directory: Where to, made if it is missing. Files of other names stay as they are.
        overwrite: Whether to replace files that are there with other contents.

    Returns:
        The number of protos.

    Raises:
        ConfigurationError: If such a file is there and is not to be replaced; nothing is written.
        OSError: If a file cannot be written.
    """
    with export_directory(_well_known()) as source:
        protos = {
            proto.relative_to(source): proto.read_bytes() for proto in source.rglob("*.proto")
        }
    changed = {
        name: text
        for name, text in protos.items()
        if not (directory / name).is_file() or (directory / name).read_bytes() != text
    }
    others = sorted(str(name) for name in changed if os.path.lexists(directory / name))
    if others and not overwrite:
        more = f" and {len(others) - _LISTED} more" if len(others) > _LISTED else ""
        raise ConfigurationError(
            f"{directory} has other files of these names: {', '.join(others[:_LISTED])}{more};"
            " give another folder, or --force to replace them"
        )
    for name, text in changed.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()  # what it points to is not ours
        path.write_bytes(text)
    return len(protos)


def has_well_known() -> bool:
    """Whether ``google/protobuf`` is among the protos: it comes with grpcio-tools."""
    return _well_known() is not None


def _well_known() -> Path | None:
    """Finds the folder of ``google/protobuf`` in grpcio-tools; None without that package."""
    spec = importlib.util.find_spec("grpc_tools")
    for location in (spec and spec.submodule_search_locations) or ():
        return Path(location, "_proto", "google", "protobuf")
    return None
