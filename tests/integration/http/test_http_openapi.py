"""The API about itself: the index, the document in OpenAPI, and the page that shows it."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api import http_pb2
from google.protobuf import descriptor_pb2
from http_harness import FLEET, PARENT, Fleet, Instance, serving
from museum import MUSEUM, PACKAGE, Piece, add_museum
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette
from starlette.routing import Mount

import lro_grpc
from lro_grpc._http import docs_page
from lro_grpc._http.gateway import gateway

LOCATION = "/v1/projects/{project}/locations/{location}"
PIECE = f"{PACKAGE}.Piece"


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def added(registrar: Any) -> None:
    add_museum({}, registrar)


@pytest.fixture(scope="module")
def document() -> Any:
    """The document of a gateway with everything."""
    with serving("aio", Fleet(), plain=True, add=added) as http:
        return http.get("/openapi.json").ok


def operation(document: Any, method: str, path: str) -> Any:
    return document["paths"][path][method]


def properties(document: Any, name: str) -> Any:
    return document["components"]["schemas"][name]["properties"]


# The document


def test_the_document_is_one_of_openapi_3_1_wherever_the_gateway_is(serve: Any) -> None:
    for options in ({}, {"prefix": ["/v1", "/x/y"], "public_url": "https://example.com/base"}):
        found = serve(plain=True, add=added, options=options).get("/openapi.json").ok
        assert found["openapi"] == "3.1.0"
        OpenAPIV31SpecValidator(found).validate()


def test_it_names_what_is_served_and_nothing_else(serve: Any) -> None:
    """Each path is answered, and by the method that it says."""
    without = serve().get("/openapi.json").ok
    assert set(without["paths"][f"{LOCATION}/instances"]) == {"post"}
    assert set(without["paths"][f"{LOCATION}/instances/{{instance}}"]) == {"delete"}
    http = serve(plain=True, add=added)
    found = http.get("/openapi.json").ok
    assert set(found["paths"][f"{LOCATION}/instances"]) == {"post", "get"}
    assert not {"/v1/pieces:watch", "/v1/pieces:send"} & found["paths"].keys()
    assert not [path for path in found["paths"] if path.endswith(":download")]
    for path, item in found["paths"].items():
        reply = http.send("PROPFIND", re.sub(r"\{\w+\}", "x", path))
        assert reply.status == 405, path
        assert {*item} <= {one.lower() for one in reply.headers["allow"].split(", ")}, path


def test_routes_of_every_dialect_are_in_it(document: Any) -> None:
    named = f"{LOCATION}/operations/{{operation}}"
    assert set(document["paths"][named]) == {"get", "delete"}
    for path in (f"{LOCATION}/operations", "/v1/operations", "/v1/operations/{operation}"):
        assert "get" in document["paths"][path]
    for verb in ("cancel", "wait", "pause", "resume", "terminate", "rerun"):
        assert "post" in document["paths"][f"{named}:{verb}"]
    face = operation(document, "get", "/face/v1.0/operations/{operation_id}")
    assert schema_of(face) == ref("lro.v1.OperationStatus")
    deployments = "/deploymentmanager/v2/projects/{project}/global/operations"
    assert schema_of(operation(document, "get", f"{deployments}/{{operation}}")) == ref(
        "lro.v1.DeploymentOperation"
    )
    names = [one["name"] for one in operation(document, "get", deployments)["parameters"]]
    assert names[:3] == ["project", "filter", "maxResults"]
    assert schema_of(operation(document, "get", "/healthz"), "503") == ref("health-status")


def schema_of(found: Any, status: str = "200") -> Any:
    return found["responses"][status]["content"]["application/json"]["schema"]


def test_errors_are_those_of_the_dialect(document: Any) -> None:
    for path, dialect in {
        "/v1/operations/{operation}": "longrunning",
        "/face/v1.0/operations/{operation_id}": "azure-face",
        "/deploymentmanager/v2/projects/{project}/global/operations": "deployment-manager",
    }.items():
        found = operation(document, "get", path)
        assert schema_of(found, "default") == ref(f"{dialect}-error")


def test_a_start_has_its_types_in_the_document(document: Any) -> None:
    found = operation(document, "post", f"{LOCATION}/instances")
    assert schema_of(found) == ref("google.longrunning.Operation")
    assert "`lro.example.v1.Instance`" in found["description"]
    assert "lro.v1.OperationMetadata" in document["components"]["schemas"]
    assert found["operationId"] == "FleetService_CreateInstance"
    assert found["tags"] == ["FleetService"]
    assert found["requestBody"]["content"]["application/json"]["schema"] == ref(
        "lro.example.v1.Instance"
    )


def test_a_start_at_another_vendors_path_answers_as_that_vendor_does() -> None:
    rule = http_pb2.HttpRule(post="/face/v1.0/instances", body="*")
    with serving("aio", Fleet(), options={"rules": {f"{FLEET}/CreateInstance": rule}}) as http:
        found = operation(http.get("/openapi.json").ok, "post", "/face/v1.0/instances")
    assert "content" not in found["responses"]["202"]
    assert "Operation-Location" in found["responses"]["202"]["headers"]
    assert schema_of(found, "default") == ref("azure-face-error")


def test_a_watch_is_a_stream_of_events(document: Any) -> None:
    watch = operation(document, "get", "/v1/operations/{operation}:watch")
    assert list(watch["responses"]["200"]["content"]) == ["text/event-stream"]
    assert "content" not in watch["responses"]["204"]


def test_every_kind_of_field_is_what_its_json_is(document: Any) -> None:
    found = properties(document, PIECE)
    numbers = {"ofDouble", "ofFloat"}
    assert {name: found[name] for name in numbers} == {
        "ofDouble": ref("json-double"),
        "ofFloat": ref("json-float"),
    }
    for name in ("int64", "sint64", "sfixed64", "uint64", "fixed64"):
        assert found[f"of{name.title()}"]["type"] == "string", name
    for name in ("int32", "sint32", "sfixed32", "uint32", "fixed32"):
        assert found[f"of{name.title()}"]["type"] == "integer", name
    assert found["ofUint32"]["minimum"] == 0
    assert found["ofBool"] == {"type": "boolean"}
    assert found["ofBytes"]["contentEncoding"] == "base64"
    assert found["made"] == {"type": "string", "format": "date-time"}
    assert found["took"]["pattern"].endswith("s$")
    assert found["mask"] == found["note"] == {"type": "string"}
    assert found["extra"] == found["nothing"] == {"type": "object"}
    assert found["anything"] == {}
    assert found["several"] == {"type": "array", "items": {}}
    assert found["detail"] == ref("google.protobuf.Any")
    assert found["size"]["format"] == "int64"
    assert found["isRare"] == {"type": "boolean"}
    assert found["kind"] == ref(f"{PACKAGE}.Kind")
    assert document["components"]["schemas"][f"{PACKAGE}.Kind"]["enum"] == [
        *("KIND_UNSPECIFIED", "PAINTING", "STATUE")
    ]
    assert found["marks"] == {"type": "array", "items": {"type": "string"}}
    assert found["labels"] == {"type": "object", "additionalProperties": {"type": "string"}}


def test_a_message_within_itself_is_named(document: Any) -> None:
    found = properties(document, PIECE)
    assert found["parts"] == {"type": "array", "items": ref(PIECE)}
    assert found["beside"] == {"type": "object", "additionalProperties": ref(PIECE)}


def test_behaviors_of_fields(document: Any) -> None:
    """A number may be 0, which JSON leaves out; so it is never required."""
    found = properties(document, PIECE)
    assert document["components"]["schemas"][PIECE]["required"] == ["title"]
    assert found["number"]["readOnly"]
    assert found["secret"]["writeOnly"]
    assert found["old"]["deprecated"]
    assert [name for name, one in found.items() if "readOnly" in one] == ["number"]


def test_of_a_oneof_one_at_most_may_be_there(document: Any) -> None:
    found = document["components"]["schemas"][PIECE]
    assert found["not"] == {"anyOf": [{"required": ["maker", "place"]}]}


def test_what_is_in_the_path_is_in_no_other_place(document: Any) -> None:
    moved = operation(document, "post", "/v1/museums/{museum}/pieces/{piece}:move")
    assert "requestBody" not in moved
    assert [one["name"] for one in moved["parameters"]] == ["museum", "piece"]
    searched = operation(document, "post", "/v1/museums/{museum}/pieces:search")
    body = searched["requestBody"]["content"]["application/json"]["schema"]
    assert {*body["properties"]} == {
        *("pageSize", "kinds", "place", "since", "pieces", "extra", "key", "atLeast")
    }
    assert body["additionalProperties"] is False
    assert [one["in"] for one in searched["parameters"]] == ["path"]


def test_the_query_has_the_other_fields(document: Any) -> None:
    listed = operation(document, "get", "/v1/museums/{museum}/pieces")
    in_query = {one["name"]: one for one in listed["parameters"] if one["in"] == "query"}
    assert {*in_query} == {
        *("pageSize", "kinds", "place.city", "place.height", "since", "key", "atLeast")
    }
    assert in_query["kinds"]["schema"]["type"] == "array"
    created = operation(document, "post", f"{LOCATION}/instances")
    required = [one["name"] for one in created["parameters"] if one.get("required")]
    assert required == ["project", "location", "instanceId"]
    updated = operation(document, "patch", "/v1/museums/{museum}/pieces/{piece}")
    assert [one["name"] for one in updated["parameters"]] == ["museum", "piece", "updateMask"]


def test_a_response_body_is_what_is_answered(document: Any) -> None:
    listed = operation(document, "get", "/v1/museums/{museum}/pieces")
    assert schema_of(listed) == {"type": "array", "items": ref(PIECE)}
    assert schema_of(operation(document, "get", "/v1/pieces")) == ref(f"{PACKAGE}.PiecesResponse")
    made = schema_of(operation(document, "get", "/v1/pieces:made"))
    assert made["anyOf"][1] == {"type": "null"}


def test_its_address_is_the_one_that_clients_know() -> None:
    with serving("aio", Fleet()) as http:
        assert "servers" not in http.get("/openapi.json").ok
    with serving("aio", Fleet(), options={"public_url": "https://example.com/a/"}) as http:
        assert http.get("/openapi.json").ok["servers"] == [{"url": "https://example.com/a"}]
        assert http.get("/").ok["openapi"] == "https://example.com/a/openapi.json"

    def mounted(app: Any) -> Any:
        return Starlette(routes=[Mount("/below", app)])

    with serving("aio", Fleet(), wrap=mounted, options={"docs": True}) as http:
        assert http.get("/below/openapi.json").ok["servers"] == [{"url": "/below"}]
        assert http.get("/below/").ok["docs"] == "/below/docs"
        assert http.get("/below/docs/docs.js").status == 200


def test_a_client_that_has_it_is_not_sent_it_again() -> None:
    with serving("aio", Fleet()) as http:
        tag = http.get("/openapi.json").headers["etag"]
        for known in (tag, f'"x", W/{tag}'):
            again = http.send("GET", "/openapi.json", headers={"if-none-match": known})
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert http.send("GET", "/openapi.json", headers={"if-none-match": '"x"'}).status == 200


def test_its_version_is_that_of_the_packages(document: Any) -> None:
    assert document["info"]["version"] == "v1"


def test_no_message_can_have_the_name_of_a_schema_of_its_own(document: Any) -> None:
    """A full name has no hyphen, and here a package; the name of any other schema has a hyphen."""
    for name in document["components"]["schemas"]:
        assert ("-" in name) != ("." in name), name


def test_comments_are_those_of_the_protos() -> None:
    file = descriptor_pb2.FileDescriptorProto(
        name="test/museum/v1/museum.proto",
        package=PACKAGE,
        message_type=[{"name": "Piece", "field": [{"name": "title"}]}],
        service=[{"name": "MuseumService", "method": [{"name": "ListPieces"}]}],
    )
    for path, text in {
        (4, 0): " A piece.\n\n (-- not for readers --)\n",
        (4, 0, 2, 0): " Its title.\n",
        (6, 0, 2, 0): " Lists pieces\n of a museum.\n",
        (6, 0, 2, 7): " Nothing is here.\n",
        (4,): " Nor here.\n",
    }.items():
        file.source_code_info.location.add(path=path, leading_comments=text)
    described = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    with serving("aio", plain=True, add=added, options={"comments": described}) as http:
        found = http.get("/openapi.json").ok
    assert found["components"]["schemas"][PIECE]["description"] == "A piece."
    assert properties(found, PIECE)["title"]["description"] == "Its title."
    listed = operation(found, "get", "/v1/museums/{museum}/pieces")
    assert listed["description"] == "Lists pieces\nof a museum."


def test_comments_that_are_none_are_refused() -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="include_source_info"):
        gateway(lro_grpc.Operations("memory:"), comments=b"\xff")


def test_a_document_beyond_its_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lro_grpc._http.openapi.MOST_BYTES", 1000)
    with serving("aio", Fleet()) as http:
        reply = http.get("/openapi.json")
        assert reply.status == 501
        assert reply.json["error"]["details"][0]["reason"] == "DOCUMENT_TOO_LARGE"
        assert http.get("/v1/operations").status == 200


# The index


def test_the_index_names_what_there_is(serve: Any) -> None:
    index = serve(plain=True, add=added).get("/").ok
    assert {"lro.example.v1.FleetService", f"{PACKAGE}.MuseumService"} == {*index["services"]}
    assert index["dialects"] == {
        "longrunning": ["/v1"],
        "azure_face": ["/face/v1.0"],
        "deployment_manager": ["/deploymentmanager/v2"],
    }
    assert index["openapi"] == "/openapi.json"
    assert index["health"] == ["/healthz", "/livez"]
    assert not {"docs", "console"} & index.keys()


def test_the_index_names_pages_where_there_are_any() -> None:
    with serving("aio", Fleet(), options={"docs": True, "console": True, "openapi": True}) as http:
        index = http.get("/").ok
        assert (index["docs"], index["console"]) == ("/docs", "/console/")
        for path in (index["docs"], index["console"]):
            assert http.get(path).headers["content-type"].startswith("text/html")
    with serving("aio", Fleet(), options={"openapi": False}) as http:
        assert "openapi" not in http.get("/").ok
        assert http.get("/openapi.json").status == 404
        assert http.get("/docs").status == 404


@pytest.mark.parametrize("path", ["/", "/openapi.json", "/docs", "/docs/swagger-ui.css"])
def test_it_is_for_anyone_but_strangers_pages_and_changes_nothing(path: str) -> None:
    """Health is for anyone, too; methods and messages are no secrets, and no data is here."""

    def nobody(context: Any) -> str:
        raise lro_grpc.LroError("who are you?", code=lro_grpc.Code.UNAUTHENTICATED)

    with serving("aio", Fleet(), identify=nobody, options={"docs": True}) as http:
        got, head = http.get(path), http.send("HEAD", path)
        assert got.status == head.status == 200
        assert head.body == b""
        assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
        assert http.get(path, headers={"Host": "evil.example"}).status == 421
        refused = http.post(path, {})
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
        assert http.post(path, {}, headers={"Origin": "https://evil.example"}).status == 403


# What is the service's own


def piece_at(path: str) -> dict[str, http_pb2.HttpRule]:
    return {f"{MUSEUM}/GetPiece": http_pb2.HttpRule(get=path)}


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/healthz", "/livez"])
def test_a_method_of_the_services_own_hides_ours_and_is_not_hidden(path: str) -> None:
    def add(registrar: Any) -> None:
        add_museum({"GetPiece": lambda request, context: Piece(title="mine")}, registrar)

    with serving("aio", plain=True, add=add, options={"rules": piece_at(path)}) as http:
        assert http.get(path).ok == {"title": "mine"}
        if path == "/openapi.json":
            assert "openapi" not in http.get("/").ok
        else:
            found = http.get("/openapi.json").ok["paths"][path]["get"]
            assert found["operationId"] == "MuseumService_GetPiece"


@pytest.mark.parametrize("path", ["/docs", "/docs/{name}", "/openapi.json"])
def test_a_page_where_a_method_is_would_be_hidden_or_hide_it(path: str) -> None:
    operations = lro_grpc.Operations("memory:")
    add_museum({}, operations.attach(grpc.server(None)))
    with (
        grpc.insecure_channel("127.0.0.1:1") as channel,
        pytest.raises(lro_grpc.ConfigurationError, match="is a method of the service's own"),
    ):
        gateway(operations, channel=channel, rules=piece_at(path), docs=True)


def test_a_page_needs_the_document() -> None:
    with pytest.raises(lro_grpc.ConfigurationError, match="openapi is False"):
        gateway(lro_grpc.Operations("memory:"), docs=True, openapi=False)


# The page


def test_the_page_loads_nothing_from_elsewhere_and_may_not() -> None:
    with serving("aio", Fleet(), options={"docs": True}) as http:
        page = http.get("/docs")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        links = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
        assert len(links) == 4
        for link in links:
            assert link.startswith("docs/")
            file = http.get(f"/{link}")
            assert file.status == 200
            assert file.headers["content-security-policy"] == policy
            assert "immutable" in file.headers["cache-control"]
        assert http.get("/docs/docs.js").headers["cache-control"] == "no-cache"
        assert http.get("/docs/nope.js").status == 404
        assert http.get("/docs/swagger-ui.css.gz").status == 404
        assert http.get("/docs/..%2Fgateway.py").status == 404


FOLDER = Path(docs_page.__file__).parent / "swagger_ui"


def test_the_page_is_of_the_files_that_it_says() -> None:
    """Those of the version that was packed, packed for those who take it so."""
    text = (FOLDER / "README.md").read_text()
    assert f"swagger-ui-dist-{docs_page.VERSION}.tgz" in text
    hashes = dict(re.findall(r"\| `([\w.-]+?)(?:\.gz)?` \| `[\w.-]+` \| `([0-9a-f]{64})`", text))
    assert len(hashes) == 3
    with serving("aio", Fleet(), options={"docs": True}) as http:
        for name, expected in hashes.items():
            plain = http.get(f"/docs/{name}")
            assert hashlib.sha256(plain.body).hexdigest() == expected
            assert "content-encoding" not in plain.headers
        packed = http.get("/docs/swagger-ui-bundle.js", headers={"Accept-Encoding": "br, gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["vary"] == "accept-encoding"
        found = hashlib.sha256(gzip.decompress(packed.body)).hexdigest()
        assert found == hashes["swagger-ui-bundle.js"]
        assert len(packed.body) < 500_000


def test_what_an_operation_holds_is_nowhere_in_the_document(serve: Any, fleet: Fleet) -> None:
    http = serve(plain=True)
    http.post(f"/v1/{PARENT}/instances?instanceId=hunter2", {"schemaSql": ""})
    for path in ("/", "/openapi.json"):
        assert b"hunter2" not in http.get(path).body
    assert Instance.DESCRIPTOR.full_name.encode() in http.get("/openapi.json").body
    assert fleet is not None
