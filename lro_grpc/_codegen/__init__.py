"""Code generation: protoc with its include directory, and the plugin for typed clients."""

from __future__ import annotations
