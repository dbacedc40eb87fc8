"""Formats that a proto declares for its fields, by ``google.api.field_info`` (AIP-202)."""

from __future__ import annotations

import re
from typing import Any

from google.api import field_info_pb2

_HEX = "[0-9A-Fa-f]"
_UUID4 = re.compile(rf"{_HEX}{{8}}-{_HEX}{{4}}-4{_HEX}{{3}}-[89ABab]{_HEX}{{3}}-{_HEX}{{12}}")


def declares_uuid4(field: Any) -> bool:
    """Tells whether a field, of which this is the descriptor, is declared a UUID of version 4."""
    extension: Any = field_info_pb2.field_info
    info: Any = field.GetOptions().Extensions[extension]
    return bool(info.format == field_info_pb2.FieldInfo.UUID4)


def is_uuid4(text: str) -> bool:
    """Tells whether a text is a UUID of version 4 (RFC 9562), in either case."""
    return _UUID4.fullmatch(text) is not None
