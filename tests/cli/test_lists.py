from __future__ import annotations

import json

import pytest

from casemate import registry
from casemate.campaign.schema import specification_schema
from casemate.threats import taxonomy


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("attacks", "attack"),
        ("defenses", "defense"),
        ("monitors", "monitor"),
        ("models", "model"),
        ("data", "data"),
    ],
)
def test_a_list_names_all_that_is_registered(casemate, what, kind):
    outcome = casemate("list", what)
    assert outcome.code == 0
    named = {line.split()[0] for line in outcome.out.splitlines()[1:] if line and line[0] != " "}
    assert named == set(registry.names(kind))


def test_models_tell_that_your_own_network_is_trained_too(casemate):
    assert 'model: {factory: "net:make", recipe: {}}' in casemate("list", "models").err


def test_attacks_tell_access_goals_and_source(casemate):
    rows = casemate("list", "attacks").out
    fgsm = rows[rows.index("\nfgsm") : rows.index("\nbim")]
    assert "gradients" in fgsm
    assert "untargeted" in fgsm
    assert "1412.6572" in rows


def test_lists_fit_a_terminal_of_80_columns(casemate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    attacks = casemate("list", "attacks").out
    assert max(map(len, attacks.splitlines())) <= 80
    assert len(attacks.splitlines()) < 5 * len(registry.names("attack"))
    for word in ("box-constrained", "availability, targeted", "untargeted, targeted"):
        assert word in attacks  # on one line


def test_defenses_say_where_they_stand_and_who_needs_clean_samples(casemate):
    rows = casemate("list", "defenses").out.splitlines()
    stand = {line.split()[0]: line for line in rows[1:] if line[0] != " "}
    for name, words in (
        ("near-duplicates", "before training, no clean samples"),
        ("robust-loss", "during training, no clean samples"),
        ("i-bau", "after training, needs clean samples"),
        ("radar", "at the deployed model"),
        ("median", "in front of the model"),
    ):
        assert words in stand[name]
    order = list(stand)
    first = ["near-duplicates", "robust-loss", "i-bau", "median"]
    assert sorted(first, key=order.index) == first


def test_studies_are_listed(casemate):
    assert "study:digits-demo" in casemate("list", "studies").out


def test_threats_as_a_table(casemate, snapshot):
    assert casemate("threats", "--id", "evasion-white-box").out == snapshot
    everything = casemate("threats").out
    assert all(threat in everything for threat in taxonomy())
    at_training = casemate("threats", "--stage", "training").out
    assert "data-poisoning" in at_training
    assert "evasion-white-box" not in at_training
    # a technique names its sub-techniques too
    assert "evasion-white-box" in casemate("threats", "--id", "AML.T0043").out
    assert casemate("threats", "--stage", "training", "--id", "evasion-white-box").code == 2


def test_digits_need_no_download(casemate):
    outcome = casemate("data", "get", "digits")
    assert outcome.code == 0
    assert "nothing to download" in outcome.out


def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_schema_lets_a_factory_have_a_recipe(casemate):
    sections = json.loads(casemate("schema").out)["$defs"]["model"]["anyOf"]
    (factory,) = [s for s in sections if "factory" in s["properties"]]
    assert factory["properties"]["recipe"] == {"$ref": "#/$defs/recipe"}
    (onnx,) = [s for s in sections if "onnx" in s["properties"]]
    assert "recipe" not in onnx["properties"]


def test_the_schema_holds_every_parameter_of_every_plugin(casemate):
    from dataclasses import fields

    printed = json.loads(casemate("schema").out)
    assert printed == json.loads(json.dumps(specification_schema()))
    for kind in ("attack", "defense", "model", "data"):
        sections = printed["$defs"][kind]["anyOf"]
        for name in registry.names(kind):
            tag = {"data": "source", "model": "architecture"}.get(kind, "name")
            (section,) = [s for s in sections if s["properties"].get(tag) == {"const": name}]
            wanted = {f.name for f in fields(registry.get(kind, name)) if f.init}
            assert wanted <= section["properties"].keys()
            assert section["additionalProperties"] is False
    for reference in references(printed):
        assert reference.removeprefix("#/$defs/") in printed["$defs"]
