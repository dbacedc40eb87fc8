"""Labels: the rules for them, and the text in which a record has them.

Labels are pairs of a key and a value that an operation's author gives it, for people to find it by.
They never change. A record has them as one text, ``,env=prod,team=maps,``, in the order of their
keys; empty for none. Neither part of a label has a comma or an equals sign: so in any database
``,env=prod,`` is found in the text of an operation that has that label, and in no other one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lro_grpc._errors import ConfigurationError, cut

MOST_LABELS = 64
"""The most labels of one operation."""

KEY_RULE = "a to z, and then at most 62 of a to z, 0 to 9, _ and -"
VALUE_RULE = "at most 63 of a to z, 0 to 9, _ and -"

_KEY = re.compile("[a-z][a-z0-9_-]{0,62}")
_VALUE = re.compile("[a-z0-9_-]{0,63}")
_SOUND = re.compile(rf",(?:{_KEY.pattern}={_VALUE.pattern},){{1,{MOST_LABELS}}}")


def is_key(text: str) -> bool:
    """Returns whether a text may be the key of a label."""
    return _KEY.fullmatch(text) is not None


def is_value(text: str) -> bool:
    """Returns whether a text may be the value of a label."""
    return _VALUE.fullmatch(text) is not None


def fault_in(labels: object) -> str:
    """Returns which of some labels is none, and why; empty if each is one."""
    if not isinstance(labels, Mapping):
        return f"labels is {cut(repr(labels))}; give a mapping of keys to values, both texts"
    if len(labels) > MOST_LABELS:
        return f"there are {len(labels)} labels; give at most {MOST_LABELS}"
    for key, value in labels.items():
        if not isinstance(key, str) or not is_key(key):
            return f"a label has the key {cut(repr(key))}; a key is {KEY_RULE}"
        if not isinstance(value, str) or not is_value(value):
            return f"the label {key!r} has the value {cut(repr(value))}; a value is {VALUE_RULE}"
    return ""


def check(labels: object) -> None:
    """Checks labels that a program gives.

    Raises:
        ConfigurationError: If one of them is none, or they are no mapping, or too many.
    """
    if fault := fault_in(labels):
        raise ConfigurationError(fault)


def packed(labels: Mapping[str, str]) -> str:
    """Returns the text of labels that are checked."""
    if not labels:
        return ""
    return f",{','.join('='.join(label) for label in sorted(labels.items()))},"


def unpacked(text: str) -> Iterator[tuple[str, str]]:
    """Yields the labels of a text, each as its key and its value."""
    for label in text[1:-1].split(",") if text else ():
        key, _, value = label.partition("=")
        yield key, value


def value_in(text: str, key: str) -> str | None:
    """Returns the value that a key has in a text; None if it has none."""
    _, found, rest = text.partition(f",{key}=")
    return rest.partition(",")[0] if found else None


def is_sound(text: str) -> bool:
    """Returns whether a text that was read is one of ``packed``."""
    return not text or _SOUND.fullmatch(text) is not None
