"""The JSON that vendors document, read and written again without a difference."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format

from lro.v1 import batch_create_instances_pb2, deployment_operation_pb2, operation_status_pb2

DEPLOYMENT_OPERATION = """{
  "kind": "deploymentmanager#operation",
  "id": "7123423453456654321",
  "name": "operation-11233234311678-587af2c0xyz9c-0987fa54-baccd59f",
  "operationType": "insert",
  "targetLink": "https://www.googleapis.com/deploymentmanager/v2/projects/example-project/global/deployments/wordpress-1",
  "targetId": "5123321654456321123",
  "status": "DONE",
  "user": "example@example.com",
  "progress": 100,
  "insertTime": "2019-04-29T11:08:32.190-07:00",
  "startTime": "2019-04-29T11:08:32.200-07:00",
  "endTime": "2019-04-29T11:09:38.176-07:00",
  "selfLink": "https://www.googleapis.com/deploymentmanager/v2/projects/example-project/global/operations/operation-11233234311678-587af2c0xyz9c-0987fa54-baccd59f"
}"""

OPERATION_STATUS = """{
  "status": "succeeded",
  "createdTime": "2018-12-25T11:41:02.2331413Z",
  "lastActionTime": "2018-12-25T11:51:27.8705696Z",
  "resourceLocation": "/snapshots/e58b3f08-1e8b-4165-81df-aa9858f233dc",
  "message": null
}"""


def test_deployment_operation_sample_is_written_as_it_was_read() -> None:
    operation = json_format.Parse(
        DEPLOYMENT_OPERATION, deployment_operation_pb2.DeploymentOperation()
    )
    assert json_format.MessageToJson(operation) == DEPLOYMENT_OPERATION


def test_operation_status_sample_is_written_as_it_was_read_without_its_null() -> None:
    status = json_format.Parse(OPERATION_STATUS, operation_status_pb2.OperationStatus())
    # Null and absent mean the same in this form; protobuf writes no nulls.
    expected = OPERATION_STATUS.replace(',\n  "message": null', "")
    assert json_format.MessageToJson(status) == expected


@pytest.mark.parametrize("word", ["notstarted", "running", "succeeded", "failed"])
def test_every_status_word_is_in_json(word: str) -> None:
    sample = {"status": word, "createdTime": "2018-12-25T11:41:02.2331413Z"}
    status = json_format.ParseDict(sample, operation_status_pb2.OperationStatus())
    assert json_format.MessageToDict(status) == sample


def test_deployment_operation_failure_keeps_every_part() -> None:
    sample = {
        "status": "DONE",
        "progress": 100,
        "error": {
            "errors": [
                {
                    "code": "QUOTA_EXCEEDED",
                    "location": "instances/i3",
                    "message": "no room",
                    "arguments": ["i3"],
                    "debugInfo": {"stackEntries": ["a", "b"], "detail": "c"},
                    "errorDetails": [
                        {
                            "errorInfo": {
                                "reason": "NO_ROOM",
                                "domain": "d",
                                "metadatas": {"k": "v"},
                            }
                        },
                        {
                            "help": {
                                "links": [{"description": "more", "url": "https://example.com"}]
                            }
                        },
                        {"localizedMessage": {"locale": "de-DE", "message": "kein Platz"}},
                        {
                            "quotaInfo": {
                                "metricName": "cpus",
                                "limitName": "CPUS",
                                "dimensions": {"region": "r"},
                                "limit": 2.5,
                                "futureLimit": 4.0,
                                "rolloutStatus": "IN_PROGRESS",
                            }
                        },
                    ],
                }
            ]
        },
        "warnings": [
            {
                "code": "PARTIAL_SUCCESS",
                "message": "parts failed",
                "data": [{"key": "scope", "value": "zones/us-east1-d"}],
            }
        ],
        "httpErrorStatusCode": 429,
        "httpErrorMessage": "TOO MANY REQUESTS",
        "details": {"message": "more", "data": {"text": "t", "number": 1.5, "list": [True, None]}},
    }
    operation = json_format.ParseDict(sample, deployment_operation_pb2.DeploymentOperation())
    assert json_format.MessageToDict(operation) == sample


def test_deployment_operation_parts_no_progress_from_none_given() -> None:
    shown = json.loads('{"status": "PENDING", "progress": 0}')
    operation = json_format.ParseDict(shown, deployment_operation_pb2.DeploymentOperation())
    assert json_format.MessageToDict(operation) == shown
    operation.ClearField("progress")
    assert json_format.MessageToDict(operation) == {"status": "PENDING"}


def test_batch_create_instance_status_has_the_documented_bytes() -> None:
    status = batch_create_instances_pb2.BatchCreateInstanceStatus(
        state=batch_create_instances_pb2.BatchCreateInstanceStatus.READY,
        type=batch_create_instances_pb2.BatchCreateInstanceStatus.PRIMARY,
        error_msg="x",
    )
    assert status.SerializeToString() == bytes.fromhex("08 02 12 01 78 18 01")
