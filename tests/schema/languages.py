"""Compiles what ``lro protos`` writes, in Go, Java and TypeScript: ``make check-languages``.

It takes the tools of each language from its registry, the newest ones but for Java's, of which a
project names the versions, and keeps them in ``build/languages``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from lro_grpc._codegen.export import export

WORK = Path(__file__).parents[2] / "build" / "languages"
MINUTES = 10
"""The longest that a step may take; the first one fetches the tools."""

PROTOC_JAVA, GRPC_JAVA = "4.33.0", "1.76.0"
POM = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>lro</groupId><artifactId>lro</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>io.grpc</groupId><artifactId>grpc-stub</artifactId>
      <version>{GRPC_JAVA}</version></dependency>
    <dependency><groupId>io.grpc</groupId><artifactId>grpc-protobuf</artifactId>
      <version>{GRPC_JAVA}</version></dependency>
    <dependency><groupId>com.google.protobuf</groupId><artifactId>protobuf-java</artifactId>
      <version>{PROTOC_JAVA}</version></dependency>
    <dependency><groupId>com.google.api.grpc</groupId>
      <artifactId>grpc-google-common-protos</artifactId><version>2.63.1</version></dependency>
    <dependency><groupId>javax.annotation</groupId><artifactId>javax.annotation-api</artifactId>
      <version>1.3.2</version></dependency>
  </dependencies>
</project>
"""

GO_PROGRAM = """\
package main

import (
	"fmt"

	fleet "lro-grpc/lro/example/v1"
	lro "lro-grpc/lro/v1"
)

func main() {
	fmt.Println(lro.JobState_JOB_STATE_PAUSED, fleet.NewFleetServiceClient(nil), &fleet.Instance{})
}
"""

TSCONFIG = """\
{"compilerOptions": {"strict": true, "noEmit": true, "skipLibCheck": true, "types": ["node"],
  "target": "es2022", "module": "esnext", "moduleResolution": "bundler"},
 "include": ["FOLDER/**/*.ts"]}
"""


def go(protos: Path) -> None:
    """protoc-gen-go, protoc-gen-go-grpc: in a module of its own, and from another one."""
    home = WORK / "go"
    env = {**os.environ, "GOPATH": str(home), "GOCACHE": str(WORK / "go-cache")}
    env["GOFLAGS"] = "-modcacherw"  # else `make clean` cannot remove what it fetches
    for tool in (
        "google.golang.org/protobuf/cmd/protoc-gen-go@latest",
        "google.golang.org/grpc/cmd/protoc-gen-go-grpc@latest",
    ):
        run("go", "install", tool, cwd=WORK, env=env)
    generated = fresh("go-generated")
    options = [
        *(f"--plugin={home / 'bin' / name}" for name in ("protoc-gen-go", "protoc-gen-go-grpc")),
        *(f"--{name}_out={generated}" for name in ("go", "go-grpc")),
        *(f"--{name}_opt=paths=source_relative" for name in ("go", "go-grpc")),
    ]
    protoc(protos, options, "lro/**/*.proto")
    for arguments in (("mod", "init", "lro-grpc"), ("mod", "tidy"), ("vet", "./...")):
        run("go", *arguments, cwd=generated, env=env)
    program = fresh("go-program")
    (program / "main.go").write_text(GO_PROGRAM)
    run("go", "mod", "init", "example.com/program", cwd=program, env=env)
    for edit in ("-require=lro-grpc@v0.0.0", f"-replace=lro-grpc={generated}"):
        run("go", "mod", "edit", edit, cwd=program, env=env)
    run("go", "mod", "tidy", cwd=program, env=env)
    run("go", "vet", ".", cwd=program, env=env)


