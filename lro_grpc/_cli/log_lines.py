"""The form of the lines of the log: the options of ``lro serve`` and ``lro work`` for it.

Texts of strangers are in messages, in fields and in the errors of tracebacks. None of them can make
a line that looks like one of the log's own: a message is one line whatever is in it, a traceback is
indented, and JSON escapes by itself.
"""

from __future__ import annotations

import enum
import json
import logging
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Annotated, Any

import typer

from lro_grpc._errors import ConfigurationError


class LogFormat(str, enum.Enum):
    """The forms of a line."""

    TEXT = "text"
    """Time, level, logger, and a message that names its operation; a traceback is indented."""
    JSON = "json"
    """An object, with the fields of the operation."""


class LogLevel(str, enum.Enum):
    """The levels, as they are typed."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


Format = Annotated[
    LogFormat | None,
    typer.Option(
        "--log-format",
        case_sensitive=False,
        help="The form of the log's lines, on stderr; as the module leaves it unless given.",
    ),
]
Level = Annotated[
    LogLevel | None,
    typer.Option(
        "--log-level",
        case_sensitive=False,
        help="The lowest level that is logged; as the module leaves it unless given.",
    ),
]

_INDENT = "    "


def configure(form: LogFormat | None, level: LogLevel | None) -> None:
    """Sends the log of all of this process to stderr; does nothing if neither is given.

    Args:
        form: The form of the lines; text unless given.
        level: The lowest level that is logged; WARNING unless given.

    Raises:
        ConfigurationError: If the extra for JSON is missing.
    """
    if form is None and level is None:
        return
    lines = logging.StreamHandler()
    lines.setFormatter(_json_lines() if form is LogFormat.JSON else TextLines())
    named = (level or LogLevel.WARNING).value.upper()
    logging.basicConfig(level=named, handlers=[lines], force=True)
    logging.captureWarnings(True)


class TextLines(logging.Formatter):
    """Formats a record as a line of text, with its traceback and its stack indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line, and those below it."""
        message = record.getMessage()
        operation = getattr(record, "operation", None)
        if isinstance(operation, str) and operation not in message:
            message = f"{operation}: {message}"
        head = f"{_time(record)} {record.levelname} {record.name}: {_escaped(message)}"
        return "\n".join([head, *self._below(record)])

    def _below(self, record: logging.LogRecord) -> Iterator[str]:
        exception = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        stack = self.formatStack(record.stack_info) if record.stack_info else ""
        for text in (exception or "", stack):
            yield from (f"{_INDENT}{_escaped(line)}" for line in text.splitlines())


def _json_lines() -> logging.Formatter:
    """Returns what formats a record as an object of JSON, on one line."""
    try:
        from pythonjsonlogger.json import JsonFormatter
    except ModuleNotFoundError as cause:
        raise ConfigurationError(
            "--log-format json needs python-json-logger: pip install 'lro-grpc[cli]'"
        ) from cause

    class JsonLines(JsonFormatter):
        def add_fields(
            self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
        ) -> None:
            """Puts the log's own fields first; no field of others has the name of one of them."""
            fields: dict[str, Any] = {}
            super().add_fields(fields, record, message_dict)
            fields.pop("color_message", None)  # uvicorn's message once more, with colours in it
            own = {
                "time": _time(record),
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
                "pid": record.process,
            }
            log_data.update({**own, **fields, **own})

        def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
            """Returns the line; of a field that is no JSON it has Python's words."""
            try:
                return super().jsonify_log_record(log_data)
            except (TypeError, ValueError, RecursionError):
                return super().jsonify_log_record({k: _plain(v) for k, v in log_data.items()})

    def serialized(fields: dict[str, Any], **options: Any) -> str:
        return json.dumps(fields, allow_nan=False, **options)

    return JsonLines(
        "",
        rename_fields={"exc_info": "exception", "stack_info": "stack"},
        json_serializer=serialized,
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int)) or value is None else repr(value)


def _time(record: logging.LogRecord) -> str:
    """Returns the time as RFC 3339 has it, in UTC."""
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"


def _escaped(text: str) -> str:
    """Returns a text with all that commands or shows nothing as Python's escapes."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
