"""Check that a wheel holds every file of the package, code and data, and nothing else.

Usage: python .ci/wheel_contents.py casemate-*.whl
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

PACKAGE = Path("src") / "casemate"


def main(wheel: str) -> int:
    """Return 0 if the wheel's files under casemate/ are those that git tracks, else 1."""
    listed = subprocess.run(
        ["git", "ls-files", str(PACKAGE)],  # noqa: S607 - whatever git the developer has
        capture_output=True,
        text=True,
        check=True,
    )
    tracked = {Path(line).relative_to("src").as_posix() for line in listed.stdout.splitlines()}
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("casemate/")}
    for name in sorted(tracked - packed):
        print(f"missing in the wheel: {name}")
    for name in sorted(packed - tracked):
        print(f"not tracked by git: {name}")
    print(f"{len(packed)} files in the wheel, {len(tracked)} in git")
    return int(packed != tracked)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
