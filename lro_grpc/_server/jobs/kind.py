"""A kind of job: its message and its methods, found by the names that the AIPs give them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import descriptor_pool, empty_pb2, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from lro_grpc import _anys
from lro_grpc._errors import ConfigurationError, InvalidArgumentError
from lro_grpc._operation import metadata, names
from lro_grpc._server.rpc import method_types
from lro_grpc._wire.proto_plus import protobuf_class

_NAMED = ("Get", "Cancel", "Pause", "Resume", "Delete")
"""The verbs of the methods whose request names a job."""

LISTED_BY: Mapping[str, int] = {
    "parent": FieldDescriptor.TYPE_STRING,
    "filter": FieldDescriptor.TYPE_STRING,
    "page_size": FieldDescriptor.TYPE_INT32,
    "page_token": FieldDescriptor.TYPE_STRING,
    "read_mask": FieldDescriptor.TYPE_MESSAGE,
}
"""The fields of a List's request that are served (AIP-132), and their types."""


@dataclass(frozen=True, slots=True)
class JobMethod:
    """One method of the service that has the jobs."""

    name: str
    """``/pkg.Service/GetTrainJob``."""
    request: type[Message]
    response: type[Message]
    metadata: type[Message] = metadata.DEFAULT_TYPE
    """The type of the metadata, where the response is an operation."""


