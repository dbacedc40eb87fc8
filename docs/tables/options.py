"""The tables of options: their defaults from the signature, their meaning from the docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lro_grpc
import lro_grpc.events
import lro_grpc.http
from tables.markdown import default, prose, sections, table


def options(made: Callable[..., Any]) -> str:
    """Returns the table of what something is made with."""
    documented = sections(made.__doc__ or "")
    meaning = {**documented.get("Attributes", {}), **documented.get("Args", {})}
    parameters = inspect.signature(made).parameters.values()
    rows = [
        [f"`{one.name}`", default(one.default), prose(meaning[one.name])]
        for one in parameters
        if one.name in meaning
    ]
    missing = [one.name for one in parameters if one.name not in meaning]
    assert not missing, f"the docstring of {made.__qualname__} says nothing of {missing}"
    return table(["option", "unless given", "meaning"], rows)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "operations_options": partial(options, lro_grpc.Operations),
    "method_options": partial(options, lro_grpc.MethodOptions),
    "prepared": partial(options, lro_grpc.Prepared),
    "limits": partial(options, lro_grpc.Limits),
    "backoff": partial(options, lro_grpc.Backoff),
    "client_options": partial(options, lro_grpc.OperationsClient),
    "retry": partial(options, lro_grpc.Retry),
    "gateway_options": partial(options, lro_grpc.http.gateway),
    "webhook_options": partial(options, lro_grpc.events.Webhook),
}
"""The blocks on options, by name."""
