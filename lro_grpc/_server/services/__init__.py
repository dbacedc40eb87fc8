"""RPCs of google.longrunning.Operations and of lro.v1.OperationControlService."""

from __future__ import annotations
