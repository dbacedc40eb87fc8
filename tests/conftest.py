"""Settings of all tests."""

from __future__ import annotations

from hypothesis import settings

# An example may be slow on a busy machine; time is measured by the benchmarks, not by tests.
settings.register_profile("lro-grpc", deadline=None)
settings.load_profile("lro-grpc")
