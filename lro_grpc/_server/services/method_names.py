"""Verb and API version of an operation, read from its method's name by the AIPs."""

from __future__ import annotations

import re

_STANDARD_VERBS = (
    "Create",
    "Update",
    "Delete",
    "Undelete",
    "Purge",
    "Import",
    "Export",
    "Run",
)
_VERB = re.compile(rf"(Batch)?({'|'.join(_STANDARD_VERBS)})(?=[A-Z]|$)")
_VERSION = re.compile(r"v\d+((p\d+)?(alpha|beta)\d*)?")


def verb_of(method: str) -> str:
    """Returns the verb of a method: ``create``, ``batchCreate``, or for others ``takeSnapshot``.

    Args:
        method: ``/pkg.Service/Method``.
    """
    name = method.rpartition("/")[2]
    standard = _VERB.match(name)
    verb = standard.group() if standard else name
    return verb[:1].lower() + verb[1:]


def api_version_of(method: str) -> str:
    """Returns the last part of a method's package that is a version, such as ``v1``; else empty."""
    package = method.strip("/").partition("/")[0].split(".")[:-1]
    return next((part for part in reversed(package) if _VERSION.fullmatch(part)), "")
