"""What is installed is what the code needs."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra=""):
    """Names of the dependencies, or of those of one extra."""
    found = set()
    for line in requires("casemate"):
        name = canonical(re.match(r"[\w.-]+", line)[0])
        of = re.search(r"extra == ['\"](\w+)['\"]", line)
        if (of[1] if of else "") == extra:
            found.add(name)
    return found


def imported(folder):
    """Names of the distributions that a folder's modules import."""
    homes = packages_distributions()
    tops = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                tops.add(node.module.split(".")[0])
    return {canonical(homes[top][0]) for top in tops - sys.stdlib_module_names if top in homes} - {
        "casemate"
    }


def test_every_import_is_declared_and_every_dependency_imported():
    used = imported(ROOT / "src")
    extras = declared("dp") | declared("onnx")
    assert used - extras == declared()
    assert extras <= used


def test_the_tests_import_only_what_their_extra_brings():
    available = declared() | declared("dp") | declared("onnx") | declared("test")
    assert imported(ROOT / "tests") <= available


@pytest.fixture(scope="module")
def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_every_dependency_is_pinned_once(pins):
    names = [canonical(line.split("==")[0]) for line in pins]
    assert names == sorted(set(names))
    extras = declared("dp") | declared("onnx") | declared("test") | declared("lint")
    assert declared() | extras <= set(names)


def test_pins_name_versions_and_nothing_else(pins):
    """No address and no build of one machine: pip takes each from wherever it is set up to."""
    for line in pins:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*(; python_version >= \"3\.\d+\")?", line), line
