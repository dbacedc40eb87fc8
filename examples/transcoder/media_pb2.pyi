from google.longrunning import operations_pb2 as _operations_pb2
from lro.v1 import operation_metadata_pb2 as _operation_metadata_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class TranscodeRequest(_message.Message):
    __slots__ = ("source", "rate", "request_id")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    source: str
    rate: int
    request_id: str
    def __init__(self, source: _Optional[str] = ..., rate: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class Recording(_message.Message):
    __slots__ = ("file", "rate", "samples")
    FILE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    file: str
    rate: int
    samples: int
    def __init__(self, file: _Optional[str] = ..., rate: _Optional[int] = ..., samples: _Optional[int] = ...) -> None: ...
