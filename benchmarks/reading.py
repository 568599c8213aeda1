"""How long GTSRB takes to read: the first time from its archives, after that from the cache.

Run with `python -m benchmarks.reading`, with the official archives in `$CASEMATE_DATA`. Each
reading of both splits is a process of its own, and the cache folder is a temporary one. Most of
the first reading is decoding 51,839 pictures. The exit code is 1 if a limit is broken.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from benchmarks.command import finish
from benchmarks.rows import Row
from casemate.errors import UsageError

_FIRST_LIMIT = 15.0  # seconds
_CACHE_LIMIT = 1.0
_ROUNDS = 3

_READ = """
import time
import torch
from casemate.data.gtsrb import GTSRB
started = time.perf_counter()
assert len(GTSRB().load("train")) + len(GTSRB().load("test")) > 50_000
print(time.perf_counter() - started)
"""


def main() -> int:
    """Measure, print the rows, and return the exit code."""
    return finish(__doc__, {"reading": _rows})


def _rows() -> list[Row]:
    if not os.environ.get("CASEMATE_DATA"):
        raise UsageError("set CASEMATE_DATA to the folder of the archives: a download is not timed")
    first, cached = [], []
    for _ in range(_ROUNDS):
        with tempfile.TemporaryDirectory() as cache:
            first.append(_read(cache))
            cached.append(_read(cache))
    return [
        Row(
            name="GTSRB, both splits, from the archives",
            value=statistics.median(first),
            unit="s",
            limit=_FIRST_LIMIT,
        ),
        Row(
            name="GTSRB, both splits, from the cache",
            value=statistics.median(cached),
            unit="s",
            limit=_CACHE_LIMIT,
        ),
    ]


def _read(cache: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _READ],
        env={**os.environ, "CASEMATE_CACHE": cache},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
