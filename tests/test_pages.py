"""The pages on attacks and defenses say what the code says."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from casemate import registry
from casemate.campaign.fieldtypes import default_of
from casemate.data.dataset import Dataset
from casemate.data.domain import Domain
from casemate.errors import UsageError
from casemate.identity import canonical
from casemate.threats import Stage

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {
    ("attack", Stage.INFERENCE): DOCS / "attacks.md",
    ("attack", Stage.TRAINING): DOCS / "training-attacks.md",
    ("defense", Stage.INFERENCE): DOCS / "defenses.md",
    ("defense", Stage.TRAINING): DOCS / "training-defenses.md",
    ("attack", Stage.HARDWARE): DOCS / "hardware-attacks.md",
    ("defense", Stage.HARDWARE): DOCS / "hardware-defenses.md",
    ("monitor", Stage.INFERENCE): DOCS / "monitors.md",
}
CITED = re.compile(r"(?:arXiv|doi)\s(\d{4}\.\d{4,5}|10\.\d{4,}/[\w.]+\w)")
OURS = {"uniform-noise", "gaussian-noise", "neighborhood-average", "radius-average"}


def stage_of(cls):
    threat = getattr(cls, "threat", None)
    return threat.stage if threat else getattr(cls, "stage", Stage.INFERENCE)


def names(page):
    kind, stage = page
    return [n for n in registry.names(kind) if stage_of(registry.get(kind, n)) is stage]


def parameters(cls):
    """Return {field: its sentence in the docstring}."""
    block = cls.__doc__.split("Attributes:")[1]
    found = re.findall(r"^ {4,8}(\w+): ((?:.|\n(?! {4,8}\w+: ))*)", block, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def shown(default):
    """Return a default as a campaign's YAML would have it."""
    if default == 8 / 255:
        return "8/255"
    if dataclasses.is_dataclass(default):
        given = {k: v for k, v in canonical(default).items() if v is not None and v is not False}
        return "{" + ", ".join(f"{k}: {shown(v)}" for k, v in given.items()) + "}"
    if isinstance(default, tuple):
        return f"[{', '.join(map(shown, default))}]"
    if isinstance(default, float):
        return f"{default:g}"
    if default is dataclasses.MISSING:
        return "to be given"
    return "-" if default is None else str(default).lower()


def features():
    """Return a set of features that are no images, large enough for any attack."""
    labels = np.arange(2000) % 10
    return Dataset.from_arrays(
        name="features",
        inputs=np.linspace(0, 1, 2000 * 8, dtype=np.float32).reshape(2000, 8),
        labels=labels,
        classes=tuple("abcdefghij"),
        domain=Domain(shape=(8,)),
    )


def takes_features(cls):
    """Return whether an attack on training data takes inputs that are no images."""
    try:
        cls().check(features())
    except UsageError as error:
        if "needs images, but features holds features" not in str(error):
            raise
        return False
    return True


def generated(kind, name):
    """Return the lines of one plugin's table."""
    cls = registry.get(kind, name)
    lines = []
    if kind == "attack":
        threat = cls.threat
        goals = ", ".join(g.value for g in threat.goals)
        words = (
            f"Access: {threat.touches}. Knowledge: {threat.knowledge.value}. Goals: {goals}. "
            f"Threat: [`{threat.threat}`](threats.md)."
        )
        if threat.stage is Stage.TRAINING:
            words += f" Data: {'images or features' if takes_features(cls) else 'images only'}."
        lines += [words, ""]
    elif kind == "defense" and stage_of(cls) is Stage.TRAINING:
        need = "clean samples (`training.clean`)" if cls.needs_clean else "no clean samples"
        lines += [f"Acts {cls.phase} training. Needs {need}.", ""]
    if not dataclasses.fields(cls):
        return [*lines, "It has no parameters."]
    lines += ["| parameter | default | meaning |", "|---|---|---|"]
    meaning = parameters(cls)
    for field in dataclasses.fields(cls):
        text = meaning[field.name].replace("|", r"\|")
        lines.append(f"| `{field.name}` | {shown(default_of(field))} | {text} |")
    return lines


def rewritten(key, page):
    """Return the page with its generated parts written anew."""
    kind, _ = key
    for name in names(key):
        block = re.compile(
            rf"(<!-- {re.escape(name)}: generated -->\n).*?(<!-- end -->)", re.DOTALL
        )
        assert block.search(page), f"{PAGES[key].name} has no part {name}"
        body = "\n".join(generated(kind, name))
        page = block.sub(lambda m, body=body: f"{m[1]}{body}\n{m[2]}", page)
    return page


@pytest.mark.parametrize("key", PAGES)
def test_the_page_shows_the_code(key):
    page = PAGES[key].read_text(encoding="utf-8")
    assert page == rewritten(key, page), "run: python tests/test_pages.py"


@pytest.mark.parametrize("key", PAGES)
def test_each_plugin_has_one_section_in_the_registrys_order(key):
    kind, page = key[0], PAGES[key].read_text(encoding="utf-8")
    parts = re.split(r"^## `(.+)`$", page, flags=re.MULTILINE)[1:]
    assert parts[::2] == names(key)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        source = re.search(r"\*\*Source\.\*\* ((?:.|\n)+?)\n\n", body)
        assert source, name
        assert ("ours" in source[1].lower()) or name not in OURS, name
        cited = CITED.findall(source[1])
        assert source[1].startswith("Ours.") or cited, name
        # the code names the same papers
        cls = registry.get(kind, name)
        module = Path(__import__(cls.__module__, fromlist=["x"]).__file__).read_text()
        assert not cited or any(number in module for number in cited), name


if __name__ == "__main__":
    for key, path in PAGES.items():
        path.write_text(rewritten(key, path.read_text(encoding="utf-8")), encoding="utf-8")
