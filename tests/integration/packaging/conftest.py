"""The wheel that the tests of this folder install, and a user who has installed it."""

from __future__ import annotations

import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True, timeout=200)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user, with the wheel in an environment of its own.

    What the wheel depends on, and the stubs of that, comes from the environment of the tests, so
    that nothing has to be fetched.
    """
    folder = tmp_path_factory.mktemp("consumer")
    venv.create(folder / "env", symlinks=True)
    packages = next((folder / "env").glob("lib/*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages]
    subprocess.run([*pip, wheel], check=True, timeout=100)
    (packages / "tests.pth").write_text("\n".join(site.getsitepackages()))
    return folder
