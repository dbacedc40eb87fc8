"""The method that creates jobs, as a long-running one: its handler, its ``prepare``."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

from google.protobuf import empty_pb2

from lro_grpc._server.decorator import Prepared
from lro_grpc._server.jobs.kind import JobKind, JobMethod, check_fields
from lro_grpc._wire.proto_plus import as_declared

_CREATED_BY = {"parent", "request_id", "validate_only"}
"""The fields of a Create's request that are served, beside the one that holds the job."""


def run_of(kind: JobKind, run: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Returns the run of the method that creates jobs, sync or async as the service's own is.

    Args:
        kind: The kind of the jobs.
        run: The service's own, which is given the job, and the operation.
    """

    def job_of(op: Any) -> Any:
        job = op.metadata
        job.name = kind.name_of(op.name)
        return job

    def checked(answer: Any) -> Any:
        return empty_pb2.Empty() if answer is None else answer  # what is no Empty is refused

    if inspect.iscoroutinefunction(run):

        async def run_async(request: object, op: Any) -> Any:
            del request
            return checked(await run(job_of(op), op))

        return run_async

    def run_sync(request: object, op: Any) -> Any:
        del request
        return checked(run(job_of(op), op))

    return run_sync


def prepare_of(
    kind: JobKind, create: JobMethod, prepare: Callable[[Any, Any], Any] | None
) -> Callable[[Any, Any], Any]:
    """Returns the prepare of the method that creates jobs, sync or async as the service's own is.

    Args:
        kind: The kind of the jobs.
        create: The method.
        prepare: The service's own, which is given the job, and the RPC's context.
    """
    field = kind.field_in(create.request)

    def job_of(request: Any) -> Any:
        check_fields(request, _CREATED_BY | {field})
        job = kind.message()
        job.CopyFrom(getattr(request, field))
        return as_declared(job, kind.job)

    def with_job(prepared: Any, request: Any, job: Any) -> Any:
        prepared = Prepared() if prepared is None else prepared
        if not isinstance(prepared, Prepared):
            return prepared  # the caller says what is wrong with it
        parent = getattr(request, "parent", "") if prepared.parent is None else prepared.parent
        return dataclasses.replace(prepared, parent=parent, metadata=job)

    if prepare is None or inspect.iscoroutinefunction(prepare):

        async def prepare_async(request: Any, context: Any) -> Any:
            job = job_of(request)
            return with_job(await prepare(job, context) if prepare else None, request, job)

        return prepare_async

    def prepare_sync(request: Any, context: Any) -> Any:
        job = job_of(request)
        return with_job(prepare(job, context), request, job)

    return prepare_sync
