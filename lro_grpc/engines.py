"""Engines: the way of operations to their handlers, and the parts that an engine is made of.

A server runs handlers in its own process, by :class:`InProcess`; or it is given :class:`Temporal`.
An engine of one's own implements :class:`Engine`, and its options :class:`EngineOptions`. It names
operations to a :class:`Workbench`. That claims them, runs the :class:`Handler` of each one's
method, and sees to leases, time limits, progress and outcomes.
"""

from __future__ import annotations

from lro_grpc._engine.engine import Engine, EngineOptions, WorkbenchEngine
from lro_grpc._engine.handler import Handler
from lro_grpc._engine.inprocess import InProcess
from lro_grpc._engine.temporal.options import Temporal
from lro_grpc._engine.workbench import Workbench

__all__ = [
    "Engine",
    "EngineOptions",
    "Handler",
    "InProcess",
    "Temporal",
    "Workbench",
    "WorkbenchEngine",
]
