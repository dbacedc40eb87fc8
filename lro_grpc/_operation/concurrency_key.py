"""Concurrency keys: what operations of one method have in common that begin in turn with others.

A key is a text of the service's choice, such as the name of a tenant; the empty one is none.
"""

from __future__ import annotations

from typing import Any

from lro_grpc._errors import ConfigurationError

MOST_CHARACTERS = 200


def is_sound(key: str) -> bool:
    """Returns whether a text is a key, or none."""
    return len(key) <= MOST_CHARACTERS and key.isprintable()


def check(key: Any) -> None:
    """Checks a key that a service gives.

    Raises:
        ConfigurationError: If it is none. A caller may read that, who must not see the key.
    """
    if isinstance(key, str) and is_sound(key):
        return
    if not isinstance(key, str):
        what = f"a {type(key).__name__}"
    elif len(key) > MOST_CHARACTERS:
        what = f"a text of {len(key):,} characters"
    else:
        odd = next(one for one in key if not one.isprintable())
        what = f"a text with U+{ord(odd):04X}, which is not printable"
    raise ConfigurationError(
        f"concurrency_key is {what}; give a text of at most {MOST_CHARACTERS} characters, all of"
        " them printable; what is longer may be hashed"
    )
