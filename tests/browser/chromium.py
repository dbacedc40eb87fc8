"""The Chromium that the tests drive: found, or else why there is none and how to get one.

Run, it prints the one or the other, and exits with 1 if there is none. With ``--if-missing``
it is silent if there is one, and exits with 1 only if ``LRO_REQUIRE_BROWSER`` is set.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

FLAGS = (
    "--headless",
    "--no-sandbox",  # for root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

HELP = """\
The console's tests in a browser cannot be run: {why}. One of these helps:
  make browser                              installs Playwright, and a Chromium if apt is at hand
  LRO_CHROMIUM=/path/to/chromium make test  takes one that you have
  .venv/bin/playwright install chromium     fetches the one that Playwright knows
"""


def find() -> tuple[str, str]:
    """Returns the path of a Chromium and nothing, or nothing and why there is none."""
    if importlib.util.find_spec("playwright") is None:
        return "", "Playwright is not installed"
    named = os.environ.get("LRO_CHROMIUM")
    if named:
        found = shutil.which(named)
        return (found, "") if found else ("", f"LRO_CHROMIUM names {named}, which is no program")
    found = shutil.which("chromium") or _of_playwright()
    return (found, "") if found else ("", "there is no Chromium")


def is_required() -> bool:
    """Returns whether a missing browser is a failure, as it is in CI."""
    return os.environ.get("LRO_REQUIRE_BROWSER", "") not in ("", "0")


def _of_playwright() -> str:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else ""


def main() -> int:
    found, why = find()
    only_if_missing = "--if-missing" in sys.argv
    if found and not only_if_missing:
        print(f"The browser of the tests: {found}")
    if why:
        sys.stderr.write(HELP.format(why=why))
    return int(bool(why) and (is_required() or not only_if_missing))


if __name__ == "__main__":
    sys.exit(main())
