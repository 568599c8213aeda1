from __future__ import annotations

from casemate.report.threat_models import identifiers, threat_facts
from casemate.threats import Access, Stage, taxonomy


def test_the_class_of_the_attack_says_what_it_assumes():
    facts = threat_facts("pgd", "evasion-white-box")
    assert facts.model.access is Access.GRADIENTS
    assert (facts.stage, facts.control, facts.minimizes) == (Stage.INFERENCE, False, False)
    assert threat_facts("lbfgs", "evasion-white-box").minimizes
    assert "strip" in threat_facts("input-aware", "backdoor-poisoning").evades
    assert threat_facts("uniform-noise", "evasion-black-box").control


def test_an_attack_that_is_not_installed_is_described_by_the_taxonomy():
    facts = threat_facts("gone", "hardware-trojan")
    assert (facts.model, facts.stage) == (None, Stage.HARDWARE)
    assert facts.title == taxonomy()["hardware-trojan"].title


def test_identifiers_name_their_catalog_and_relation():
    found = identifiers(taxonomy()["evasion-white-box"])
    exact = {i.id for i in found if i.relation == "exact"}
    assert "NISTAML.022" in exact
    assert {i.relation for i in found} <= {"exact", "closest", "related"}
    assert all(i.url.startswith("https://") and i.version for i in found)
    assert identifiers(None) == ()
