"""The server side: operations served from a gRPC server."""

from __future__ import annotations
