"""The method that creates jobs, as a long-running one: its handler, its ``prepare``."""

from __future__ import annotations

import dataclasses
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf import empty_pb2
from google.protobuf.descriptor import FieldDescriptor

from lro_grpc._operation import labels
from lro_grpc._server.decorator import Prepared
from lro_grpc._server.jobs.kind import JobKind, JobMethod, check_fields
from lro_grpc._wire.proto_plus import as_declared, protobuf_message

_log = logging.getLogger("lro_grpc")

Labels = Mapping[str, str]

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
    labels_of = _labels_of(kind, create)

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
        all_labels = labels_of(job, prepared.labels)
        return dataclasses.replace(prepared, parent=parent, metadata=job, labels=all_labels)

    if prepare is None or inspect.iscoroutinefunction(prepare):

        async def prepare_async(request: Any, context: Any) -> Any:
            job = job_of(request)
            return with_job(await prepare(job, context) if prepare else None, request, job)

        return prepare_async

    def prepare_sync(request: Any, context: Any) -> Any:
        job = job_of(request)
        return with_job(prepare(job, context), request, job)

    return prepare_sync


def _labels_of(kind: JobKind, create: JobMethod) -> Callable[[Any, Labels], Labels]:
    """Returns what takes the labels of a new job: its own, and those of ``prepare``, which win.

    What the callers of a vendor's service take for labels need not be any here. Then a job has
    none of its own, and the log says so once.
    """
    field = kind.message.DESCRIPTOR.fields_by_name.get("labels")
    if field is None or not _is_map_of_texts(field):
        return lambda _job, prepared: prepared
    is_told = False

    def labels_of(job: Any, prepared: Labels) -> Labels:
        nonlocal is_told
        all_labels = {**protobuf_message(job).labels, **prepared}
        fault = labels.fault_in(all_labels)
        if not fault:
            return all_labels
        if not is_told:
            is_told = True
            _log.warning(
                "%s: a job whose own labels are none here is found by no filter on them: %s",
                *(create.name, fault),
            )
        return prepared

    return labels_of


def _is_map_of_texts(field: Any) -> bool:
    entry = field.message_type
    return bool(
        entry
        and entry.GetOptions().map_entry
        and all(one.type == FieldDescriptor.TYPE_STRING for one in entry.fields)
    )