class JobKind:
    """A kind of job.

    The types of its methods are those of the service's descriptor. A proto-plus package has none;
    then they are found by their names, such as ``GetTrainJobRequest``, in the service's package.

    Args:
        service: The full name of the service that has the jobs.
        job: The type of a job: a protobuf class, or a proto-plus class.
        collection: The collection in a job's name, in place of ``operations``; the name of the type
            with a small letter and an ``s`` unless given, such as ``trainJobs``.

    Raises:
        ConfigurationError: If the type lacks what a job has, or the service lacks a method to get
            one, or one of its methods is not as the AIPs have it.
    """

    def __init__(self, service: str, job: type[Any], collection: str | None = None) -> None:
        self.job = job
        """The declared type."""
        self.message = protobuf_class(job)
        """The protobuf class of it."""
        noun = self.message.DESCRIPTOR.name
        self.collection = collection or f"{noun[:1].lower()}{noun[1:]}s"
        """The collection in a job's name, in place of ``operations``."""
        if self.collection == names.COLLECTION or not names.is_segment(self.collection):
            raise ConfigurationError(
                f"the jobs' collection is {self.collection!r}; give one segment of a name, such as"
                " trainJobs, other than that of operations"
            )
        self.service = service
        """The full name of the service."""
        self._check_job()
        plural = f"{self.collection[:1].upper()}{self.collection[1:]}"
        nouns = {"Create": noun, "List": plural, **dict.fromkeys(_NAMED, noun)}
        found = {verb: self._method(verb, f"{verb}{name}") for verb, name in nouns.items()}
        self.methods: Mapping[str, JobMethod] = {
            verb: method for verb, method in found.items() if method is not None
        }
        """The methods that the service has, by their verbs."""
        if "Get" not in self.methods:
            raise ConfigurationError(
                f"no imported module declares Get{noun} of {service}, which gets a {noun};"
                " import the service's _pb2 module, or correct the service's name",
                metadata={"service": service},
            )

    def name_of(self, operation: str) -> str:
        """Returns the name of the job that an operation is."""
        parent, operation_id = names.split(operation)
        return names.operation_name(parent, operation_id, self.collection)

    def operation_of(self, name: str) -> str:
        """Returns the name of the operation that a job is.

        Raises:
            InvalidNameError: If it is not a job's name.
        """
        return names.operation_name(*names.split(name, self.collection))

    def to_create(self) -> JobMethod:
        """Returns the method that creates a job, and answers it.

        Raises:
            ConfigurationError: If the service has no such method.
        """
        method = self.methods.get("Create")
        if method is None or method.response is not self.message:
            noun = self.message.DESCRIPTOR.name
            raise ConfigurationError(
                f"{self.service} has no Create{noun} that returns a {noun};"
                " add the method that starts its jobs, and give its name as started_by"
            )
        return method

    def field_in(self, kind: type[Message], *, repeated: bool = False) -> str:
        """Returns the one field of a message that holds a job, or several.

        Raises:
            ConfigurationError: If it has none, or more than one.
        """
        found = [
            field.name
            for field in kind.DESCRIPTOR.fields
            if field.message_type is self.message.DESCRIPTOR and field.is_repeated == repeated
        ]
        if len(found) != 1:
            raise ConfigurationError(
                f"{kind.DESCRIPTOR.full_name} has {len(found)} fields that hold"
                f" {'several' if repeated else 'one'} {self.message.DESCRIPTOR.full_name};"
                " declare one"
            )
        return found[0]

    def _check_job(self) -> None:
        conventional = metadata.read(self.message())
        if "state" not in conventional or not _has_text(self.message, "name"):
            raise ConfigurationError(
                f"{self.message.DESCRIPTOR.full_name} cannot be shown as a job: it needs a string"
                " field name, and a field state of an enum with the values of lro.v1.JobState"
            )

    def _check_list(self, method: JobMethod) -> None:
        self.field_in(method.response, repeated=True)
        if not _has_text(method.response, "next_page_token"):
            raise _wrong(method, "its response has no string field next_page_token (AIP-158)")
        for field in method.request.DESCRIPTOR.fields:
            kind = LISTED_BY.get(field.name)
            if kind is not None and (field.type != kind or field.is_repeated):
                raise _wrong(method, f"the field {field.name} of its request is of another type")

    def _method(self, verb: str, name: str) -> JobMethod | None:
        found = self._declared(verb, name)
        if found is None:
            return None
        if verb in _NAMED and not _has_text(found.request, "name"):
            raise _wrong(found, "its request has no string field name")
        if verb == "Create":
            self.field_in(found.request)
        if verb == "List":
            self._check_list(found)
        elif found.response not in (self.message, empty_pb2.Empty, operations_pb2.Operation):
            raise _wrong(found, f"it returns {found.response.DESCRIPTOR.full_name}")
        return found

    def _declared(self, verb: str, name: str) -> JobMethod | None:
        full_name = f"/{self.service}/{name}"
        pool = descriptor_pool.Default()
        try:
            methods = pool.FindServiceByName(self.service).methods_by_name
        except KeyError:
            return self._conventional(verb, name)
        descriptor: MethodDescriptor | None = methods.get(name)
        if descriptor is None:
            return None
        return JobMethod(
            full_name,
            message_factory.GetMessageClass(descriptor.input_type),
            message_factory.GetMessageClass(descriptor.output_type),
            method_types.declared_metadata(descriptor) or self._conventional_metadata(verb),
        )

    def _conventional(self, verb: str, name: str) -> JobMethod | None:
        """Returns a method of a service whose descriptor is not known."""
        package = self._package
        responses = {
            "Create": self.message,
            "Get": self.message,
            "Delete": operations_pb2.Operation,
        }
        request = _anys.find_class(f"{package}{name}Request")
        response = (
            _anys.find_class(f"{package}{name}Response")
            if verb == "List"
            else responses.get(verb, empty_pb2.Empty)
        )
        if request is None or response is None:
            return None
        metadata_type = self._conventional_metadata(verb)
        return JobMethod(f"/{self.service}/{name}", request, response, metadata_type)

    def _conventional_metadata(self, verb: str) -> type[Message]:
        """Returns the type that a service without a descriptor has for a verb, or else our own."""
        found = _anys.find_class(f"{self._package}{verb}OperationMetadata")
        return found or metadata.DEFAULT_TYPE

    @property
    def _package(self) -> str:
        """The package of the service, with a dot behind it; empty for none."""
        return "".join(self.service.rpartition(".")[:2])


def _has_text(kind: type[Message], name: str) -> bool:
    field = kind.DESCRIPTOR.fields_by_name.get(name)
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def _wrong(method: JobMethod, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{method.name} cannot be a method of jobs: {what}", metadata={"method": method.name}
    )


def check_fields(request: Message, served: Collection[str]) -> None:
    """Refuses a request with a field that would have no effect.

    Raises:
        InvalidArgumentError: If a field is set that is not among those served.
    """
    for field, _ in request.ListFields():
        if field.name not in served:
            raise InvalidArgumentError(
                f"{request.DESCRIPTOR.name}.{field.name} is not supported; leave it unset",
                reason="FIELD_NOT_SUPPORTED",
                metadata={"field": field.name},
            )