def java(protos: Path) -> None:
    """protoc's own Java, and grpc-java's plugin."""
    project = fresh("java-project")
    (project / "pom.xml").write_text(POM)
    jars, tools = WORK / "java-jars", WORK / "java-tools"
    maven = ("mvn", "--quiet", "--batch-mode", f"-Dmaven.repo.local={WORK / 'maven'}")
    run(*maven, "dependency:copy-dependencies", f"-DoutputDirectory={jars}", cwd=project)
    for artifact in (
        f"com.google.protobuf:protoc:{PROTOC_JAVA}:exe:linux-x86_64",
        f"io.grpc:protoc-gen-grpc-java:{GRPC_JAVA}:exe:linux-x86_64",
    ):
        copy = (f"-Dartifact={artifact}", f"-DoutputDirectory={tools}")
        run(*maven, "dependency:copy", *copy, cwd=project)
    for tool in tools.iterdir():
        tool.chmod(0o755)
    generated = fresh("java-generated")
    compiler, plugin = (next(tools.glob(f"{name}-*")) for name in ("protoc", "protoc-gen-grpc"))
    options = [
        f"-I{protos}",
        f"--java_out={generated}",
        f"--plugin=protoc-gen-grpc-java={plugin}",
        f"--grpc-java_out={generated}",
    ]
    run(compiler, *options, *names(protos, "lro/**/*.proto"), cwd=protos)
    sources = sorted(generated.rglob("*.java"))
    run("javac", "-nowarn", "-cp", f"{jars}/*", "-d", fresh("java-classes"), *sources, cwd=WORK)


def typescript(protos: Path) -> None:
    """ts-proto, and protoc-gen-es with the files that it imports."""
    home = WORK / "node"
    home.mkdir(exist_ok=True)
    (home / "package.json").write_text('{"private": true, "type": "module"}')
    packages = ("typescript", "@types/node", "@bufbuild/protoc-gen-es", "@bufbuild/protobuf")
    more = ("ts-proto", "rxjs", "@grpc/grpc-js")
    run("npm", "install", "--silent", "--no-audit", "--no-fund", *packages, *more, cwd=home)
    tools = home / "node_modules" / ".bin"
    google = ("google/api/*.proto", "google/rpc/*.proto", "google/longrunning/*.proto")
    for name, options, patterns in (
        ("ts_proto", (), ("lro/**/*.proto",)),
        ("es", ("--es_opt=target=ts",), ("lro/**/*.proto", *google)),
    ):
        generated = fresh(f"node/{name}")
        plugin = f"--plugin={tools / f'protoc-gen-{name}'}"
        protoc(protos, [plugin, f"--{name}_out={generated}", *options], *patterns)
        config = home / f"tsconfig.{name}.json"
        config.write_text(TSCONFIG.replace("FOLDER", name))
        run(tools / "tsc", "-p", config, cwd=home)


LANGUAGES: Mapping[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "go": (go, ("go",)),
    "java": (java, ("mvn", "javac")),
    "typescript": (typescript, ("node", "npm")),
}
"""Each language: its check, and the programs that it needs."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("languages", nargs="*", choices=[*LANGUAGES, []], help="all by default")
    chosen = parser.parse_args().languages or [*LANGUAGES]
    protos = fresh("protos")
    export(protos)
    failed = False
    for language in chosen:
        check, programs = LANGUAGES[language]
        missing = [program for program in programs if shutil.which(program) is None]
        if missing:
            print(f"{language}: not checked, for there is no {', '.join(missing)}")
            failed = True
            continue
        try:
            check(protos)
        except subprocess.CalledProcessError as error:
            print(f"{language}: failed: {' '.join(map(str, error.cmd))[:200]}")
            print(textwrap.indent((error.stdout + error.stderr)[-3000:], "  "))
            failed = True
        else:
            print(f"{language}: compiles")
    return int(failed)


def protoc(protos: Path, options: Iterable[str], *patterns: str) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}", *options]
    run(*command, *names(protos, *patterns), cwd=protos)


def names(protos: Path, *patterns: str) -> list[str]:
    return sorted(str(p.relative_to(protos)) for one in patterns for p in protos.glob(one))


def run(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    subprocess.run(
        command, cwd=cwd, env=env, check=True, capture_output=True, text=True, timeout=60 * MINUTES
    )


def fresh(name: str) -> Path:
    """Makes an empty folder."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
