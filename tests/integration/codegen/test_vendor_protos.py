"""The protoc plugin on Google's own services: those of the vendors' packages at hand."""

from __future__ import annotations

import pytest

pytest.importorskip("google.cloud.alloydb_v1", reason="the group vendors is not installed")

from vendor_protos import VendorService, vendor_services

from lro_grpc._codegen.plugin import respond

pytestmark = pytest.mark.vendors

PACKAGES = ("google.cloud.alloydb_v1", "google.cloud.aiplatform_v1")


@pytest.fixture(scope="module")
def services() -> dict[str, VendorService]:
    return {one.name: one for package in PACKAGES for one in vendor_services(package)}


def refused(services: dict[str, VendorService], parameter: str) -> dict[str, set[str]]:
    """Returns the rules by which services are refused, and checks that the rest is written."""
    found = {}
    for name, service in services.items():
        response = respond(service.asking(parameter))
        if response.error:
            found[name] = {line.split(": ")[1] for line in response.error.splitlines()[1:]}
        else:
            compile(response.file[0].content, name, "exec")
    return found


def test_there_are_services_to_look_at(services: dict[str, VendorService]) -> None:
    assert len(services) >= 20
    assert sum(service.long_running for service in services.values()) >= 90


def test_no_method_is_taken_for_a_standard_one_that_it_is_not(
    services: dict[str, VendorService],
) -> None:
    """Such as AlloyDB's CreateSecondaryCluster, which has a Cluster; nor a mixed-in method."""
    found = refused(services, "")
    assert "google.cloud.alloydb.v1.AlloyDBAdmin" in found
    assert {rule for rules in found.values() for rule in rules} <= {"D3", "D6"}


def test_the_rest_is_taken_where_its_rules_are_allowed(
    services: dict[str, VendorService], capfd: pytest.CaptureFixture[str]
) -> None:
    assert refused(services, "allow=D3,D6") == {}
    assert ": D6: BatchCreateInstances: " in capfd.readouterr().err
