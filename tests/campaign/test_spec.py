from __future__ import annotations

import pytest

from casemate.cli.init import specification

HEAD = """\
casemate: 1
name: a
data: {source: digits}
model: {architecture: lenet}
trials:
  - attack: {name: fgsm}
"""


def test_a_sound_specification_has_no_problems(problems_of):
    assert problems_of(HEAD) == ""


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("casemate: 1", "casemate: 2", "c.yaml, line 1, casemate: 2 must be 1"),
        ("name: a", "nam: a", 'there is no key "nam" here. Did you mean "name"?'),
        ("name: a", "", "name: is missing; add it"),
        ("name: a", 'name: ""', "name: "),
        ("trials:", "trial:", 'Did you mean "trials"'),
        ("{source: digits}", "{source: digts}", 'no data named "digts". Did you mean "digits"?'),
        ("{source: digits}", "{source: digits, sice: 3}", 'data.sice: there is no key "sice" here'),
        ("{source: digits}", "[]", "empty list"),
        ("{source: digits}", "null", "data: is missing"),
        ("lenet", "lenett", 'Did you mean "lenet"'),
        ("architecture: lenet", "arch: lenet", "give one of architecture, factory"),
        ("lenet}", "lenet, onnx: m.onnx}", "names architecture and onnx"),
        ("lenet}", "lenet, recipe: {epoch: 3}}", 'recipe.epoch: there is no key "epoch"'),
        ("lenet}", "lenet, recipe: {epochs: 0}}", "model.recipe.epochs: must be a whole number"),
        ("lenet}", "lenet, recipe: {epochs: 2.5}}", "epochs: 2.5 must be a whole number"),
        ("architecture: lenet", "factory: m:f, weigths: w", 'Did you mean "weights"'),
        ("architecture: lenet", "factory: m:f, accuracy: 2", "model.accuracy: 2"),
        ("name: fgsm", "name: fgms", 'no attack named "fgms". Did you mean "fgsm"?'),
        ("name: fgsm", "name: fgsm, epsilom: 1", "trials[0].attack.epsilom"),
        ("name: fgsm", "name: fgsm, epsilon: big", '"big" must be a number or a fraction'),
        ("name: fgsm", "name: fgsm, epsilon: [0.1, 1/0]", 'attack.epsilon[1]: "1/0" is a fraction'),
        ("name: fgsm", "name: fgsm, norm: l7", "trials[0].attack.norm"),
        ("name: fgsm", "epsilon: 1", "name is missing; name an attack, one of"),
        ("  - attack", "  - atack", 'Did you mean "attack"'),
        ("fgsm}", "fgsm}\n    samples: 0", "line 7, trials[0].samples: samples is 0"),
        ("fgsm}", "fgsm}\n    samples: true", "must be a whole number"),
        ("fgsm}", "fgsm}\n    attacker: aware", "needs a defense"),
        ("fgsm}", "fgsm}\n    defense: {name: median}\n    attacker: awar", "trials[0].attacker"),
        ("fgsm}", "fgsm}\n    goal: {form: 1}", 'Did you mean "from"'),
        ("fgsm}", "fgsm}\n    goal: 3", "must be a mapping such as {from: CLASS"),
        ("fgsm}", "fgsm}\n    goal: {to: 1.5}", "goal.to: 1.5 must be text or a whole number"),
        ("fgsm}", "fgsm}\n    early_stop: maybe", '"maybe" must be true or false'),
        ("fgsm}", "fgsm}\n    seed: -1", "trials[0].seed"),
        ("trials:", "defaults: {sample: 3}\ntrials:", 'no key "sample" in a trial'),
        ("trials:", "sizes: {q: {nam: x}}\ntrials:", 'sizes.q.nam: a size cannot change "nam"'),
        ("trials:", "policy: [{measure: x}]\ntrials:", "needs either at_most or at_least"),
        ("trials:", "policy: [{measure: x, at_most: 1, where: {atack: y}}]\ntrials:", '"attack"'),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence_that_names_the_place(problems_of, old, new, expected):
    assert old in HEAD
    found = problems_of(HEAD.replace(old, new, 1))
    assert expected in found
    assert all(line.startswith("c.yaml, line ") for line in found.splitlines())


