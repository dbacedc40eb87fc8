"""Code generation for users of the schema: what protoc needs, and protoc itself."""

from __future__ import annotations
