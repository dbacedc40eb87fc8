"""Verbs and API versions, read from the names of methods by the AIPs."""

from __future__ import annotations

import pytest

from lro_grpc._server.services.method_names import api_version_of, verb_of


@pytest.mark.parametrize(
    ("method", "verb"),
    [
        # the standard methods (AIP-133 to 135, 164, 165, 152, 153), whatever they act on
        ("CreateInstance", "create"),
        ("UpdateInstance", "update"),
        ("DeleteInstance", "delete"),
        ("UndeleteInstance", "undelete"),
        ("PurgeInstances", "purge"),
        ("ImportInstances", "import"),
        ("ExportInstances", "export"),
        ("RunBackupJob", "run"),
        # their batch forms (AIP-233 to 235)
        ("BatchCreateInstances", "batchCreate"),
        ("BatchUpdateInstances", "batchUpdate"),
        ("BatchDeleteInstances", "batchDelete"),
        # the verb alone
        ("Create", "create"),
        ("Delete", "delete"),
        ("BatchCreate", "batchCreate"),
        ("Run", "run"),
        # custom methods (AIP-136) keep their whole name
        ("TakeSnapshot", "takeSnapshot"),
        ("RestartInstance", "restartInstance"),
        ("MoveInstance", "moveInstance"),
        ("Restart", "restart"),
        ("BatchMoveInstances", "batchMoveInstances"),
        # what only begins like a standard verb is not one
        ("Runner", "runner"),
        ("Updater", "updater"),
        ("Creative", "creative"),
        ("Importance", "importance"),
        ("DeletedInstances", "deletedInstances"),
        ("Batch", "batch"),
        ("Batchify", "batchify"),
        # names out of style still give something
        ("create", "create"),
        ("X", "x"),
        ("lowercase", "lowercase"),
        ("CreateURL", "create"),
    ],
)
def test_verb_of(method: str, verb: str) -> None:
    assert verb_of(f"/acme.fleet.v1.Fleet/{method}") == verb


@pytest.mark.parametrize(
    ("service", "version"),
    [
        ("acme.fleet.v1.Fleet", "v1"),
        ("acme.fleet.v12.Fleet", "v12"),
        ("acme.v1beta1.Fleet", "v1beta1"),
        ("acme.v1alpha.Fleet", "v1alpha"),
        ("acme.v2alpha3.Fleet", "v2alpha3"),
        ("acme.v1p1beta1.Fleet", "v1p1beta1"),
        ("acme.v1.admin.Fleet", "v1"),
        ("acme.v1.admin.v2.Fleet", "v2"),
        ("v3.Fleet", "v3"),
        ("acme.fleet.Fleet", ""),
        ("Fleet", ""),
        ("acme.vienna.Fleet", ""),
        ("acme.v.Fleet", ""),
        ("acme.v1x.Fleet", ""),
        ("acme.v1.0.Fleet", "v1"),
        ("acme.V1.Fleet", ""),
        ("acme.v1p1.Fleet", ""),
        ("acme.version1.Fleet", ""),
        ("acme.fleet.v1", ""),  # the service's own name is no version
    ],
)
def test_api_version_of(service: str, version: str) -> None:
    assert api_version_of(f"/{service}/CreateInstance") == version