def test_all_problems_are_listed_at_once(problems_of):
    text = HEAD.replace("digits", "digit").replace("lenet", "lent").replace("fgsm", "fgms")
    assert len(problems_of(text).splitlines()) == 3


def test_a_wrong_default_is_named_where_it_is_written_and_once(problems_of):
    text = (
        HEAD.replace("trials:", "defaults:\n  samples: -5\ntrials:") + "  - attack: {name: bim}\n"
    )
    assert problems_of(text) == (
        "c.yaml, line 6, defaults.samples: samples is -5, but a trial needs at least 1"
    )


def test_a_value_from_a_size_is_named_there(problems_of):
    text = HEAD + "sizes:\n  q:\n    defaults: {samples: -5}\n"
    assert problems_of(text) == ""
    assert problems_of(text, size="q").startswith("c.yaml, line 9, sizes.q.defaults.samples")


def test_defaults_lie_under_trials_and_the_campaign_under_both(spec_of):
    text = """
casemate: 1
name: a
seed: 7
data: {source: digits, test_fraction: 0.5}
model: {architecture: lenet, recipe: {epochs: 3, batch_size: 64}}
defaults: {samples: 5, attack: {epsilon: 0.5}}
trials:
  - attack: {norm: l2, name: fgsm}
  - {attack: {name: fgsm, epsilon: 0.1}, samples: 6, seed: 8, data: {split_seed: 1}}
  - {attack: {name: fgsm}, model: {recipe: {epochs: 1}}}
  - {attack: {name: fgsm}, model: {architecture: vgg}}
"""
    first, second, third, fourth = spec_of(text).trials
    # a section that names its plugin replaces the default one, whose parameters may not fit
    assert first.attack.settings["epsilon"] == 8 / 255
    assert (first.options.samples, first.options.seed) == (5, 7)
    assert (second.options.samples, second.options.seed) == (6, 8)
    assert second.attack.settings["epsilon"] == 0.1
    # one that does not name it is merged
    assert second.data.settings == {"source": "digits", "test_fraction": 0.5, "split_seed": 1}
    assert (third.model.recipe.epochs, third.model.recipe.batch_size) == (1, 64)
    assert fourth.model.settings["architecture"] == "vgg"
    assert fourth.model.recipe.epochs == 10


def test_parameters_keep_their_defaults_in_the_settings(spec_of):
    attack = spec_of(HEAD).trials[0].attack
    assert attack.settings == {"name": "fgsm", "epsilon": 8 / 255, "norm": "linf"}


def test_paths_are_relative_to_the_specification_but_shown_as_written(tmp_path):
    from casemate.campaign.document import parse_document
    from casemate.campaign.spec import read_spec

    text = HEAD.replace("source: digits", "source: npz, path: sub/d.npz")
    spec, problems = read_spec(parse_document(text, "c.yaml"), base_dir=tmp_path)
    assert not problems
    assert spec.trials[0].data.value.path == tmp_path / "sub" / "d.npz"
    assert spec.trials[0].data.settings["path"] == "sub/d.npz"


@pytest.mark.parametrize(
    "options",
    [
        {"factory": None, "weights": None, "data": None},
        {"factory": "m:f", "weights": 'odd "name": {}.safetensors', "data": "images: #1/"},
        {"factory": "m:f", "weights": None, "data": "x.npz"},
    ],
)
def test_what_init_writes_is_sound(problems_of, options):
    text = specification(**options)
    assert problems_of(text) == ""
    assert problems_of(text, size="quick") == ""
    if options["weights"]:
        assert "odd" in text


