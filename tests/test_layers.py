"""Holds the code to the table of layers in docs/architecture.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "casemate"

VOCABULARY = ("threats", "registry", "random", "stats", "evidence", "identity", "errors")
# what each layer may import beside itself, the vocabulary and other packages
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "cli": ("",),
    "api": ("",),
    "api_training": ("",),
    "api_hardware": ("",),
    "report": ("campaign.record", "campaign.events", "campaign.words"),
    # the doors only: attacks, defenses, architectures and data sources come from the registry
    "campaign": (
        "data.dataset",
        "data.splits",
        "guard",
        "hardware.deployment",
        "hardware.gate",
        "models.accuracy",
        "models.architecture",
        "models.load",
        "models.own",
        "training.crew",
        "training.gate",
        "training.loop",
        "training.making",
        "training.passes",
        "training.poisoned",
        "training.progress",
        "training.recipe",
        "training.stored",
        "training.trained",
        "target",
        "access",
        "inference.evaluate",
        "inference.exposure",
    ),
    "inference": ("models", "data", "target", "access", "guard"),
    "hardware": ("data", "guard"),
    "training": ("models", "data", "target"),
    "models": ("data", "target", "guard"),
    "target": ("data.domain",),
    "access": ("target", "data.domain"),
    "guard": ("target", "access", "data.domain"),
    "data": (),
    **dict.fromkeys(VOCABULARY, ()),
}
# what a module of the vocabulary may import from outside, at its top
LIGHT = {"numpy"}
MODULES = sorted(SOURCE.rglob("*.py"))


def name_of(path):
    """Return "data.domain" for src/casemate/data/domain.py, and "" for the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def covers(layer, module):
    return layer in ("", module) or module.startswith(f"{layer}.")


def layer_of(module):
    return next((layer for layer in MAY_IMPORT if covers(layer, module)), None)


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """Yield (line, module, at_top) of every import, also in functions and for types only."""
    tree = parsed(path)
    at_top = {id(node) for node in tree.body}
    own = ["casemate", *name_of(path).split(".")]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, id(node) in at_top
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = own if path.name == "__init__.py" else own[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], base]).rstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_module = (SOURCE.parent / Path(*full.split("."))).with_suffix(".py").exists()
                named = is_module or base == "casemate"  # a public name hides its module
                yield node.lineno, full if named else base, id(node) in at_top


def test_the_table_is_the_one_in_the_documentation():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("## Layers")[1]
    rows = re.findall(r"^\| ([^|]*`[^|]*) \| [^|]* \| [^|]* \|$", table, re.MULTILINE)
    named = [n for row in rows for n in re.findall(r"([a-z_]+)(?:/|\.py)(?=[`\s])", row)]
    assert sorted(named) == sorted(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=[name_of(p) or "casemate" for p in MODULES])
def test_arrows_point_down(path):
    module = name_of(path)
    if module == "":
        return  # the public names, each loaded when it is first used
    layer = layer_of(module)
    assert layer is not None, f"docs/architecture.md gives {path.name} no layer"
    allowed = (layer, *VOCABULARY, *MAY_IMPORT[layer])
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {target}"
        for line, target, _ in imports(path)
        if target.split(".")[0] == "casemate"
        and not any(covers(a, target.removeprefix("casemate").lstrip(".")) for a in allowed)
        and target not in ("casemate", "casemate.__version__")
    ]
    assert not wrong


@pytest.mark.parametrize("name", VOCABULARY)
def test_the_vocabulary_is_light(name):
    heavy = {
        target.split(".")[0]
        for _, target, at_top in imports(SOURCE / f"{name}.py")
        if at_top and target.split(".")[0] not in sys.stdlib_module_names
    }
    assert heavy <= LIGHT | {"casemate"}


@pytest.mark.parametrize("path", MODULES, ids=[name_of(p) or "casemate" for p in MODULES])
def test_only_the_command_line_prints(path):
    module = name_of(path)
    if covers("cli", module) or module == "api":
        return
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} prints"
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Name) and node.id == "print")
        or (isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "echo"))
    ]
    wrong += [
        f"{path.relative_to(ROOT)}:{line} imports {target}"
        for line, target, _ in imports(path)
        if target.split(".")[0] in ("rich", "typer", "click", "tqdm")
    ]
    assert not wrong


def run(code):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize(
    "code",
    [
        "import casemate",
        "import casemate.registry as r; [r.names(k) for k in r._BUILT_IN]",
        "import casemate.threats as t; t.taxonomy()",
        "import casemate.stats as s; s.rate('x', 1, 2); s.holm([0.1])",
        "import casemate.errors, casemate.evidence, casemate.identity, casemate.random",
        "import casemate.random as r; r.stream(1, 'x').child('y').numpy()",
    ],
)
def test_the_vocabulary_imports_nothing_heavy(code):
    loaded = set(re.findall(r"\|\s+([\w.]+)$", run(code).stderr, re.MULTILINE))
    assert "casemate" in loaded
    assert not {"torch", "scipy", "sklearn", "pydantic", "matplotlib"} & loaded


def test_the_check_for_heavy_imports_sees_them():
    loaded = set(re.findall(r"\|\s+([\w.]+)$", run("import casemate.target").stderr, re.MULTILINE))
    assert "torch" in loaded
