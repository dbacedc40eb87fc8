"""Hints at the parent of a list that has nothing: it may not be the one that was meant."""

from __future__ import annotations

from lro_grpc._operation.names import ANY_PARENT, COLLECTION
from lro_grpc._wire.plain_text import one_line


def hint_at_parent(parent: str) -> str:
    """Returns a sentence about a parent without operations; empty if all parents were asked for."""
    if parent == ANY_PARENT:
        return ""
    above, found, operation_id = f"{parent}/".partition(f"/{COLLECTION}/")
    if not found:
        instead = "`lro list` shows those of all parents"
    elif operation_id:
        instead = f"that is the name of one: lro get {parent}"
    else:
        instead = f"a parent is named without its collection: lro list {above}"
    return one_line(f"no operations of {parent}; {instead}")
