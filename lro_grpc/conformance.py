"""The contracts of a store and of an engine, as tests that any other one can be put through.

Subclass :class:`StoreConformance` in a test module; pytest collects what it inherits::

    from lro_grpc.conformance import StoreConformance

    class TestMyStore(StoreConformance):
        @pytest.fixture(autouse=True)
        def _place(self, tmp_path):
            self.path = tmp_path / "operations.db"

        def make_store(self, now):
            return MyStore(self.path, now)

A store that several processes have open at a time passes :class:`SharedStoreConformance`, too; the
same ``make_store`` does for it, if each store that it returns opens the same database.

An engine passes :class:`EngineConformance`::

    from lro_grpc.conformance import EngineConformance

    class TestMyEngine(EngineConformance):
        def make_engine(self):
            return MyEngineOptions()

The tests are plain functions that run an event loop of their own, so no plugin is needed.
"""

from __future__ import annotations

import sys

# Where pytest runs them, a failure shows the values that were compared.
if (pytest := sys.modules.get("pytest")) and "lro_grpc._conformance" not in sys.modules:
    pytest.register_assert_rewrite("lro_grpc._conformance")

from lro_grpc._conformance.announcements import Announcements
from lro_grpc._conformance.changes import Changes
from lro_grpc._conformance.claims import Claims
from lro_grpc._conformance.completions import Completions
from lro_grpc._conformance.counting import Counting
from lro_grpc._conformance.creation import Creation
from lro_grpc._conformance.durability import Durability
from lro_grpc._conformance.engine import EngineConformance
from lro_grpc._conformance.fairness import Fairness
from lro_grpc._conformance.history import History
from lro_grpc._conformance.labels import Labels
from lro_grpc._conformance.lists import Lists
from lro_grpc._conformance.removal import Removal
from lro_grpc._conformance.shared import SharedStoreConformance

__all__ = [
    "EngineConformance",
    "SharedStoreConformance",
    "StoreConformance",
]


class StoreConformance(
    Creation,
    Changes,
    Claims,
    Fairness,
    Removal,
    History,
    Completions,
    Labels,
    Lists,
    Counting,
    Announcements,
    Durability,
):
    """The promises of every :class:`lro_grpc.stores.Store`, one test each."""
