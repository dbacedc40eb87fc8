"""Fuzzes one target in this process, which ends with its first finding: for ``fuzz.py``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris
from fuzz import load

with atheris.instrument_imports(include=["lro_grpc"], enable_loader_override=False):
    TARGETS = load()


def main(name: str, corpus: str, findings: str, seconds: str, seed: str) -> None:
    """Gives a target new inputs until the time is over."""
    chosen = TARGETS[name]
    for number, data in enumerate((*chosen.seeds, *(one.read_bytes() for one in chosen.kept))):
        Path(corpus, f"{number:04}").write_bytes(data)
    words = Path(findings, "words")
    words.write_text("".join(f'"{_quoted(one)}"\n' for one in (*chosen.words, b"\0")))
    options = {
        "max_total_time": seconds,
        "seed": seed,
        "max_len": str(chosen.most),
        "dict": str(words),
        "artifact_prefix": f"{findings}/",
        "timeout": "20",
        "rss_limit_mb": "2048",
        "print_final_stats": "1",
        "verbosity": "0",
    }
    arguments = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *arguments, corpus], chosen.check)
    atheris.Fuzz()


def _quoted(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main(*sys.argv[1:])
