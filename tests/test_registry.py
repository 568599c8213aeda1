from __future__ import annotations

import sys
import warnings
from dataclasses import is_dataclass
from importlib.metadata import EntryPoint

import pytest

from casemate import registry
from casemate.errors import UsageError

BUILT_IN = [(kind, name) for kind, table in registry._BUILT_IN.items() for name in table]


@pytest.fixture
def plugins(monkeypatch):
    """Pretend that entry points are installed: plugins("attack.x = module:Class", ...)."""

    def install(*lines):
        points = [
            EntryPoint(*(part.strip() for part in line.split("=", 1)), group="casemate")
            for line in lines
        ]
        monkeypatch.setattr(
            registry, "entry_points", lambda *, group: points * (group == "casemate")
        )
        clear()

    def clear():
        for cached in (registry._third_party, registry._table, registry.get):
            cached.cache_clear()

    yield install
    monkeypatch.undo()
    clear()


@pytest.mark.parametrize(("kind", "name"), BUILT_IN, ids=[f"{k}.{n}" for k, n in BUILT_IN])
def test_every_built_in_name_resolves(kind, name):
    cls = registry.get(kind, name)
    assert is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert cls.__doc__
    assert registry.name_of(kind, cls) == name
    assert isinstance(cls.revision, int)


def test_names_are_listed_without_importing_them():
    before = set(sys.modules)
    assert registry.names("attack")[:3] == ["fgsm", "bim", "pgd"]
    assert set(sys.modules) == before


def test_an_unknown_name_offers_the_nearest():
    with pytest.raises(UsageError, match=r'no attack named "fgms"\. Did you mean "fgsm"\?'):
        registry.get("attack", "fgms")
    with pytest.raises(UsageError, match="there is no data named"):
        registry.path_of("data", "imagenet")


def test_a_third_party_joins(plugins):
    plugins("attack.fraction = fractions:Fraction", "model.fraction = decimal:Decimal")
    from decimal import Decimal
    from fractions import Fraction

    assert registry.names("attack") == [*registry._BUILT_IN["attack"], "fraction"]
    assert registry.get("attack", "fraction") is Fraction
    assert registry.get("model", "fraction") is Decimal
    assert registry.name_of("attack", Fraction) == "fraction"
    assert registry.name_of("defense", Fraction) == "Fraction"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("no_such_package:Attack", "ModuleNotFoundError"),
        ("fractions:NoSuchClass", "AttributeError"),
        ("fractions", "AttributeError"),
        ("casemate_test_raises:Attack", "RuntimeError: needs a license"),
    ],
)
def test_a_broken_plugin_is_one_sentence_and_the_rest_works(
    plugins, tmp_path, monkeypatch, target, why
):
    (tmp_path / "casemate_test_raises.py").write_text("raise RuntimeError('needs a license')")
    monkeypatch.syspath_prepend(tmp_path)
    plugins(f"attack.broken = {target}", "attack.fraction = fractions:Fraction")
    assert registry.names("attack")[-2:] == ["broken", "fraction"]
    with pytest.raises(UsageError, match=f'the attack "broken".*cannot be imported: {why}'):
        registry.get("attack", "broken")
    assert registry.get("attack", "fraction").__name__ == "Fraction"


def test_a_defect_of_a_built_in_keeps_its_traceback(monkeypatch, plugins):
    monkeypatch.setitem(registry._BUILT_IN["attack"], "fgsm", "casemate.no_such_module:FGSM")
    plugins()
    with pytest.raises(ModuleNotFoundError):
        registry.get("attack", "fgsm")


def test_a_name_that_is_taken_is_ignored_with_a_warning(plugins):
    plugins("attack.fgsm = fractions:Fraction", "attack.x = fractions:Fraction", "attack.x = a:B")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert registry.path_of("attack", "fgsm") == registry._BUILT_IN["attack"]["fgsm"]
        assert registry.path_of("attack", "x") == "fractions:Fraction"
        registry.names("model")
    assert [str(w.message) for w in caught] == [
        'plugin fractions:Fraction is ignored: the attack "fgsm" is already taken',
        'plugin a:B is ignored: the attack "x" is already taken',
    ]


@pytest.mark.parametrize("name", ["atack.mine", "mine", "attack."])
def test_an_entry_point_of_no_kind_is_ignored_with_a_warning(plugins, name):
    plugins(f"{name} = fractions:Fraction")
    with pytest.warns(UserWarning, match=f'named "{name}", not KIND.NAME with a kind of attack'):
        assert registry.names("attack") == list(registry._BUILT_IN["attack"])
