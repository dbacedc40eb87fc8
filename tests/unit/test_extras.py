"""A public module whose extra is missing says which one it is, and stays an ImportError."""

from __future__ import annotations

import subprocess
import sys

MISSING = {
    "compat": ("google.api_core",),
    "console": ("starlette", "jinja2", "markupsafe"),
    "events": ("httpcore", "standardwebhooks", "cloudevents"),
    "http": ("starlette", "uvicorn", "h11"),
    "otel": ("opentelemetry",),
}
"""The public modules that need an extra, which has their name, and what is in it."""

SCRIPT = """
import importlib, os, sys
import lro_grpc._server.operations

class Without:
    def find_spec(self, name, path=None, target=None):
        if name == self.missing:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

for module, names in {missing!r}.items():
    for Without.missing in names:
        if os.fork() == 0:
            sys.meta_path.insert(0, Without())
            try:
                importlib.import_module(f"lro_grpc.{{module}}")
            except ImportError as error:
                print(error, type(error).__name__, error.name, sep="; ", flush=True)
            os._exit(0)
        os.wait()
"""


def test_a_module_names_the_extra_that_it_needs() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(missing=MISSING)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == [
        f"lro_grpc.{module} needs {name}: pip install 'lro-grpc[{module}]';"
        f" ModuleNotFoundError; {name}"
        for module, missing in MISSING.items()
        for name in missing
    ]


def test_a_module_of_the_package_that_is_missing_is_no_matter_of_an_extra() -> None:
    script = "import sys; sys.modules['lro_grpc._events.webhook'] = None; import lro_grpc.events"
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "pip install" not in run.stderr
    assert "lro_grpc._events.webhook" in run.stderr.splitlines()[-1]
