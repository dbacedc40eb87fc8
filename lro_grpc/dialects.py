"""An operation as five vendors show theirs, and back: one dialect for each vendor.

:func:`to_json` shows an operation in a dialect. In steps: an :class:`OperationView` is made of the
operation, and a :class:`Dialect` of :data:`DIALECTS` makes its own message or JSON of the view.
"""

from __future__ import annotations

from lro_grpc._dialects.dialect import Dialect
from lro_grpc._dialects.registry import DIALECTS, to_json
from lro_grpc._dialects.view import OperationView

__all__ = ["DIALECTS", "Dialect", "OperationView", "to_json"]
