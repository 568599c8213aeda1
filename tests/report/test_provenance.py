from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import yaml
from report_demo import demo_record

from casemate.report import provenance
from casemate.report.facts import facts_of


def test_nested_data_becomes_dotted_rows():
    data = {"a": {"b": 1, "c": [1, 2]}, "d": None, "e": [{"f": True}]}
    assert provenance.flat(data) == [
        ("a.b", "1"),
        ("a.c", "1, 2"),
        ("d", "\N{EN DASH}"),
        ("e[0].f", "yes"),
    ]


def test_a_measurement_is_written_as_one():
    accuracy = dict(demo_record().models[0]["accuracy"])
    ((name, words),) = provenance.flat({"accuracy": accuracy})
    assert (name, words.replace("\u00a0", " ")) == ("accuracy", "96.7 % [96.4, 97.0], n = 12,630")


def test_the_configuration_reads_back_as_what_it_was():
    spec = OrderedDict(demo_record().spec, odd="yes", size="1e3", text="a: b\n# c")
    assert yaml.safe_load(provenance.as_yaml(spec)) == dict(spec)


def test_costs_add_up():
    record = demo_record()
    expected = sum(t.evidence.spent["attack forward"] for t in record.trials if t.evidence)
    assert provenance.spent(facts_of(record))["attack forward"] == expected


def test_unknown_entries_are_kept():
    record = replace(demo_record(), provenance={"seconds": 61.0, "cluster": {"nodes": 3}})
    assert provenance.provenance(record) == (
        ("Wall time", (("", "1\u00a0min 1\u00a0s"),)),
        ("cluster", (("nodes", "3"),)),
    )


def test_what_is_said_of_a_model_is_kept_apart_from_its_recipe():
    (model,) = provenance.models(demo_record())
    assert dict(model.rows)["parameters"] == "1184139"
    assert dict(model.rows)["accuracy"].startswith("96.7")
    assert dict(model.details)["recipe.learning_rate"] == "0.05"
    assert model.classes[4] == "stop"
