"""Filters of Deployment Manager's list, as filters of google.longrunning.

Its discovery document knows two kinds, which are not mixed: regular expressions, by ``eq`` and
``ne`` (``deployment_expressions``), and all else, which is AIP-160 (``deployment_comparisons``).
Both have this dialect's names for some fields, and otherwise those of google.longrunning
(``deployment_fields``). The limits of filters hold for what was sent, and for what that becomes.
"""

from __future__ import annotations

from lro_grpc._filtering import parser
from lro_grpc._http.vendors import deployment_comparisons, deployment_expressions


def translated(text: str, parent: str) -> str:
    """Returns a filter of this dialect as one of google.longrunning.

    Args:
        text: The filter.
        parent: The parent of the operations.

    Raises:
        InvalidFilterError: If it is too long, mixes the two kinds, or cannot be taken apart.
    """
    parser.check_characters(text)
    if deployment_expressions.begins(text):
        return deployment_expressions.translated(text, parent)
    return deployment_comparisons.translated(text, parent)