def uncommented(first):
    """Return what init writes, with the trial whose comment begins so."""
    lines = specification(factory=None, weights=None, data=None).splitlines()
    begin = lines.index(f"  # {first}")
    lines[begin] = f"  {first}"
    for i in range(begin + 1, len(lines)):
        if not lines[i].startswith("  #   "):
            break
        lines[i] = f"  {lines[i][4:]}"
    return "\n".join(lines)


def test_the_poison_that_init_leaves_as_a_comment_is_sound_too(spec_of):
    spec = spec_of(uncommented("- training:"))
    poisoned = [t for t in spec.trials if t.training is not None]
    assert len(poisoned) == 2 * 3 * 3
    assert {t.options.samples for t in poisoned} == {None}


def test_the_deployed_model_that_init_leaves_as_a_comment_is_sound_too(spec_of):
    spec = spec_of(uncommented("- hardware:"))
    deployed = [t for t in spec.trials if t.hardware is not None]
    assert len(deployed) == 2 * 3 * 2
    assert {t.hardware.format.name for t in deployed} == {"float32", "int8"}


def test_the_built_in_studies_are_sound(problems_of):
    from casemate.campaign.document import load_document
    from casemate.cli.session import studies

    assert studies()
    for path in studies().values():
        document = load_document(path)
        for size in (None, *(document.data.get("sizes") or ())):
            assert problems_of(path.read_text(encoding="utf-8"), size=size) == ""


def test_mistakes_in_the_frame_do_not_hide_those_in_the_trials(problems_of):
    found = problems_of(
        "casemate: 2\nnmae: x\nseed: soon\n"
        "data: {source: digts}\nmodel: {architecture: lenet}\n"
        "trials: [null, {attack: {name: pdg}}, {}]\n"
        "policy: [{measure: attack success rate, at_most: 3}]"
    )
    for words in (
        "line 1, casemate: 2 must be 1",
        'line 2, nmae: there is no key "nmae" here. Did you mean "name"',
        "line 3, seed: ",
        "line 6, trials[0]: null must be a mapping",
        "line 6, trials[1].attack.name: ",
        "line 6, trials[2].attack: is missing",
        "line 7, policy[0].at_most: ",
        'Did you mean "digits"',
    ):
        assert words in found, words
    assert "is missing; add it" not in found  # it is there, as nmae


def test_wrong_defaults_do_not_make_the_trials_look_wrong(problems_of):
    found = problems_of(
        "casemate: 1\nname: x\ndata: {source: digits}\nmodel: {architecture: lenet}\n"
        "defaults: 5\ntrials: [{goal: {to: 1}}]"
    )
    assert (
        found
        == "c.yaml, line 5, defaults: 5 must be a mapping, with a key and a value on each line"
    )


def test_a_key_that_is_misspelt_is_not_said_to_be_missing_as_well(problems_of):
    head = HEAD.replace("attack: {name: fgsm}\n", "")
    assert problems_of(f"{head}trainig: {{attack: {{name: badnets}}}}\n") == (
        'c.yaml, line 6, trials[0].trainig: there is no key "trainig" in a trial. Did you mean '
        '"training"?'
    )
    for slip in (
        "atack: {name: fgsm}",
        "attack: {name: fgsm}\n    attacker: aware\n    defence: 1",
    ):
        assert len(problems_of(f"{head}{slip}\n").splitlines()) == 1


def test_what_is_wrong_below_a_misspelt_key_does_not_wait_for_it(problems_of):
    text = HEAD.replace("lenet}", "lenet, recipe: {epoch: 3}}").replace("fgsm}", "fgms}")
    found = problems_of(f"{text}    mointor: {{name: strip}}\npolcy: []\n")
    for key in ("polcy", "model.recipe.epoch", "trials[0].mointor", "trials[0].attack.name"):
        assert f", {key}: " in found
    assert len(found.splitlines()) == 4
