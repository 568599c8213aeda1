"""Importing the user's code: only what was named, with a sentence for each way it can fail."""

from __future__ import annotations

import sys
from contextlib import suppress

import pytest

from casemate.errors import UsageError
from casemate.models.imports import importable, imported, said


@pytest.fixture
def folder(tmp_path):
    """A folder of modules; what is imported from it is forgotten afterwards."""
    (tmp_path / "imp_plain.py").write_text(
        "import os\nVALUE = 3\nclass Holder:\n    inner = 'deep'\n"
    )
    (tmp_path / "imp_broken.py").write_text("raise RuntimeError('first line\\nsecond')\n")
    (tmp_path / "imp_exits.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "imp_needs.py").write_text("import not_there_at_all.sub\n")
    (tmp_path / "imp_package").mkdir()
    (tmp_path / "imp_package" / "__init__.py").write_text("")
    (tmp_path / "imp_package" / "models.py").write_text("def make():\n    return 'made'\n")
    (tmp_path / "json.py").write_text("VALUE = 'mine'\n")
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("imp_"):
            del sys.modules[name]


def get(reference, folder):
    return imported(reference, key="model.factory", base_dir=folder)


def test_an_object_is_found_by_its_path(folder):
    assert get("imp_plain:VALUE", folder) == 3
    assert get("imp_plain:Holder.inner", folder) == "deep"
    assert get("imp_package.models:make", folder)() == "made"


@pytest.mark.parametrize("reference", ["imp_plain:VALUE", "imp_broken:x", "imp_absent:x"])
def test_the_path_is_as_it_was_whatever_happens(folder, reference):
    before = list(sys.path)
    with suppress(UsageError):
        get(reference, folder)
    assert sys.path == before


def test_the_folder_comes_first_inside(folder):
    with importable(folder):
        assert sys.path[0] == str(folder)
        sys.path.remove(str(folder))  # code that tidies up itself does no harm
    assert str(folder) not in sys.path


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("imp_plain", 'write it as "package.module:object"'),
        ("imp_plain.py:VALUE:x", "write it as"),
        ("folder/imp_plain:VALUE", "write it as"),
        ("imp_plian:VALUE", 'no module "imp_plian" in .* Did you mean "imp_plain"'),
        ("imp_package.model:make", 'no module "model" in the package "imp_package".* "models"'),
        ("imp_plain:VALUES", 'has no "VALUES". Did you mean "VALUE"'),
        ("imp_plain:Holder.iner", 'Did you mean "inner"'),
        ("imp_needs:x", 'imports "not_there_at_all", which is not installed'),
        ("imp_broken:x", 'importing "imp_broken" raised RuntimeError: first line; mend'),
        ("imp_exits:x", "raised SystemExit: 3"),
        ("subprocess:run", '"subprocess" holds no model of yours; name a function of your own'),
        ("os:system", '"os" holds no model'),
        ("yaml:unsafe_load", '"yaml" holds no model'),
        ("joblib:load", '"joblib" holds no model'),
        ("numpy:load", '"numpy" holds no model'),
        ("casemate.models.mlp:MLP", '"casemate" holds no model'),
        ("torch.hub:load", '"torch" holds no model'),
        ("imp_plain:os.system", 'leads into the module "(os|posix|nt)"; name the module of yours'),
        ("json:VALUE", r'"json" is already loaded from .*json.__init__.py.*; rename yours'),
    ],
)
def test_each_failure_is_one_sentence_with_the_key(folder, reference, says):
    with pytest.raises(UsageError, match=says) as caught:
        get(reference, folder)
    assert str(caught.value).startswith("model.factory")
    assert "\n" not in str(caught.value)


def test_the_same_module_is_no_clash(folder):
    first = get("imp_plain:Holder", folder)
    assert get("imp_plain:Holder", folder) is first


def test_another_module_of_the_same_name_is_refused_and_not_mixed_up(folder, tmp_path):
    get("imp_plain:VALUE", folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "imp_plain.py").write_text("VALUE = 4\n")
    with pytest.raises(UsageError, match="already loaded from"):
        get("imp_plain:VALUE", other)


def test_what_an_exception_said_is_one_short_line():
    assert said(ValueError("a\nb")) == "ValueError: a"
    assert said(ValueError()) == "ValueError"
    assert len(said(ValueError("x" * 1000))) < 220
