"""Query parameters."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lro_grpc._errors import MalformedRequestError, cut

SYSTEM_PARAMETERS = frozenset(
    {"$.xgafv", "$alt", "$callback", "$fields", "$httpHeaders", "$outputDefaults", "$prettyPrint"}
    | {"$unique", "access_token", "alt", "bearer_token", "callback", "fields", "key"}
    | {"oauth_token", "prettyPrint", "quotaUser", "uploadType", "upload_protocol"}
)
"""Query parameters that Google's clients send with any request: they are no fields."""


def single_values(query: Sequence[tuple[str, str]], known: Collection[str]) -> dict[str, str]:
    """Returns the query parameters of a request but for those that Google's clients always send.

    Args:
        query: All parameters.
        known: Those that there are.

    Raises:
        MalformedRequestError: If one is not known, or given twice.
    """
    found: dict[str, str] = {}
    for name, text in query:
        if name in SYSTEM_PARAMETERS:
            continue
        if name not in known:
            raise bad_parameter(name, "is not known here")
        if name in found:
            raise bad_parameter(name, "is given twice")
        found[name] = text
    return found


def bad_parameter(name: str, what: str) -> MalformedRequestError:
    """Returns the error for a parameter, by its name and what is wrong with it."""
    return MalformedRequestError(
        f"the parameter {cut(name)!r} {what}", metadata={"parameter": cut(name)}
    )
