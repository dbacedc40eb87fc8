"""Texts for times and durations."""

from __future__ import annotations

from datetime import datetime, timezone


def iso(moment: datetime) -> str:
    """Returns a time for a ``datetime`` attribute, in UTC: ``2026-11-29T06:30:51.004Z``."""
    text = moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{text}Z"


def utc(moment: datetime) -> str:
    """Returns a time for people, in UTC: ``2026-11-29 06:30:51 UTC``."""
    text = moment.astimezone(timezone.utc).replace(tzinfo=None).isoformat(" ", "seconds")
    return f"{text} UTC"


def seconds_between(begin: datetime | None, end: datetime | None) -> float | None:
    """Returns a duration; None if an end of it is not known, and 0 if they are in disorder."""
    if begin is None or end is None:
        return None
    return max(0.0, (end - begin).total_seconds())


def took(seconds: float | None) -> str:
    """Returns a duration for people, in its two largest units: ``3 h 12 m``."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.0995 else f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s"))
    first = next(place for place, (number, _) in enumerate(units) if number)
    return " ".join(f"{number} {unit}" for number, unit in units[first : first + 2] if number)
