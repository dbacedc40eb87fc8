"""Checks of the options that a program gives: a mistake is named with its value."""

from __future__ import annotations

from typing import Any

from lro_grpc._errors import ConfigurationError, cut
from lro_grpc._wire.plain_text import is_text

MOST = 2**31 - 1
"""The highest number that an option takes unless it says otherwise."""


def check_number(option: str, value: Any, *, least: int = 1, most: int = MOST) -> None:
    """Checks an option that is a whole number.

    Args:
        option: Its name.
        value: Its value.
        least: The least that it may be.
        most: The most that it may be.

    Raises:
        ConfigurationError: If it is none, or another one. ``True`` is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"{option} is {value!r}; give a whole number of {least} to {most}")


def check_part(option: str, value: Any) -> None:
    """Checks an option that is a part of a whole.

    Raises:
        ConfigurationError: If it is no number above 0 and up to 1.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        raise ConfigurationError(f"{option} is {value!r}; give a number above 0 and up to 1")


def check_flag(option: str, value: Any) -> None:
    """Checks an option that is True or False; ``"False"``, for one, is true to Python.

    Raises:
        ConfigurationError: If it is neither.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"{option} is {value!r}; give True or False")


def check_text(option: str, value: Any) -> None:
    """Checks an option that is a text.

    Raises:
        ConfigurationError: If it is none, or has what no protobuf string can have.
    """
    if not is_text(value):
        raise ConfigurationError(f"{option} is {cut(repr(value))}; give a text")


def check_function(option: str, value: Any) -> None:
    """Checks an option that is a function.

    Raises:
        ConfigurationError: If it cannot be called.
    """
    if not callable(value):
        raise ConfigurationError(f"{option} is {value!r}; give a function")


def check_type(option: str, value: Any, kind: type) -> None:
    """Checks an option that is an object of a class.

    Raises:
        ConfigurationError: If it is none.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(f"{option} is {value!r}; give a {kind.__name__}")
