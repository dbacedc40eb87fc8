"""Links to resources, in the dialects that have them."""

from __future__ import annotations

from urllib.parse import quote

_PATH_CHARACTERS = "/-._~!$&'()*+,;=:@"
"""The characters that a link's path may have unencoded (RFC 3986)."""


def link_to(name: str, beginning: str) -> str:
    """Returns the link to a resource.

    Args:
        name: The resource's name; one that is a URL is its own link.
        beginning: The link's part before the name.
    """
    return name if "://" in name else f"{beginning}{quote(name, safe=_PATH_CHARACTERS)}"
