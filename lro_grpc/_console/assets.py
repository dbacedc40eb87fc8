"""The static files, each with the hash by which a browser keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file."""

    content: bytes
    media_type: str
    digest: str
    """Of its content, for its address: another content has another address."""


def _read() -> Mapping[str, Asset]:
    found = {}
    for file in (resources.files(__package__) / "static").iterdir():
        media_type = _MEDIA_TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:12]
            found[file.name] = Asset(content, media_type, digest)
    return MappingProxyType(dict(sorted(found.items())))


ASSETS: Mapping[str, Asset] = _read()
"""Every static file, by its name."""
