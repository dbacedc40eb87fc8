"""Checks what a release would upload: ``make release-check``.

Builds the source archive, and the wheel of that; lets the index's own checker and renderer read
them; and installs them in empty environments, with each extra alone. It needs a package index, so
no test runs it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import readme_renderer.markdown

ROOT = Path(__file__).parents[3]

MODULES = {"compat", "console", "events", "http", "otel"}
"""The extras that a public module of the same name needs."""

PACKAGES = {"speed": ["httptools", "uvloop"]}
"""The extras that no module needs, and what they are to bring."""

SCRIPTS = {
    "lro --help": {"cli"},
    "protoc-gen-lro-grpc --help": set(),
    "lro protoc --help": {"codegen"},
}
"""The console scripts, and the extras that each needs one of; none for those that need no extra."""


def main() -> int:
    """Prints a line for each thing that was checked, and returns how many have failed."""
    with tempfile.TemporaryDirectory() as folder:
        return Release(Path(folder)).check()


class Release:
    """The files of a release, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._failures = 0
        self._began = time.monotonic()

    def check(self) -> int:
        dist = self._folder / "dist"
        self._run("build", [sys.executable, "-m", "build", "--outdir", dist, ROOT])
        (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
        self._run("twine check", [sys.executable, "-m", "twine", "check", "--strict", sdist, wheel])
        with zipfile.ZipFile(wheel) as archive:
            files = set(archive.namelist())
            (about,) = (name for name in files if name.endswith(".dist-info/METADATA"))
            metadata = message_from_string(archive.read(about).decode())
        with tarfile.open(sdist) as archive:
            sources = {name.partition("/")[2] for name in archive.getnames()}
        self._check_readme(str(metadata.get_payload()), sources)
        extras = [str(extra) for extra in metadata.get_all("Provides-Extra", ())]
        for extra in ["", *extras]:
            self._check_installed(f"{wheel}[{extra}]" if extra else str(wheel), extra)
        installed = self._check_installed(str(sdist), "", label="source archive")
        modules = {name for name in files if ".dist-info/" not in name}
        self._say("the source archive installs what the wheel has", sorted(modules - installed))
        return self._failures

    def _check_readme(self, text: str, sources: set[str]) -> None:
        """Renders the page of the index, and follows its links."""
        rendered = readme_renderer.markdown.render(text)
        self._say("the README renders", [] if rendered else ["it does not"])
        links = re.findall(r'<(?:a|img)[^>]*? (?:href|src)="([^"]+)"', rendered or "")
        relative = {link.partition("#")[0] for link in links if "://" not in link} - {""}
        self._say("what the README links to is there", sorted(relative - sources))
        ids = set(re.findall(r' id="([^"]+)"', rendered or ""))
        places = {link[1:] for link in links if link.startswith("#")}
        self._say("the places in the README that it links to are there", sorted(places - ids))
        if relative:
            print(f"      {len(relative)} of its links are relative, and lead nowhere on an index")

    def _check_installed(self, what: str, extra: str, label: str = "wheel") -> set[str]:
        """Installs in an empty environment, tries what the extra is for, and returns the files."""
        name = f"{label}[{extra}]" if extra else label
        place = self._folder / name
        venv.create(place, with_pip=True)
        python = place / "bin" / "python"
        self._run(f"{name}: install", [python, "-m", "pip", "install", "--quiet", what])
        self._run(f"{name}: pip check", [python, "-m", "pip", "check"])
        own = [f"lro_grpc.{extra}"] if extra in MODULES else []
        modules = ["lro_grpc", *own, *PACKAGES.get(extra, ())]
        for module in modules:
            code = f"import {module} as it; [getattr(it, name) for name in it.__all__]"
            self._run(f"{name}: import {module}", [python, "-c", code])
        for script, needed in SCRIPTS.items():
            command, *arguments = script.split()
            works = not needed or extra in needed
            lacks = "" if works else f"pip install 'lro-grpc[{min(needed)}]'"
            self._run(f"{name}: {script}", [place / "bin" / command, *arguments], lacks)
        (packages,) = place.glob("lib/*/site-packages")
        return {path.relative_to(packages).as_posix() for path in packages.rglob("*")}

    def _run(self, what: str, command: list[str | Path], lacks: str = "") -> None:
        """Runs a command, which is to succeed, or else to say what it lacks."""
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        is_right = (done.returncode != 0 and lacks in said) if lacks else done.returncode == 0
        self._say(f"{what}, which names its extra" if lacks else what, [] if is_right else [said])

    def _say(self, what: str, wrong: list[str]) -> None:
        self._failures += bool(wrong)
        seconds = time.monotonic() - self._began
        print(f"{'FAIL' if wrong else 'ok':4} {seconds:4.0f} s  {what}", *wrong, flush=True)


if __name__ == "__main__":
    sys.exit(main())
