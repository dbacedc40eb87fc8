"""Code generation: what protoc needs, protoc itself, and the plugin for typed clients."""

from __future__ import annotations
