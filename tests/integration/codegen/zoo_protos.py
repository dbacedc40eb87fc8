"""Protos to generate from, and what runs the programs that do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]

HEAD = """\
syntax = "proto3";
package zoo.v1;
import "google/longrunning/operations.proto";
import "google/protobuf/empty.proto";
import "lro/v1/operation_metadata.proto";
message Ask { string name = 1; string request_id = 2; }
message Animal { string name = 1; }
message FeedResponse { message Meal { string dish = 1; } }
message BatchCreateAnimalsResponse {}
message BatchCreateAnimalsOperationMetadata {}
service Zoo {
"""
"""The beginning of a proto with a service: its methods begin in line 12."""

FIRST = HEAD.count("\n") + 1

ZOO = {
    "zoo/v1/zoo_service.proto": """\
syntax = "proto3";
package zoo.v1;

import "google/api/annotations.proto";
import "google/longrunning/operations.proto";
import "google/protobuf/empty.proto";
import "lro/v1/operation_metadata.proto";
import "other/v1/types.proto";
import "zoo/lambda/song.proto";
import "zoo/v1/types.proto";

// Keeps "animals".
service Zoo {
  // Feeds, with a \\ and \"\"\"quotes\"\"\", an "animal"
  rpc Feed(FeedRequest) returns (google.longrunning.Operation) {
    option (google.api.http) = {post: "/v1/{name=zoos/*}:feed" body: "*"};
    option (google.longrunning.operation_info).response_type = "FeedResponse.Meal";
    option (google.longrunning.operation_info).metadata_type = "lro.v1.OperationMetadata";
  }
  rpc Walk(Animal) returns (google.longrunning.Operation) {
    option (google.longrunning.operation_info) = {
      response_type: "other.v1.Animal"
      metadata_type: ".zoo.v1.Animal"
    };
  }
  rpc Sing(zoo.lambda.Song) returns (google.longrunning.Operation) {
    option (google.longrunning.operation_info) = {
      response_type: "zoo.lambda.None"
      metadata_type: "zoo.lambda.Song"
    };
  }
  // lro-grpc: allow D1 because it returns what Feed has started.
  rpc LastMeal(FeedRequest) returns (google.longrunning.Operation);
  rpc Look(FeedRequest) returns (Animal);
  rpc Tail(FeedRequest) returns (stream FeedResponse.Meal);
  rpc Join(stream FeedRequest) returns (Animal);
  rpc Chat(stream FeedRequest) returns (stream Animal);
  rpc None(FeedRequest) returns (google.protobuf.Empty);
  rpc Any(FeedRequest) returns (google.protobuf.Empty);
  rpc operations(FeedRequest) returns (google.protobuf.Empty);
  rpc prepare_Feed(FeedRequest) returns (google.protobuf.Empty);
  rpc _start(FeedRequest) returns (google.protobuf.Empty);
}

service Plain {
  rpc Look(FeedRequest) returns (Animal);
}

service AsyncZoo {
  rpc Feed(FeedRequest) returns (google.longrunning.Operation) {
    option (google.longrunning.operation_info) = {
      response_type: "FeedResponse"
      metadata_type: "lro.v1.OperationMetadata"
    };
  }
}

message FeedRequest {
  string name = 1;
  optional string request_id = 2;
}

message FeedResponse {
  message Meal {
    string dish = 1;
  }
}
""",
    "zoo/v1/types.proto": """\
edition = "2023";
package zoo.v1;
message Animal {
  string name = 1;
}
""",
    "zoo/lambda/song.proto": """\
syntax = "proto2";
package zoo.lambda;
message Song {
  optional string text = 1;
}
message None {}
""",
    "other/v1/types.proto": """\
syntax = "proto3";
package other.v1;
message Animal {
  string name = 1;
}
""",
}
"""Everything that a generator may stumble over."""


def rpc(
    name: str,
    response: str = "FeedResponse",
    metadata: str = "lro.v1.OperationMetadata",
    comment: str = "",
) -> str:
    """Returns a long-running method, its comment included."""
    return (
        f"{comment}  rpc {name}(Ask) returns (google.longrunning.Operation) {{\n"
        "    option (google.longrunning.operation_info) = {\n"
        f'      response_type: "{response}"\n'
        f'      metadata_type: "{metadata}"\n'
        "    };\n"
        "  }\n"
    )


def zoo(*methods: str, head: str = HEAD) -> dict[str, str]:
    """Returns a proto with those methods, by its name."""
    return {"zoo.proto": head + "".join(methods) + "}\n"}


def write(folder: Path, protos: Mapping[str, str]) -> None:
    """Writes protos by their names."""
    for name, text in protos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def run(*command: str | Path, cwd: Path, plugin: Path) -> subprocess.CompletedProcess[str]:
    """Runs a program that finds the plugin on its PATH."""
    path = os.pathsep.join([str(plugin.parent), os.environ["PATH"]])
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
